"""OpenTelemetry's instrumentation of google-genai and Vertex AI: the standard's form, with two habits of its own.

Output counts are Gemini's `candidates_token_count`, without thoughts. Source: opentelemetry-instrumentation-
google-genai (contrib) and -vertexai (semconv guide 6.4, 7.2).
"""

from spanweir.schemas.convention import NATIVE, Convention, rules
from spanweir.schemas.genai import GenAISpan
from spanweir.schemas.raw import RawSpan
from spanweir.schemas.values import count, text


def excludes(raw: RawSpan, span: GenAISpan) -> tuple[bool | None, bool | None]:
    """The prompt count includes what was cached; the output count leaves thoughts out."""
    return False, True


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
