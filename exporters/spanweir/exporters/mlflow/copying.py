"""PostgreSQL's binary COPY format (PostgreSQL documentation, "COPY", "Binary Format").

In the text format every backslash is doubled here and undone there, a character at a time: for contents, which are JSON
in JSON and full of them, that was most of what a large span cost the server.
"""

import struct
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, Final, TypeAlias

HEAD: Final = b"PGCOPY\n\xff\r\n\0" + bytes(8)
TAIL: Final = b"\xff\xff"
CHUNK_BYTES: Final = 128 * 1024
"""Rows are sent in pieces of at least this size."""

Encode: TypeAlias = Callable[[Any], bytes]
"""A value to its bytes. Raises struct.error or UnicodeError for one that the type does not hold."""

_NULL: Final = b"\xff\xff\xff\xff"
_TRUE: Final = b"\0\0\0\1\1"
_FALSE: Final = b"\0\0\0\1\0"
_length: Final = struct.Struct(">i").pack


def _encode_bool(value: Any) -> bytes:
    return _TRUE if value else _FALSE


def _encode_text(value: str | bytes) -> bytes:
    """UTF-8 bytes pass through."""
    data = value.encode() if isinstance(value, str) else value
    return _length(len(data)) + data


ENCODERS: Final[dict[int, Encode]] = {
    16: _encode_bool,
    20: partial(struct.Struct(">iq").pack, 8), 23: partial(struct.Struct(">ii").pack, 4),
    701: partial(struct.Struct(">id").pack, 8),
    25: _encode_text, 114: _encode_text, 1043: _encode_text,
}  # fmt: skip
"""By type: bool, int8, int4, float8; text, json, varchar (`pg_type.oid`, which never change)."""


def encoded(rows: Sequence[tuple[Any, ...]], encoders: Sequence[Encode]) -> Iterator[bytes]:
    """The rows as a COPY takes them, in pieces; an encoder a column. Raises OverflowError or UnicodeError."""
    count = struct.pack(">h", len(encoders))
    parts: list[bytes] = [HEAD]
    size = 0
    for row in rows:
        try:
            fields = [_NULL if value is None else encode(value) for value, encode in zip(row, encoders, strict=True)]
        except struct.error as error:
            raise OverflowError(str(error)) from error
        length = sum(map(len, fields))
        if length >= CHUNK_BYTES:
            # Joined to its neighbours a large value would be copied once more.
            yield b"".join([*parts, count])
            yield from fields
            parts, size = [], 0
            continue
        parts.append(count)
        parts += fields
        size += length
        if size >= CHUNK_BYTES:
            yield b"".join(parts)
            parts, size = [], 0
    parts.append(TAIL)
    yield b"".join(parts)
