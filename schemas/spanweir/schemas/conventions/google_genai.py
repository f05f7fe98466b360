"""OpenTelemetry's instrumentation of google-genai and Vertex AI: the standard's form, with habits of its own.

Where thoughts are reported, output includes them: contrib's versions, which left them out, do not report them. Source:
opentelemetry-instrumentation-google-genai 1.3b0 and contrib, -vertexai (semconv guide 6.4).
"""

import re
from ast import literal_eval
from collections.abc import Sequence

from spanweir.schemas.convention import NATIVE, WHOLE, Convention, Many, Rule, rules, verbatim
from spanweir.schemas.genai import GenAISpan, Text
from spanweir.schemas.notes import Notes
from spanweir.schemas.raw import Attributes, RawSpan, Value
from spanweir.schemas.values import count, text


def excludes(raw: RawSpan, span: GenAISpan) -> tuple[bool | None, bool | None]:
    """The prompt count includes what was cached, the output count thoughts."""
    return False, False


_PART = re.compile(r"\w+=None .*?\btext=('(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\")(?: \w+=|$)", re.DOTALL)


def refine(raw: RawSpan, span: GenAISpan, notes: Notes) -> None:
    """OpenLLMetry's instrumentation writes google-genai's `Part` objects as Python shows them: `… text='Hi' …`."""
    for message in span.input:
        for place, part in enumerate(message.parts):
            if isinstance(part, Text) and "thought_signature=" in part.content and (match := _PART.match(part.content)):
                message.parts[place] = Text(literal_eval(match[1]))
                notes.taken.pop("input", None)


_ARGUMENT = "code.function.parameters."


def _arguments(attributes: Attributes, keys: Sequence[str], notes: Notes) -> dict[str, Value] | None:
    """Of a function that google-genai calls by itself: `code.function.parameters.<name>.{type,value}`."""
    given = {key: key.removeprefix(_ARGUMENT).rpartition(".") for key in keys}
    return {name: attributes[key] for key, (name, _, what) in given.items() if what == "value"} or None


CONVENTION = Convention(
    name="google_genai",
    marks=("gcp.gen_ai.operation.config.",),
    scopes=tuple(
        f"opentelemetry.instrumentation.{name}" for name in ("google_genai", "google_generativeai", "vertexai")
    ),
    rank=NATIVE,
    rules=(
        Rule("code.function.return.value", "tool.result", verbatim, WHOLE, content=True),
        *rules(
            {
                "gcp.gen_ai.operation.config.system_instruction": ("prompt.template", text),
                "gcp.gen_ai.operation.config.max_output_tokens": ("params.max_tokens", count),
                "gcp.gen_ai.operation.config.candidate_count": ("params.n", count),
                "gcp.gen_ai.operation.config.response_mime_type": ("params.output_type", text),
            }
        ),
    ),
    many=(Many((_ARGUMENT,), "tool.arguments", _arguments, WHOLE),),
    excludes=excludes,
    refine=refine,
)
