"""Columns of Python values -> the levels and plain values of Parquet's leaf columns.

Source: the Parquet format's "Nested encoding" and encodings PLAIN and RLE. Everything is done for a whole column at a
time, by functions of the interpreter that are loops in C. Not here: pages and files (`parquet`).
"""

import sys
from array import array
from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from typing import Any, Final, NamedTuple, TypeAlias

import msgspec

from spanweir.exporters.delta.arrow import Type
from spanweir.schemas.variant import encode

_INT_MAX: Final = (1 << 31) - 1
_LONG_MAX: Final = (1 << 63) - 1
_DIGITS: Final = bytes.maketrans(bytes(range(16)), b"0123456789abcdef")


class Leaf(msgspec.Struct, frozen=True):
    """A column of a file. `definition` and `repetition` are its highest levels."""

    path: tuple[str, ...]
    kind: str
    definition: int
    repetition: int


def leaves(columns: Iterable[tuple[str, Type]]) -> list[Leaf]:
    """Of columns of a table, in the order in which `shred` gives them. Names between are those that arro3 writes."""
    return [leaf for name, kind in columns for leaf in _leaves((name,), kind, 1, 0)]


def _leaves(path: tuple[str, ...], kind: Type, definition: int, repetition: int) -> list[Leaf]:
    """`definition` is that of a value which is there, but for what it holds itself."""
    match kind.kind:
        case "MAP":
            (_, key), (_, item) = kind.fields
            return [
                *_leaves((*path, "entries", "key"), key, definition + 1, repetition + 1),
                *_leaves((*path, "entries", "value"), item, definition + 2, repetition + 1),
            ]
        case "ARRAY":
            return _leaves((*path, "list", "element"), kind.fields[0][1], definition + 2, repetition + 1)
        case "STRUCT":
            children = (_leaves((*path, name), child, definition + 1, repetition) for name, child in kind.fields)
            return list(chain.from_iterable(children))
        case "VARIANT":
            return [Leaf((*path, name), "BINARY", definition, repetition) for name in ("metadata", "value")]
    return [Leaf(path, kind.kind, definition, repetition)]


class Levels(NamedTuple):
    """Of so many entries of a leaf column, or of what is above it."""

    entries: int
    repetitions: bytes
    """One byte each; empty where all are 0."""
    definitions: bytes | int
    """One byte each, or what they all are."""


class Cells(NamedTuple):
    """What stands in a leaf column: `values` of them in PLAIN encoding, which `parts` are when they are joined."""

    levels: Levels
    values: int
    parts: Sequence[bytes]
    least: int | None = None
    most: int | None = None


class Runs(NamedTuple):
    """A column of which many rows are the same: each of `cells` so many times as `lengths` says, without what is 0."""

    cells: Sequence[Sequence[Cells]]
    """By run, then by leaf."""
    lengths: Sequence[int]


class Fields(NamedTuple):
    """A column of structs, none of which is null, as the columns of its fields."""

    columns: Sequence[Sequence[Any]]


class PlainMaps(NamedTuple):
    """A column of maps of texts, none of which is null: keys and values in PLAIN encoding, and entries a map."""

    keys: Sequence[bytes]
    items: Sequence[bytes]
    lengths: Sequence[int]


Column: TypeAlias = Sequence[Any] | Fields | PlainMaps | Runs


class _Place(NamedTuple):
    """In the tree of a column's type: levels that entries have whose value is there, or could be."""

    definition: int
    repetition: int


def shred(kind: Type, column: Column, rows: int) -> list[Cells]:
    """The cells of the leaves of a column. Python forms of values are those that `arrow.build` takes, with the same
    care for odd ones. Raises TypeError, AttributeError, ValueError, OverflowError for what the column cannot hold."""
    if isinstance(column, Runs):
        return [joined(cells, column.lengths) for cells in zip(*column.cells, strict=True)]
    found: list[Cells] = []
    _node(kind, column, Levels(rows, b"", 0), _Place(0, 0), found)
    return found


def _node(kind: Type, values: Any, levels: Levels, place: _Place, found: list[Cells]) -> None:
    """`values` are of the entries whose definition level is the place's. Only what fails is searched for None."""
    make, so_far = _NODES.get(kind.kind, _leaf), len(found)
    inner = _Place(place.definition + 1, place.repetition)
    try:
        make(kind, values, _defined(levels, place.definition), inner, found)
    except (TypeError, AttributeError):
        if isinstance(values, (PlainMaps, Fields)) or None not in values:
            raise
        del found[so_far:]
        there = [value for value in values if value is not None]
        make(kind, there, _defined_where(levels, place.definition, values), inner, found)


