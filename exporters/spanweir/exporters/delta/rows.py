"""Mapped spans, log records and trace rows -> record batches of the OpenTelemetry tables.

Not here: the payload table (`payload`), metrics (`metrics`), and how batches are committed (`table`).
"""

import base64
import hashlib
import json
import struct
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from itertools import chain
from typing import Any, Final, Generic, TypeVar

import msgspec
import orjson
from arro3.core import Array, DataType, RecordBatch

from spanweir.exporters.delta.arrow import Layout, Type, build, flat_arrays, flat_maps, flat_structs
from spanweir.schemas.inference_table import Version
from spanweir.schemas.raw import Event, Link, RawLog, Resource, Scope, Value
from spanweir.schemas.trace import Assessment, MappedSpan, TraceRow

DAY_NS: Final = 86_400_000_000_000
UNKNOWN_SERVICE: Final = "unknown_service"
_KINDS: Final = tuple(
    f"SPAN_KIND_{kind}" for kind in ("UNSPECIFIED", "INTERNAL", "SERVER", "CLIENT", "PRODUCER", "CONSUMER")
)
_STATUSES: Final = {status: f"STATUS_CODE_{status}" for status in ("UNSET", "OK", "ERROR")}
_SEVERITIES: Final = ("TRACE", "DEBUG", "INFO", "WARN", "ERROR", "FATAL")
_LIMIT: Final = (1 << 63) - 1

Bag = Mapping[str, Value]
Columns = Sequence[Sequence[Any]]
_Origin = TypeVar("_Origin")
_TEXT: Final = Type("STRING")
_NO_BAG: Final[Bag] = {}
_LATELY_BYTES: Final = 16 << 10
_encode: Final = msgspec.msgpack.Encoder().encode


