"""Actions on attributes, with the names and meanings of the OpenTelemetry Collector (`attributesprocessor`)."""

import hashlib
from collections.abc import Callable, Sequence
from typing import Any, Literal

import msgspec

from spanweir.schemas.raw import Attributes, Value


class Action(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One change of one attribute. Actions are applied in order."""

    key: str = ""
    """The attribute."""
    action: Literal["insert", "update", "upsert", "delete", "hash", "extract", "convert"] = "upsert"
    """`insert` where the key is not there, `update` where it is, `upsert` in any case; `delete`; `hash` (SHA-256, hex);
    `extract` by `pattern`; `convert` to `converted_type`."""
    value: str | int | float | bool | None = None
    """For insert, update and upsert."""
    from_attribute: str = ""
    """Take the value of this attribute instead; nothing happens if it is not there."""
    pattern: str = ""
    """extract: RE2 pattern with named groups, which become attributes. delete, hash: all keys that match it whole."""
    converted_type: Literal["", "int", "double", "string"] = ""
    """convert: the type."""

    def __post_init__(self) -> None:
        if not self.key and not (self.pattern and self.action in ("delete", "hash")):
            raise ValueError(f"action {self.action} needs a key")
        if self.action in ("insert", "update", "upsert") and (self.value is None) == (not self.from_attribute):
            raise ValueError(f"action {self.action} of {self.key!r} needs either value or from_attribute")
        if self.action == "extract" and not self.pattern:
            raise ValueError(f"action extract of {self.key!r} needs a pattern")
        if self.action == "convert" and not self.converted_type:
            raise ValueError(f"action convert of {self.key!r} needs converted_type: int, double or string")


Apply = Callable[[Attributes], None]


def compiled(actions: Sequence[Action]) -> list[Apply]:
    """What changes attributes in place. Raises ValueError for a pattern that is none."""
    return [_one(action) for action in actions]


def _one(action: Action) -> Apply:
    kind, key = action.action, action.key
    pattern = compile_pattern(action.pattern) if action.pattern else None
    if kind in ("insert", "update", "upsert"):
        return _put(action)
    if kind == "extract":
        return lambda attributes: _extract(attributes, key, pattern)
    if kind == "convert":
        return lambda attributes: _convert(attributes, key, action.converted_type)

    def each(attributes: Attributes) -> None:
        for name in [n for n in attributes if n == key or (pattern is not None and pattern.fullmatch(n))]:
            if kind == "delete":
                del attributes[name]
            else:
                attributes[name] = hashlib.sha256(_text(attributes[name]).encode("utf-8", "replace")).hexdigest()

    return each


def _put(action: Action) -> Apply:
    kind, key, source = action.action, action.key, action.from_attribute

    def put(attributes: Attributes) -> None:
        if source and source not in attributes:
            return
        if (kind == "insert" and key in attributes) or (kind == "update" and key not in attributes):
            return
        attributes[key] = attributes[source] if source else action.value

    return put


def _extract(attributes: Attributes, key: str, pattern: Any) -> None:
    value = attributes.get(key)
    match = pattern.search(value) if isinstance(value, str) else None
    if match is not None:
        attributes.update({name: found for name, found in match.groupdict().items() if found is not None})


def _convert(attributes: Attributes, key: str, kind: str) -> None:
    value = attributes.get(key)
    if value is None or isinstance(value, bytes | list | dict):
        return
    try:
        attributes[key] = _CONVERTERS[kind](value)
    except ValueError:
        return  # stays as it was: an odd value costs nobody anything


def _integer(value: Value) -> int:
    return int(float(value)) if isinstance(value, str | int | float) else 0


def _text(value: Value) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, str) else str(value)


def _double(value: Value) -> float:
    return float(value) if isinstance(value, str | int | float) else 0.0


_CONVERTERS: dict[str, Callable[[Value], Value]] = {"int": _integer, "double": _double, "string": _text}


def compile_pattern(pattern: str) -> Any:
    """Raises ValueError."""
    import re2

    options = re2.Options()
    options.log_errors = False  # it would print to standard error what the exception says
    try:
        return re2.compile(pattern, options)
    except re2.error as error:
        reason = error.args[0] if error.args else error
        text = reason.decode(errors="replace") if isinstance(reason, bytes) else str(reason)
        raise ValueError(f"{pattern!r} is no RE2 pattern: {text}") from error
