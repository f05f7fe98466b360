"""A tree of plain values -> frozen structs. Every problem is collected, each with its full path.

`msgspec.convert` does the leaves; the walk is here because its messages lose dict keys and stop at the first problem.
"""

import types
import typing
from collections.abc import Callable
from typing import Annotated, Any, Literal, Union

import msgspec

from spanweir.collector.config.errors import suggestion
from spanweir.collector.config.expand import Substituted
from spanweir.schemas.options import Duration, Secret, Size

Path = tuple[str, ...]
_BAD: Any = object()
_NAMES: dict[Any, str] = {
    int: "a whole number", float: "a number", bool: "true or false", str: "text", Secret: "text",
    Size: "a size such as 64MiB", Duration: "a duration such as 5s", types.NoneType: "nothing",
}  # fmt: skip


def plain(value: Any) -> Any:
    """The value with every `Substituted` taken as YAML."""
    if isinstance(value, Substituted):
        return plain(value.value)
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    return value


def decode_option(kind: type, value: object) -> object:
    """`msgspec`'s `dec_hook` for the option types. Raises ValueError for a value that `kind` does not take, and
    NotImplementedError for a `kind` that is no option type, which is a mistake in a `Config` struct."""
    if kind is Size:
        return Size.parse(value)
    if kind is Duration:
        return Duration.parse(value)
    if kind is Secret:
        if isinstance(value, str):
            return Secret(value)
        raise ValueError(f"must be text, not {_shape(value)}; put it in quotes")
    raise NotImplementedError(f"no YAML form for options of type {kind.__name__}")


class Binder:
    """Binds values to types; `report(path, message)` is called for each problem."""

    def __init__(self, report: Callable[[Path, str], None]) -> None:
        self._report = report

    def struct(self, value: Any, kind: type[msgspec.Struct], path: Path) -> Any:
        """An instance of `kind`, or None after at least one problem was reported."""
        result = self._struct(value, kind, path)
        return None if result is _BAD else result

    def value(self, value: Any, kind: Any, path: Path) -> Any:
        """`value` as `kind`, or None after at least one problem was reported."""
        result = self._bind(value, kind, path)
        return None if result is _BAD else result

    def _bind(self, value: Any, kind: Any, path: Path) -> Any:
        if typing.get_origin(kind) is Annotated and not isinstance(value, Substituted):
            inner = typing.get_args(kind)[0]
            return self._leaf(value, kind, path) if _is_leaf(inner) else self._bind(value, inner, path)
        options = _options(kind)
        if isinstance(value, Substituted):
            value = _choose(value, options)
        if value is None and types.NoneType in options:
            return None
        for option in options:
            if isinstance(option, type) and issubclass(option, msgspec.Struct):
                if value is None or isinstance(value, dict):
                    return self._struct(value, option, path)
            elif (container := _container(option)) and (value is None or isinstance(value, container)):
                return self._items(value, option, path)
        return self._leaf(plain(value), kind, path)

    def _struct(self, value: Any, kind: type[msgspec.Struct], path: Path) -> Any:
        value = value.value if isinstance(value, Substituted) else value
        if value is None:
            value = {}
        if not isinstance(value, dict):
            fields = ", ".join(kind.__struct_fields__)
            self._report(path, f"must be a mapping with options ({fields}), not {_shape(value)}")
            return _BAD
        fields_by_name = {field.encode_name: field for field in msgspec.structs.fields(kind)}
        bound, good = {}, True
        for key, item in value.items():
            field = fields_by_name.get(key)
            if field is None:
                self._report((*path, key), f"unknown option; {suggestion(key, fields_by_name, 'options')}")
                good = False
                continue
            result = self._bind(item, field.type, (*path, key))
            good = good and result is not _BAD
            bound[field.name] = result
        for field in fields_by_name.values():
            if field.required and field.encode_name not in value:
                self._report((*path, field.encode_name), "is missing and has no default")
                good = False
        if not good:
            return _BAD
        try:
            return kind(**bound)
        except (ValueError, TypeError) as error:
            self._report(path, str(error))
            return _BAD

    def _items(self, value: Any, kind: Any, path: Path) -> Any:
        origin, args = typing.get_origin(kind) or kind, typing.get_args(kind)
        if origin is dict:
            item = args[1] if args else Any
            bound = {key: self._bind(v, item, (*path, key)) for key, v in (value or {}).items()}
            return _BAD if any(v is _BAD for v in bound.values()) else bound
        item = args[0] if args else Any
        items = [self._bind(v, item, (*path, str(i))) for i, v in enumerate(value or [])]
        return _BAD if any(v is _BAD for v in items) else origin(items)

    def _leaf(self, value: Any, kind: Any, path: Path) -> Any:
        try:
            return msgspec.convert(value, kind, dec_hook=decode_option)
        except msgspec.ValidationError as error:
            self._report(path, _explain(value, kind, str(error)))
            return _BAD


def _options(kind: Any) -> tuple[Any, ...]:
    while typing.get_origin(kind) is Annotated:
        kind = typing.get_args(kind)[0]
    return typing.get_args(kind) if typing.get_origin(kind) in (Union, types.UnionType) else (kind,)


def _container(option: Any) -> type | None:
    origin = typing.get_origin(option) or option
    if origin is dict:
        return dict
    return list if origin in (list, tuple, set, frozenset) else None


def _is_leaf(kind: Any) -> bool:
    return not any(_container(o) or (isinstance(o, type) and issubclass(o, msgspec.Struct)) for o in _options(kind))


def _choose(value: Substituted, options: tuple[Any, ...]) -> Any:
    """A substituted scalar stays text where text is wanted, and is YAML everywhere else."""
    if value.value is None and types.NoneType in options:
        return None
    text_wanted = any(o in (str, Secret) or typing.get_origin(o) is Literal for o in options)
    return value.text if text_wanted and not isinstance(value.value, dict | list) else value.value


def _shape(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return f"the text {value!r}" if len(value) <= 40 else "a text"
    if isinstance(value, int | float):
        return f"the number {value}"
    return {dict: "a mapping", list: "a list", types.NoneType: "nothing"}.get(type(value), type(value).__name__)


def _explain(value: Any, kind: Any, problem: str) -> str:
    problem = problem.split(" - at `")[0]
    options = _options(kind)
    literals = [str(choice) for o in options if typing.get_origin(o) is Literal for choice in typing.get_args(o)]
    if literals:
        return f"must be one of {', '.join(literals)}, not {_shape(value)}"
    if len(options) == 1 and options[0] in (Size, Duration, Secret):
        return problem
    if not problem.startswith("Expected `") or ">" in problem or "<" in problem:
        return problem[0].lower() + problem[1:]
    wanted = " or ".join(_name(option) for option in options if option is not types.NoneType)
    given = "a secret text" if Secret in options and isinstance(value, str) else _shape(value)
    return f"must be {wanted}, not {given}{_remedy(value, options)}"


def _remedy(value: Any, options: tuple[Any, ...]) -> str:
    if str in options and value is None:
        return '; write "" for an empty one'
    if str in options and isinstance(value, int | float):
        return "; put it in quotes"
    lists = any(_container(option) is list for option in options)
    return f"; write [{value}]" if lists and isinstance(value, str) and len(value) <= 40 else ""


def _name(option: Any) -> str:
    container = _container(option)
    if container:
        return "a mapping" if container is dict else "a list"
    name = _NAMES.get(option) or str(getattr(option, "__name__", option))
    return name
