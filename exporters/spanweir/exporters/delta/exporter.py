"""Mapped batches in, sized Delta commits out; every trace and span once, whatever crashes and whatever comes again.

Rows may be in a table already, and are merged, when the batch reaches back to a sequence number that was committed
(`committing`), when the span or the trace is in the spool, and when the outcome of an append is not known. Contents of
traces that are not complete yet wait in the spool.
"""

import logging
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Final, TypeAlias

from spanweir.exporters.api import Batch, Context, KnownTrace
from spanweir.exporters.delta import Config, overflow, payload
from spanweir.exporters.delta.cells import DAY_NS
from spanweir.exporters.delta.committing import Committing
from spanweir.exporters.delta.known import Known
from spanweir.exporters.delta.overflow import COLUMNS, Overflow
from spanweir.exporters.delta.payload import TRACE_PREFIX, Contents
from spanweir.exporters.delta.rows import AnnotationRows, LogRows, SpanRows, metadata_id
from spanweir.exporters.delta.spool import Spool, Times
from spanweir.exporters.delta.stored import stored_rows
from spanweir.exporters.delta.table import Target
from spanweir.exporters.delta.window import Build, Pending
from spanweir.schemas.raw import RawLog
from spanweir.schemas.trace import MappedSpan, TraceRow

_LOG: Final = logging.getLogger(__name__)
Described: TypeAlias = tuple[TraceRow, dict[str, str], dict[str, str]]
"""A trace's row, its trace metadata and its tags."""
_HOUR_NS: Final = 3_600_000_000_000
_ROW_BYTES: Final = 500
"""What a row of annotations comes to."""


class DeltaExporter(Committing):
    """`Exporter`, `Flushing` and `Hydrating`. See the module."""

    def __init__(self, config: Config, context: Context, *, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(config, context, clock=clock)
        self._pending = {
            name: Pending(_build(name, target, config), self._unwritable(name))
            for name, target in self._targets.items()
        }
        self._annotation_rows = AnnotationRows(config.schema_version)
        self._overflow = Overflow(overflow.directory(config), config.storage_options)
        self._today = 0
        self._gone: set[tuple[str, str]] = set()
        self._contents: dict[str, Contents] = {}
        self._content_bytes = 0
        self._complete: dict[str, int] = {}
        self._forget: list[str] = []

    def _open(self) -> None:
        self._spool = Spool(self._directory)
        self._known = Known(self._config, self._spool)
        self._new_day()

    def _finish(self) -> None:
        self._spool.commit({}, {}, self._forget, self._today)

    def _close(self) -> None:
        self._spool.close()

    def known(self, trace_ids: Sequence[str], /) -> dict[str, KnownTrace]:
        return self._known.known(trace_ids)

    def _is_staged(self, batch: Batch) -> bool:
        """Whether the batch amends a trace whose row is in a file that is not committed yet, and cannot be read."""
        payload_rows = self._pending.get("payload")
        staged = payload_rows.staged if payload_rows else ()
        return any(trace_id in self._complete for trace_id, _ in batch.retracted) or (
            bool(staged) and any(TRACE_PREFIX + trace.trace_id in staged for trace in batch.traces if trace.complete)
        )

    def _waiting_bytes(self) -> int:
        return self._content_bytes

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
                pending.add(columns, columns[0], rows is pending.merges, (), size_bytes)
        if "payload" in self._targets:
            self._add_payloads(described, spans, written, known)
        for trace in traces:
            self._complete[trace.trace_id] = trace.start_ns
            for content in self._contents.pop(trace.trace_id, {}).values():
                self._content_bytes -= len(content.content)

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
            rows.add(payload.columns(group), keys, days, sum([made.size_bytes for made in group]))
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
        pending.add(columns, ids, known, {time // DAY_NS for time in times}, size_bytes)

    def _new_day(self) -> None:
        """Forget traces that were written long ago."""
        today = int(time.time()) // 86400
        if today != self._today:
            self._today = today
            lost = self._spool.expire(today - self._config.late_days)
            if lost:
                _LOG.warning("%d spans of traces that never became complete have no payload row", lost)
                self._left_out("payload", "incomplete", lost)

    def _before_commit(self) -> None:
        self._new_day()
        self._spool.commit(self._contents, self._complete, self._forget, self._today)
        self._forget = []
        self._overflow.write()

    def _after_commit(self) -> None:
        self._forget = [trace for trace in self._complete if trace not in self._contents]
        self._contents, self._complete, self._content_bytes = {}, {}, 0


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
