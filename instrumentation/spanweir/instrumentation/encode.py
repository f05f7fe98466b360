"""Frozen values to JSON text, off the calling thread and in pieces. Not here: what is recorded at all (`policy`).

`json.dumps` holds the interpreter lock until it is done: 10 MB stop every other thread for 20 ms. Above
`PIECE_BYTES` a value is therefore written piece by piece with a real yield of the lock between pieces.
"""

import datetime
import decimal
import enum
import hashlib
import json
import os
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

from spanweir.instrumentation.freeze import ELIDED, MAX_DEPTH, freeze

PIECE_BYTES = 1 << 16
MAX_REPR_CHARS = 4096
_PLAIN_TO_STR = (uuid.UUID, decimal.Decimal, os.PathLike, datetime.datetime, datetime.date, datetime.time)


def describe(value: Any) -> Any:
    """What stands for a value that JSON cannot hold. Never raises, never returns bytes of unknown length.

    Binary data is recorded by reference: size and SHA-256, not the bytes.
    """
    try:
        if isinstance(value, (bytes, bytearray, memoryview)):
            data = bytes(value)
            return {"type": "bytes", "size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        if isinstance(value, enum.Enum):
            return value.value if isinstance(value.value, (str, int, float)) else value.name
        if isinstance(value, _PLAIN_TO_STR):
            return str(value)
        if hasattr(value, "dtype") and hasattr(value, "shape"):
            return f"<{type(value).__name__} {value.dtype} {tuple(value.shape)}>"
        if isinstance(value, type) or callable(value):
            return f"<{getattr(value, '__module__', '')}.{getattr(value, '__qualname__', type(value).__name__)}>"
        if getattr(type(value), "__repr__", None) is object.__repr__:
            return f"<{type(value).__module__}.{type(value).__qualname__}>"
        text = repr(value)
    except Exception as error:
        return f"<{type(value).__name__}: __repr__ failed, {type(error).__name__}>"
    return text if len(text) <= MAX_REPR_CHARS else text[:MAX_REPR_CHARS] + ELIDED


def tame(value: Any) -> Any:
    """An attribute value that the SDK can take, whatever the application passed: text, numbers and lists of them as
    they are, anything else described. The SDK (1.45) would walk through a `range` of any length, follow a list into
    itself, and let a `__str__` raise; integers of more than 64 bits would cost the whole span.
    """
    kind = type(value)
    if kind is int:
        return value if -(1 << 63) <= value < 1 << 63 else f"<int of {value.bit_length()} bits>"
    if kind is str:
        return value if value.isascii() else value.encode("utf-8", "replace").decode()
    if kind in _SIMPLE:
        return value
    if kind is list or kind is tuple:
        return [_tame_item(item) for item in value[:_MAX_LISTED]]
    if kind is dict:
        return dumps(freeze(value).value).decode()
    if not issubclass(kind, enum.Enum):
        for base, plainly in _BASES:
            if issubclass(kind, base):  # numpy's numbers, marked-up strings
                return tame(plainly(value))
    described = describe(value)
    return tame(described) if type(described) in (str, int, float) else dumps(described).decode()


def _tame_item(value: Any) -> Any:
    return dumps(freeze(value).value).decode() if type(value) in (list, tuple, dict) else tame(value)


_SIMPLE = frozenset({float, bool})
_BASES: tuple[tuple[type, Callable[[Any], Any]], ...] = (
    (str, str.__str__),
    (int, int.__int__),
    (float, float.__float__),
)
_MAX_LISTED = 1000
_ENCODER = json.JSONEncoder(
    ensure_ascii=False, check_circular=False, allow_nan=False, separators=(",", ":"), default=describe
)


def plain(value: Any, depth: int = 0) -> Any:
    """The same value with nothing in it that JSON cannot hold: keys as strings, NaN and infinities as strings."""
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return str(value)
    if value is None or isinstance(value, (str, int, float)):
        return value
    if depth > 2 * MAX_DEPTH:
        return ELIDED
    if isinstance(value, dict):
        return {k if isinstance(k, str) else str(describe(k)): plain(v, depth + 1) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item, depth + 1) for item in value]
    return plain(describe(value), depth + 1)


def dumps(value: Any) -> bytes:
    """JSON text (UTF-8) of any frozen value."""
    try:
        text = _ENCODER.encode(value)
    except (TypeError, ValueError, RecursionError, OverflowError):
        text = _ENCODER.encode(plain(value))
    return text.encode("utf-8", "replace")


def pieces(value: Any, size: int) -> Iterator[bytes]:
    """`dumps(value)` in pieces of about `PIECE_BYTES`, giving up the interpreter lock between them."""
    if size <= PIECE_BYTES:
        yield dumps(value)
        return
    held: list[bytes] = []
    waiting = 0
    for piece in _walk(value):
        held.append(piece)
        waiting += len(piece)
        if waiting >= PIECE_BYTES:
            yield b"".join(held)
            held, waiting = [], 0
            time.sleep(0)
    yield b"".join(held)


def _walk(value: Any) -> Iterator[bytes]:
    if isinstance(value, str) and len(value) > PIECE_BYTES:
        yield b'"'
        for start in range(0, len(value), PIECE_BYTES):
            yield dumps(value[start : start + PIECE_BYTES])[1:-1]
        yield b'"'
    elif isinstance(value, dict) and value:
        before = b"{"
        for group in _groups(list(value.items()), _pair_size):
            if len(group) == 1:
                key, item = group[0]
                yield before + dumps(key if isinstance(key, str) else str(describe(key))) + b":"
                yield from _walk(item)
            else:
                yield before + dumps(dict(group))[1:-1]
            before = b","
        yield b"}"
    elif isinstance(value, list) and value:
        before = b"["
        for group in _groups(value, _size):
            yield before
            if len(group) == 1:
                yield from _walk(group[0])
            else:
                yield dumps(group)[1:-1]
            before = b","
        yield b"]"
    else:
        yield dumps(value)


def _groups(items: list[Any], size_of: Callable[[Any], int]) -> Iterator[list[Any]]:
    """The items in runs of about `PIECE_BYTES`; one that is larger comes alone."""
    group: list[Any] = []
    total = 0
    for item in items:
        size = size_of(item)
        if group and total + size > PIECE_BYTES:
            yield group
            group, total = [], 0
        group.append(item)
        total += size
    if group:
        yield group


def _pair_size(pair: tuple[Any, Any]) -> int:
    return 16 + _size(pair[1])


def _size(value: Any) -> int:
    """About how long the text of a value is; exact enough to cut pieces by, and not counted on beyond one piece."""
    if isinstance(value, str):
        return len(value)
    if isinstance(value, dict):
        value = value.values()
    elif not isinstance(value, list):
        return 16
    total = 16
    for item in value:
        total += len(item) + 8 if isinstance(item, str) else _size(item)
        if total > PIECE_BYTES:
            break
    return total


def breathing(items: list[Any]) -> Iterator[Any]:
    """The items, with a yield of the interpreter lock now and then."""
    for index, item in enumerate(items):
        if index & 63 == 63:
            time.sleep(0)
        yield item