def _defined(levels: Levels, depth: int) -> Levels:
    count, repetitions, definitions = levels
    if isinstance(definitions, int):
        return Levels(count, repetitions, depth + 1) if definitions == depth else levels
    return Levels(count, repetitions, definitions.replace(bytes((depth,)), bytes((depth + 1,))))


def _defined_where(levels: Levels, depth: int, values: Sequence[Any]) -> Levels:
    there = bytes([depth + (value is not None) for value in values])
    count, repetitions, definitions = levels
    if isinstance(definitions, int):
        return Levels(count, repetitions, there)
    of_values = iter(there)
    return Levels(count, repetitions, bytes([next(of_values) if level == depth else level for level in definitions]))


def _repeated(levels: Levels, lengths: Sequence[int], place: _Place) -> Levels:
    """Levels of the items of so many lists or maps as there are entries with the place's definition level."""
    if not any(lengths):
        return levels
    count, repetitions, definitions = levels
    again, item, none = (bytes((n,)) for n in (place.repetition + 1, place.definition + 1, place.definition))
    if isinstance(definitions, int) and not repetitions:
        sizes = set(lengths)
        first = {size: b"\0" + again * (size - 1) for size in sizes}
        there = {size: item * size or none for size in sizes}
        return Levels(
            sum(lengths) + lengths.count(0),
            b"".join(map(first.__getitem__, lengths)),
            b"".join(map(there.__getitem__, lengths)) if 0 in sizes else place.definition + 1,
        )
    of_entries, all_repetitions, all_definitions = iter(lengths), bytearray(), bytearray()
    for start, level in zip(repetitions or bytes(count), _explicit(levels), strict=True):
        size = next(of_entries) if level == place.definition else 0
        all_repetitions += bytes((start,)) + again * (size - 1)
        all_definitions += item * size or bytes((level,))
    return Levels(len(all_definitions), bytes(all_repetitions), bytes(all_definitions))


def _explicit(levels: Levels) -> bytes:
    definitions = levels.definitions
    return bytes((definitions,)) * levels.entries if isinstance(definitions, int) else definitions


def _map(kind: Type, values: Any, levels: Levels, place: _Place, found: list[Cells]) -> None:
    (_, key), (_, item) = kind.fields
    entry = _Place(place.definition + 1, place.repetition + 1)
    if isinstance(values, PlainMaps):
        levels, count = _repeated(levels, values.lengths, place), sum(values.lengths)
        found.append(Cells(levels, count, values.keys))
        found.append(Cells(_defined(levels, entry.definition), count, values.items))
        return
    levels = _repeated(levels, list(map(len, values)), place)
    found.append(_values(key.kind, list(chain.from_iterable(values)), levels))
    _node(item, list(chain.from_iterable(map(dict.values, values))), levels, entry, found)


def _array(kind: Type, values: Any, levels: Levels, place: _Place, found: list[Cells]) -> None:
    levels = _repeated(levels, list(map(len, values)), place)
    items = list(chain.from_iterable(values))
    _node(kind.fields[0][1], items, levels, _Place(place.definition + 1, place.repetition + 1), found)


def _struct(kind: Type, values: Any, levels: Levels, place: _Place, found: list[Cells]) -> None:
    if isinstance(values, Fields):
        columns: Sequence[Any] = values.columns
    elif not values:
        columns = [()] * len(kind.fields)
    else:
        names = [name for name, _ in kind.fields]
        columns = list(zip(*[row if isinstance(row, tuple) else map(row.get, names) for row in values], strict=True))
    for (_, child), column in zip(kind.fields, columns, strict=True):
        _node(child, column, levels, place, found)


def _variant(_kind: Type, values: Any, levels: Levels, _place: _Place, found: list[Cells]) -> None:
    if None in values:
        raise TypeError("a null")
    pairs = [encode(value) for value in values]
    found += [_values("BINARY", [pair[part] for pair in pairs], levels) for part in (0, 1)]


def _leaf(kind: Type, values: Any, levels: Levels, _place: _Place, found: list[Cells]) -> None:
    found.append(_values(kind.kind, values, levels))


_NODES: Final[dict[str, Callable[[Type, Any, Levels, _Place, list[Cells]], None]]] = {
    "MAP": _map, "ARRAY": _array, "STRUCT": _struct, "VARIANT": _variant,
}  # fmt: skip


def _values(kind: str, values: Sequence[Any], levels: Levels) -> Cells:
    count = len(values)
    if not count:
        return Cells(levels, 0, ())
    same = count > 1 and kind != "BOOLEAN" and values[0] == values[-1] and values.count(values[0]) == count
    parts, least, most = _PLAIN[kind](values[:1] if same else values)
    return Cells(levels, count, [b"".join(parts) * count] if same else parts, least, most)


