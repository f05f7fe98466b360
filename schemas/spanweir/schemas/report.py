"""What `spanweir report` says: tokens, cost and latency of groups of spans."""

from datetime import date

import msgspec


class Row(msgspec.Struct, kw_only=True):
    """Figures of one group. Durations are milliseconds, cost is US dollars."""

    name: str
    spans: int
    traces: int
    errors: int
    input_tokens: int
    output_tokens: int
    cost: float
    p50_ms: float
    p95_ms: float


class Report(msgspec.Struct, kw_only=True):
    """Sums over the spans of some days: tokens, US dollars, milliseconds."""

    first: date | None
    last: date | None
    total: Row
    """Of root spans: traces and their duration; tokens and cost of all spans that report them."""
    groups: dict[str, list[Row]]
    """By what spans are grouped by, most spans first."""
    days: list[Row]
    """By day, oldest first; `name` is the date."""
