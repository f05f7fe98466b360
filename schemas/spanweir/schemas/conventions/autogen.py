"""AutoGen (autogen-core): OpenTelemetry's agent and tool spans among messaging spans of its runtime.

Source: autogen-core 0.7 and 0.4 (`base_tool`; semconv guide 5.8). Messaging spans keep their own names.
"""

import re
from ast import literal_eval
from collections.abc import Mapping
from typing import Any

from spanweir.schemas.convention import NATIVE, Convention, rules
from spanweir.schemas.genai import GenAISpan, ToolResult
from spanweir.schemas.messages import parse
from spanweir.schemas.notes import Notes, arguments, rest
from spanweir.schemas.raw import RawSpan
from spanweir.schemas.values import plain, text


def refine(raw: RawSpan, span: GenAISpan, notes: Notes) -> None:
    """`autogen process …` and its siblings carry messages between agents; what an agent says in one is its answer."""
    if span.kind == "other" and raw.name.startswith("autogen "):
        span.kind = "hook"
        if span.io is not None and span.io.output is None:
            span.io.output = _said(plain(span.io.input))
    elif raw.scope.name == "base_tool":
        span.kind = "tool"
    elif span.kind == "agent" and span.io is not None:
        span.io.input = _printed(plain(span.io.input))


def _said(message: Any) -> Any:
    """What an agent says in a group chat's message, not what a user or a manager does; None where nobody says it."""
    if not isinstance(message, dict):
        return None
    response = message.get("response")
    said = response.get("chat_message") if isinstance(response, dict) else message.get("message")
    if not isinstance(said, dict) or said.get("source") in (None, "user"):
        return None
    return said.get("content")


_PRINTED = re.compile(
    r"""(?:^|.* )source='(?P<source>[^']*)' .*?content=(?P<content>'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*") type='""",
    re.DOTALL,
)


def _printed(given: Any) -> Any:
    """`{"messages": ["id='…' source='user' … content='…' type='TextMessage'"]}` of OpenInference as messages."""
    if not isinstance(given, dict) or not isinstance(given.get("messages"), list):
        return given
    found = []
    for said in given["messages"]:
        read = _PRINTED.match(said) if isinstance(said, str) and " source='" in said else None
        if read is None:
            return given
        try:
            content = literal_eval(read["content"])
        except (ValueError, SyntaxError):
            return given
        speaker = "user" if read["source"] == "user" else "assistant"
        found.append({"role": speaker, "content": content, **({} if speaker == "user" else {"name": read["source"]})})
    return {"messages": found} if found else given


def function_results(item: Mapping[str, Any], notes: Notes) -> list[ToolResult]:
    """Tools' results as JSON text in `function.N` beside a message: openinference-instrumentation-autogen-agentchat."""
    found = []
    for key in sorted(key for key in item if key.startswith("function.")):
        read = parse(item[key], notes)
        if isinstance(read, dict):
            rest(read, _RESULT, notes)
            failed = read.get("is_error")
            failed = failed if isinstance(failed, bool) else None
            found.append(
                ToolResult(arguments(read.get("content")), text(read.get("call_id")), text(read.get("name")), failed)
            )
        else:
            notes.lossy = True
    return found


_RESULT = frozenset({"name", "content", "call_id", "is_error"})


CONVENTION = Convention(
    name="autogen",
    marks=("autogen.", "recipient_agent_type"),
    scopes=("autogen-core", "autogen_core", "autogen", "base_tool", "openinference.instrumentation.autogen"),
    rank=NATIVE,
    rules=(
        *rules({"recipient_agent_type": ("graph.node", text), "sender_agent_type": ("graph.parent_node_id", text)}),
        *rules({"tool_name": ("tool.name", text), "tool_description": ("tool.description", text)}),
        *rules({"message": ("io.input", parse), "tool_args": ("tool.arguments", parse)}, content=True),
    ),
    refine=refine,
)
