"""JSON values as Parquet VARIANT: the binary form of the `metadata` and `value` columns.

Source: Apache Parquet format, VariantEncoding.md, version 1. Written are null, booleans, integers, doubles, strings,
binary, arrays and objects; not here: decimals, dates and shredding.
"""

import struct
from typing import Final

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
