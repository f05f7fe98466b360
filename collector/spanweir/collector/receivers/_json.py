"""OTLP/JSON to OTLP protobuf, by the message descriptors: one rule for every message, none of them named twice.

What OTLP's JSON mapping says, and what senders do besides (opentelemetry-proto docs/specification.md, "JSON Protobuf
Encoding"): ids in hexadecimal (base64, what protobuf's own mapping gives, is tolerated), enums as numbers (names are
tolerated), 64-bit integers as text or number, keys in lowerCamelCase (snake_case is tolerated), unknown keys ignored,
`null` as absent. A span, log record or metric that does not convert is left out and counted, and its neighbours stay.

Written as wire format directly: protobuf's `json_format` knows neither hexadecimal ids nor leaving one item out.
"""

import base64
import binascii
import math
import struct
from collections.abc import Callable
from functools import cache, partial
from typing import Any, NamedTuple

import orjson
from google.protobuf.descriptor import FieldDescriptor as Descriptor

from spanweir.collector.decode import Undecodable
from spanweir.collector.receivers._check import request_type

_ITEMS = ("Span", "LogRecord", "Metric")
"""Messages that stand for themselves: one that is wrong does not cost the others."""
_IDS = {"trace_id": 16, "span_id": 8, "parent_span_id": 8}
_DEPTH = 300
"""Messages inside each other; a list in a list is two. Decode keeps what protobuf refuses (from 100 on) as bytes."""

_VARINT, _I64, _LEN, _I32 = 0, 1, 2, 5
_FIXED = {
    Descriptor.TYPE_DOUBLE: (_I64, "<d"),
    Descriptor.TYPE_FLOAT: (_I32, "<f"),
    Descriptor.TYPE_FIXED64: (_I64, "<Q"),
    Descriptor.TYPE_SFIXED64: (_I64, "<q"),
    Descriptor.TYPE_FIXED32: (_I32, "<I"),
    Descriptor.TYPE_SFIXED32: (_I32, "<i"),
}


class Converted(NamedTuple):
    """A JSON request as serialized protobuf; `rejected` items could not be read, `why` is for the sender."""

    body: bytes
    rejected: int
    why: str


class _Wrong(ValueError):  # noqa: N818
    """A value that its field cannot take; the message says where and what."""


class _Problems:
    """What was left out of one request."""

    def __init__(self) -> None:
        self.count = 0
        self.first = ""


def to_protobuf(signal: str, body: bytes) -> Converted:
    """`body` is an OTLP/JSON Export*ServiceRequest. Raises `Undecodable`."""
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        value = _loads_with_bad_text(body)
    if not isinstance(value, dict):
        raise Undecodable(f"an OTLP/JSON request is an object, not {_shape(value)}")
    problems = _Problems()
    try:
        converted = _message(_plan(request_type(signal).DESCRIPTOR), value, problems, 0)
    except _Wrong as error:
        raise Undecodable(str(error)) from None
    return Converted(converted, problems.count, problems.first)


def _loads_with_bad_text(body: bytes) -> Any:
    """JSON whose text is not all UTF-8: the bytes that are none become `?`, as decode does with protobuf."""
    try:
        body.decode()
    except UnicodeDecodeError:
        try:
            return orjson.loads(body.decode(errors="replace").replace("\ufffd", "?"))
        except orjson.JSONDecodeError as error:
            raise Undecodable(f"not JSON: {error}") from None
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise Undecodable(f"not JSON: {error}") from None


class _Field(NamedTuple):
    name: str
    tag: bytes
    repeated: bool
    write: Callable[[Any], bytes]
    """A value without its tag. Raises `_Wrong`."""
    message: Any
    """The descriptor of a message field, else None."""


@cache
def _plan(descriptor: Any) -> dict[str, _Field]:
    """Fields by every key they may come under."""
    plan = {}
    for field in descriptor.fields:
        wire = _wire_type(field.type)
        one = _Field(
            name=field.name,
            tag=_varint(field.number << 3 | wire),
            repeated=_is_repeated(field),
            write=_writer(field),
            message=field.message_type,
        )
        plan[field.json_name] = plan[field.name] = one
    return plan


def _message(plan: dict[str, _Field], value: dict[str, Any], problems: _Problems, depth: int) -> bytes:
    if depth > _DEPTH:
        raise _Wrong(f"nested more than {_DEPTH} deep")
    parts: list[bytes] = []
    for key, item in value.items():
        field = plan.get(key)
        if field is None or item is None:
            continue
        if field.message is not None:
            _write_messages(parts, field, key, item, problems, depth)
            continue
        if field.repeated != isinstance(item, list):
            raise _Wrong(f"{key} must be {'a list' if field.repeated else 'one value'}, not {_shape(item)}")
        for one in item if field.repeated else (item,):
            try:
                written = field.write(one)
            except (_Wrong, ValueError, TypeError, OverflowError, struct.error) as error:
                raise _Wrong(f"{key} cannot be {_shape(one)}: {error}") from None
            parts += (field.tag, written)
    return b"".join(parts)


