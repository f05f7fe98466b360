"""What any span may say, about generative AI or not: session, user, error, tags. Stable OpenTelemetry conventions, and
keys that many vendors share. Does not make a span one about generative AI."""

from typing import Any

from spanweir.schemas.convention import GENERIC, Convention, Rule, rules
from spanweir.schemas.messages import parse
from spanweir.schemas.notes import Notes
from spanweir.schemas.values import quoted, strings, text


def metadata(value: Any, notes: Notes) -> dict[str, Any] | None:
    """An object, structured or as JSON text; anything else under so common a name is left alone."""
    if isinstance(value, str) and value.lstrip()[:1] != "{":
        return None
    found = parse(value, notes)
    return dict(found) if isinstance(found, dict) else None


CONVENTION = Convention(
    name="general",
    general=True,
    rank=GENERIC,
    rules=(
        *rules(
            {
                "session.id": ("session_id", quoted),
                "user.id": ("user_id", quoted),
                "enduser.id": ("user_id", text),
                "error.type": ("error.type", text),
                "error.message": ("error.message", text),
                "tag.tags": ("tags", strings),
            }
        ),
        Rule("metadata", "metadata", metadata, content=True),
    ),
)
