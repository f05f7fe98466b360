"""SQL column types -> Delta schema, and columns of Python values -> Arrow arrays of these types.

arro3 rather than pyarrow: it comes with deltalake, builds arrays as fast, and leaves the process 40 MB smaller.
"""

import re
from collections.abc import Callable, Sequence
from functools import cache
from itertools import accumulate, chain
from typing import Any, Final, TypeAlias

import msgspec
from arro3.core import Array, DataType, Field, RecordBatch, Schema, list_array, struct_array

from spanweir.schemas.variant import encode

Column: TypeAlias = Sequence[Any]

_TOKEN: Final = re.compile(r"\s*([A-Za-z_][\w]*|[<>:,])")
_DELTA_NAMES: Final = {
    "STRING": "string", "INT": "integer", "LONG": "long", "BIGINT": "long", "DOUBLE": "double", "BOOLEAN": "boolean",
    "DATE": "date", "TIMESTAMP": "timestamp", "BINARY": "binary", "VARIANT": "variant",
}  # fmt: skip
_FORMATS: Final = {
    "STRING": "u", "INT": "i", "LONG": "l", "BIGINT": "l", "DOUBLE": "g", "DATE": "tdD", "TIMESTAMP": "tsu:UTC",
    "MAP": "+m", "ARRAY": "+l", "STRUCT": "+s",
}  # fmt: skip
_BINARY: Final = DataType.binary()
_STRING: Final = DataType.string()
_OFFSET: Final = DataType.int32()
_VARIANT_FIELDS: Final = [Field("metadata", _BINARY, nullable=False), Field("value", _BINARY, nullable=False)]
_LONG_MAX: Final = (1 << 63) - 1
_INT_MAX: Final = (1 << 31) - 1


class Type(msgspec.Struct, frozen=True):
    """`kind` is a SQL type name; `fields` are a struct's, or `key`/`value` of a map, or `element` of an array."""

    kind: str
    fields: tuple[tuple[str, "Type"], ...] = ()


def parse(sql: str) -> Type:
    """`ARRAY<STRUCT<a:INT, b:MAP<STRING,STRING>>>` -> Type. Raises ValueError."""
    tokens = _TOKEN.findall(sql)
    kind, rest = _parse(tokens)
    if rest:
        raise ValueError(f"not a column type: {sql}")
    return kind


def _parse(tokens: list[str]) -> tuple[Type, list[str]]:
    name, rest = tokens[0].upper(), tokens[1:]
    if name in _DELTA_NAMES:
        return Type(name), rest
    rest = rest[1:]
    fields: list[tuple[str, Type]] = []
    names = {"MAP": ["key", "value"], "ARRAY": ["element"]}.get(name, [])
    while True:
        if name == "STRUCT":
            field, rest = rest[0], rest[2:]
        else:
            field = names[len(fields)]
        kind, rest = _parse(rest)
        fields.append((field, kind))
        separator, rest = rest[0], rest[1:]
        if separator == ">":
            return Type(name, tuple(fields)), rest


def delta_type(kind: Type) -> Any:
    """The type as in a Delta `schemaString`."""
    if kind.kind == "MAP":
        key, value = kind.fields[0][1], kind.fields[1][1]
        return {"type": "map", "keyType": delta_type(key), "valueType": delta_type(value), "valueContainsNull": True}
    if kind.kind == "ARRAY":
        return {"type": "array", "elementType": delta_type(kind.fields[0][1]), "containsNull": True}
    if kind.kind == "STRUCT":
        return {"type": "struct", "fields": delta_fields(kind.fields)}
    return _DELTA_NAMES[kind.kind]


def delta_fields(columns: Sequence[tuple[str, Type]]) -> list[dict[str, Any]]:
    return [{"name": name, "type": delta_type(kind), "nullable": True, "metadata": {}} for name, kind in columns]


