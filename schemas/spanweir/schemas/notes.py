"""What reading a span comes across, and small helpers of everything that reads nested values."""

from collections.abc import Mapping
from typing import Any

import msgspec

from spanweir.schemas.values import dumps, loads


class Notes(msgspec.Struct, gc=False):
    """What reading one span has come across."""

    flags: list[str] = []
    lossy: bool = False
    """A reader could not keep all of a value."""
    truncated: bool = False
    """What a reader was given had been cut short."""
    taken: dict[str, tuple[str, ...]] = {}
    text: str | None = None
    """The JSON text that was decoded last: two sources of one field are often the same."""
    decoded: Any = None
    """What it says. Never change what is in it."""


Shape = Mapping[str, Any]
_EMPTY: tuple[Any, ...] = (None, "", [], {}, False)


def rest(item: Shape, known: frozenset[str], notes: Notes) -> None:
    """Note it where `item` says anything under a key that is not `known`."""
    if not notes.lossy:
        for key in item:
            if key not in known and item[key] not in _EMPTY:
                notes.lossy = True
                return


def arguments(value: Any) -> Any:
    """Tool arguments: decoded where they are JSON text of an object or array, else as they are."""
    if value.__class__ is str:
        stripped = value.lstrip()[:1]
        if stripped == "{" or stripped == "[":
            try:
                return loads(value, cut=False, lenient=False)
            except ValueError:
                return value
        return value or None
    return value


def first(item: Shape, *keys: str) -> Any:
    get = item.get
    for key in keys:
        if (value := get(key)) is not None:
            return value
    return None


def name_of(item: Shape, *keys: str) -> str:
    value = first(item, *keys)
    return value if isinstance(value, str) else "" if value is None else dumps(value)


def id_of(item: Shape, *keys: str) -> str | None:
    get = item.get
    for key in keys:
        if (value := get(key)) is not None:
            return value if isinstance(value, str) else dumps(value)
    return None
