"""Values as they stand in the columns of the OpenTelemetry tables: attributes, texts, record ids."""

import base64
import json
import struct
from collections.abc import Mapping, Sequence
from typing import Any, Final

import orjson
from arro3.core import Array

from spanweir.exporters.delta.arrow import Type, build, flat_maps, imported
from spanweir.schemas.raw import Value

Bag = Mapping[str, Value]
DAY_NS: Final = 86_400_000_000_000
KINDS: Final = tuple(
    f"SPAN_KIND_{kind}" for kind in ("UNSPECIFIED", "INTERNAL", "SERVER", "CLIENT", "PRODUCER", "CONSUMER")
)
"""Of spans, by their number."""
_LIMIT: Final = (1 << 63) - 1
VARIANT_DIGIT: Final = {digit: "89ab"[int(digit, 16) & 3] for digit in "0123456789abcdef"}
"""The digit of a UUID that says which kind it is, for any hex digit."""
_VARIANT_DIGITS: Final = bytes.maketrans(b"0123456789abcdef", b"89ab" * 4)


def text(value: Value) -> str | None:
    """A value as the MAP layout holds it: strings as they are, bytes in base64, everything else as JSON."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    return dump(value).decode()


def dump(value: Value) -> bytes:
    try:
        return orjson.dumps(value, default=_bytes)
    except orjson.JSONEncodeError:  # lone surrogates, integers beyond 64 bits
        return orjson.dumps(_plain(value))


def _bytes(value: object) -> str:
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    raise TypeError


def _plain(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, dict):
        return {_plain(str(key)): _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, int) and not isinstance(value, bool) and not -_LIMIT <= value <= 2 * _LIMIT:
        return float(value)
    return _bytes(value) if isinstance(value, bytes) else value


def texts(attributes: Bag) -> dict[str, str | None]:
    return {key: text(value) for key, value in attributes.items()}


def untouched(attributes: Bag) -> Bag:
    return attributes


def _unquoted_in_python(kind: Type, owns: Sequence[dict[str, str]], givens: Sequence[Bag]) -> Array:
    """Attributes as the MAP layout holds them. Of spans' own, which are JSON texts, a JSON string as its text."""
    keys: list[str] = []
    values: list[str | None] = []
    for own, given in zip(owns, givens, strict=True):
        keys += own
        keys += given
        values += [
            # Of what JSON begins with, only the quotation mark and blanks come before `#`.
            value if value > "#" else value[1:-1] if "\\" not in value and value[:1] == '"' else _unblank(value)
            for value in own.values()
        ]
        values += [value if value.__class__ is str else text(value) for value in given.values()]
    return flat_maps(kind, keys, values, [len(own) + len(given) for own, given in zip(owns, givens, strict=True)])


def _unquoted_natively(kind: Type, owns: Sequence[dict[str, str]], givens: Sequence[Bag]) -> Array:
    made = attribute_maps(owns, givens, _unblank, text)
    return _unquoted_in_python(kind, owns, givens) if made is None else imported(kind, made)


try:
    from spanweir.exporters.delta._native import attribute_maps
except ImportError:  # installed where no C compiler was
    unquoted = _unquoted_in_python
else:
    unquoted = _unquoted_natively


def loaded(kind: Type, owns: Sequence[dict[str, str]], givens: Sequence[Bag]) -> Array:
    """Attributes as the VARIANT layout holds them. Of spans' own, which are JSON texts, the values that they are."""
    bags = zip(owns, givens, strict=True)
    return build(kind, [{key: load(value) for key, value in own.items()} | dict(given) for own, given in bags])


def _unblank(value: str) -> Any:
    return load(value) if value[:1] == '"' else value


def load(value: str) -> Any:
    """The value of a JSON text; of what is none, the text."""
    try:
        return orjson.loads(value)
    except orjson.JSONDecodeError:
        pass
    try:
        return json.loads(value)  # takes lone surrogates
    except ValueError:
        return value


def record_id(time_ns: int, high: str, low: str) -> str:
    """UUIDv7 of a time, the last three digits of one hex text and 16 of another: a row has the same id everywhere."""
    time_ms = time_ns // 1_000_000
    time = f"{time_ms >> 16 & 0xFFFFFFFF:08x}-{time_ms & 0xFFFF:04x}"
    return f"{time}-7{high[-3:]}-{VARIANT_DIGIT[low[0]]}{low[1:4]}-{low[4:]}"


def record_ids(times_ns: Sequence[int], highs: Sequence[str], lows: Sequence[str]) -> list[str]:
    """`record_id` of each, of hex texts of 32 and of 16 digits: one digit of all rows at a time."""
    count = len(times_ns)
    high, low = "".join(highs).encode(), "".join(lows).encode()
    if len(high) != 32 * count or len(low) != 16 * count:
        return list(map(record_id, times_ns, highs, lows))
    times = struct.pack(f">{count}Q", *[time // 1_000_000 for time in times_ns]).hex().encode()
    text = bytearray(b"tttttttt-tttt-7hhh-llll-llllllllllll" * count)
    for place in range(12):
        text[place + (place > 7) :: 36] = times[place + 4 :: 16]
    for place in range(3):
        text[place + 15 :: 36] = high[place + 29 :: 32]
    for place in range(16):
        text[place + 19 + (place > 3) :: 36] = low[place::16]
    text[19::36] = text[19::36].translate(_VARIANT_DIGITS)
    ids = text.decode()
    return [ids[start : start + 36] for start in range(0, 36 * count, 36)]
