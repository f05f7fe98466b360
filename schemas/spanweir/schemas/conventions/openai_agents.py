"""OpenTelemetry's first instrumentation of the OpenAI Agents SDK, whose answers are what Python prints for the SDK's
objects. Source: opentelemetry-instrumentation-openai-agents-v2 0.1.0.
"""

import re
from ast import literal_eval

from spanweir.schemas.convention import NATIVE, Convention
from spanweir.schemas.genai import GenAISpan, Part, Text, ToolCall
from spanweir.schemas.notes import Notes, arguments
from spanweir.schemas.raw import RawSpan

_VALUE = r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*\""""
_CALL = re.compile(rf"ResponseFunctionToolCall\(arguments=({_VALUE}), call_id=({_VALUE}), name=({_VALUE}),")


def _part(said: Part) -> Part:
    """`ResponseFunctionToolCall(arguments='{}', call_id='call_1', name='search', …)` as the call that it is."""
    read = _CALL.match(said.content) if isinstance(said, Text) else None
    if read is None:
        return said
    given, call_id, name = (literal_eval(value) for value in read.groups())
    return ToolCall(name, call_id, arguments(given))


def refine(raw: RawSpan, span: GenAISpan, notes: Notes) -> None:
    for message in (*span.input, *span.output):
        parts = [_part(said) for said in message.parts]
        if parts != message.parts:
            message.parts = parts
            notes.taken.pop("output", None)
            notes.taken.pop("input", None)
    if span.op == "agent_handoff":
        span.kind = "step"


CONVENTION = Convention(
    name="openai_agents", scopes=("opentelemetry.instrumentation.openai_agents",), rank=NATIVE, refine=refine
)
