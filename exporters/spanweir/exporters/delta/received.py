"""OTLP requests into the spans table as they were received: nothing is mapped, and no Python object made of a span.

A span that is sent again is merged, so that the row that came last stands: when the batch reaches back to a sequence
number that was committed (`committing`), when the span is in `seen`, and when the outcome of an append is not known.
Spans of the same trace that are new are appended.

Not here: how columns are made of requests (`received_rows`), and reading them back (`received_view`).
"""

import logging
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

from arro3.core import Array, DataType

from spanweir.exporters.api import REQUESTS, Batch, Context, Permanent
from spanweir.exporters.delta import Config
from spanweir.exporters.delta.committing import Committing
from spanweir.exporters.delta.received_rows import Received, ReceivedRows, Requests, decode
from spanweir.exporters.delta.seen import Seen
from spanweir.exporters.delta.window import Pending

_LOG: Final = logging.getLogger(__name__)
_BUILD_BYTES: Final = 3 << 20
"""Columns are made of so many bytes of requests at once: that costs 1.5 ms however few spans are in them."""
_HOUR_NS: Final = 3_600_000_000_000


class ReceivedExporter(Committing):
    """`Exporter`, `Flushing` and `Wanting`. See the module."""

    wants: Final = frozenset({REQUESTS})

    def __init__(self, config: Config, context: Context, *, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(config, context, clock=clock)
        self._count, self._name = context.count, context.name
        self._pending = {
            name: Pending(target.layout.batch, self._unwritable(name)) for name, target in self._targets.items()
        }
        spans = self._targets.get("spans")
        self._rows = ReceivedRows(spans.layout) if spans is not None else None
        self._today = 0
        self._requests: list[Requests] = []
        """Decoded, of which no rows are made yet."""
        self._reaching_back = False
        """Whether rows of these may be in the table."""
        self._request_bytes = self._request_rows = 0
        self._new: list[str] = []
        """Keys to note before the next commit."""
        self._sent = 0

    def _open(self) -> None:
        self._seen_spans = Seen(self._directory)
        self._new_day()

    def _finish(self) -> None:
        """All that is remembered is noted before a commit."""

    def _close(self) -> None:
        self._seen_spans.close()

    def _new_day(self) -> None:
        today = int(time.time()) // 86400
        if today != self._today:
            self._today = today
            self._seen_spans.expire(today - self._config.late_days)

    def _add(self, batch: Batch, *, reaches_back: bool) -> None:
        bodies = [request.body for request in batch.requests if request.signal == "traces"]
        requests = _decoded(bodies) if bodies and self._rows is not None else None
        if "metrics" in self._targets:
            self._add_metrics(batch, reaches_back)
        if requests is None:
            return
        if self._requests and self._reaching_back != reaches_back:
            self._make_rows()
        self._reaching_back = reaches_back
        self._requests.append(requests)
        self._request_bytes += sum(map(len, bodies))
        self._request_rows += requests.spans
        if self._request_bytes >= _BUILD_BYTES:
            self._make_rows()

    def _waiting_rows(self) -> int:
        return self._request_rows

    def _make_rows(self) -> None:
        requests, size_bytes = self._requests, self._request_bytes
        self._requests, self._request_bytes, self._request_rows = [], 0, 0
        if requests and self._rows is not None:
            self._take(requests, self._rows, size_bytes)

    def _take(self, requests: Sequence[Requests], rows: ReceivedRows, size_bytes: int) -> None:
        """Requests of which no rows can be made would stop the table for good: they are left out."""
        try:
            found = rows.rows(requests)
        except MemoryError:
            raise
        except Exception as error:
            if len(requests) > 1:
                for each in requests:
                    self._take([each], rows, size_bytes // len(requests))
            elif len(requests[0].bodies) > 1:
                for body in requests[0].bodies:
                    self._take([decode([body])], rows, len(body))
            else:
                _LOG.exception("left out a request that cannot be written: %s", error)
                self._left_out("spans", "unwritable", requests[0].spans)
            return
        if found.dropped:
            self._left_out("spans", "invalid_id", found.dropped)
        for issue, spans in found.repaired.items():
            if spans:
                self._count("spanweir_exporter_repaired_spans", spans, exporter=self._name, issue=issue)
        if found.batch is not None:
            self._add_rows(found, size_bytes)

    def _add_rows(self, found: Received, size_bytes: int) -> None:
        pending, batch = self._pending["spans"], found.batch
        assert batch is not None
        keys = list(map(str.__add__, found.trace_ids, found.span_ids))
        seen = self._seen_spans.of(set(found.trace_ids))
        merging = pending.merging(keys, keys if self._reaching_back else seen.intersection(keys))
        self._new += keys if not seen else [key for key in keys if key not in seen]
        self._sent += len(keys)
        if not merging:
            pending.appends.add_batch(batch, keys, found.days, size_bytes)
            return
        for rows, merged in ((pending.appends, False), (pending.merges, True)):
            places = [place for place, key in enumerate(keys) if (key in merging) is merged]
            if places:
                part: Any = batch.take(Array(places, DataType.int64()))
                rows.add_batch(
                    part, [keys[place] for place in places], found.days, size_bytes * len(places) // len(keys)
                )
        first, last = found.times
        pending.merges.reach([(first - _HOUR_NS, last + _HOUR_NS)])

    def _before_commit(self) -> None:
        self._make_rows()
        self._new_day()
        self._seen_spans.note(self._new, self._today)
        self._new = []

    def _after_commit(self) -> None:
        self._count("otelcol_exporter_sent_spans", self._sent, exporter=self._name)
        self._sent = 0


def _decoded(bodies: Sequence[bytes]) -> Requests:
    """Raises `Permanent` if one of them is no request."""
    try:
        return decode(bodies)
    except ValueError as error:
        raise Permanent(f"not an ExportTraceServiceRequest: {error}") from error
