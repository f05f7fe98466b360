"""A snapshot of an argument or a return value, cheap enough for the calling thread. Not here: turning it into text.

Strings, numbers and other immutable values are kept by reference; only the containers around them are copied, so that
a list of messages which the application goes on appending to is recorded as it was. Nothing of the application's is
called here: no `__repr__`, no `__iter__` of an unknown type, no property.
"""

import dataclasses
import time
from typing import Any

ATOMS = frozenset({str, int, float, bool, type(None), bytes, complex})
MAX_DEPTH = 32
MAX_ITEMS = 10_000
"""Of one container; the rest is counted, not recorded."""
MAX_COPIED = 500
"""Containers that the calling thread copies in depth, beginning with the last messages of a list, which are the ones
that applications change. Of what is left only the top level is copied: to touch each string of a 10 MB conversation
costs ten times what copying its messages does. That part shows a change made deeper down before the export."""
MAX_CONTAINERS = 100_000
"""Of one value, all told. Bounds what a self-referencing structure can grow to."""
ELIDED = "…"

_STRINGS = frozenset({str})
_FEW = 16
_UNSAFE_TO_COPY = (type, type(lambda: None))


class Frozen:
    """A value and about how many bytes its text will have."""

    __slots__ = ("form", "partial", "size", "value")

    form: str
    partial: bool
    size: int
    value: Any

    def complete(self) -> None:
        """Copy the rest, on the worker's thread, before anything walks through the value."""
        if self.partial:
            self._take(self.value, _Freezer(MAX_CONTAINERS, keep=False))

    def _take(self, value: Any, freezer: "_Freezer") -> None:
        try:
            self.value = freezer.freeze(value, 0)
        except Exception as error:  # a container of the application's that misbehaves when it is copied
            self.value = f"<{type(value).__name__}: not recorded, {type(error).__name__}>"
        self.size = freezer.size
        self.partial = freezer.keep and freezer.left <= 0


def freeze(value: Any, form: str = "json") -> Frozen:
    """Take the snapshot. `form`: how the value is to be read (`policy.FORMS`)."""
    frozen = Frozen()
    frozen.form = form
    frozen.partial = False
    if type(value) is str:
        frozen.value, frozen.size = value, len(value)
    elif type(value) is list and len(value) <= MAX_COPIED and (flat := _flat(value)) is not None:
        frozen.value, frozen.size = flat
    else:
        frozen._take(value, _Freezer(MAX_COPIED, keep=True))
    return frozen


def _flat(items: list[Any]) -> tuple[list[Any], int] | None:
    """A copy and its size if these are messages that hold nothing but text, which most of a conversation is."""
    copy, size = [], 0
    for item in items:
        if type(item) is not dict or len(item) > _FEW:
            return None
        message = item.copy()
        for value in message.values():
            if type(value) is not str:
                return None
            size += len(value) + 16
        copy.append(message)
    return copy, size


class _Freezer:
    """`left` containers are copied; after that a value is kept by reference (`keep`) or left out."""

    __slots__ = ("keep", "left", "size")

    def __init__(self, left: int, *, keep: bool) -> None:
        self.left = left
        self.keep = keep
        self.size = 0

    def freeze(self, value: Any, depth: int) -> Any:
        kind = type(value)
        if kind is str:
            self.size += len(value)
            return value
        if kind in ATOMS:
            self.size += len(value) if kind is bytes else 8
            return value
        self.left -= 1
        if self.left < 0:
            return value if self.keep else ELIDED
        if not self.keep and self.left % 256 == 0:
            time.sleep(0)  # in the worker: let the application's threads run
        if depth > MAX_DEPTH:
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
        copy: list[Any] = list(value[:MAX_ITEMS])
        if not copy:
            return copy
        kinds = set(map(type, copy))
        if kinds <= ATOMS:
            self.size += sum(map(len, copy)) + 3 * len(copy) if kinds == _STRINGS else 12 * len(copy)
        elif len(copy) <= self.left and (flat := _flat(copy)) is not None:
            copy = flat[0]
            self.left -= len(copy)
            self.size += flat[1]
        else:
            before = self.size
            index = self._last_first(copy, depth + 1)
            if index:
                self._rest(copy, index, (self.size - before) // (len(copy) - index))
        if len(value) > MAX_ITEMS:
            copy.append(f"{ELIDED} {len(value) - MAX_ITEMS} more items")
        return copy

    def _last_first(self, copy: list[Any], depth: int) -> int:
        """Freeze the items from the last one on, as far as the budget goes; how many are left.

        Messages that hold nothing but text, which most of a conversation is, are copied without another call each.
        """
        index = len(copy)
        while index and self.left > 0:
            index -= 1
            item = copy[index]
            if type(item) is dict and self.keep and len(item) <= _FEW:
                flat = item.copy()
                size = 4
                for value in flat.values():
                    if type(value) is not str:
                        break
                    size += len(value) + 16
                else:
                    copy[index] = flat
                    self.left -= 1
                    self.size += size
                    continue
            copy[index] = self.freeze(item, depth)
        return index

    def _rest(self, copy: list[Any], count: int, average: int) -> None:
        """The first `count` items, for which the budget did not suffice; they count as large as the others."""
        rest = copy[:count]
        if not self.keep:
            copy[:count] = [f"{ELIDED} {count} more items"]
            return
        if set(map(type, rest)) == {dict}:
            copy[:count] = map(dict.copy, rest)
        self.left = 0
        self.size += count * average

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
    """The fields of a pydantic model, dataclass, msgspec struct or attrs instance; None for anything else."""
    kind = type(value)
    if "__pydantic_fields__" in kind.__dict__ or hasattr(kind, "__pydantic_fields__"):
        extra = getattr(value, "__pydantic_extra__", None)
        fields = value.__dict__.copy()
        return {**fields, **extra} if isinstance(extra, dict) else fields
    if dataclasses.is_dataclass(kind):
        return {field.name: getattr(value, field.name, None) for field in dataclasses.fields(kind)}
    if hasattr(kind, "__struct_fields__"):  # msgspec
        return {name: getattr(value, name, None) for name in kind.__struct_fields__}
    if hasattr(kind, "__attrs_attrs__"):
        return {field.name: getattr(value, field.name, None) for field in kind.__attrs_attrs__}
    return None
