"""Tables whose attributes are as received, mapped when they are read.

Whole traces are read, mapped and assembled as the collector does before it writes, and written into tables in a
temporary folder, which the query then reads in place of the real ones: so it gives what it gives on mapped tables.
What can be told before is only when a trace was and which id it has; everything else is known once it is mapped.

The collector maps (entry point `spanweir.delta.assembly`): exporters know neither processors nor assembly.
"""

import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import cache
from importlib import metadata
from typing import Any, Final, NamedTuple, TypeAlias

import orjson

from spanweir.exporters.api import Batch, Context
from spanweir.exporters.delta import Config, TableName
from spanweir.exporters.delta.cells import KINDS, dump
from spanweir.exporters.delta.reading import Tables, literal, rows
from spanweir.exporters.delta.table import within
from spanweir.schemas import inference_table
from spanweir.schemas.inference_table import ATTRIBUTES, RECEIVED
from spanweir.schemas.options import Duration, Size
from spanweir.schemas.raw import Attributes, Event, Link, RawSpan, Resource, Scope, Value

Assembly: TypeAlias = Callable[[Iterable[Sequence[RawSpan]]], Iterator[Batch]]
"""Groups of spans, each of whole traces, to the batches that the collector makes of them. Every trace is complete."""
_GROUP: Final = "spanweir.delta.assembly"
_GROUP_SPANS: Final = 4_000
_PART_SPANS: Final = 1_000
"""Of the first part that a search looks at."""
_NAMES: Final = (
    "trace_id", "span_id", "parent_span_id", "name", "kind", "start_time_unix_nano", "end_time_unix_nano", "attributes",
    "events", "links", "status", "trace_state", "flags", "dropped_attributes_count", "dropped_events_count",
    "dropped_links_count", "resource", "resource_schema_url", "instrumentation_scope", "span_schema_url",
)  # fmt: skip
_COLUMNS: Final = ", ".join(_NAMES)
_SPANS: Final = inference_table.spans("v1", received=True)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_BEGIN: Final = frozenset("-0123456789tf[")
"""What numbers, booleans and arrays begin with."""
_CODES: Final = {"OK": 1, "ERROR": 2}


class Stored(NamedTuple):
    """A trace in a table of received spans."""

    trace_id: str
    """32 hex digits."""
    first_us: int
    """When the first of its spans starts, since 1970."""
    last_us: int
    """When the last of them does."""
    spans: int


def is_received(tables: Tables) -> bool:
    """Whether the spans table holds attributes as received."""
    if not tables.has("otel_spans"):
        return False
    configuration: Mapping[str, str] = tables.table("otel_spans").metadata().configuration
    return configuration.get(ATTRIBUTES) == RECEIVED


def traces_in(tables: Tables, where: str = "TRUE") -> list[Stored]:
    """The traces that have a span for which a SQL condition holds, by their first start among these."""
    sql = (
        "SELECT trace_id, arrow_cast(min(time), 'Int64') AS first, arrow_cast(max(time), 'Int64') AS last,"
        f" count(*) AS spans FROM otel_spans WHERE {where} GROUP BY trace_id ORDER BY first, trace_id"
    )
    return [Stored(*row.values()) for row in rows(tables.query(sql, "otel_spans"))]


