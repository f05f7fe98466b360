"""OpenRouter Broadcast: the request and the answer as JSON, three copies of each, costs in dollars, keys below keys.

Children (`generation`, `provider attempt N`) repeat the root; `openrouter-connection-test` is no generation. Source:
deliveries of September 2026 (semconv guide 5.11).
"""

from typing import Any

from spanweir.schemas import associations
from spanweir.schemas.content import request, response
from spanweir.schemas.convention import NATIVE, OVERRIDE, WHOLE, Convention, rules, verbatim
from spanweir.schemas.genai import GenAISpan, Message, Part, Reasoning, Text
from spanweir.schemas.messages import parse
from spanweir.schemas.notes import Notes
from spanweir.schemas.parts import tool_call
from spanweir.schemas.raw import RawSpan
from spanweir.schemas.values import milliseconds, quoted, strings, text


def answer(value: Any, notes: Notes) -> dict[str, Any] | None:
    """`gen_ai.completion`: `{completion, reasoning, toolCalls, rawRequest}`, or a provider's own answer."""
    found = parse(value, notes)
    if isinstance(found, dict) and "completion" in found:
        held: list[Part] = []
        if thought := text(found.get("reasoning")):
            held.append(Reasoning(thought))
        if said := text(found.get("completion")):
            held.append(Text(said))
        calls = found.get("toolCalls")
        held += [tool_call(call, notes) for call in calls if isinstance(call, dict)] if isinstance(calls, list) else []
        return {"output": [Message("assistant", held)]} if held else None
    return response(found, notes)


def refine(raw: RawSpan, span: GenAISpan, notes: Notes) -> None:
    if raw.name.startswith("openrouter-connection-test"):
        span.kind = "other"
        span.usage = None
    elif (
        raw.parent_id
        and span.usage is not None
        and (raw.name == "generation" or raw.name.startswith("provider attempt"))
    ):
        span.usage.scope = "rollup"


_METADATA, _PROPERTIES = associations.bag("trace.metadata.")

CONVENTION = Convention(
    name="openrouter",
    marks=("trace.metadata.openrouter", "openrouter."),
    scopes=("openrouter",),
    rank=NATIVE,
    rules=(
        *rules(
            {
                "span.type": ("kind", lambda value: "llm" if str(value) == "generation" else None),
                "trace.metadata.openrouter.first_token_ms": ("timing.ttft_ns", milliseconds),
                "gen_ai.response.finish_reason": ("response.finish_reasons", strings),
                "trace.name": ("io.trace_name", quoted),
            }
        ),
        *rules(
            {
                "trace.metadata.openrouter.provider_slug": ("provider", quoted),
                "trace.metadata.openrouter.provider_name": ("provider", quoted),
            },
            rank=OVERRIDE,
        ),
        *rules({"gen_ai.prompt": ("*", request), "gen_ai.completion": ("*", answer)}, content=True),
        *rules(
            {
                "trace.input": ("io.trace_input", verbatim),
                "trace.output": ("io.trace_output", verbatim),
                "span.input": ("io.input", verbatim),
                "span.output": ("io.output", verbatim),
            },
            rank=WHOLE,
            content=True,
        ),
        *_METADATA,
    ),
    many=_PROPERTIES,
    refine=refine,
)
