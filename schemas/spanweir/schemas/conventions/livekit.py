"""LiveKit Agents: `lk.*`, later `lk.pii.*`, with inputs that continue another span's.

`lk.input.delta` says that the input is the base span's less its last `dropped` messages, then this span's; the
canonical span keeps that as `base`. Source: livekit-agents 1.x and 2.0b1 (semconv guide 5.9).
"""

from typing import Any

from spanweir.schemas.content import tools
from spanweir.schemas.convention import NATIVE, Convention, rules, verbatim
from spanweir.schemas.genai import DeltaBase, GenAISpan, Message, Part, Text, ToolCall
from spanweir.schemas.messages import messages, parse
from spanweir.schemas.notes import Notes
from spanweir.schemas.parts import tool_call
from spanweir.schemas.raw import RawSpan
from spanweir.schemas.values import boolean, count, seconds, text

_KINDS = {
    "llm_node": "llm", "llm_request": "llm", "llm_request_run": "step", "function_tool": "tool", "agent_turn": "agent",
    "agent_session": "workflow", "user_turn": "step", "tts_node": "audio", "tts_request": "audio",
    "tts_request_run": "audio", "agent_speaking": "audio", "user_speaking": "audio", "eou_detection": "step",
}  # fmt: skip


def context(value: Any, notes: Notes) -> list[Message] | None:
    """`lk.chat_ctx`: `{items: [{type: message | function_call | function_call_output, …}]}`."""
    found = parse(value, notes)
    if isinstance(found, dict):
        found = found.get("items", found.get("messages"))
    return messages(found, notes)


def answer(value: Any, notes: Notes) -> list[Message] | None:
    said = text(value)
    return [Message("assistant", [Text(said)])] if said else None


def function_calls(value: Any, notes: Notes) -> list[Part]:
    found = parse(value, notes)
    if isinstance(found, dict):
        found = [found]
    return [tool_call(parse(item, notes), notes) for item in found] if isinstance(found, list) else []


def refine(raw: RawSpan, span: GenAISpan, notes: Notes) -> None:
    attributes = raw.attributes
    if span.kind in ("other", "llm"):
        span.kind = _KINDS.get(raw.name, span.kind)
    calls = attributes.get("lk.pii.response.function_calls") or attributes.get("lk.response.function_calls")
    if calls and not any(isinstance(part, ToolCall) for message in span.output for part in message.parts):
        found = function_calls(calls, notes)
        if found:
            span.output = span.output or [Message("assistant")]
            span.output[-1].parts += found
    base = text(attributes.get("lk.input.base_span_id"))
    if base and boolean(attributes.get("lk.input.delta")) is not False:
        span.base = DeltaBase(base, count(attributes.get("lk.input.dropped_from_base")) or 0)


def _both(name: str) -> tuple[str, str]:
    return f"lk.pii.{name}", f"lk.{name}"


CONVENTION = Convention(
    name="livekit",
    marks=("lk.",),
    scopes=("livekit-agents", "livekit"),
    rank=NATIVE,
    rules=(
        *rules(
            {
                **dict.fromkeys(_both("function_tool.name"), ("tool.name", text)),
                **dict.fromkeys(_both("function_tool.id"), ("tool.id", text)),
                "lk.session_id": ("session_id", text),
                "lk.room_name": ("session_id", text),
                "lk.participant_identity": ("user_id", text),
                "lk.agent_name": ("agent.name", text),
                "lk.agent_label": ("agent.name", text),
                "lk.response.ttft": ("timing.ttft_ns", seconds),
            }
        ),
        *rules(
            {
                **dict.fromkeys(_both("chat_ctx"), ("input", context)),
                **dict.fromkeys(_both("response.text"), ("output", answer)),
                **dict.fromkeys(_both("function_tools"), ("tools", tools)),
                **{
                    key: (field, verbatim)
                    for name, field in {
                        "function_tool.arguments": "tool.arguments",
                        "function_tool.output": "tool.result",
                        "user_input": "io.input",
                        "user_transcript": "io.input",
                        "input_text": "io.input",
                        "instructions": "prompt.template",
                    }.items()
                    for key in _both(name)
                },
            },
            content=True,
        ),
    ),
    refine=refine,
)
