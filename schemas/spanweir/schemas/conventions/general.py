"""What any span may say, about generative AI or not: session, user, error, tags. Stable OpenTelemetry conventions, and
keys that many vendors share. Does not make a span one about generative AI."""

from spanweir.schemas.convention import GENERIC, Convention, rules
from spanweir.schemas.values import quoted, strings, text

CONVENTION = Convention(
    name="general",
    general=True,
    rank=GENERIC,
    rules=rules(
        {
            "session.id": ("session_id", quoted),
            "user.id": ("user_id", quoted),
            "enduser.id": ("user_id", text),
            "error.type": ("error.type", text),
            "tag.tags": ("tags", strings),
        }
    ),
)
