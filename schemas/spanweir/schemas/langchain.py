"""How LangChain's callbacks wrap what a tool was given and what it returned, and what a model answered; every tracer of
LangChain passes it on.

Not here: LangChain's messages (`messages`), documents (`content`).
"""

import re
from ast import literal_eval
from typing import Any

import msgspec

from spanweir.schemas.genai import ToolResult
from spanweir.schemas.messages import message, parse
from spanweir.schemas.notes import Notes, arguments, first
from spanweir.schemas.values import plain


def tool_arguments(value: Any) -> Any:
    """A tool run's inputs: the arguments, or LangChain's `{"input": "<arguments as text>"}`."""
    if isinstance(value, dict) and set(value) == {"input"} and isinstance(value["input"], str):
        found = parse(value["input"], Notes()) if value["input"][:1] in "{[" else value["input"]
        return found if isinstance(found, (dict, list)) else value["input"]
    return value


def tool_result(value: Any) -> Any:
    """A tool run's output: the value, or LangChain's `{"output": <value or ToolMessage>}`."""
    if isinstance(value, dict) and set(value) == {"output"}:
        value = value["output"]
    if isinstance(value, dict) and ("tool_call_id" in value or "lc" in value or value.get("type") == "tool"):
        read = message(value, Notes(), "tool")
        part = read[0].parts[0] if read and read[0].parts else None
        if isinstance(part, ToolResult):
            return part.response
    return arguments(value)


_PRINTED = re.compile(r"""content=('(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*") (?:name=.*)?tool_call_id='""", re.DOTALL)


def printed_result(value: Any) -> Any:
    """The content of a `ToolMessage` that was printed (`content='…' name='…' tool_call_id='…'`), alone or as `output`.

    None for all else. OpenInference's LangChain of before 0.1.40 sends results so.
    """
    if value.__class__ is msgspec.Raw and b" tool_call_id=" not in bytes(value):
        return None
    value = plain(value)
    if isinstance(value, dict) and set(value) == {"output"}:
        value = value["output"]
    found = _PRINTED.match(value) if isinstance(value, str) and value.startswith("content=") else None
    if found is None:
        return None
    try:
        return arguments(literal_eval(found[1]))
    except (ValueError, SyntaxError):
        return None


def message_usage(item: Any) -> Any:
    """`usage_metadata` of a LangChain message, dumped or by constructor."""
    said = item.get("message") if isinstance(item, dict) else None
    for name in ("kwargs", "data"):
        if isinstance(said, dict) and isinstance(said.get(name), dict):
            said = said[name]
    return said.get("usage_metadata") if isinstance(said, dict) else None


def generations(value: list[Any]) -> list[Any]:
    """LangChain's `generations`: for each prompt a list of `{text, message, generation_info}`."""
    found: list[Any] = []
    for item in value:
        if isinstance(item, list):
            found += generations(item)
        elif isinstance(item, dict):
            info = item.get("generation_info")
            reason = first(info, "finish_reason", "stop_reason") if isinstance(info, dict) else None
            if isinstance(item.get("message"), dict):
                found.append({"message": item["message"], "finish_reason": reason})
            elif isinstance(item.get("text"), str):
                found.append({"role": "assistant", "content": item["text"], "finish_reason": reason})
    return found
