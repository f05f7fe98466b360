"""Mirascope: OpenTelemetry's keys on model calls, `mirascope.trace.*` on traced functions, and the response once more
on both. Source: mirascope 2.8.
"""

from spanweir.schemas import associations, usage
from spanweir.schemas.convention import WHOLE, Convention, rules, verbatim, word
from spanweir.schemas.genai import GenAISpan
from spanweir.schemas.messages import parse
from spanweir.schemas.notes import Notes
from spanweir.schemas.raw import RawSpan
from spanweir.schemas.values import strings, text

KINDS = {"trace": "chain", "call": "chain", "response_resume": "chain", "tool": "tool"}
_MODES = (":completions", ":responses")


def model_name(value: str, provider: str | None) -> str:
    """`openai/gpt-4o-mini:completions` -> `gpt-4o-mini`: its own ids name the provider and the API."""
    name = value.removeprefix(f"{provider}/")
    return next((name.removesuffix(mode) for mode in _MODES if name.endswith(mode)), name)


def refine(raw: RawSpan, span: GenAISpan, notes: Notes) -> None:
    """A model call's own counts lack cache and reasoning; a traced function repeats the counts of the call in it."""
    if span.kind != "llm":
        return
    provider = text(raw.attributes.get("gen_ai.provider.name"))
    if span.model is not None:
        span.model.request = span.model.request and model_name(span.model.request, provider)
        span.model.response = span.model.response and model_name(span.model.response, provider)
    counts = usage.from_object(parse(raw.attributes.get("mirascope.response.usage"), notes))
    if counts is not None:
        span.usage = counts


CONVENTION = Convention(
    name="mirascope",
    marks=("mirascope.",),
    scopes=("mirascope.",),
    rank=WHOLE,
    rules=(
        *rules(
            {
                "mirascope.type": ("kind", word(KINDS)),
                "mirascope.ops.session.id": ("session_id", text),
                "mirascope.trace.tags": ("tags", strings),
            }
        ),
        *rules(
            {
                "mirascope.trace.metadata": ("*", associations.from_object),
                "mirascope.trace.arg_values": ("io.input", verbatim),
                "mirascope.trace.output": ("io.output", verbatim),
            },
            content=True,
        ),
    ),
    refine=refine,
)
