"""Python literals where JSON was meant: what `str()` makes of a dict (`{'a': None}`).

Not here: JSON, and what is left of it when it was cut (`values`).
"""

import ast
import re
from typing import Any

import msgspec

MAX_LITERAL_CHARS = 200_000
"""Python literals longer than this are left as text: parsing them takes a hundred times as long as JSON."""

_decode = msgspec.json.Decoder().decode


def simple_literal(value: str) -> Any:
    """A Python literal that is JSON but for its quotes and words (`{'cache_read': 0, 'audio': None}`), or None.
    Python's parser takes 20 us."""
    if "'" not in value or '"' in value or "\\" in value or len(value) > MAX_LITERAL_CHARS:
        return None
    pieces = value.split("'")
    if _PYTHON_WORD.search(value):
        # Every other piece is a string.
        pieces[::2] = [_PYTHON_WORD.sub(_json_word, piece) for piece in pieces[::2]]
    try:
        return _decode('"'.join(pieces))
    except (ValueError, msgspec.DecodeError, RecursionError):
        return None


_PYTHON_WORD = re.compile(r"\b(?:True|False|None)\b")
_JSON_WORDS = {"True": "true", "False": "false", "None": "null"}


def _json_word(found: re.Match[str]) -> str:
    return _JSON_WORDS[found[0]]


def literal(value: str) -> Any:
    """A Python literal (`{'a': None}`), or None."""
    if len(value) > MAX_LITERAL_CHARS or value[-1] not in "]})":
        return None
    try:
        found = ast.literal_eval(value)
    except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
        return None
    return _json_types(found)


def _json_types(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _json_types(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set)):
        return [_json_types(item) for item in value]
    if value is None or isinstance(value, (str, bool, int, float)):
        return value
    return str(value)
