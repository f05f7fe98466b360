"""Mapped spans, log records and trace rows -> record batches of the OpenTelemetry tables.

Not here: the payload table (`payload`), metrics (`metrics`), and how batches are committed (`table`).
"""

import hashlib
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, Final

from arro3.core import RecordBatch

from spanweir.exporters.delta.arrow import Layout
from spanweir.exporters.delta.cells import (
    DAY_NS,
    KINDS,
    VARIANT_DIGIT,
    Bag,
    dump,
    load,
    loaded,
    record_id,
    record_ids,
    text,
    texts,
    unquoted,
    untouched,
)  # fmt: skip
from spanweir.exporters.delta.origins import Origins
from spanweir.schemas.inference_table import Version
from spanweir.schemas.raw import Event, Link, RawLog, Value
from spanweir.schemas.trace import Assessment, MappedSpan, TraceRow

_STATUSES: Final = {status: f"STATUS_CODE_{status}" for status in ("UNSET", "OK", "ERROR")}
_SEVERITIES: Final = ("TRACE", "DEBUG", "INFO", "WARN", "ERROR", "FATAL")

Columns = Sequence[Sequence[Any]]
_NO_BAG: Final[Bag] = {}


class SpanRows:
    """Rows of `{prefix}_otel_spans`: what of spans is kept until there are many, and the batch of it."""

    def __init__(self, layout: Layout, version: Version) -> None:
        self._layout = layout
        self._attributes = unquoted if version == "v1" else loaded
        self._bag: Callable[[Bag], Any] = texts if version == "v1" else untouched
        self._origins = Origins(layout, self._bag)

    @staticmethod
    def columns(spans: Sequence[MappedSpan]) -> tuple[list[Any], ...]:
        raws = [span.raw for span in spans]
        return (
            [span.trace_id for span in spans],
            [span.span_id for span in spans],
            [span.parent_id or "" for span in spans],
            [span.name for span in spans],
            [span.start_ns for span in spans],
            [span.end_ns for span in spans],
            [span.status for span in spans],
            [span.own for span in spans],
            [span.given for span in spans],
            [raw.status_message for raw in raws],
            [raw.trace_state for raw in raws],
            [raw.flags for raw in raws],
            [raw.kind for raw in raws],
            [raw.events for raw in raws],
            [raw.links for raw in raws],
            [raw.dropped_attributes_count for raw in raws],
            [raw.dropped_events_count for raw in raws],
            [raw.dropped_links_count for raw in raws],
            [raw.resource for raw in raws],
            [raw.scope for raw in raws],
        )

    def batch(self, columns: Columns) -> RecordBatch:
        """Of `columns`, and of what other spans' columns were appended to them."""
        (
            traces, ids, parents, names, starts, ends, statuses, owns, givens, messages, states, flags, kinds, events,
            links, dropped_attributes, dropped_events, dropped_links, resources, scopes,
        ) = columns  # fmt: skip
        resource, resource_url, scope, scope_url, services = self._origins.columns(resources, scopes)
        codes = [_STATUSES.get(status) or f"STATUS_CODE_{status}" for status in statuses]
        return self._layout.batch(
            (
                record_ids(starts, traces, ids),
                [start // 1000 for start in starts],
                [start // DAY_NS for start in starts],
                services,
                traces,
                ids,
                states,
                parents,
                flags,
                names,
                [KINDS[kind if 0 <= kind < 6 else 0] for kind in kinds],
                starts,
                ends,
                self._attributes(self._layout.types["attributes"], owns, givens),
                dropped_attributes,
                [each and self._events(each) for each in events],
                dropped_events,
                [each and self._links(each) for each in links],
                dropped_links,
                list(zip(messages, codes, strict=True)),
                resource,
                resource_url,
                scope,
                scope_url,
            )
        )

    def _events(self, events: Sequence[Event]) -> list[tuple[Any, ...]]:
        bag = self._bag
        return [(e.time_ns, e.name, bag(e.attributes), e.dropped_attributes_count) for e in events]

    def _links(self, links: Sequence[Link]) -> list[tuple[Any, ...]]:
        bag = self._bag
        return [
            (k.trace_id, k.span_id, k.trace_state, bag(k.attributes), k.dropped_attributes_count, k.flags)
            for k in links
        ]


class LogRows:
    """Rows of `{prefix}_otel_logs`."""

    def __init__(self, layout: Layout, version: Version) -> None:
        self._layout = layout
        self._bag: Callable[[Bag], Any] = texts if version == "v1" else untouched
        self._body: Callable[[Value], Any] = text if version == "v1" else lambda value: value
        self._origins = Origins(layout, self._bag)

    @staticmethod
    def columns(logs: Sequence[RawLog]) -> tuple[tuple[list[str], list[int], Sequence[RawLog]], int]:
        """Record ids, times and the records; and how large they are, in bytes."""
        times = [log.time_ns or log.observed_ns for log in logs]
        ids, size_bytes = _log_ids(logs, times)
        return (ids, times, logs), size_bytes

    def batch(self, columns: Columns) -> RecordBatch:
        ids, times, logs = columns
        origins = self._origins.columns([log.resource for log in logs], [log.scope for log in logs])
        resource, resource_url, scope, scope_url, services = origins
        return self._layout.batch(
            (
                ids,
                [time // 1000 for time in times],
                [time // DAY_NS for time in times],
                services,
                [log.event_name for log in logs],
                [log.trace_id for log in logs],
                [log.span_id for log in logs],
                [log.time_ns for log in logs],
                [log.observed_ns for log in logs],
                [severity(log.severity_number) for log in logs],
                [log.severity_text for log in logs],
                [self._body(log.body) for log in logs],
                [self._bag(log.attributes) for log in logs],
                [log.dropped_attributes_count for log in logs],
                [log.flags for log in logs],
                resource,
                resource_url,
                scope,
                scope_url,
            )
        )


def severity(number: int) -> str:
    """`SEVERITY_NUMBER_INFO2`, as the protobuf enum names it."""
    if not 1 <= number <= 24:
        return "SEVERITY_NUMBER_UNSPECIFIED"
    level, step = divmod(number - 1, 4)
    return f"SEVERITY_NUMBER_{_SEVERITIES[level]}{step + 1 if step else ''}"


def _log_ids(logs: Sequence[RawLog], times: Sequence[int]) -> tuple[list[str], int]:
    """Log records have no id of their own: theirs is their content. Equal ones within a batch are numbered.

    Also given is how many bytes the contents are.
    """
    seen: dict[bytes, int] = {}
    ids, size_bytes = [], 0
    for log, time in zip(logs, times, strict=True):
        content = dump(
            [
                log.time_ns,
                log.observed_ns,
                log.trace_id,
                log.span_id,
                log.event_name,
                log.severity_number,
                log.severity_text,
                log.body,
                log.attributes,
                log.scope.name,
                log.resource.attributes,
            ]
        )
        size_bytes += len(content)
        number = seen[content] = seen.get(content, -1) + 1
        digest = hashlib.blake2b(content + (b"#%d" % number if number else b""), digest_size=10).hexdigest()
        ids.append(record_id(time, digest[:4], digest[4:]))
    return ids, size_bytes


METADATA: Final = "METADATA"


class AnnotationRows:
    """Rows of `{prefix}_otel_annotations`: of each trace its metadata, its tags, its assessments."""

    def __init__(self, version: Version) -> None:
        self._version = version

    def columns(
        self, traces: Sequence[tuple[TraceRow, dict[str, str], dict[str, str]]], *, assessments_only: bool = False
    ) -> Columns:
        """Those of the table; the first are annotation ids. Each trace comes with its trace metadata and its tags."""
        rows: list[tuple[Any, ...]] = []
        for trace, metadata, tags in traces:
            if not assessments_only:
                rows.append(self._metadata(trace, metadata))
            rows.extend(self._tag(trace, key, value) for key, value in tags.items())
            rows.extend(self._assessment(trace, assessment) for assessment in trace.assessments)
        ids, traces, kinds, names, values, comments, facts, times, writers = zip(*rows, strict=True)
        count, nothing = len(rows), (None,) * len(rows)
        return (
            ids, ("TRACE",) * count, traces, kinds, names, values, comments, facts, times, writers, times, writers,
            nothing, nothing, ("insert",) * count,
        )  # fmt: skip

    def _row(
        self, identity: str, trace_id: str, kind: str, name: str, value: Value, time_us: int,
        metadata: Bag = _NO_BAG, comment: str | None = None, by: str | None = None,
    ) -> tuple[Any, ...]:  # fmt: skip
        if self._version == "v1":
            value, metadata = text(value), texts(metadata) if metadata else metadata
        return identity, trace_id, kind, name, value, comment, metadata, time_us, by

    def _metadata(self, trace: TraceRow, metadata: dict[str, str]) -> tuple[Any, ...]:
        value: dict[str, Any] = {
            "client_request_id": trace.client_request_id,
            "request_preview": trace.request_preview,
            "response_preview": trace.response_preview,
            "trace_metadata": metadata,
        }
        trace_id = trace.trace_id
        return self._row(metadata_id(trace_id), trace_id, METADATA, "metadata", value, trace.start_ns // 1000)

    def _tag(self, trace: TraceRow, key: str, value: str) -> tuple[Any, ...]:
        return self._row(tag_id(trace.trace_id, key), trace.trace_id, "TAG", key, value, trace.start_ns // 1000)

    def _assessment(self, trace: TraceRow, assessment: Assessment) -> tuple[Any, ...]:
        metadata: dict[str, Value] = {
            **assessment.metadata,
            "mlflow.source.source_type": assessment.source_type,
            "mlflow.source.source_id": assessment.source_id,
        }
        if assessment.span_id:
            metadata["mlflow.span_id"] = assessment.span_id
        if assessment.error:
            metadata["mlflow.error.error_message"] = assessment.error
        return self._row(
            assessment.assessment_id, trace.trace_id, assessment.kind.upper(), assessment.name,
            load(assessment.value), assessment.created_ms * 1000 or trace.start_ns // 1000, metadata,
            assessment.rationale, assessment.source_id or None,
        )  # fmt: skip


@lru_cache(maxsize=1024)  # asked for to look whether the row is there, and again for the row
def metadata_id(trace_id: str) -> str:
    """First 128 bits of the SHA-256 of `<hex>:metadata`, as MLflow's migration makes it."""
    return _uuid(hashlib.sha256(f"{trace_id}:metadata".encode()).hexdigest())


def tag_id(trace_id: str, key: str) -> str:
    """Java's `UUID.nameUUIDFromBytes` of `<hex>:tag:<key>`: MD5 with the bits of version 3."""
    digest = hashlib.md5(f"{trace_id}:tag:{key}".encode("utf-8", "replace"), usedforsecurity=False).hexdigest()
    return _uuid(f"{digest[:12]}3{digest[13:16]}{VARIANT_DIGIT[digest[16]]}{digest[17:]}")


def _uuid(digits: str) -> str:
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:32]}"
