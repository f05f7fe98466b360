"""Repairs a protobuf body that protobuf refuses for one bad value, so that the rest of the request survives.

Two repairs, both in place and of the same length, so that no enclosing length changes: bytes of a string field that
are no UTF-8 become `?`, and an AnyValue nested deeper than protobuf allows becomes a bytes value that holds its
undecoded content. Both happen in the wild: SDKs cut strings in the middle of a character, and recursive objects.

Not here: a body that is cut short or no protobuf at all. Receivers refuse those.
"""

import codecs
from typing import Any

DEPTH_LIMIT = 96
"""Protobuf refuses messages nested more than 100 deep."""

_VARINT, _I64, _LEN, _I32 = 0, 1, 2, 5
_STRING = 9
_BYTES_VALUE_TAG = 7 << 3 | _LEN


def repair(descriptor: Any, body: bytes) -> tuple[bytes, tuple[str, ...]]:
    """`body` repaired as a message of `descriptor`, and the names of what was repaired; none where nothing could be."""
    buffer = bytearray(body)
    issues: set[str] = set()
    try:
        _walk(buffer, 0, len(buffer), descriptor, 1, issues)
    except (IndexError, ValueError):
        return body, ()
    return bytes(buffer), tuple(sorted(issues))


def _walk(buffer: bytearray, position: int, end: int, descriptor: Any, depth: int, issues: set[str]) -> None:
    fields = descriptor.fields_by_number
    while position < end:
        start = position
        tag, position = _varint(buffer, position)
        wire = tag & 7
        if wire == _LEN:
            length, position = _varint(buffer, position)
            stop = position + length
            if stop > end:
                raise ValueError("a field reaches beyond its message")
            field = fields.get(tag >> 3)
            if field is not None and field.message_type is not None:
                if depth >= DEPTH_LIMIT and descriptor.name == "AnyValue":
                    buffer[start] = _BYTES_VALUE_TAG
                    issues.add("too_deep")
                else:
                    _walk(buffer, position, stop, field.message_type, depth + 1, issues)
            elif field is not None and field.type == _STRING:
                _repair_text(buffer, position, stop, issues)
            position = stop
        elif wire == _VARINT:
            _, position = _varint(buffer, position)
        elif wire in (_I64, _I32):
            position += 8 if wire == _I64 else 4
        else:
            raise ValueError(f"wire type {wire}")
    if position != end:
        raise ValueError("a field reaches beyond its message")


def _varint(buffer: bytearray, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = buffer[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
        if shift > 63:
            raise ValueError("a varint of more than ten bytes")


def _repair_text(buffer: bytearray, start: int, stop: int, issues: set[str]) -> None:
    try:
        buffer[start:stop].decode()
    except UnicodeDecodeError:
        buffer[start:stop] = buffer[start:stop].decode(errors=_QUESTION_MARKS).encode()
        issues.add("invalid_utf8")


def _question_marks(error: UnicodeError) -> tuple[str, int]:
    """One `?` for each byte, so that the length stays."""
    assert isinstance(error, UnicodeDecodeError)
    return "?" * (error.end - error.start), error.end


_QUESTION_MARKS = "spanweir.question_marks"
codecs.register_error(_QUESTION_MARKS, _question_marks)