_Plain: TypeAlias = tuple[Sequence[bytes], int | None, int | None]


class _Prefixes(dict[int, str]):
    """Lengths as PLAIN has them, one character a byte; those of usual texts are kept."""

    def __missing__(self, size: int) -> str:
        made = size.to_bytes(4, "little").decode("latin-1")
        if size < 8192:
            self[size] = made
        return made


_PREFIXES: Final = _Prefixes()


def plain(text: str) -> tuple[bytes, bytes]:
    """The two parts of a text in PLAIN encoding. Half a surrogate pair becomes a question mark."""
    try:
        content = text.encode()
    except UnicodeEncodeError:
        content = text.encode("utf-8", "replace")
    return len(content).to_bytes(4, "little"), content


def _texts(values: Sequence[Any]) -> _Plain:
    """Of str, or of UTF-8 bytes: the whole column."""
    if isinstance(values[0], bytes):
        for value in values:
            if not bytes.isascii(value):
                value.decode()
        return _bytes(values)
    if all(map(str.isascii, values)):
        both = [""] * (2 * len(values))
        both[::2] = map(_PREFIXES.__getitem__, map(len, values))
        both[1::2] = values
        return ["".join(both).encode("latin-1")], None, None
    try:
        return _bytes(list(map(str.encode, values)))
    except UnicodeEncodeError:
        return _bytes([value.encode("utf-8", "replace") for value in values])


def _bytes(values: Sequence[bytes]) -> _Plain:
    parts = [b""] * (2 * len(values))
    parts[::2] = [bytes.__len__(value).to_bytes(4, "little") for value in values]  # of nothing else than bytes
    parts[1::2] = values
    return parts, None, None


def _packed(code: str, values: Iterable[Any]) -> list[bytes]:
    numbers = array(code, values)
    if sys.byteorder == "big":
        numbers.byteswap()
    return [numbers.tobytes()]


def _exact(code: str) -> Callable[[Sequence[Any]], _Plain]:
    return lambda values: (_packed(code, values), min(values), max(values))


def _clamped(code: str, limit: int) -> Callable[[Sequence[Any]], _Plain]:
    def plain(values: Sequence[Any]) -> _Plain:
        try:
            return _packed(code, values), min(values), max(values)
        except OverflowError:
            within = [max(min(value, limit), -limit) for value in values]
            return _packed(code, within), min(within), max(within)

    return plain


def _doubles(values: Sequence[Any]) -> _Plain:
    return _packed("d", values), None, None


def _booleans(values: Sequence[Any]) -> _Plain:
    return [bits(bytes(values), 1)], None, None


_PLAIN: Final[dict[str, Callable[[Sequence[Any]], _Plain]]] = {
    "STRING": _texts, "BINARY": _bytes, "DOUBLE": _doubles, "BOOLEAN": _booleans,
    "INT": _clamped("i", _INT_MAX), "LONG": _clamped("q", _LONG_MAX), "BIGINT": _clamped("q", _LONG_MAX),
    "DATE": _exact("i"), "TIMESTAMP": _exact("q"),
}  # fmt: skip


def bits(levels: bytes, width: int) -> bytes:
    """Numbers below 16, of `width` bits each, the first in the lowest bits of the first byte."""
    size = -(-len(levels) * width // 8)
    return int(levels[::-1].translate(_DIGITS), 1 << width).to_bytes(size, "little")


def joined(cells: Sequence[Cells], lengths: Sequence[int]) -> Cells:
    """Each of the cells so many times, of a column that holds no BOOLEAN: bits do not end where bytes do."""
    runs = list(zip(cells, lengths, strict=True))
    count = sum([each.levels.entries * length for each, length in runs])
    definitions: bytes | int = cells[0].levels.definitions
    if not isinstance(definitions, int) or any(each.levels.definitions != definitions for each in cells):
        definitions = b"".join([_explicit(each.levels) * length for each, length in runs])
    repetitions = b""
    if any(each.levels.repetitions for each in cells):
        repetitions = b"".join(
            [(each.levels.repetitions or bytes(each.levels.entries)) * length for each, length in runs]
        )
    return Cells(
        Levels(count, repetitions, definitions),
        sum([each.values * length for each, length in runs]),
        [b"".join(each.parts) * length for each, length in runs],
        min([each.least for each in cells if each.least is not None], default=None),
        max([each.most for each in cells if each.most is not None], default=None),
    )
