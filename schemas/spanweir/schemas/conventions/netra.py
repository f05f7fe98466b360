"""Netra SDK: OpenLLMetry's indexed keys with `netra.*` around them. Source: netra-sdk 1.2."""

from spanweir.schemas.convention import WHOLE, Convention, rules, word
from spanweir.schemas.genai import GenAISpan, Tool
from spanweir.schemas.message import Message, ToolCall
from spanweir.schemas.notes import Notes
from spanweir.schemas.raw import RawSpan
from spanweir.schemas.values import seconds, text

KINDS = {
    "agent": "agent", "tool": "tool", "generation": "llm", "embedding": "embedding", "workflow": "workflow",
    "task": "task", "retriever": "retrieval",
}  # fmt: skip


def one_turn(messages: list[Message]) -> list[Message]:
    """Entries that are one turn: a call each, and a last one with nothing but the finish reason."""
    joined: list[Message] = []
    for one in messages:
        last = joined[-1] if joined else None
        if last is not None and last.role == one.role == "assistant" and not last.finish_reason:
            calls = all(isinstance(part, ToolCall) for part in last.parts + one.parts)
            if calls or not one.parts:
                last.parts += one.parts
                last.finish_reason = one.finish_reason
                continue
        joined.append(one)
    return joined


def refine(raw: RawSpan, span: GenAISpan, notes: Notes) -> None:
    if span.kind == "llm":
        span.input, span.output = one_turn(span.input), one_turn(span.output)
    if span.kind == "tool":
        span.tool = span.tool or Tool()
        span.tool.name = span.tool.name or text(raw.attributes.get("netra.task.name")) or raw.name


CONVENTION = Convention(
    name="netra",
    marks=("netra.",),
    scopes=("netra.",),
    rank=WHOLE,
    rules=rules(
        {
            "netra.span.type": ("kind", word(KINDS)),
            "netra.entity.type": ("kind", word(KINDS)),
            "netra.session_id": ("session_id", text),
            "netra.user_id": ("user_id", text),
            "netra.workflow.name": ("graph.workflow", text),
            "netra.agent.name": ("agent.name", text),
            "gen_ai.performance.time_to_first_token": ("timing.ttft_ns", seconds),
        }
    ),
    refine=refine,
)