@cache
def _arrow_type(kind: Type) -> DataType:
    match kind.kind:
        case "STRING":
            return _STRING
        case "INT":
            return DataType.int32()
        case "LONG" | "BIGINT":
            return DataType.int64()
        case "DOUBLE":
            return DataType.float64()
        case "BOOLEAN":
            return DataType.bool()
        case "DATE":
            return DataType.date32()
        case "TIMESTAMP":
            return DataType.timestamp("us", tz="UTC")
        case "BINARY":
            return _BINARY
        case "VARIANT":
            return DataType.struct(_VARIANT_FIELDS)
        case "MAP":
            (_, key), (_, value) = kind.fields
            return DataType.map(
                Field("key", _arrow_type(key), nullable=False), Field("value", _arrow_type(value)), False
            )
        case "ARRAY":
            return DataType.list(Field("element", _arrow_type(kind.fields[0][1])))
    return DataType.struct([Field(name, _arrow_type(child)) for name, child in kind.fields])


class Layout:
    """The columns of one table, ready to build record batches."""

    def __init__(self, columns: Sequence[tuple[str, str]]) -> None:
        self.columns = [(name, parse(sql)) for name, sql in columns]
        self.types = dict(self.columns)
        self.names = [name for name, _ in self.columns]
        self.schema = Schema([Field(name, _arrow_type(kind)) for name, kind in self.columns])
        self._kinds = tuple(_native_kind(kind) for _, kind in self.columns)
        self._capsule = self.schema.__arrow_c_schema__()

    def batch(self, columns: Sequence[Column | Array]) -> RecordBatch:
        """One record batch. A column is a list of Python values, or an Array that has the column's type already."""
        if native_batch is not None:
            given = [self._prepared(number, column) for number, column in enumerate(columns)]
            made = native_batch(self._kinds, given, len(columns[0]))
            if made is not None:
                return RecordBatch.from_arrow_pycapsule(self._capsule, made)
        arrays = [
            column if isinstance(column, Array) else build(kind, column)
            for (_, kind), column in zip(self.columns, columns, strict=True)
        ]
        return RecordBatch.from_arrays(arrays, schema=self.schema)

    def _prepared(self, number: int, column: Column | Array) -> Any:
        """What `native_batch` takes: values that it knows, and arrays of all others."""
        if isinstance(column, Array):
            return column.__arrow_c_array__()[1] if column.type == _arrow_type(self.columns[number][1]) else None
        if self._kinds[number] is None:
            return build(self.columns[number][1], column).__arrow_c_array__()[1]
        return column


def _build_in_python(kind: Type, values: Column) -> Array:
    """Values as an Arrow array; None is null.

    Python forms: STRING str, or for the whole column UTF-8 bytes or lists of parts that are such; DATE days, TIMESTAMP
    microseconds since 1970; STRUCT dict or tuple in field order; MAP dict; ARRAY list; VARIANT any JSON-like value.
    Numbers out of range are clamped and lone surrogates replaced: an odd value must not cost its neighbours.
    """
    match kind.kind:
        case "STRING":
            return _strings(values)
        case "INT":
            return _integers(values, DataType.int32(), _INT_MAX)
        case "LONG" | "BIGINT":
            return _integers(values, DataType.int64(), _LONG_MAX)
        case "DATE":
            return Array(values, DataType.int32()).cast(DataType.date32())
        case "TIMESTAMP":
            return Array(values, DataType.int64()).cast(_arrow_type(kind))
        case "VARIANT":
            return _variants(values)
        case "MAP":
            return _maps(kind, values)
        case "ARRAY":
            return _arrays(kind, values)
        case "STRUCT":
            return _structs(kind, values)
    return Array(values, _arrow_type(kind))


def _build_natively(kind: Type, values: Column) -> Array:
    format_ = _native_kind(kind)
    made = None if format_ is None else native_build(format_, values)
    return _build_in_python(kind, values) if made is None else imported(kind, made)


@cache
def _native_kind(kind: Type) -> tuple[str, tuple[Any, ...]] | None:
    """The format of Arrow's C data interface and the kinds of what is in it; None of what `_native` does not know."""
    children = tuple(_native_kind(child) for _, child in kind.fields)
    known = _FORMATS.get(kind.kind)
    return None if known is None or None in children else (known, children)


native_batch: Callable[[Sequence[Any], list[Any], int], object | None] | None
try:
    from spanweir.exporters.delta._native import batch as native_batch
    from spanweir.exporters.delta._native import build as native_build
except ImportError:  # installed where no C compiler was
    native_batch, build = None, _build_in_python
