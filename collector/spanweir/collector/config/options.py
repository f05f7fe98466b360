"""The options of a `Config` struct as documentation: name, type, default, and the docstring below each field.

This is what `spanweir components --markdown` prints and what checks the shipped otel-config.yaml.
"""

import ast
import builtins
import inspect
import textwrap
import types
import typing
from collections.abc import Iterator
from functools import cache
from typing import Any, Literal, NamedTuple, Union

import msgspec

from spanweir.schemas.options import Duration, Secret, Size


class Option(NamedTuple):
    """One option of a component, as the reference and the shipped configuration show it."""

    path: tuple[str, ...]
    """Keys from the component's own mapping down to this option."""
    type: str
    default: Any
    doc: str
    struct: "builtins.type[msgspec.Struct] | None"
    """For an option that is a mapping of further options: their struct."""


def options(config: type[msgspec.Struct], prefix: tuple[str, ...] = ()) -> Iterator[Option]:
    """Every option in the order of the file, a mapping before what is in it."""
    docs = field_docs(config)
    for field in msgspec.structs.fields(config):
        path = (*prefix, field.encode_name)
        struct, wrapper = inner_struct(field.type)
        yield Option(path, type_name(field.type), _default(field), docs.get(field.name, ""), struct)
        if struct is not None:
            yield from options(struct, (*path, wrapper.rstrip(":")) if wrapper else path)


@cache
def field_docs(config: type[msgspec.Struct]) -> dict[str, str]:
    """The string literal below each annotated field, by field name; base classes included."""
    docs: dict[str, str] = {}
    for cls in reversed(config.__mro__):
        if cls in (msgspec.Struct, object) or not issubclass(cls, msgspec.Struct):
            continue
        try:
            body = ast.parse(textwrap.dedent(inspect.getsource(cls))).body[0]
        except (OSError, TypeError):
            continue
        assert isinstance(body, ast.ClassDef)
        for statement, following in zip(body.body, body.body[1:], strict=False):
            if (
                isinstance(statement, ast.AnnAssign)
                and isinstance(statement.target, ast.Name)
                and isinstance(following, ast.Expr)
                and isinstance(following.value, ast.Constant)
                and isinstance(following.value.value, str)
            ):
                docs[statement.target.id] = " ".join(following.value.value.split())
    return docs


def type_name(kind: Any) -> str:
    """How a reader of the reference calls a type."""
    names: dict[Any, str] = {
        int: "integer", float: "number", bool: "boolean", str: "text", Size: "size", Duration: "duration",
        Secret: "secret", types.NoneType: "null", Any: "anything", msgspec.UnsetType: "absent",
    }  # fmt: skip
    if kind in names:
        return names[kind]
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Annotated:
        return type_name(args[0])
    if origin is Literal:
        return ", ".join(f"`{arg}`" for arg in args)
    if origin in (Union, types.UnionType):
        return " or ".join(type_name(arg) for arg in args)
    if origin is dict:
        return f"mapping of {type_name(args[1])}"
    if origin in (list, tuple, set, frozenset):
        return f"list of {type_name(args[0])}" if args else "list"
    return "mapping"


def plain_default(value: Any) -> Any:
    """A default as YAML would hold it: structs as mappings, sizes and durations with their unit."""
    if isinstance(value, Size | Duration):
        return str(value)
    if isinstance(value, Secret):
        return value.reveal()
    if isinstance(value, msgspec.Struct):
        fields = msgspec.structs.fields(type(value))
        items = ((field.encode_name, getattr(value, field.name)) for field in fields)
        return {name: plain_default(item) for name, item in items if item is not msgspec.UNSET}
    if isinstance(value, dict):
        return {key: plain_default(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain_default(item) for item in value]
    return value


def _default(field: msgspec.structs.FieldInfo) -> Any:
    if field.default is not msgspec.NODEFAULT:
        return field.default
    return field.default_factory() if field.default_factory is not msgspec.NODEFAULT else msgspec.NODEFAULT


def inner_struct(kind: Any) -> "tuple[type[msgspec.Struct] | None, str]":
    """The struct in `Struct | None`, `dict[str, Struct]` or `list[Struct]`, and the key that stands around it."""
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if origin is dict:
        return inner_struct(args[1])[0], "<name>:"
    if origin in (list, tuple):
        return (inner_struct(args[0])[0] if args else None), "-"
    for option in args if origin in (Union, types.UnionType) else (kind,):
        if isinstance(option, type) and issubclass(option, msgspec.Struct):
            return option, ""
        if typing.get_origin(option) in (dict, list, tuple):
            return inner_struct(option)
    return None, ""
