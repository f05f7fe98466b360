"""Reads single attribute values: text, numbers, JSON in its broken forms, durations.

Every reader takes an attribute value of any type and returns `None` for what it cannot read; the engine keeps the
attribute then and flags it. Text is never taken for JSON, a number or a boolean unless its key says that it is one.

Not here: names that mean the same (`vocabulary`), messages (`messages`), token arithmetic (`usage`).
"""

import binascii
import json
import math
import re
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import Any

import msgspec
import orjson

from spanweir.schemas.literals import literal, simple_literal

REDACTED = frozenset(
    {
        "<redacted>", "[redacted]", "__redacted__", "redacted", "filtered", "[filtered]", "<omitted>",
        "[omitted]", "binary content omitted",
    }
)  # fmt: skip
ELIDED = frozenset({"<elided>", "n/a", "<not specified>", "<not serializable>"})
_SENTINEL_STARTS = frozenset(
    {chr(code) for code in range(0x3001) if chr(code).isspace()}
    | {case for word in REDACTED | ELIDED for case in (word[0], word[0].upper())}
)
_TRUNCATED = re.compile(
    r"(?:\.\.\.|…)?\[TRUNCATED[^\]]*\]\s*$|(?:\.\.\.|…)$|\[truncated\]$|<truncated>$", re.IGNORECASE
)


# ------------------------------------------------------------------------------------------------ scalars


UNREADABLE = (ValueError, msgspec.DecodeError, RecursionError)
"""What decoding JSON may raise; the last for text that is nested a thousand deep."""


def text(value: Any) -> str | None:
    """A string that is not empty; numbers and booleans as text."""
    if value.__class__ is str:
        return value or None
    if value is None or isinstance(value, (list, dict)):
        return None
    if isinstance(value, bytes):
        return value.decode(errors="replace") or None
    return str(value)


def model_name(value: Any) -> str | None:
    """As `text`; None for what stands where a sender does not know the model (OpenInference's Pipecat and Java,
    LangChain4j; Micrometer's `none`)."""
    found = value or None if value.__class__ is str else text(value)
    return None if found == "unknown" or found == "none" else found


def quoted(value: Any) -> str | None:
    """As `text`, without the JSON quotes that some senders put around strings (MLflow, Langfuse 5, Gemini CLI)."""
    if value.__class__ is not str:
        return text(value)
    if not value or value[0] != '"' or value[-1] != '"' or len(value) == 1:
        return value or None
    inner = value[1:-1]
    if '"' not in inner and "\\" not in inner and inner.isprintable():
        return inner or None
    try:
        decoded = orjson.loads(value)
    except ValueError:
        return value
    return decoded if isinstance(decoded, str) and decoded else None


def count(value: Any) -> int | None:
    """A number of things: an integer of 0 or more, from an int, a double or a numeric string."""
    if value.__class__ is int:
        return value if value >= 0 else None
    found = number(value)
    return int(found) if found is not None and found >= 0 else None


def integer(value: Any) -> int | None:
    if value.__class__ is int:
        return int(value)
    found = number(value)
    return int(found) if found is not None else None


def number(value: Any) -> float | None:
    """A finite number, from an int, a double or a numeric string."""
    if value.__class__ is float:
        return value if math.isfinite(value) else None
    if value.__class__ is int:
        return float(value)
    if isinstance(value, str):
        try:
            found = float(value.strip().strip('"'))
        except ValueError:
            return None
        return found if math.isfinite(found) else None
    return None


def boolean(value: Any) -> bool | None:
    if isinstance(value, bool):
        return value
    if isinstance(value, str):
        return {"true": True, "false": False}.get(value.strip().strip('"').lower())
    return None


def strings(value: Any) -> list[str] | None:
    """A list of strings: an array, a JSON array, a comma-joined or a single string (semconv guide 7.4.2)."""
    if isinstance(value, str):
        stripped = value.strip()
        if stripped[:1] == "[":
            try:
                value = orjson.loads(stripped)
            except ValueError:
                value = literal(stripped)
            if not isinstance(value, list):
                return [stripped]
        else:
            stripped = quoted(stripped) or ""
            return [part for item in stripped.split(",") if (part := item.strip())] or None
    if isinstance(value, list):
        return [item if isinstance(item, str) else dumps(item) for item in value if item is not None] or None
    return None


def whole_strings(value: Any) -> list[str] | None:
    """As `strings`, but a single string stays whole (stop sequences may hold commas)."""
    if isinstance(value, str) and value.strip()[:1] != "[":
        return [value] if value else None
    return strings(value)