def text(value: Value) -> str | None:
    """A value as the MAP layout holds it: strings as they are, bytes in base64, everything else as JSON."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    return dump(value).decode()


def dump(value: Value) -> bytes:
    try:
        return orjson.dumps(value, default=_bytes)
    except orjson.JSONEncodeError:  # lone surrogates, integers beyond 64 bits
        return orjson.dumps(_plain(value))


def _bytes(value: object) -> str:
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    raise TypeError


def _plain(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, dict):
        return {_plain(str(key)): _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, int) and not isinstance(value, bool) and not -_LIMIT <= value <= 2 * _LIMIT:
        return float(value)
    return _bytes(value) if isinstance(value, bytes) else value


def _texts(attributes: Bag) -> dict[str, str | None]:
    return {key: text(value) for key, value in attributes.items()}


def _values(attributes: Bag) -> Bag:
    return attributes


def _unquoted(kind: Type, bags: Sequence[dict[str, str]]) -> Array:
    """JSON texts as the MAP layout holds them: a JSON string as its text, everything else as JSON."""
    values = [
        # Of what JSON begins with, only the quotation mark and blanks come before `#`.
        value if value > "#" else value[1:-1] if "\\" not in value and value[:1] == '"' else _unblank(value)
        for value in chain.from_iterable(map(dict.values, bags))
    ]
    return flat_maps(kind, list(chain.from_iterable(bags)), values, list(map(len, bags)))


def _loaded(kind: Type, bags: Sequence[dict[str, str]]) -> Array:
    """JSON texts as the VARIANT layout holds them: as the values they are."""
    return build(kind, [{key: _load(value) for key, value in bag.items()} for bag in bags])


def _unblank(value: str) -> Any:
    return _load(value) if value[:1] == '"' else value


def _load(value: str) -> Any:
    """The value of a JSON text; of what is none, the text."""
    try:
        return orjson.loads(value)
    except orjson.JSONDecodeError:
        pass
    try:
        return json.loads(value)  # takes lone surrogates
    except ValueError:
        return value


_VARIANT_DIGIT: Final = {digit: "89ab"[int(digit, 16) & 3] for digit in "0123456789abcdef"}


def record_id(time_ns: int, high: str, low: str) -> str:
    """UUIDv7 of a time, the last three digits of one hex text and 16 of another: a row has the same id everywhere."""
    time_ms = time_ns // 1_000_000
    time = f"{time_ms >> 16 & 0xFFFFFFFF:08x}-{time_ms & 0xFFFF:04x}"
    return f"{time}-7{high[-3:]}-{_VARIANT_DIGIT[low[0]]}{low[1:4]}-{low[4:]}"


_VARIANT_DIGITS: Final = bytes.maketrans(b"0123456789abcdef", b"89ab" * 4)


def record_ids(times_ns: Sequence[int], highs: Sequence[str], lows: Sequence[str]) -> list[str]:
    """`record_id` of each, of hex texts of 32 and of 16 digits: one digit of all rows at a time."""
    count = len(times_ns)
    high, low = "".join(highs).encode(), "".join(lows).encode()
    if len(high) != 32 * count or len(low) != 16 * count:
        return list(map(record_id, times_ns, highs, lows))
    times = struct.pack(f">{count}Q", *[time // 1_000_000 for time in times_ns]).hex().encode()
    text = bytearray(b"tttttttt-tttt-7hhh-llll-llllllllllll" * count)
    for place in range(12):
        text[place + (place > 7) :: 36] = times[place + 4 :: 16]
    for place in range(3):
        text[place + 15 :: 36] = high[place + 29 :: 32]
    for place in range(16):
        text[place + 19 + (place > 3) :: 36] = low[place::16]
    text[19::36] = text[19::36].translate(_VARIANT_DIGITS)
    ids = text.decode()
    return [ids[start : start + 36] for start in range(0, 36 * count, 36)]


class Origins:
    """Resources and scopes: each distinct one is built once, and rows refer to it by position."""

    def __init__(self, layout: Layout, bag: Callable[[Bag], Any]) -> None:
        self._layout, self._bag = layout, bag
        self._resources = _Lately(self._of_resources)
        self._scopes = _Lately(self._of_scopes)

    def columns(
        self, resources: Sequence[Resource], scopes: Sequence[Scope]
    ) -> tuple[Array, Array, Array, Array, list[str]]:
        """`resource`, `resource_schema_url`, `instrumentation_scope`, `*_schema_url`, service names of the rows."""
        (resource, resource_url), places = self._resources.taken(resources)
        (scope, scope_url), _ = self._scopes.taken(scopes)
        names = [text(each.attributes.get("service.name")) or UNKNOWN_SERVICE for each in self._resources.items]
        return resource, resource_url, scope, scope_url, [names[place] for place in places]

    def _of_resources(self, items: Sequence[Resource]) -> tuple[Array, Array]:
        rows = [(self._bag(r.attributes), r.dropped_attributes_count) for r in items]
        return build(self._layout.types["resource"], rows), build(_TEXT, [r.schema_url for r in items])

    def _of_scopes(self, items: Sequence[Scope]) -> tuple[Array, Array]:
        rows = [(s.name, s.version, self._bag(s.attributes), s.dropped_attributes_count) for s in items]
        return build(self._layout.types["instrumentation_scope"], rows), build(_TEXT, [s.schema_url for s in items])


class _Lately(Generic[_Origin]):
    """Arrays of the distinct resources or scopes that came lately: most requests come from the same few."""

    def __init__(self, build: Callable[[Sequence[_Origin]], tuple[Array, Array]]) -> None:
        self._build = build
        self.items: list[_Origin] = []
        self._places: dict[bytes, int] = {}
        self._bytes = 0
        self._arrays: tuple[Array, Array] | None = None

    def taken(self, column: Sequence[_Origin]) -> tuple[tuple[Array, Array], list[int]]:
        """The arrays with a row for each item of the column, and which of `items` each of these is."""
        if self._bytes > _LATELY_BYTES:
            self.items, self._places, self._bytes, self._arrays = [], {}, 0, None
        distinct = {id(item): item for item in column}
        places = {identity: self._place(item) for identity, item in distinct.items()}
        if self._arrays is None:
            self._arrays = self._build(self.items)
        of_rows = [places[id(item)] for item in column]
        rows = Array(of_rows, DataType.int64())
        first, second = self._arrays
        return (first.take(rows), second.take(rows)), of_rows

    def _place(self, item: _Origin) -> int:
        try:
            key = _encode(item)
        except (UnicodeEncodeError, OverflowError):  # half a surrogate pair, an integer beyond 64 bits
            key = b"%d" % id(item)
        place = self._places.get(key)
        if place is None:
            place = self._places[key] = len(self.items)
            self.items.append(item)
            self._bytes += len(key)
            self._arrays = None
        return place


class SpanRows:
    """Rows of `{prefix}_otel_spans`: what of spans is kept until there are many, and the batch of it."""

    def __init__(self, layout: Layout, version: Version) -> None:
        self._layout = layout
        self._attributes = _unquoted if version == "v1" else _loaded
        self._bag: Callable[[Bag], Any] = _texts if version == "v1" else _values
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
            [span.attributes for span in spans],
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
            traces, ids, parents, names, starts, ends, statuses, attributes, messages, states, flags, kinds, events,
            links, dropped_attributes, dropped_events, dropped_links, resources, scopes,
        ) = columns  # fmt: skip
        types = self._layout.types
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
                [_KINDS[kind if 0 <= kind < 6 else 0] for kind in kinds],
                starts,
                ends,
                self._attributes(types["attributes"], attributes),
                dropped_attributes,
                flat_arrays(types["events"], [each and self._events(each) for each in events]),
                dropped_events,
                flat_arrays(types["links"], [each and self._links(each) for each in links]),
                dropped_links,
                flat_structs(types["status"], (messages, codes)),
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
        self._bag: Callable[[Bag], Any] = _texts if version == "v1" else _values
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
        return list(zip(*rows, strict=True))

    def _row(
        self, identity: str, trace_id: str, kind: str, name: str, value: Value, time_us: int,
        metadata: Bag = _NO_BAG, comment: str | None = None, by: str | None = None,
    ) -> tuple[Any, ...]:  # fmt: skip
        if self._version == "v1":
            value, metadata = text(value), _texts(metadata) if metadata else metadata
        return (
            identity, "TRACE", trace_id, kind, name, value, comment, metadata, time_us, by, time_us, by, None, None,
            "insert",
        )  # fmt: skip

    def _metadata(self, trace: TraceRow, metadata: dict[str, str]) -> tuple[Any, ...]:
        value: dict[str, Value] = {
            "client_request_id": trace.client_request_id,
            "request_preview": trace.request_preview,
            "response_preview": trace.response_preview,
            "trace_metadata": dict(metadata),
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
            _load(assessment.value), assessment.created_ms * 1000 or trace.start_ns // 1000, metadata,
            assessment.rationale, assessment.source_id or None,
        )  # fmt: skip


@lru_cache(maxsize=1024)  # asked for to look whether the row is there, and again for the row
def metadata_id(trace_id: str) -> str:
    """First 128 bits of the SHA-256 of `<hex>:metadata`, as MLflow's migration makes it."""
    return _uuid(hashlib.sha256(f"{trace_id}:metadata".encode()).hexdigest())


def tag_id(trace_id: str, key: str) -> str:
    """Java's `UUID.nameUUIDFromBytes` of `<hex>:tag:<key>`: MD5 with the bits of version 3."""
    digest = hashlib.md5(f"{trace_id}:tag:{key}".encode("utf-8", "replace"), usedforsecurity=False).hexdigest()
    return _uuid(f"{digest[:12]}3{digest[13:16]}{_VARIANT_DIGIT[digest[16]]}{digest[17:]}")


def _uuid(digits: str) -> str:
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:32]}"
