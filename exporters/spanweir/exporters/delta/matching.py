"""Clauses of MLflow's filter grammar over the spans of a trace that is at hand.

As in MLflow, all clauses on spans and on text hold of one and the same span. SQL finds traces in which each holds of
some span; where that is not enough, this decides.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final

import orjson

Clause = dict[str, Any]


def one_span_matches(trace: Mapping[str, Any], clauses: Sequence[Clause]) -> bool:
    """Whether all clauses (of type `span`) hold of one span of a trace as `Trace.to_dict()` gives it."""
    return any(all(_holds(span, clause) for clause in clauses) for span in trace["data"]["spans"])


def _holds(span: Mapping[str, Any], clause: Clause) -> bool:
    comparator, value = clause["comparator"].upper(), clause["value"]
    found = _value(span, clause["key"])
    if comparator in ("IS NULL", "IS NOT NULL"):
        return (found is None) is (comparator == "IS NULL")
    return found is not None and _COMPARE[comparator](found, value)


def _value(span: Mapping[str, Any], key: str) -> str | None:
    if key == "content":
        return orjson.dumps(span).decode()
    if key == "name":
        return str(span["name"])
    if key == "status":
        return str(span["status"]["code"]).removeprefix("STATUS_CODE_")
    name = "mlflow.spanType" if key == "type" else key.removeprefix("attributes.").strip("`")
    text = span["attributes"].get(name)
    if not isinstance(text, str) or text[:1] != '"':
        return text if text is None or isinstance(text, str) else orjson.dumps(text).decode()
    try:
        return str(orjson.loads(text))
    except orjson.JSONDecodeError:
        return text


@lru_cache(maxsize=64)
def _like(pattern: str, flags: re.RegexFlag) -> re.Pattern[str]:
    parts = (".*" if c == "%" else "." if c == "_" else re.escape(c) for c in pattern)
    return re.compile("".join(parts), flags | re.DOTALL)


_COMPARE: Final[dict[str, Callable[[str, Any], bool]]] = {
    "=": lambda found, value: found == value,
    "!=": lambda found, value: found != value,
    "LIKE": lambda found, value: _like(value, re.NOFLAG).fullmatch(found) is not None,
    "ILIKE": lambda found, value: _like(value, re.IGNORECASE).fullmatch(found) is not None,
    "RLIKE": lambda found, value: re.search(value, found) is not None,
    "IN": lambda found, value: found in value,
    "NOT IN": lambda found, value: found not in value,
}
