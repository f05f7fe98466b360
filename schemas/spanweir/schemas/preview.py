"""The text a person wants to see of inputs or outputs in any shape, for a trace's row in a list.

Not here: spans whose messages are known already (`summary`).
"""

from typing import Any

import orjson

from spanweir.schemas import content
from spanweir.schemas.genai import Message
from spanweir.schemas.messages import text_of
from spanweir.schemas.notes import Notes

_DEPTH = 6
# Names under which frameworks put what matters, most telling first.
_USER = ("messages", "new_message", "message", "prompt", "question", "query", "input", "inputs", "request", "user_msg")
_ASSISTANT = (
    "messages",
    "choices",
    "answer",
    "message",
    "output",
    "outputs",
    "response",
    "result",
    "content",
    "update",
)
_ABOUT = frozenset({"role", "index", "finish_reason", "native_finish_reason"})
"""Of an answer without content, these are not what was said."""
_CALL = ("args", "kwargs", "data", "state", "update")


def preview_of(json_text: str | None, role: str) -> str | None:
    """Text of the last message of `role` (`user` or `assistant`) in JSON text, else what is named as such or stands
    alone in it, else the JSON text itself. None for nothing."""
    if json_text is None:
        return None
    try:
        value = orjson.loads(json_text)
    except ValueError:
        return json_text
    found = _text(value, role, 0)
    if found:
        return found
    said = value.get("choices", value) if isinstance(value, dict) else value
    return json_text if _says(said, 0) else None


def _says(value: Any, depth: int) -> bool:
    """Whether there is anything in a value but what is about an answer."""
    if isinstance(value, dict) and depth < _DEPTH:
        return any(_says(item, depth + 1) for key, item in value.items() if key not in _ABOUT)
    if isinstance(value, list) and depth < _DEPTH:
        return any(_says(item, depth + 1) for item in value)
    return value not in (None, "", [], {})


def _text(value: Any, role: str, depth: int) -> str | None:
    if isinstance(value, str):
        return value or None
    if depth > _DEPTH or not isinstance(value, (list, dict)) or not value:
        return None
    read = content.request if role == "user" else content.response
    fields = read(value, Notes()) or {}
    found = _last(fields.get("input" if role == "user" else "output") or [], role)
    if found:
        return found
    return _member(value, role, depth) if isinstance(value, dict) else _item(value, role, depth)


def _last(messages: list[Message], role: str) -> str | None:
    for message in reversed(messages):
        if message.role == role and (found := text_of(message)):
            return found
    return None


def _member(value: dict[str, Any], role: str, depth: int) -> str | None:
    for key in (*(_USER if role == "user" else _ASSISTANT), *_CALL):
        inner = value.get(key)
        if inner and (found := _text(inner, role, depth + 1)):
            return found
    said = [item for key, item in value.items() if key not in _ABOUT and item not in (None, "", [], {})]
    if len(said) == 1 and isinstance(said[0], (str, dict)):
        return _text(said[0], role, depth + 1)
    return None


def _item(value: list[Any], role: str, depth: int) -> str | None:
    if len(value) == 1:
        return _text(value[0], role, depth + 1)
    if all(isinstance(item, str) for item in value):
        return "\n".join(value)
    texts = [item["text"] for item in value if isinstance(item, dict) and isinstance(item.get("text"), str)]
    if texts and len(texts) == len(value):
        return "\n".join(texts)
    for item in reversed(value):
        if isinstance(item, dict) and (found := _text(item, role, depth + 1)):
            return found
    return None