def _write_messages(parts: list[bytes], field: _Field, key: str, item: Any, problems: _Problems, depth: int) -> None:
    if field.repeated != isinstance(item, list):
        raise _Wrong(f"{key} must be {'a list' if field.repeated else 'an object'}, not {_shape(item)}")
    plan = _plan(field.message)
    for one in item if field.repeated else (item,):
        try:
            if one is not None and not isinstance(one, dict):
                raise _Wrong(f" must be an object, not {_shape(one)}")
            # A null in a list of AnyValues is a value with nothing set.
            written = _message(plan, one or {}, problems, depth + 1)
        except _Wrong as error:
            told = f"{key}{error}" if str(error)[0] == " " else f"{key}.{error}"
            if field.message.name not in _ITEMS:
                raise _Wrong(told) from None
            problems.count += 1
            problems.first = problems.first or told
            continue
        parts += (field.tag, _varint(len(written)), written)


def _varint(value: int) -> bytes:
    if value < 0x80:
        return b"%c" % value
    result = bytearray()
    while value >= 0x80:
        result.append(value & 0x7F | 0x80)
        value >>= 7
    result.append(value)
    return bytes(result)


def _wire_type(kind: int) -> int:
    if kind in _FIXED:
        return _FIXED[kind][0]
    return _LEN if kind in (Descriptor.TYPE_STRING, Descriptor.TYPE_BYTES, Descriptor.TYPE_MESSAGE) else _VARINT


def _is_repeated(field: Any) -> bool:
    # `is_repeated` came with protobuf 6.31, and `label` goes with a later one.
    return bool(field.is_repeated if hasattr(field, "is_repeated") else field.label == Descriptor.LABEL_REPEATED)


def _writer(field: Any) -> Callable[[Any], bytes]:
    kind = field.type
    if kind == Descriptor.TYPE_STRING:
        return _string
    if kind == Descriptor.TYPE_BYTES:
        size = _IDS.get(field.name)
        return _base64_bytes if size is None else partial(_id, size)
    if kind == Descriptor.TYPE_BOOL:
        return _bool
    if kind == Descriptor.TYPE_ENUM:
        return partial(_enum, {value.name: value.number for value in field.enum_type.values})
    if kind in (Descriptor.TYPE_SINT32, Descriptor.TYPE_SINT64):
        return lambda value: _varint((number := _integer(value)) << 1 ^ number >> 63)
    if kind in _FIXED:
        pack = struct.Struct(_FIXED[kind][1]).pack
        number = _double if kind in (Descriptor.TYPE_DOUBLE, Descriptor.TYPE_FLOAT) else _integer
        return lambda value: pack(number(value))
    return _int64


def _string(value: Any) -> bytes:
    if isinstance(value, str):
        encoded = value.encode(errors="replace")
    elif isinstance(value, bool | int | float):
        encoded = orjson.dumps(value)
    else:
        raise _Wrong("text is wanted")
    return _varint(len(encoded)) + encoded


def _base64_bytes(value: Any) -> bytes:
    if not isinstance(value, str):
        raise _Wrong("base64 text is wanted")
    data = _unbase64(value)
    if data is None:
        raise _Wrong("base64 text is wanted")
    return _varint(len(data)) + data


def _unbase64(text: str) -> bytes | None:
    """Standard or URL-safe alphabet, padded or not."""
    try:
        plain = text.replace("-", "+").replace("_", "/").rstrip("=")
        return base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True)
    except (binascii.Error, ValueError):
        return None


def _id(size: int, value: Any) -> bytes:
    """What is no id of `size` bytes becomes an empty one: the check that follows takes its span out and says so."""
    data = b""
    if isinstance(value, str) and value:
        if len(value) == 2 * size:
            try:
                data = bytes.fromhex(value)
            except ValueError:
                data = b""
        else:
            decoded = _unbase64(value)
            data = decoded if decoded is not None and len(decoded) == size else b""
    return _varint(len(data)) + data


def _bool(value: Any) -> bytes:
    if isinstance(value, bool):
        return b"\x01" if value else b"\x00"
    if value in ("true", "false", 0, 1):
        return b"\x01" if value in ("true", 1) else b"\x00"
    raise _Wrong("true or false is wanted")


def _enum(names: dict[str, int], value: Any) -> bytes:
    if isinstance(value, str) and value in names:
        return _varint(names[value])
    return _int64(value)


def _int64(value: Any) -> bytes:
    return _varint(_integer(value) & 0xFFFFFFFFFFFFFFFF)


def _integer(value: Any) -> int:
    if isinstance(value, bool):
        raise _Wrong("a whole number is wanted")
    if isinstance(value, int):
        return value
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, str):
        return int(value)
    raise _Wrong("a whole number is wanted")


def _double(value: Any) -> float:
    if isinstance(value, bool):
        raise _Wrong("a number is wanted")
    if isinstance(value, int | float):
        return float(value)
    if isinstance(value, str):
        return {"Infinity": math.inf, "-Infinity": -math.inf, "NaN": math.nan}.get(value) or float(value)
    raise _Wrong("a number is wanted")


def _shape(value: Any) -> str:
    if isinstance(value, str):
        return f"the text {value[:40]!r}"
    names = {dict: "an object", list: "a list", type(None): "null", bool: "true or false"}
    return names.get(type(value), "a number")