else:
    build = _build_natively


def _integers(values: Column, kind: DataType, most: int) -> Array:
    try:
        return Array(values, kind)
    except OverflowError:
        return Array([None if v is None else max(min(v, most), -most) for v in values], kind)


def _strings(values: Column) -> Array:
    if not any(values):
        # The Parquet writer compares texts of a column that has not one byte at an address that is none: the processor
        # takes 150 ns for each. With a byte before them it takes 10.
        empty = [v.decode() if isinstance(v, bytes) else v for v in values]
        return Array([".", *empty], _STRING).slice(1) if empty else Array(empty, _STRING)
    try:
        return Array(values, _STRING)
    except UnicodeEncodeError:
        return Array([v if v is None else v.encode("utf-8", "replace").decode() for v in values], _STRING)
    except TypeError:
        return Array([b"".join(v) if isinstance(v, list) else v for v in values], _BINARY).cast(_STRING)


def imported(kind: Type, capsule: object) -> Array:
    """An array of a column type that something else has made, by the Arrow PyCapsule interface."""
    return Array.from_arrow_pycapsule(_schema_capsule(kind), capsule)


@cache
def _schema_capsule(kind: Type) -> object:
    return Field("", _arrow_type(kind)).__arrow_c_schema__()


def _nulls(values: Column) -> Array | None:
    if None in values:
        return Array([v is None for v in values], DataType.bool())
    return None


def _variants(values: Column) -> Array:
    pairs = [encode(v) for v in values]
    metadata, value = Array([m for m, _ in pairs], _BINARY), Array([v for _, v in pairs], _BINARY)
    return struct_array([metadata, value], fields=_VARIANT_FIELDS, mask=_nulls(values))


def _retype(array: Array, kind: DataType) -> Array:
    """The same buffers under another type of the same physical layout."""
    return Array.from_arrow_pycapsule(Field("", kind).__arrow_c_schema__(), array.__arrow_c_array__()[1])


def _maps(kind: Type, values: Column) -> Array:
    """arro3 0.9 has no constructor for maps, but a map is laid out as a list of structs."""
    keys: list[Any] = []
    items: list[Any] = []
    for value in values:
        if value:
            keys += value
            items += value.values()
    return flat_maps(kind, keys, items, [len(v) if v else 0 for v in values], _nulls(values))


def flat_maps(kind: Type, keys: Column, items: Column, lengths: Sequence[int], nulls: Array | None = None) -> Array:
    """Maps whose keys and values stand one after the other; `lengths` are entries a map."""
    (_, key), (_, item) = kind.fields
    fields = [Field("key", _arrow_type(key), nullable=False), Field("value", _arrow_type(item))]
    entries = struct_array([build(key, keys), build(item, items)], fields=fields)
    return _lists(kind, entries, lengths, nulls)


def _arrays(kind: Type, values: Column) -> Array:
    element = kind.fields[0][1]
    items = list(chain.from_iterable(value for value in values if value))
    lengths = [len(value) if value else 0 for value in values]
    return _lists(kind, build(element, items) if items else _nothing(element), lengths, _nulls(values))


@cache
def _nothing(kind: Type) -> Array:
    return build(kind, ())


def _lists(kind: Type, items: Array, lengths: Sequence[int], nulls: Array | None) -> Array:
    offsets = Array(list(accumulate(lengths, initial=0)), _OFFSET)
    return _retype(list_array(offsets, items, mask=nulls), _arrow_type(kind))


def _structs(kind: Type, values: Column) -> Array:
    width = len(kind.fields)
    rows = [_NO_ROW[:width] if v is None else v if isinstance(v, tuple) else _ordered(v, kind) for v in values]
    columns: Sequence[Column] = list(zip(*rows, strict=True)) if rows else [()] * width
    arrays = [build(child, column) for (_, child), column in zip(kind.fields, columns, strict=True)]
    fields = [Field(name, _arrow_type(child)) for name, child in kind.fields]
    return struct_array(arrays, fields=fields, mask=_nulls(values))


_NO_ROW: Final = (None,) * 32


def _ordered(value: dict[str, Any], kind: Type) -> tuple[Any, ...]:
    return tuple(value.get(name) for name, _ in kind.fields)
