"""Sentry's AI monitoring: OpenAI-shaped messages, answers as text or a JSON array. Source: Sentry JS and Python SDKs of
2026 (semconv guide 5.10). Messages are cut by the SDK, which is told from the sentinel or the broken JSON.
"""

from collections.abc import Sequence

from spanweir.schemas.content import tools
from spanweir.schemas.convention import NATIVE, Convention, Many, rules
from spanweir.schemas.genai import Message, Part, Text
from spanweir.schemas.messages import messages, parse
from spanweir.schemas.notes import Notes
from spanweir.schemas.parts import tool_call
from spanweir.schemas.raw import Attributes, Value
from spanweir.schemas.values import boolean, strings, text
from spanweir.schemas.vocabulary import OPERATIONS


def answer(attributes: Attributes, keys: Sequence[str], notes: Notes) -> list[Message] | None:
    """`gen_ai.response.text` and `gen_ai.response.tool_calls`."""
    found: list[Part] = []
    said = attributes.get("gen_ai.response.text")
    listed = parse(said, notes) if isinstance(said, str) and said[:1] == "[" else said
    if isinstance(listed, list):
        read = messages(listed, notes, "assistant") or []
        found += [part for message in read for part in message.parts]
    elif one := text(listed):
        found.append(Text(one))
    calls = parse(attributes.get("gen_ai.response.tool_calls"), notes)
    if isinstance(calls, list):
        found += [tool_call(call, notes) for call in calls if isinstance(call, dict)]
    return [Message("assistant", found)] if found else None


def kind(value: Value) -> str | None:
    """`sentry.op`: `gen_ai.invoke_agent`, an operation's name with a prefix."""
    name = str(value)
    return OPERATIONS.get(name.removeprefix("gen_ai.")) if name.startswith("gen_ai.") else None


CONVENTION = Convention(
    name="sentry",
    marks=("gen_ai.request.messages", "gen_ai.response.text", "gen_ai.request.available_tools", "sentry."),
    rank=NATIVE,
    rules=(
        *rules(
            {
                "sentry.op": ("kind", kind),
                "gen_ai.response.streaming": ("params.stream", boolean),
                "gen_ai.response.stop_reason": ("response.finish_reasons", strings),
                "gen_ai.pipeline.name": ("graph.workflow", text),
            }
        ),
        *rules(
            {
                "gen_ai.request.messages": ("input", lambda value, notes: messages(parse(value, notes), notes)),
                "gen_ai.request.available_tools": ("tools", tools),
            },
            content=True,
        ),
    ),
    many=(Many(("gen_ai.response.text", "gen_ai.response.tool_calls"), "output", answer),),
)
