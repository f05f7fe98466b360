"""OpenTelemetry's instrumentation of google-genai and Vertex AI: the standard's form, with two habits of its own.

Where thoughts are reported, output includes them: contrib's versions, which left them out, do not report them. Source:
opentelemetry-instrumentation-google-genai 1.3b0 and contrib, -vertexai (semconv guide 6.4).
"""

from spanweir.schemas.convention import NATIVE, Convention, rules
from spanweir.schemas.genai import GenAISpan
from spanweir.schemas.raw import RawSpan
from spanweir.schemas.values import count, text


def excludes(raw: RawSpan, span: GenAISpan) -> tuple[bool | None, bool | None]:
    """The prompt count includes what was cached, the output count thoughts."""
    return False, False


CONVENTION = Convention(
    name="google_genai",
    marks=("gcp.gen_ai.operation.config.",),
    scopes=("opentelemetry.instrumentation.google_genai", "opentelemetry.instrumentation.vertexai"),
    rank=NATIVE,
    rules=rules(
        {
            "gcp.gen_ai.operation.config.system_instruction": ("prompt.template", text),
            "gcp.gen_ai.operation.config.max_output_tokens": ("params.max_tokens", count),
            "gcp.gen_ai.operation.config.candidate_count": ("params.n", count),
            "gcp.gen_ai.operation.config.response_mime_type": ("params.output_type", text),
        }
    ),
    excludes=excludes,
)
