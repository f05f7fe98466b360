"""Bags of loose properties that many SDKs hang on spans: which name a session or a user, and which are metadata.

One table for all of them: `bag("langsmith.metadata.")` gives the rules and the pattern that a convention needs.
"""

from collections.abc import Sequence
from typing import Any

from spanweir.schemas.convention import WHOLE, Many, Rule
from spanweir.schemas.messages import parse
from spanweir.schemas.notes import Notes
from spanweir.schemas.raw import Attributes
from spanweir.schemas.values import quoted, strings

SESSION_NAMES = (
    "session_id", "sessionId", "session.id", "session", "langfuse_session_id", "chat_session_id", "chat_id", "chatId",
    "conversation_id", "conversationId", "thread_id", "threadId", "thread.id",
)  # fmt: skip
"""Strongest first: a session of the application comes before a thread of the framework."""

USER_NAMES = (
    "user_id", "userId", "user.id", "langfuse_user_id", "user_name", "userName", "user", "end_user_id", "user_email",
)  # fmt: skip

TAG_NAMES = ("tags", "langfuse_tags")
_NAMES = frozenset({*SESSION_NAMES, *USER_NAMES})


def bag(prefix: str, *, rank: int = WHOLE) -> tuple[tuple[Rule, ...], tuple[Many, ...]]:
    """Rules for session, user and tags below `prefix`, and the pattern that takes everything below it as metadata."""
    rules = (
        *(Rule(prefix + name, "session_id", quoted, rank) for name in SESSION_NAMES),
        *(Rule(prefix + name, "user_id", quoted, rank) for name in USER_NAMES),
        *(Rule(prefix + name, "tags", strings, rank) for name in TAG_NAMES),
    )

    start = len(prefix)

    def read(attributes: Attributes, keys: Sequence[str], notes: Notes) -> dict[str, Any]:
        found = {}
        for key in keys:
            value = attributes[key]
            if value.__class__ is str and (not value or value[0] == '"'):
                value = quoted(value)  # Langfuse 5 puts JSON quotes around texts
            found[key[start:]] = value
        return found

    return rules, (Many((prefix,), "metadata", read, rank, content=False),)


def from_object(value: Any, notes: Notes) -> dict[str, Any] | None:
    """Fields of a metadata object, structured or JSON text: `metadata`; session, user and tags too."""
    found = parse(value, notes)
    if not isinstance(found, dict) or not found:
        return None
    fields: dict[str, Any] = {"metadata": dict(found)}
    sought = () if _NAMES.isdisjoint(found) else (("session_id", SESSION_NAMES), ("user_id", USER_NAMES))
    for field, names in sought:
        for name in names:
            item = found.get(name)
            if isinstance(item, (str, int)) and not isinstance(item, bool) and item != "":
                fields[field] = str(item)
                break
    for name in TAG_NAMES:
        if isinstance(found.get(name), list):
            fields["tags"] = strings(found[name])
    return fields
