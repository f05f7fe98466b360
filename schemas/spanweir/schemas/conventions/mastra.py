"""Mastra's OpenTelemetry exporter: standard keys, some as JSON text or numbers as text, and `mastra.*` beside them.

Source: @mastra/otel-exporter 0.3 and 1.4 (semconv guide 5.9).
"""

from collections.abc import Sequence
from typing import Any

from spanweir.schemas import associations
from spanweir.schemas.content import response
from spanweir.schemas.convention import NATIVE, WHOLE, Convention, Many, rules, verbatim, word
from spanweir.schemas.genai import GenAISpan, Timing
from spanweir.schemas.notes import Notes
from spanweir.schemas.raw import Attributes, RawSpan
from spanweir.schemas.values import instant, json_or_text, plain, strings, text

KINDS = {
    "model_generation": "llm", "model_inference": "llm", "model_step": "step", "model_chunk": "step",
    "agent_run": "agent", "tool_call": "tool",
    "mcp_tool_call": "tool", "provider_tool_call": "tool", "rag_embedding": "embedding",
    "rag_vector_operation": "retrieval", "memory_operation": "memory", "scorer_run": "evaluation", "rerank": "rerank",
    "mcp_request": "mcp", "workflow_run": "workflow", "workflow_step": "task",
    "processor_run": "guardrail", "generic": "chain", "workflow_loop": "task", "workflow_parallel": "task",
    "workflow_conditional": "router",
}  # fmt: skip


def _side(side: str) -> Any:
    """A reader of `mastra.<type>.input` or `.output`, whatever the type."""

    def read(attributes: Attributes, keys: Sequence[str], notes: Notes) -> Any:
        found = next((key for key in keys if key.endswith(side)), None)
        return json_or_text(attributes[found]) if found is not None else None

    return read


def _say(span: GenAISpan, returned: Any, notes: Notes) -> None:
    """Agents and generations return the AI SDK's result object `{text, object, reasoning, toolCalls, files}`."""
    if not isinstance(returned, dict) or not isinstance(returned.get("text"), str):
        return
    thought = returned.get("reasoning")
    if isinstance(thought, list):
        thought = "\n".join(str(item["text"]) for item in thought if isinstance(item, dict) and item.get("text"))
    shaped = {**returned, "reasoning": thought or None}
    if returned["text"] and span.op == "model_generation":
        shaped.pop("toolCalls", None)  # a whole loop's: its calls were answered before
    said = (response(shaped, notes) or {}).get("output")
    if said:
        span.output = said
    if {key for key, item in returned.items() if item} <= {"text"} and "io.output" in notes.taken:
        notes.taken["output"] = notes.taken.pop("io.output")


def refine(raw: RawSpan, span: GenAISpan, notes: Notes) -> None:
    """What agents and generations returned is an answer; time to first token is sent as an instant."""
    if span.io is not None and not span.output and span.kind in ("agent", "llm"):
        _say(span, plain(span.io.output), notes)
    if span.timing is not None and span.timing.completion_start_ns and span.timing.ttft_ns is None:
        elapsed = span.timing.completion_start_ns - raw.start_ns
        if elapsed >= 0:
            span.timing = Timing(ttft_ns=elapsed, completion_start_ns=span.timing.completion_start_ns)


_METADATA, _PROPERTIES = associations.bag("mastra.metadata.")
_TYPES = tuple(KINDS)

CONVENTION = Convention(
    name="mastra",
    marks=("mastra.",),
    scopes=("@mastra/", "mastra"),
    rank=NATIVE,
    rules=(
        *rules(
            {
                "mastra.span.type": ("kind!", word(KINDS)),
                "mastra.completion_start_time": ("timing.completion_start_ns", instant),
                "mastra.agent_run.agentId": ("agent.id", text),
                "mastra.tags": ("tags", strings),
                "agent.available_tools": ("params.extra", lambda value: {"available_tools": value}),
            }
        ),
        # Version 0.x, whose operations are `chat`, `tool.execute`, `agent.run`.
        *rules(
            {
                "gen_ai.tool.input": ("tool.arguments", verbatim),
                "gen_ai.tool.output": ("tool.result", verbatim),
            },
            content=True,
        ),
        *_METADATA,
    ),
    many=(
        Many(tuple(f"mastra.{name}.input" for name in _TYPES), "io.input", _side(".input"), WHOLE),
        Many(tuple(f"mastra.{name}.output" for name in _TYPES), "io.output", _side(".output"), WHOLE),
        *_PROPERTIES,
    ),
    refine=refine,
)
