"""AWS Strands Agents: content in span events of Bedrock blocks, token sums on every level, milliseconds where the
standard has seconds. Source: strands-agents 1.62 (semconv guide 5.7); @strands-agents/sdk 1.19, whose cycles and
stop reasons have other names, and whose tools return blocks of JSON.
"""

from typing import Any

from spanweir.schemas.content import tools
from spanweir.schemas.convention import OVERRIDE, Convention, rules
from spanweir.schemas.genai import GenAISpan, Message, Text, Tool, ToolCall, ToolResult
from spanweir.schemas.messages import otel_parts
from spanweir.schemas.notes import Notes, arguments
from spanweir.schemas.parts import tool_output
from spanweir.schemas.raw import RawSpan, Value
from spanweir.schemas.values import milliseconds, text


def _result(value: Value, notes: Notes) -> Any:
    return tool_output(arguments(value))


_CYCLES = ("execute_event_loop_cycle", "execute_agent_loop_cycle")


def refine(raw: RawSpan, span: GenAISpan, notes: Notes) -> None:
    """Event loop cycles are steps; a tool span's events hold its arguments and its result."""
    operation = span.op or ""
    if operation == "execute_event_loop_cycle" or raw.name.startswith(_CYCLES):
        span.kind = "step"
    elif operation.startswith(("invoke_swarm", "invoke_graph")) or raw.name.startswith(
        ("invoke_swarm", "invoke_graph")
    ):
        span.kind = "workflow"
    if span.kind == "tool":
        tool = span.tool = span.tool or Tool()
        if tool.arguments is None and span.input:
            tool.arguments = _only(span.input)
        if tool.result is None and span.output:
            tool.result = _only(span.output)
        tool.result = tool_output(arguments(tool.result))
        span.input, span.output = [], []


def _only(found: list[Message]) -> Any:
    """The value in messages that hold nothing else: a result, a call's arguments (1.10 and later with the newest
    attributes opted in), or text that may be JSON."""
    values: list[Any] = []
    for part in (part for message in found for part in message.parts):
        if isinstance(part, ToolResult):
            values.append(part.response)
        elif isinstance(part, ToolCall):
            values.append(_content(part.arguments))
        elif isinstance(part, Text):
            values.append(part.content)
    if len(values) == 1:
        return arguments(values[0])
    return [arguments(value) for value in values] or None


def _content(given: Any) -> Any:
    """A call's arguments, which 1.12 puts into a list of one block: `[{"content": arguments}]`."""
    block = given[0] if isinstance(given, list) and len(given) == 1 else None
    return block["content"] if isinstance(block, dict) and block.keys() == {"content"} else given


CONVENTION = Convention(
    name="strands",
    marks=("event_loop.cycle_id", "gen_ai.agent.tools"),
    scopes=("strands",),
    rank=OVERRIDE,
    rules=(
        *rules(
            {
                "gen_ai.server.time_to_first_token": ("timing.ttft_ns", milliseconds),
                "gen_ai.server.request.duration": ("timing.server_ns", milliseconds),
                "gen_ai.tool.status": ("tool.status", text),
            }
        ),
        *rules(
            {
                "gen_ai.agent.tools": ("tools", tools),
                "system_prompt": ("system", otel_parts),
                "gen_ai.tool.call.result": ("tool.result", _result),
            },
            content=True,
        ),
    ),
    refine=refine,
)