# ------------------------------------------------------------------------------------------------ JSON


_DECODER = msgspec.json.Decoder()
"""Not orjson's: it makes floats of integers of more than 64 bits, which ids and hashes in arguments are."""

check_json = msgspec.json.Decoder(msgspec.Raw).decode
"""Raises one of `UNREADABLE` for text that is no JSON."""

_LENIENT = json.JSONDecoder(strict=False, parse_constant=str)

_ESCAPED = re.compile(r"\\u")
"""Python's `in` takes three times as long for two characters."""


class Broken(msgspec.Struct, frozen=True):
    """JSON that could be read only in part or by guessing."""

    value: Any
    how: str
    """`literal` (a Python repr), `truncated` (complete leading elements of a cut text) or `lenient`."""


def loads(value: str | bytes, *, cut: bool = True, lenient: bool = True) -> Any:
    """JSON text as Python values; what is broken but readable as `Broken`.

    `cut`: also read what is left of a text that was cut short; `lenient`: also read what is nearly JSON. Raises
    ValueError for text that is not JSON-like.
    """
    try:
        return _DECODER.decode(value)
    except UNREADABLE:
        if not lenient:
            raise ValueError("not JSON") from None
    string = value if isinstance(value, str) else value.decode(errors="replace")
    stripped = string.strip()
    if stripped[:1] not in ("{", "[", '"'):
        raise ValueError("not JSON")
    if (found := simple_literal(stripped)) is not None:
        return Broken(found, "literal")
    try:
        return Broken(_LENIENT.decode(stripped), "lenient")
    except (ValueError, RecursionError):
        pass
    if stripped[0] in "{[" and (found := literal(stripped)) is not None:
        return Broken(found, "literal")
    salvaged = salvage(_unmarked(stripped)) if cut else None
    if salvaged is None:
        raise ValueError("not JSON")
    return Broken(salvaged, "truncated")


def _unmarked(cut: str) -> str:
    """Without the mark at its end that says that a text was cut. Of a long text only the end is looked at: everything
    that begins like a mark would be followed to the end of the text."""
    return cut[:-_MARK_CHARS] + _TRUNCATED.sub("", cut[-_MARK_CHARS:])


_MARK_CHARS = 256
MAX_SALVAGE_CHARS = 4_000_000
_MARK = re.compile(r'(?:[^"{}\[\],]++|"(?:[^"\\]++|\\.)*+")*+([{}\[\],])', re.DOTALL)
"""A bracket or comma, and the whole strings, colons and words before it."""
_TOKEN = re.compile(r'\s*("(?:[^"\\]|\\.)*"|[^\s{}\[\],"]+)', re.DOTALL)


def salvage(cut: str) -> Any:
    """What can be read of a JSON text that was cut off: the last string is closed where it was cut, then the open
    arrays and objects are; failing that, the last element is given up. None where nothing can be read.
    """
    if len(cut) > MAX_SALVAGE_CHARS:
        return None
    stack: list[str] = []
    position = whole = 0
    depth = 0  # of `stack` at `whole`; all that comes on top of it later is open still
    while match := _MARK.match(cut, position):
        mark = match[1]
        position = match.end()
        if mark == ",":
            if stack:
                whole, depth = position - 1, len(stack)
        elif mark == "{" or mark == "[":
            stack.append("}" if mark == "{" else "]")
        else:
            if not stack or stack.pop() != mark:
                return None
            whole, depth = position, len(stack)
    while match := _TOKEN.match(cut, position):
        position = match.end()
    closing = "".join(reversed(stack))
    attempts = [cut[:whole] + "".join(reversed(stack[:depth]))] if whole else []
    rest = cut[position:].lstrip()
    if rest[:1] == '"':
        # A string that was cut, perhaps within an escape sequence of up to six characters.
        for drop in range(6):
            attempts.insert(drop, cut[:position] + rest[: len(rest) - drop] + '"' + closing)
    else:
        attempts.insert(0, cut[:position] + closing)
    for attempt in attempts:
        try:
            return _LENIENT.decode(attempt)
        except (ValueError, RecursionError):
            continue
    return None


def plain(value: Any) -> Any:
    """A `Json` value as plain Python: `Raw` is decoded."""
    if value.__class__ is msgspec.Raw:
        try:
            return _DECODER.decode(value)
        except UNREADABLE:
            return bytes(value).decode(errors="replace")
    return value


_BLANKS = " \t\r\n"


