"""Mastra's OpenTelemetry exporter: standard keys, some as JSON text or numbers as text, and `mastra.*` beside them.

Source: @mastra/otel-exporter 0.3 and 1.4 (semconv guide 5.9). Up to 0.20 @mastra/core traced each of its own methods
(recorded: 0.10, 0.20): `agent.generate` with `agent.generate.argument.0` and `.result`, `workflow.<id>.execute`.
"""

from collections.abc import Sequence
from typing import Any

from spanweir.schemas import associations
from spanweir.schemas.content import response
from spanweir.schemas.convention import NATIVE, WHOLE, Convention, Many, rules, verbatim, word
from spanweir.schemas.genai import Agent, GenAISpan, Timing
from spanweir.schemas.messages import parse
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


_SAID = ("text", "object", "toolCalls", "files", "finishReason")


def _say(span: GenAISpan, returned: Any, notes: Notes) -> None:
    """Agents and generations return the AI SDK's result object `{text, object, reasoning, toolCalls, files}`."""
    if not isinstance(returned, dict) or not isinstance(returned.get("text"), str):
        return
    thought = returned.get("reasoning")
    if isinstance(thought, list):
        thought = "\n".join(str(item["text"]) for item in thought if isinstance(item, dict) and item.get("text"))
    # Beside these 0.x has all steps, the raw request and the raw response.
    shaped = {key: returned[key] for key in _SAID if key in returned} if "steps" in returned else dict(returned)
    shaped["reasoning"] = thought or None
    if returned["text"] and span.op == "model_generation":
        shaped.pop("toolCalls", None)  # a whole loop's: its calls were answered before
    said = (response(shaped, notes) or {}).get("output")
    if said:
        span.output = said
    if {key for key, item in returned.items() if item} <= {"text"} and "io.output" in notes.taken:
        notes.taken["output"] = notes.taken.pop("io.output")


_RUNS = ("agent.generate", "agent.stream")
_OWNER = "componentName"


def _method(raw: RawSpan, span: GenAISpan) -> None:
    """Spans of methods (0.x): an agent's run, a workflow and its steps; the rest is how they came about."""
    name = raw.name
    if name.startswith(_RUNS):
        span.kind = "agent"
        if span.agent is None:
            span.agent = Agent(name=text(raw.attributes.get(_OWNER)))
        options = parse(raw.attributes.get(f"{name}.argument.1"), Notes())
        if isinstance(options, dict):
            span.session_id = span.session_id or text(options.get("threadId"))
            span.user_id = span.user_id or text(options.get("resourceId"))
    elif name.startswith("workflow."):
        span.kind = "workflow" if name.endswith(".execute") else "task" if ".step." in name else span.kind


def refine(raw: RawSpan, span: GenAISpan, notes: Notes) -> None:
    """What agents and generations returned is an answer; time to first token is sent as an instant."""
    if span.kind == "other" and _OWNER in raw.attributes:
        _method(raw, span)
    if span.io is not None and not span.output and span.kind in ("agent", "llm"):
        _say(span, plain(span.io.output), notes)
    if span.timing is not None and span.timing.completion_start_ns and span.timing.ttft_ns is None:
        elapsed = span.timing.completion_start_ns - raw.start_ns
        if elapsed >= 0:
            span.timing = Timing(ttft_ns=elapsed, completion_start_ns=span.timing.completion_start_ns)


def _argument(attributes: Attributes, keys: Sequence[str], notes: Notes) -> Any:
    """What an agent's run was asked, or a step's `inputData`; only of these: other methods take what they made."""
    notes.lossy = True  # options and a step's context stand beside it
    for key in keys:
        if key.startswith(_RUNS) and key.endswith(".argument.0"):
            return json_or_text(attributes[key])
        if ".step." in key and key.endswith(".argument.0"):
            given = parse(attributes[key], notes)
            return given.get("inputData") if isinstance(given, dict) else None
    return None


def _returned(attributes: Attributes, keys: Sequence[str], notes: Notes) -> Any:
    notes.lossy = True
    for key in keys:
        if key.endswith(".result") and (key.startswith(_RUNS) or ".step." in key):
            value = attributes[key]
            return None if value == "[Not Serializable]" else json_or_text(value)
    return None


_METHODS = ("agent.", "workflow.")
_METADATA, _PROPERTIES = associations.bag("mastra.metadata.")
_TYPES = tuple(KINDS)

CONVENTION = Convention(
    name="mastra",
    marks=("mastra.", _OWNER),
    scopes=("@mastra/", "mastra"),
    rank=NATIVE,
    rules=(
        *rules(
            {
                "mastra.span.type": ("kind!", word(KINDS)),
                "mastra.completion_start_time": ("timing.completion_start_ns", instant),
                "mastra.agent_run.agentId": ("agent.id", text),
                "threadId": ("session_id", text),
                "resourceId": ("user_id", text),
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
        Many(_METHODS, "io.input", _argument, WHOLE),
        Many(_METHODS, "io.output", _returned, WHOLE),
        *_PROPERTIES,
    ),
    refine=refine,
)
