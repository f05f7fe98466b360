"""A batch cut into parts, down to a single span, to find what a destination refuses.

Parts cover no queue records (`first` is `last + 1`): the batch as a whole is done when all of them are.
"""

from collections.abc import Iterator, Sequence
from typing import TypeVar

import msgspec

from spanweir.exporters.api import Batch, Permanent

T = TypeVar("T")


def halves(batch: Batch) -> list[Batch]:
    """Two parts, or none if the batch holds a single item."""
    traces = list(dict.fromkeys([*(s.trace_id for s in batch.spans), *(t.trace_id for t in batch.traces)]))
    kinds = bool(traces) + bool(batch.logs) + bool(batch.requests)
    if kinds > 1:
        rest = _part(batch, logs=batch.logs, requests=batch.requests)
        return [_part(batch, spans=batch.spans, traces=batch.traces), rest] if traces else [
            _part(batch, logs=batch.logs),
            _part(batch, requests=batch.requests),
        ]  # fmt: skip
    if len(traces) > 1:
        return [_of(batch, set(half)) for half in _split(traces)]
    if len(batch.spans) > 1:
        return [_part(batch, spans=half, traces=batch.traces) for half in _split(batch.spans)]
    if len(batch.logs) > 1:
        return [_part(batch, logs=half) for half in _split(batch.logs)]
    if len(batch.requests) > 1:
        return [_part(batch, requests=half) for half in _split(batch.requests)]
    return []


def named(batch: Batch, error: Permanent) -> Iterator[tuple[Batch, str]]:
    """What the batch holds of each trace that the exporter refused in whole or in part, and the reason."""
    for trace_id, reason in error.rejected.items():
        yield _of(batch, {trace_id}), reason
    for trace_id, reason in error.rejected_rows.items():
        yield msgspec.structs.replace(_of(batch, {trace_id}), spans=[]), reason
    reasons: dict[str, set[str]] = {}
    for (trace_id, _), reason in error.rejected_spans.items():
        reasons.setdefault(trace_id, set()).add(reason)
    for trace_id, given in reasons.items():
        whole = _of(batch, {trace_id})
        spans = [span for span in whole.spans if (trace_id, span.span_id) in error.rejected_spans]
        yield msgspec.structs.replace(whole, spans=spans), "; ".join(sorted(given)[:3])


def _of(batch: Batch, trace_ids: set[str]) -> Batch:
    return _part(
        batch,
        spans=[s for s in batch.spans if s.trace_id in trace_ids],
        traces=[t for t in batch.traces if t.trace_id in trace_ids],
    )


def _part(batch: Batch, **items: object) -> Batch:
    return msgspec.structs.replace(
        batch, first=batch.last + 1, **{"spans": [], "traces": [], "logs": [], "requests": [], **items}
    )


def _split(items: Sequence[T]) -> tuple[list[T], list[T]]:
    middle = (len(items) + 1) // 2
    return list(items[:middle]), list(items[middle:])
