"""Batches in, sized Delta commits out; every trace and span once, whatever crashes and whatever comes again.

Rows are appended when they are certainly new, and merged by their key when they may be in the table already. That is
so when the batch reaches back to a sequence number that was committed (Delta transaction ids say which), when the span
or the trace is in the spool, and when the outcome of an append is not known. `durable` moves when everything up to it
is committed or, for contents of traces that are not complete yet, in the spool.
"""

import logging
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from types import TracebackType
from typing import Final, Self, TypeAlias

from spanweir.exporters.api import Batch, Context, KnownTrace
from spanweir.exporters.delta import Config, overflow, payload
from spanweir.exporters.delta.care import Care
from spanweir.exporters.delta.cells import DAY_NS
from spanweir.exporters.delta.known import Known
from spanweir.exporters.delta.overflow import COLUMNS, Overflow
from spanweir.exporters.delta.payload import TRACE_PREFIX, Contents
from spanweir.exporters.delta.rows import AnnotationRows, LogRows, SpanRows, metadata_id
from spanweir.exporters.delta.spool import Spool, Times
from spanweir.exporters.delta.stored import stored_rows
from spanweir.exporters.delta.table import Target
from spanweir.exporters.delta.targets import targets
from spanweir.exporters.delta.window import Build, Columns, Pending
from spanweir.schemas.raw import RawLog
from spanweir.schemas.trace import MappedSpan, TraceRow

_LOG: Final = logging.getLogger(__name__)
Described: TypeAlias = tuple[TraceRow, dict[str, str], dict[str, str]]
"""A trace's row, its trace metadata and its tags."""
_HOUR_NS: Final = 3_600_000_000_000
_STAGE_BYTES: Final = 4 << 20
"""Rows to append to one table become a file at this size (uncompressed), committed or not."""
_COMMIT_BYTES: Final = 32 << 20
"""Commit when rows and contents in memory come to this: amendments, and traces that are not complete."""
_ROW_BYTES: Final = 500
"""What a row of annotations comes to."""
_BUSY_INTERVALS: Final = 5
"""How many times `commit_interval` rows may wait while others keep coming: a commit costs as much as 1,000 spans."""