def json_or_text(value: Any) -> Any:
    """A value that is JSON where it parses as an object, an array or a quoted string, else the text it is.

    Valid JSON text stays undecoded (`Raw`), unless it hides characters behind `\\u` escapes.
    """
    if value.__class__ is not str:
        return value
    if not value:
        return None
    first = value[0]
    if first in _BLANKS:
        first = value.lstrip()[:1]
    if first != "{" and first != "[":
        return (quoted(value) or value) if first == '"' else value
    try:
        if "\\" in value and _ESCAPED.search(value):
            return _DECODER.decode(value)
        check_json(value)
        return msgspec.Raw(value)
    except UNREADABLE:
        pass
    try:
        found = loads(value, cut=False)
    except ValueError:
        return value
    return found.value if isinstance(found, Broken) else found


def _dumps_in_python(value: Any) -> str:
    if value.__class__ is msgspec.Raw:
        return bytes(value).decode()
    for option in (None, orjson.OPT_NON_STR_KEYS):
        try:
            return orjson.dumps(value, default=encodable, option=option).decode()
        except (TypeError, ValueError, RecursionError):
            continue
    try:
        # Lone surrogates and integers of more than 64 bits, which orjson refuses.
        text = json.dumps(value, default=_lenient, ensure_ascii=False, separators=(",", ":"))
        text.encode()
        return text
    except UnicodeEncodeError:
        return json.dumps(value, default=_lenient)
    except (TypeError, ValueError, RecursionError):
        return '"(nested too deep)"'


def _lenient(value: Any) -> Any:
    try:
        return encodable(value)
    except TypeError:
        return str(value)


def encodable(value: Any) -> Any:
    """For encoders: what else may stand in a value. Raises TypeError for what may not."""
    if isinstance(value, bytes):
        return _base64(value)
    if value.__class__ is msgspec.Raw:
        return plain(value)
    if isinstance(value, msgspec.Struct):
        return msgspec.to_builtins(value)
    raise TypeError


def _base64(value: bytes) -> str:
    return binascii.b2a_base64(value, newline=False).decode()


try:
    from spanweir.schemas import _native
except ImportError:  # installed where no C compiler was
    dumps: Callable[[Any], str] = _dumps_in_python
else:
    dumps = partial(_native.dumps, orjson.dumps, encodable, msgspec.Raw, _dumps_in_python)
"""JSON text, non-ASCII unescaped. Never raises: NaN becomes null, bytes base64, what has no JSON form its `str`."""


# ------------------------------------------------------------------------------------------------ content states


def content_state(value: Any) -> str | None:
    """`redacted`, `elided` or `truncated` where a text is a sentinel for, or the rest of, what was there."""
    if value.__class__ is not str or not value:
        return None
    if len(value) < 32 and value[0] in _SENTINEL_STARTS:
        lowered = value.strip().lower()
        if lowered in REDACTED:
            return "redacted"
        if lowered in ELIDED:
            return "elided"
    last = value[-1]
    if last not in "]….>":
        return None
    if last == ".":
        return "truncated" if value.endswith("...") else None
    tail = value[-80:]
    return "truncated" if last == "…" or ("truncated" in tail.lower() and _TRUNCATED.search(tail)) else None


# ------------------------------------------------------------------------------------------------ durations


def seconds(value: Any) -> int | None:
    """Nanoseconds of a duration in seconds."""
    found = number(value)
    return round(found * 1e9) if found is not None and found >= 0 else None


def milliseconds(value: Any) -> int | None:
    """Nanoseconds of a duration in milliseconds."""
    found = number(value)
    return round(found * 1e6) if found is not None and found >= 0 else None


def nanoseconds(value: Any) -> int | None:
    return count(value)


_EPOCH = datetime.fromtimestamp(0, UTC)


def instant(value: Any) -> int | None:
    """Unix nanoseconds of an ISO 8601 instant, possibly JSON-quoted, or of a number of seconds or milliseconds."""
    string = quoted(value)
    if string is None:
        return None
    found = number(string)
    if found is not None:
        return round(found * (1e9 if found < 1e11 else 1e6 if found < 1e14 else 1))
    try:
        when = datetime.fromisoformat(string)
        since = (when if when.tzinfo else when.astimezone()) - _EPOCH
    except (ValueError, OverflowError):
        return None
    # Not `timestamp()`: a double cannot hold nanoseconds of today.
    return (since.days * 86_400 + since.seconds) * 1_000_000_000 + since.microseconds * 1000
