"""Microsoft Agent Framework: OpenTelemetry's content, with workflow spans of its own and results encoded twice.

Source: agent-framework-core 1.23 (semconv guide 5.8).
"""

from typing import Any

from spanweir.schemas.convention import NATIVE, OVERRIDE, Convention, rules
from spanweir.schemas.genai import GenAISpan, ToolResult
from spanweir.schemas.messages import parse
from spanweir.schemas.notes import Notes, arguments
from spanweir.schemas.raw import RawSpan
from spanweir.schemas.values import plain, seconds, text

_KINDS = (
    ("workflow.", "workflow"), ("executor.", "task"), ("edge_group.", "router"), ("message.", "hook"),
)  # fmt: skip


def function_result(value: Any, notes: Notes) -> Any:
    """A tool's result, out of `{"type": "function_result", "call_id", "result"}`."""
    found = parse(value, notes)
    if isinstance(found, dict) and found.get("type") == "function_result" and "result" in found:
        return arguments(found["result"])
    return found


def refine(raw: RawSpan, span: GenAISpan, notes: Notes) -> None:
    if span.kind == "other":
        for beginning, kind in _KINDS:
            if raw.name.startswith(beginning) and raw.scope.name.startswith("agent_framework"):
                span.kind = kind
    for message in (*span.input, *span.output):
        for part in message.parts:
            if isinstance(part, ToolResult) and isinstance(plain(part.response), str):
                part.response = function_result(plain(part.response), Notes())
    if span.conversation_id is not None and span.conversation_id.startswith("resp_"):
        span.conversation_id = None  # the answer before this one in OpenAI's Responses API, another one in each call
    if span.model is not None and span.model.server_address == "Unknown":
        span.model.server_address = None


CONVENTION = Convention(
    name="agent_framework",
    marks=("agent_framework.", "executor.", "edge_group."),
    scopes=("agent_framework",),
    rank=NATIVE,
    rules=(
        *rules(
            {
                "workflow.name": ("graph.workflow", text),
                "workflow.id": ("graph.workflow_id", text),
                "executor.id": ("graph.node_id", text),
                "agent_framework.function.invocation.duration": ("timing.server_ns", seconds),
            }
        ),
        *rules({"gen_ai.tool.call.result": ("tool.result", function_result)}, rank=OVERRIDE, content=True),
    ),
    refine=refine,
)
