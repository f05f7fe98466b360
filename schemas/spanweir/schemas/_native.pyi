from collections.abc import Callable
from typing import Any

SOURCE: str
"""SHA-256 of the C source this was compiled of."""

def span_json(
    dumps: Callable[[Any], str],
    in_python: Callable[..., bytes],
    trace_id: str,
    span_id: str,
    parent_id: str,
    name: str,
    kind: str,
    start_ns: int,
    end_ns: int,
    events: str,
    code: str,
    message: str,
    own: dict[str, str],
    given: dict[str, Any],
    tail: bytes,
    /,
) -> bytes:
    """A span in MLflow's form, see `spanweir.schemas.span_json`. `kind`, `events`, `code` and `tail` are pieces of
    JSON, `own` are JSON texts and `given` a sender's values.

    `dumps` is called for values that are neither text nor an integer of 64 bits; what it raises is raised, but for
    ValueError. Where something is there that only Python can write, e.g. lone surrogates, `in_python` is called with
    all that follows it.
    """

def dumps(
    encode: Callable[..., bytes],
    default: Callable[[Any], Any],
    raw: type,
    refused: Callable[[Any], str],
    value: Any,
    /,
) -> str:
    """`value` as JSON text: what `encode(value, default=default)` gives, or what a `raw` holds. Where `encode` raises
    TypeError, ValueError or RecursionError, `refused` is asked."""
