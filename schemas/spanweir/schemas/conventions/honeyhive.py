"""HoneyHive: `honeyhive_inputs.<k>` and its siblings, flattened. Source: honeyhive 1.7 (semconv guide 5.10)."""

from collections.abc import Sequence
from typing import Any

from spanweir.schemas import associations
from spanweir.schemas.convention import WHOLE, Convention, Many, rules, word
from spanweir.schemas.indexed import tree
from spanweir.schemas.notes import Notes
from spanweir.schemas.raw import Attributes
from spanweir.schemas.values import text

KINDS = {"model": "llm", "tool": "tool", "chain": "chain", "session": "workflow", "agent": "agent"}


def below(prefix: str) -> Any:
    """A reader of everything below `prefix` as one value."""

    def read(attributes: Attributes, keys: Sequence[str], notes: Notes) -> Any:
        return tree(attributes, keys, prefix)

    return read


def returned(attributes: Attributes, keys: Sequence[str], notes: Notes) -> Any:
    """What a decorated function gave back: the decorator calls it `result`."""
    found = tree(attributes, keys, "honeyhive_outputs.")
    return found["result"] if isinstance(found, dict) and found.keys() == {"result"} else found


_METADATA, _PROPERTIES = associations.bag("honeyhive_metadata.")

CONVENTION = Convention(
    name="honeyhive",
    marks=("honeyhive_", "honeyhive."),
    scopes=("honeyhive",),
    rank=WHOLE,
    rules=(
        *rules(
            {
                "honeyhive_event_type": ("kind", word(KINDS)),
                "honeyhive_session_id": ("session_id", text),
                "honeyhive.session_id": ("session_id", text),
                "honeyhive_config.model": ("model.request", text),
                "honeyhive_config.provider": ("provider", text),
            }
        ),
        *_METADATA,
    ),
    many=(
        Many(("honeyhive_inputs.",), "io.input", below("honeyhive_inputs.")),
        Many(("honeyhive_outputs.",), "io.output", returned),
        *_PROPERTIES,
    ),
    usage={
        "honeyhive_metadata.prompt_tokens": "input",
        "honeyhive_metadata.completion_tokens": "output",
        "honeyhive_metadata.total_tokens": "total",
    },
)
