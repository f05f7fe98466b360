"""Limits of assembly and of the log join."""

import msgspec

from spanweir.schemas.options import Duration, Size


class Options(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`service.assembly` of the configuration."""

    idle_timeout: Duration = Duration(10)
    """A trace without an ended root is finalised when nothing came for this long: an orphan is adopted as its root, or
    one is synthesised. What comes later still amends it."""
    max_wait: Duration = Duration(3600)
    """A trace without an ended root is finalised after this long even while spans keep coming; 0 never."""
    content_max: Size = Size(256 * 1024)
    """Content kept of one open trace (its question, its answer, a root or orphan that may have to be sent again)."""
    held_max: Size = Size(64 * 1024 * 1024)
    """Content kept of all open traces; over it the one idle longest is finalised."""
    closed_max: Size = Size(6 * 1024 * 1024)
    """Memory for the state of complete traces, kept for spans that come late; the oldest are given up first."""
    open_max: int = 50_000
    """Traces that may be open at a time; the one idle longest is finalised to make room."""
    join_wait: Duration = Duration(60)
    """How long a log record is held for its span, and a span without content for its log records."""
    join_max: Size = Size(8 * 1024 * 1024)
    """Memory for log records and spans that are held for each other; the oldest are given up first."""
