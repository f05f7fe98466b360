"""JSON values as Parquet VARIANT: the binary form of the `metadata` and `value` columns, made and read.

Source: Apache Parquet format, VariantEncoding.md, version 1. Written are null, booleans, integers, doubles, strings,
binary, arrays and objects; read is all that others write (decimals as floats; dates, times and UUIDs as text). Not
here: shredding.
"""

import struct
import uuid
from collections.abc import Callable, Collection, Iterator
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import Any, Final, TypeAlias

from spanweir.schemas.raw import Value

_NULL: Final = b"\x00"
_TRUE: Final = b"\x04"
_FALSE: Final = b"\x08"
_EMPTY_METADATA: Final = b"\x11\x00\x00"


def encode(value: Value) -> tuple[bytes, bytes]:
    """(metadata, value) of a JSON-like value."""
    names: set[str] = set()
    _collect(value, names)
    if not names:
        return _EMPTY_METADATA, _value(value, {})
    ordered = sorted((name.encode("utf-8", "replace"), name) for name in names)
    ids = {name: index for index, (_, name) in enumerate(ordered)}
    return _metadata([encoded for encoded, _ in ordered]), _value(value, ids)


def _collect(value: Value, names: set[str]) -> None:
    if isinstance(value, dict):
        names.update(value)
        for item in value.values():
            _collect(item, names)
    elif isinstance(value, list):
        for item in value:
            _collect(item, names)


