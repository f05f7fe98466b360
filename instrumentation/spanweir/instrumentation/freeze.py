"""A snapshot of an argument or a return value, cheap enough for the calling thread. Not here: turning it into text.

Strings, numbers and other immutable values are kept by reference; only the containers around them are copied, so that
a list of messages which the application goes on appending to is recorded as it was. Nothing of the application's is
called here: no `__repr__`, no `__iter__` of an unknown type, no property.
"""

import dataclasses
from typing import Any

ATOMS = frozenset({str, int, float, bool, type(None), bytes, complex})
MAX_DEPTH = 32
MAX_ITEMS = 10_000
"""Of one container; the rest is counted, not recorded."""
MAX_CONTAINERS = 50_000
"""Of one value. Bounds the time that a gigantic or self-referencing structure can cost the calling thread."""
ELIDED = "…"

_NUMBERS = frozenset({int, float, bool, type(None)})
_STRINGS = frozenset({str})
_UNSAFE_TO_COPY = (type, type(lambda: None))


class Frozen:
    """A value and about how many bytes its text will have."""

    __slots__ = ("form", "size", "value")

    def __init__(self, value: Any, form: str = "json") -> None:
        self.form = form
        freezer = _Freezer()
        try:
            self.value = freezer.freeze(value, 0)
        except Exception as error:  # a container of the application's that misbehaves when it is copied
            self.value = f"<{type(value).__name__}: not recorded, {type(error).__name__}>"
        self.size = freezer.size


class _Freezer:
    __slots__ = ("containers", "size")

    def __init__(self) -> None:
        self.size = 0
        self.containers = MAX_CONTAINERS

    def freeze(self, value: Any, depth: int) -> Any:
        kind = type(value)
        if kind is str:
            self.size += len(value)
            return value
        if kind in ATOMS:
            self.size += len(value) if kind is bytes else 8
            return value
        self.containers -= 1
        if depth > MAX_DEPTH or self.containers < 0:
            return ELIDED
        if kind is dict:
            return self._dict(value, depth)
        if kind is list or kind is tuple:
            return self._list(value, depth)
        return self._other(value, depth)

    def _dict(self, value: dict[Any, Any], depth: int) -> dict[Any, Any]:
        copy = value.copy()  # one C call: another thread cannot change it half-way
        if len(copy) > MAX_ITEMS:
            more = len(copy) - MAX_ITEMS
            copy = {key: copy[key] for key in list(copy)[:MAX_ITEMS]}
            copy[ELIDED] = f"{more} more items"
        size = 4
        for key, item in copy.items():
            kind = type(item)
            if kind is str:
                size += len(item) + 16
            elif kind in ATOMS:
                size += len(item) if kind is bytes else 24
            else:
                copy[key] = self.freeze(item, depth + 1)
        self.size += size
        return copy

    def _list(self, value: list[Any] | tuple[Any, ...], depth: int) -> list[Any]:
        copy = list(value[:MAX_ITEMS])
        kinds = set(map(type, copy))
        if kinds == _STRINGS:
            self.size += sum(map(len, copy)) + 3 * len(copy)
        elif kinds <= _NUMBERS:
            self.size += 12 * len(copy)
        else:
            for index, item in enumerate(copy):
                copy[index] = self.freeze(item, depth + 1)
        if len(value) > MAX_ITEMS:
            copy.append(f"{ELIDED} {len(value) - MAX_ITEMS} more items")
        return copy

    def _other(self, value: Any, depth: int) -> Any:
        """Subclasses of the built-in containers, and objects that say which fields they consist of."""
        if isinstance(value, tuple):
            names = getattr(type(value), "_fields", None)
            items = list(tuple.__iter__(value))
            return self._dict(dict(zip(names, items, strict=False)), depth) if names else self._list(items, depth)
        if isinstance(value, dict):
            return self._dict(dict(dict.items(value)), depth)
        if isinstance(value, list):
            return self._list(list(list.__iter__(value)), depth)
        if isinstance(value, (set, frozenset)):
            return self._list(list(value), depth)
        if isinstance(value, _UNSAFE_TO_COPY):
            return value
        fields = _fields(value)
        if fields is not None:
            return self._dict(fields, depth)
        self.size += 64
        return value


def _fields(value: Any) -> dict[str, Any] | None:
    """The fields of a pydantic model, dataclass or attrs instance; None for anything else."""
    kind = type(value)
    if "__pydantic_fields__" in kind.__dict__ or hasattr(kind, "__pydantic_fields__"):
        extra = getattr(value, "__pydantic_extra__", None)
        fields = value.__dict__.copy()
        return {**fields, **extra} if isinstance(extra, dict) else fields
    if dataclasses.is_dataclass(kind):
        return {field.name: getattr(value, field.name, None) for field in dataclasses.fields(kind)}
    if hasattr(kind, "__attrs_attrs__"):
        return {field.name: getattr(value, field.name, None) for field in kind.__attrs_attrs__}
    return None
