"""TanStack AI's OpenTelemetry middleware: OpenTelemetry's keys, with a tool's input and result written as messages.

The outer span is the whole loop: it has the sum of its iterations' tokens and no operation name. It repeats its
messages under Langfuse's names. Source: @tanstack/ai 0.58, recorded.
"""

from spanweir.schemas.convention import OVERRIDE, Convention
from spanweir.schemas.genai import GenAISpan, Message, Text, Tool, ToolResult
from spanweir.schemas.messages import messages
from spanweir.schemas.notes import Notes, arguments
from spanweir.schemas.raw import RawSpan
from spanweir.schemas.values import plain


def refine(raw: RawSpan, span: GenAISpan, notes: Notes) -> None:
    if "tanstack.ai.iterations" in raw.attributes and span.op is None:
        span.kind = "agent"
        if span.usage is not None:
            span.usage.scope = "rollup"
        io = span.io
        if io is not None:
            span.input = span.input or messages(plain(io.input), notes) or []
            span.output = span.output or messages(plain(io.output), notes, "assistant") or []
            io.trace_input = io.trace_output = None  # the same lists again
    elif span.kind == "tool":
        tool = span.tool = span.tool or Tool()
        if tool.arguments is None and (given := _only(span.input)) is not None:
            tool.arguments, span.input = arguments(given), []
        if tool.result is None and (returned := _only(span.output)) is not None:
            tool.result, span.output = arguments(returned), []


def _only(found: list[Message]) -> object:
    """What the one message with one part holds: text of the tool's input or its result."""
    if len(found) != 1 or len(found[0].parts) != 1:
        return None
    part = found[0].parts[0]
    return part.content if isinstance(part, Text) else part.response if isinstance(part, ToolResult) else None


CONVENTION = Convention(name="tanstack", marks=("tanstack.ai.",), rank=OVERRIDE, refine=refine)