def parts(traces: Sequence[Stored], *, newest_first: bool | None) -> Iterator[tuple[list[Stored], list[str]]]:
    """Traces to look at together, each part larger than the one before, and clauses on their request time.

    A trace begins at the start of one of its spans, which one is known when it is mapped: a part has all traces that
    may have begun in its time. None for `newest_first` is one part of all.
    """
    if newest_first is None:
        yield list(traces), []
        return
    ordered = sorted(traces, key=lambda trace: trace.first_us, reverse=newest_first)
    place, size, edge = 0, _PART_SPANS, None
    while place < len(ordered):
        spans = 0
        while place < len(ordered) and spans < size:
            spans += ordered[place].spans
            place += 1
        size *= 2
        reached = ordered[place - 1].first_us // 1000 if place < len(ordered) else None
        if newest_first:
            low, high, edge = reached, edge, reached
        else:
            low, high = edge, None if reached is None else reached + 1
            edge = high
        some = [
            trace
            for trace in ordered
            if (low is None or trace.last_us // 1000 >= low) and (high is None or trace.first_us // 1000 < high)
        ]
        clauses = [f"timestamp_ms >= {low}"] * (low is not None) + [f"timestamp_ms < {high}"] * (high is not None)
        if some:
            yield some, clauses


@contextmanager
def mapped(
    tables: Tables,
    where: str = "TRUE",
    *,
    traces: Sequence[Stored] | None = None,
    only: Sequence[TableName] = ("payload", "spans", "annotations"),
) -> Iterator[Tables]:
    """Mapped tables, until the context ends: `tables` themselves if they are mapped, else what their traces become.

    `where` is SQL over the spans table that leaves traces whole. `traces` are those of `traces_in`, if they are known.
    Raises LookupError where there is no collector to map with.
    """
    if not is_received(tables):
        yield tables
        return
    assemble = _assembly()
    found = traces_in(tables, where) if traces is None else traces
    with tempfile.TemporaryDirectory(prefix="spanweir-") as directory:
        config = Config(
            path=f"{directory}/tables", prefix=tables.config.prefix, tables=list(only), max_payload_bytes=Size(0),
            commit_interval=Duration(3600), maintenance_interval=Duration(0),
        )  # fmt: skip
        with config.build(Context(name="view", state_directory=f"{directory}/state")) as exporter:
            for batch in assemble(_groups(tables, found)):
                exporter.export(batch)
        yield Tables(config)


@cache
def _assembly() -> Assembly:
    for point in metadata.entry_points(group=_GROUP):
        found: Assembly = point.load()
        return found
    raise LookupError(
        "attributes of these tables are as received; to map them needs `pip install 'spanweir[collector]'`"
    )


def _groups(tables: Tables, traces: Sequence[Stored]) -> Iterator[list[RawSpan]]:
    """Spans of so many traces at once as fit into memory."""
    group: list[Stored] = []
    spans = 0
    for trace in traces:
        group.append(trace)
        spans += trace.spans
        if spans >= _GROUP_SPANS:
            yield _spans(tables, group)
            group, spans = [], 0
    if group:
        yield _spans(tables, group)


def around(first_us: int, last_us: int) -> str:
    """SQL for the days in which traces of a time have spans: these may start before it, by a clock that is wrong, and
    days after it."""
    days = (_EPOCH + timedelta(microseconds=first_us, days=-1), _EPOCH + timedelta(microseconds=last_us, days=3))
    return f"date >= DATE '{days[0].date()}' AND date <= DATE '{days[1].date()}'"


def _spans(tables: Tables, traces: Sequence[Stored]) -> list[RawSpan]:
    """All spans of the traces, in the order of their start."""
    ids = ", ".join(literal(trace.trace_id) for trace in traces)
    times = min(trace.first_us for trace in traces), max(trace.last_us for trace in traces)
    where = " AND ".join([*within(_SPANS, "", (times[0] * 1000, times[1] * 1000)), f"trace_id IN ({ids})"])
    found: list[RawSpan] = []
    shared: dict[Any, Any] = {}
    for batch in tables.stream(f"SELECT {_COLUMNS} FROM otel_spans WHERE {where}", "otel_spans"):
        columns = [batch[name].to_pylist() for name in _NAMES]
        found += [_raw(dict(zip(_NAMES, row, strict=True)), shared) for row in zip(*columns, strict=True)]
    return sorted(found, key=lambda raw: raw.start_ns)


def _raw(row: Mapping[str, Any], shared: dict[Any, Any]) -> RawSpan:
    """`shared` has the resources and scopes that rows before it had."""
    status = row["status"] or {}
    return RawSpan(
        trace_id=row["trace_id"],
        span_id=row["span_id"],
        parent_id=row["parent_span_id"] or "",
        name=row["name"] or "",
        kind=KINDS.index(row["kind"]) if row["kind"] in KINDS else 0,
        start_ns=row["start_time_unix_nano"] or 0,
        end_ns=row["end_time_unix_nano"] or 0,
        attributes=_typed(row["attributes"]),
        events=[_event(event) for event in row["events"] or ()],
        links=[_link(link) for link in row["links"] or ()],
        status_code=_CODES.get((status.get("code") or "").removeprefix("STATUS_CODE_"), 0),
        status_message=status.get("message") or "",
        trace_state=row["trace_state"] or "",
        flags=row["flags"] or 0,
        dropped_attributes_count=row["dropped_attributes_count"] or 0,
        dropped_events_count=row["dropped_events_count"] or 0,
        dropped_links_count=row["dropped_links_count"] or 0,
        resource=_shared(shared, _resource, row["resource"] or {}, row["resource_schema_url"]),
        scope=_shared(shared, _scope, row["instrumentation_scope"] or {}, row["span_schema_url"]),
    )


def _shared(
    shared: dict[Any, Any], make: Callable[[Mapping[str, Any], str], Any], cell: Mapping[str, Any], url: str | None
) -> Any:
    key = make, url, repr(cell)
    if key not in shared:
        shared[key] = make(cell, url or "")
    return shared[key]


def _resource(cell: Mapping[str, Any], url: str) -> Resource:
    return Resource(
        attributes=_typed(cell.get("attributes")),
        dropped_attributes_count=cell.get("dropped_attributes_count") or 0,
        schema_url=url,
    )


def _scope(cell: Mapping[str, Any], url: str) -> Scope:
    return Scope(
        name=cell.get("name") or "",
        version=cell.get("version") or "",
        attributes=_typed(cell.get("attributes")),
        dropped_attributes_count=cell.get("dropped_attributes_count") or 0,
        schema_url=url,
    )


def _event(cell: Mapping[str, Any]) -> Event:
    return Event(
        name=cell["name"] or "",
        time_ns=cell["time_unix_nano"] or 0,
        attributes=_typed(cell["attributes"]),
        dropped_attributes_count=cell["dropped_attributes_count"] or 0,
    )


def _link(cell: Mapping[str, Any]) -> Link:
    return Link(
        trace_id=cell["trace_id"] or "",
        span_id=cell["span_id"] or "",
        trace_state=cell["trace_state"] or "",
        attributes=_typed(cell["attributes"]),
        dropped_attributes_count=cell["dropped_attributes_count"] or 0,
        flags=cell["flags"] or 0,
    )


def _typed(bag: Any) -> Attributes:
    """Attributes as they were sent, as far as their texts tell."""
    return {key: typed(value) for key, value in dict(bag or ()).items()}


def typed(text: str | None) -> Value:
    """The value of a MAP column's text: of the types that it may have had the likeliest.

    Numbers, booleans and arrays of plain values as OTLP attributes have them, if they are written just as the exporter
    writes such. Objects, and arrays of objects, stay text: that is how senders put messages into attributes, and the
    conventions read both.
    """
    if not text or text[0] not in _BEGIN:
        return text
    try:
        value: Value = orjson.loads(text)
    except orjson.JSONDecodeError:
        return text
    if isinstance(value, dict) or (isinstance(value, list) and any(isinstance(each, list | dict) for each in value)):
        return text
    return value if dump(value).decode() == text else text