class DeltaExporter:
    """`Exporter`, `Flushing` and `Hydrating`. See the module."""

    def __init__(self, config: Config, context: Context, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._config, self._clock = config, clock
        self._directory = context.state_directory
        self._left_out = context.left_out
        self._targets = targets(config, f"spanweir/{context.instance}/{context.name}")
        self._pending = {
            name: Pending(_build(name, target, config), partial(context.left_out, name, "unwritable", 1))
            for name, target in self._targets.items()
        }
        self._annotation_rows = AnnotationRows(config.schema_version)
        self._overflow = Overflow(overflow.directory(config), config.storage_options)
        self._care: Care | None = None
        self._today = 0
        self._durable = 0
        self._accepted = 0
        self._seen = 0
        self._gone: set[tuple[str, str]] = set()
        self._floor = 0
        self._oldest: float | None = None
        self._taken: Batch | None = None
        """A batch whose rows are taken, but that will come again: writing it failed."""
        self._contents: dict[str, Contents] = {}
        self._content_bytes = 0
        self._complete: dict[str, int] = {}
        self._forget: list[str] = []

    def __enter__(self) -> Self:
        self._spool = Spool(self._directory)
        try:
            for target in self._targets.values():
                target.open()
        except BaseException:
            self._spool.close()
            raise
        self._floor = max(target.written() for target in self._targets.values())
        self._known = Known(self._config, self._spool)
        self._new_day()
        if self._config.maintenance_interval:
            self._care = Care(self._config, self._targets)
            self._care.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        if self._care is not None:
            self._care.stop()
        try:
            self.flush()
            self._spool.commit({}, {}, self._forget, self._today)
        finally:
            self._spool.close()

    @property
    def durable(self) -> int:
        return self._durable

    def known(self, trace_ids: Sequence[str], /) -> dict[str, KnownTrace]:
        return self._known.known(trace_ids)

    def idle(self) -> None:
        self._accepted = max(self._accepted, self._seen)
        self._flush_when_due(idle=True)

    def export(self, batch: Batch) -> None:
        if batch is not self._taken:
            again = batch.first <= self._accepted
            if again or self._is_staged(batch):
                self.flush()
            self._add(batch, reaches_back=again or batch.first <= self._floor)
            self._taken = batch
            self._seen = max(self._seen, batch.last)
            if batch.first <= batch.last:  # else a part of a batch, of which more may follow, or made by the clock
                self._accepted = max(self._accepted, batch.last)
            if self._oldest is None:
                self._oldest = self._clock()
        self._stage()
        self._flush_when_due()
        self._taken = None

    def _is_staged(self, batch: Batch) -> bool:
        """Whether the batch amends a trace whose row is in a file that is not committed yet, and cannot be read."""
        payload_rows = self._pending.get("payload")
        staged = payload_rows.staged if payload_rows else ()
        return any(trace_id in self._complete for trace_id, _ in batch.retracted) or (
            bool(staged) and any(TRACE_PREFIX + trace.trace_id in staged for trace in batch.traces if trace.complete)
        )

    def _stage(self) -> None:
        """Turn into files what has become large."""
        for name, target in self._targets.items():
            if self._pending[name].appends.bytes >= _STAGE_BYTES:
                self._pending[name].stage(target.write)

    def _flush_when_due(self, *, idle: bool = False) -> None:
        if self._oldest is None:
            return
        pending = self._pending.values()
        if (
            self._clock() - self._oldest >= self._config.commit_interval * (1 if idle else _BUSY_INTERVALS)
            or sum(len(p) for p in pending) >= self._config.commit_rows
            or sum(p.bytes for p in pending) + self._content_bytes >= _COMMIT_BYTES
        ):
            self.flush()

    def _add(self, batch: Batch, *, reaches_back: bool) -> None:
        """Take the batch's rows into the window."""
        traces = {span.trace_id for span in batch.spans}
        traces.update(trace.trace_id for trace in batch.traces)
        written = self._spool.written(traces | {trace for trace, _ in batch.retracted})
        self._gone = set()
        if batch.retracted:
            self._retract(batch, written)
        self._add_spans(batch.spans, written, self._spool.pending_keys(traces), reaches_back)
        complete = {trace.trace_id: trace for trace in batch.traces if trace.complete}
        spans: dict[str, dict[str, MappedSpan]] = {trace_id: {} for trace_id in complete}
        for span in batch.spans:
            of_trace = spans.get(span.trace_id)
            if of_trace is not None:
                of_trace[span.span_id] = span
            else:
                self._contents.setdefault(span.trace_id, {})[span.span_id] = payload.content(span)
                self._content_bytes += len(span.content)
        if complete:
            self._add_traces(list(complete.values()), spans, written, reaches_back)
        if batch.logs:
            self._add_logs(batch.logs, reaches_back)
        if "metrics" in self._targets and batch.requests:
            self._add_metrics(batch, reaches_back)

    def _retract(self, batch: Batch, written: dict[str, Times]) -> None:
        """Take spans back that no longer stand, and with its last span the trace."""
        standing = {(span.trace_id, span.span_id) for span in batch.spans}
        gone = [key for key in batch.retracted if key not in standing]
        self._spool.drop(gone)
        for trace_id, span_id in gone:
            self._contents.get(trace_id, {}).pop(span_id, None)
            if "spans" in self._pending:
                condition = f"trace_id = '{trace_id}' AND span_id = '{span_id}'"
                self._pending["spans"].delete(trace_id + span_id, condition)
        if "payload" not in self._targets:
            return
        self._gone = set(gone)
        rows = {trace.trace_id for trace in batch.traces if trace.complete}
        alone = {trace_id for trace_id, _ in gone if trace_id not in rows}
        times = {trace_id: written[trace_id] for trace_id in alone if trace_id in written}
        stored = stored_rows(self._targets["payload"], self._overflow, times) if times else {}
        for trace_id in alone:
            before = stored.get(trace_id)
            if before is not None and not self._standing(trace_id, before.contents):
                self._retract_trace(trace_id)

    def _standing(self, trace_id: str, contents: Contents) -> Contents:
        return {span_id: c for span_id, c in contents.items() if (trace_id, span_id) not in self._gone}

    def _retract_trace(self, trace_id: str) -> None:
        request_id = TRACE_PREFIX + trace_id
        self._pending["payload"].delete(request_id, f"databricks_request_id = '{request_id}'")
        if "annotations" in self._pending:
            self._pending["annotations"].delete(trace_id, f"target_id = '{trace_id}'")

    def _add_spans(
        self, spans: Sequence[MappedSpan], written: dict[str, Times], spooled: Collection[str], known: bool
    ) -> None:
        pending = self._pending.get("spans")
        if not spans or pending is None:
            return
        keys = [span.trace_id + span.span_id for span in spans]
        maybe: Collection[str] = keys if known else ()
        if not known and (written or spooled):
            maybe = [key for key, span in zip(keys, spans, strict=True) if span.trace_id in written or key in spooled]
        for rows, group, group_keys in pending.split(spans, keys, maybe):
            days = {span.start_ns // DAY_NS for span in group}
            rows.add(SpanRows.columns(group), group_keys, days, sum([len(span.content) for span in group]))
            if rows is pending.merges:
                rows.reach(_span_reach(span, written.get(span.trace_id)) for span in group)

    def _add_traces(
        self, traces: Sequence[TraceRow], spans: Mapping[str, payload.Spans], written: dict[str, Times], known: bool
    ) -> None:
        """`spans` are those of the batch, by trace and span id."""
        pending = self._pending.get("annotations")
        described: list[Described] = []
        if pending is not None or "payload" in self._pending:
            described = [(trace, payload.trace_metadata(trace), payload.trace_tags(trace)) for trace in traces]
        if pending is not None:
            ids = [metadata_id(trace.trace_id) for trace in traces]
            maybe = [i for i, t in zip(ids, traces, strict=True) if known or t.trace_id in written]
            for rows, group, _ in pending.split(described, ids, maybe):
                columns = self._annotation_rows.columns(group)
                size_bytes = _ROW_BYTES * len(columns[0])
                self._add_rows(pending, columns, columns[0], rows is pending.merges, (), size_bytes)
        if "payload" in self._targets:
            self._add_payloads(described, spans, written, known)
        for trace in traces:
            self._complete[trace.trace_id] = trace.start_ns
            for content in self._contents.pop(trace.trace_id, {}).values():
                self._content_bytes -= len(content.content)

    def _add_rows(
        self, pending: Pending, columns: Columns, keys: Sequence[str], known: bool, days: Collection[int], size: int
    ) -> None:
        """Rows of one batch that are appended or merged together."""
        merging = known or any(key in pending.merges or key in pending.staged for key in keys)
        if merging:
            for key in keys:
                pending.appends.discard(key)
        (pending.merges if merging else pending.appends).add(columns, keys, days, size)

    def _add_payloads(
        self,
        described: Sequence[Described],
        spans: Mapping[str, payload.Spans],
        written: dict[str, Times],
        known: bool,
    ) -> None:
        pending = self._pending["payload"]
        ids = [trace.trace_id for trace, _, _ in described]
        spooled = self._spool.pending(ids)
        times = {
            trace.trace_id: _reach(trace.start_ns, written.get(trace.trace_id))
            for trace, _, _ in described
            if (known or trace.trace_id in written) and pending.get(TRACE_PREFIX + trace.trace_id) is None
        }
        stored = stored_rows(self._targets["payload"], self._overflow, times) if times else {}
        limit = self._config.max_payload_bytes
        every: list[payload.Payload] = []
        for trace, metadata, tags in described:
            before = stored.get(trace.trace_id) or self._waiting(trace.trace_id)
            parts: payload.Spans = {
                **self._standing(trace.trace_id, before.contents), **spooled.get(trace.trace_id, {}),
                **self._contents.get(trace.trace_id, {}), **spans[trace.trace_id],
            }  # fmt: skip
            made = payload.payload(trace, metadata, tags, parts, before, limit=limit)
            self._overflow.add(made)
            every.append(made)
        request_ids = [made.request_id for made in every]
        for rows, group, keys in pending.split(every, request_ids, [TRACE_PREFIX + trace_id for trace_id in times]):
            days = {made.day for made in group}
            rows.add(payload.columns(group), keys, days, sum([made.bytes for made in group]))
            if rows is pending.merges:
                rows.reach(times.values())
                rows.reach((trace.start_ns, trace.start_ns) for trace, _, _ in described)

    def _waiting(self, trace_id: str) -> payload.Stored:
        """Of a payload row that waits for the next commit."""
        request_id = TRACE_PREFIX + trace_id
        row = self._pending["payload"].get(request_id)
        if row is None:
            return payload.Stored()
        return self._overflow.stored({name: row[name][0].as_py() for name in COLUMNS})

    def _add_logs(self, logs: Sequence[RawLog], known: bool) -> None:
        pending = self._pending.get("logs")
        if pending is None:
            return
        columns, size_bytes = LogRows.columns(logs)
        ids, times, _ = columns
        self._add_rows(pending, columns, ids, known, {time // DAY_NS for time in times}, size_bytes)

    def _add_metrics(self, batch: Batch, known: bool) -> None:
        from spanweir.exporters.delta.metrics import metric_columns

        for request in batch.requests:
            if request.signal == "metrics" and (columns := metric_columns(request.body, self._config.schema_version)):
                ids, _, days = columns[:3]
                self._add_rows(self._pending["metrics"], columns, ids, known, set(days), len(request.body))

    def _new_day(self) -> None:
        """Forget traces that were written long ago."""
        today = int(time.time()) // 86400
        if today != self._today:
            self._today = today
            lost = self._spool.expire(today - self._config.late_days)
            if lost:
                _LOG.warning("%d spans of traces that never became complete have no payload row", lost)
                self._left_out("payload", "incomplete", lost)

    def flush(self) -> None:
        """Commit everything that was accepted. Raises `Retry`; what was committed by then is not written again."""
        if self._oldest is None:
            return
        last = self._accepted
        self._new_day()
        self._spool.commit(self._contents, self._complete, self._forget, self._today)
        self._forget = []
        self._overflow.write()
        for name, target in self._targets.items():
            self._commit(target, self._pending[name], last)
        self._forget = [trace for trace in self._complete if trace not in self._contents]
        self._contents, self._complete, self._content_bytes = {}, {}, 0
        self._oldest = None
        self._durable = last

    def _commit(self, target: Target, pending: Pending, last: int) -> None:
        if pending.attempted is not None and target.has(pending.actions, pending.attempted):
            pending.committed()
        pending.stage(target.write)
        if pending.actions:
            pending.attempted = last
            target.append(pending.actions, last)
            pending.committed()
        if pending.deletes:
            target.delete(pending.deletes.values(), last)
            pending.deletes.clear()
        if len(pending.merges):
            days = {day + n for day in pending.merges.days for n in (-1, 0, 1)}
            target.merge(pending.merges.batches(), last, days, pending.merges.times)
            pending.merges.clear()


def _build(name: str, target: Target, config: Config) -> Build:
    if name == "spans":
        return SpanRows(target.layout, config.schema_version).batch
    if name == "logs":
        return LogRows(target.layout, config.schema_version).batch
    return target.layout.batch


def _reach(start_ns: int, written: Times | None) -> Times:
    """From when to when the row of a trace may stand: within a day of its start if nothing is known of it."""
    if written is None:
        return start_ns - DAY_NS, start_ns + DAY_NS
    return min(start_ns, written[0]), max(start_ns, written[1])


def _span_reach(span: MappedSpan, written: Times | None) -> Times:
    """From when to when the row of a span may stand. Only the start of a root moves, with its trace's."""
    if span.parent_id is None:
        return _reach(span.start_ns, written)
    return span.start_ns - _HOUR_NS, span.start_ns + _HOUR_NS