def _width(largest: int) -> int:
    """Bytes that an unsigned number takes: 1 to 4."""
    return max(1, (largest.bit_length() + 7) // 8)


def _offsets(parts: list[bytes], width: int) -> bytes:
    out, position = [(0).to_bytes(width, "little")], 0
    for part in parts:
        position += len(part)
        out.append(position.to_bytes(width, "little"))
    return b"".join(out)


def _metadata(names: list[bytes]) -> bytes:
    """Version 1 dictionary, sorted (bit 4), offsets of 1 to 4 bytes (bits 6 and 7)."""
    width = _width(max(len(names), sum(map(len, names))))
    header = bytes((0x11 | (width - 1) << 6,))
    return header + len(names).to_bytes(width, "little") + _offsets(names, width) + b"".join(names)


def _value(value: Value, ids: dict[str, int]) -> bytes:
    if isinstance(value, str):
        return _string(value)
    if value is None:
        return _NULL
    if isinstance(value, bool):
        return _TRUE if value else _FALSE
    if isinstance(value, int):
        return _integer(value)
    if isinstance(value, float):
        return b"\x1c" + struct.pack("<d", value)
    if isinstance(value, bytes):
        return b"\x3c" + len(value).to_bytes(4, "little") + value
    if isinstance(value, dict):
        return _object(value, ids)
    return _array([_value(item, ids) for item in value])


def _string(value: str) -> bytes:
    encoded = value.encode("utf-8", "replace")
    if len(encoded) < 64:
        return bytes((len(encoded) << 2 | 1,)) + encoded
    return b"\x40" + len(encoded).to_bytes(4, "little") + encoded


def _integer(value: int) -> bytes:
    if -(1 << 7) <= value < 1 << 7:
        return b"\x0c" + struct.pack("<b", value)
    if -(1 << 15) <= value < 1 << 15:
        return b"\x10" + struct.pack("<h", value)
    if -(1 << 31) <= value < 1 << 31:
        return b"\x14" + struct.pack("<i", value)
    if -(1 << 63) <= value < 1 << 63:
        return b"\x18" + struct.pack("<q", value)
    return b"\x1c" + struct.pack("<d", float(value))


def _object(value: dict[str, Value], ids: dict[str, int]) -> bytes:
    """Fields stand in the order of their names, which is the order of their ids as the dictionary is sorted."""
    fields = sorted((ids[name], _value(item, ids)) for name, item in value.items())
    parts = [part for _, part in fields]
    offset_width = _width(sum(map(len, parts)))
    id_width = _width(fields[-1][0] if fields else 0)
    large = len(fields) > 255
    header = 2 | (offset_width - 1) << 2 | (id_width - 1) << 4 | large << 6
    count = len(fields).to_bytes(4 if large else 1, "little")
    id_bytes = b"".join(index.to_bytes(id_width, "little") for index, _ in fields)
    return bytes((header,)) + count + id_bytes + _offsets(parts, offset_width) + b"".join(parts)


def _array(parts: list[bytes]) -> bytes:
    width = _width(sum(map(len, parts)))
    large = len(parts) > 255
    header = 3 | (width - 1) << 2 | large << 4
    return (
        bytes((header,)) + len(parts).to_bytes(4 if large else 1, "little") + _offsets(parts, width) + b"".join(parts)
    )


def decode(metadata: bytes, value: bytes) -> Value:
    """The value of the two columns. Raises ValueError for bytes that are no VARIANT of version 1."""
    try:
        return _decoded(value, 0, _names(metadata))
    except (IndexError, KeyError, struct.error, UnicodeDecodeError, OverflowError, RecursionError) as error:
        raise ValueError(f"not a VARIANT: {error!r}") from error


def members(metadata: bytes, value: bytes, wanted: Collection[str]) -> dict[str, Value]:
    """Those of the members of an object that are wanted; none of what is no object. Others are not decoded.

    Raises ValueError for bytes that are no VARIANT of version 1.
    """
    try:
        names = _names(metadata)
        if value[0] & 3 != 2:
            return {}
        places = _members(value, 0)
        return {names[key]: _decoded(value, at, names) for key, at in places if names[key] in wanted}
    except (IndexError, KeyError, struct.error, UnicodeDecodeError, OverflowError, RecursionError) as error:
        raise ValueError(f"not a VARIANT: {error!r}") from error


_CACHED_BYTES: Final = 4096
"""Dictionaries longer than this are not kept. Spans of one kind share theirs."""


def _names(metadata: bytes) -> tuple[str, ...]:
    return _kept_names(metadata) if len(metadata) <= _CACHED_BYTES else _read_names(metadata)


def _read_names(metadata: bytes) -> tuple[str, ...]:
    header = metadata[0]
    if header & 0x0F != 1:
        raise ValueError(f"VARIANT of version {header & 0x0F}, not 1")
    width = (header >> 6) + 1
    count = _number(metadata, 1, width)
    offsets = list(_numbers(metadata, 1 + width, width, count + 1))
    start = 1 + width * (count + 2)
    if start + offsets[-1] > len(metadata):
        raise IndexError("a dictionary that is cut off")
    return tuple(metadata[start + offsets[i] : start + offsets[i + 1]].decode("utf-8", "replace") for i in range(count))


_kept_names = lru_cache(maxsize=1024)(_read_names)


def _number(content: bytes, at: int, width: int) -> int:
    if at + width > len(content):
        raise IndexError("cut off")
    return int.from_bytes(content[at : at + width], "little")


def _numbers(content: bytes, at: int, width: int, count: int) -> Iterator[int]:
    end = at + width * count
    if end > len(content):
        raise IndexError("cut off")
    if width == 1:
        return iter(content[at:end])
    return (int.from_bytes(content[i : i + width], "little") for i in range(at, end, width))


def _members(content: bytes, at: int) -> Iterator[tuple[int, int]]:
    """Of an object: number of the name, and place, of each member. Places need not be in order."""
    header = content[at] >> 2
    offset_width, id_width = (header & 3) + 1, (header >> 2 & 3) + 1
    count_width = 4 if header & 16 else 1
    count = _number(content, at + 1, count_width)
    at += 1 + count_width
    keys = _numbers(content, at, id_width, count)
    at += id_width * count
    offsets = _numbers(content, at, offset_width, count)
    start = at + offset_width * (count + 1)
    return ((key, start + offset) for key, offset in zip(keys, offsets, strict=True))


def _items(content: bytes, at: int) -> Iterator[int]:
    """Of an array: places of the items."""
    header = content[at] >> 2
    width, count_width = (header & 3) + 1, 4 if header & 4 else 1
    count = _number(content, at + 1, count_width)
    at += 1 + count_width
    start = at + width * (count + 1)
    return (start + offset for offset in _numbers(content, at, width, count))


def _decoded(content: bytes, at: int, names: tuple[str, ...]) -> Value:
    header = content[at]
    match header & 3:
        case 1:
            return _text(content, at + 1, header >> 2)
        case 2:
            return {names[key]: _decoded(content, place, names) for key, place in _members(content, at)}
        case 3:
            return [_decoded(content, place, names) for place in _items(content, at)]
    return _PRIMITIVES[header >> 2](content, at + 1)


def _part(content: bytes, at: int, length: int) -> bytes:
    if at + length > len(content):
        raise IndexError("cut off")
    return content[at : at + length]


def _text(content: bytes, at: int, length: int) -> str:
    return _part(content, at, length).decode("utf-8", "replace")


_Reader: TypeAlias = Callable[[bytes, int], Value]
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def _packed(form: str) -> _Reader:
    unpack: Callable[[bytes, int], tuple[Any, ...]] = struct.Struct(form).unpack_from
    return lambda content, at: unpack(content, at)[0]


def _long(content: bytes, at: int) -> int:
    return int(struct.unpack_from("<q", content, at)[0])


def _decimal(width: int) -> _Reader:
    def read(content: bytes, at: int) -> Value:
        unscaled = int.from_bytes(_part(content, at + 1, width), "little", signed=True)
        return unscaled if content[at] == 0 else float(unscaled / 10 ** content[at])

    return read


def _time(scale: int, *, zoned: bool) -> _Reader:
    """Of a number of which `scale` are a microsecond."""

    def read(content: bytes, at: int) -> Value:
        time = _EPOCH + timedelta(microseconds=_long(content, at) // scale)
        return (time if zoned else time.replace(tzinfo=None)).isoformat()

    return read


_PRIMITIVES: Final[dict[int, _Reader]] = {
    0: lambda content, at: None,
    1: lambda content, at: True,
    2: lambda content, at: False,
    3: _packed("<b"),
    4: _packed("<h"),
    5: _packed("<i"),
    6: _packed("<q"),
    7: _packed("<d"),
    8: _decimal(4),
    9: _decimal(8),
    10: _decimal(16),
    11: lambda content, at: (date(1970, 1, 1) + timedelta(days=struct.unpack_from("<i", content, at)[0])).isoformat(),
    12: _time(1, zoned=True),
    13: _time(1, zoned=False),
    14: _packed("<f"),
    15: lambda content, at: _part(content, at + 4, _number(content, at, 4)),
    16: lambda content, at: _text(content, at + 4, _number(content, at, 4)),
    17: lambda content, at: (_EPOCH + timedelta(microseconds=_long(content, at))).time().isoformat(),
    18: _time(1000, zoned=True),
    19: _time(1000, zoned=False),
    20: lambda content, at: str(uuid.UUID(bytes=_part(content, at, 16))),
}
"""By the number of the primitive type."""
