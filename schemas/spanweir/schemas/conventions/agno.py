"""Agno: OpenInference's or OpenTelemetry's spans with `agno.*` beside them, once under the literal key
`agno{key_suffix}.tools`. Source: agno 1.x and 2.x (semconv guide 5.9).
"""

import re
from ast import literal_eval
from typing import Any

from spanweir.schemas.content import tools
from spanweir.schemas.convention import WHOLE, Convention, rules
from spanweir.schemas.genai import GenAISpan
from spanweir.schemas.notes import Notes
from spanweir.schemas.raw import RawSpan
from spanweir.schemas.values import plain, text

_VALUE = r"""None|'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*\""""
_PRINTED = re.compile(
    rf"role='(?P<role>\w+)' content=(?P<content>{_VALUE}) name=(?:{_VALUE}) tool_call_id=(?P<tool_call_id>{_VALUE}) "
    r"tool_calls=(?P<tool_calls>None|\[.*?\]) audio=",
    re.DOTALL,
)


def _message(said: Any) -> dict[str, Any] | None:
    """A message of Agno's as Python prints it."""
    read = _PRINTED.match(said) if isinstance(said, str) and said.startswith("role='") else None
    if read is None:
        return None
    try:
        found = {name: literal_eval(value) for name, value in read.groupdict().items() if name != "role"}
    except (ValueError, SyntaxError):
        return None
    return {"role": read["role"], **{name: value for name, value in found.items() if value is not None}}


def refine(raw: RawSpan, span: GenAISpan, notes: Notes) -> None:
    """OpenInference 0.1 leaves out of a request's messages the calls of tools; all of them stand printed beside it."""
    if span.kind != "llm" or span.io is None or not any(message.role == "tool" for message in span.input):
        return
    given = plain(span.io.input)
    said = given.get("messages") if isinstance(given, dict) else None
    found = [_message(one) for one in said] if isinstance(said, list) else []
    if found and None not in found:
        span.io.input = {**given, "messages": found}


CONVENTION = Convention(
    name="agno",
    marks=("agno.", "agno{key_suffix}."),
    scopes=("openinference.instrumentation.agno", "opentelemetry.instrumentation.genai.agno"),
    rank=WHOLE,
    rules=(
        *rules(
            {
                "agno.agent.id": ("agent.id", text),
                "agno.agent": ("agent.name", text),
                "agno.team.id": ("graph.workflow_id", text),
                "agno.team": ("graph.workflow", text),
                "agno.run.id": ("graph.task_id", text),
            }
        ),
        *rules({"agno.tools": ("tools", tools), "agno{key_suffix}.tools": ("tools", tools)}, content=True),
    ),
    refine=refine,
)
