"""The spans table with attributes as they were received: the same rows as decoding makes, each once."""

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars
import pyarrow
import pytest
from deltalake import DeltaTable
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import (
    AnyValue,
    ArrayValue,
    InstrumentationScope,
    KeyValue,
    KeyValueList,
)
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span, Status

from spanweir.collector.assembly.repair import times_of
from spanweir.collector.decode.otlp_proto import decode_traces
from spanweir.collector.receivers._json import to_protobuf
from spanweir.exporters.api import REQUESTS, Batch, Context, Permanent, Request, wants
from spanweir.exporters.delta import Config
from spanweir.exporters.delta.arrow import Layout
from spanweir.exporters.delta.received_rows import ReceivedRows, decode
from spanweir.exporters.delta.rows import SpanRows
from spanweir.schemas import inference_table
from spanweir.schemas.options import Duration
from spanweir.schemas.raw import RawSpan
from spanweir.schemas.trace import MappedSpan

LAYOUT = Layout(inference_table.spans("v1", received=True).columns)
BAD_IDS = {"invalid_trace_id", "invalid_span_id"}


def expected(bodies: Sequence[bytes]) -> list[dict[str, Any]]:
    """Rows as the mapped table's, of spans whose attributes are those that were decoded."""
    raws = [times_of(raw) for body in bodies for raw in decode_traces(body) if BAD_IDS.isdisjoint(raw.issues)]
    rows = SpanRows(LAYOUT, "v1")
    made = rows.batch(rows.columns([unmapped(raw) for raw in raws]))
    found: list[dict[str, Any]] = pyarrow.record_batch(made).to_pylist()
    return found


def unmapped(raw: RawSpan) -> MappedSpan:
    return MappedSpan(
        trace_id=raw.trace_id, span_id=raw.span_id, parent_id=raw.parent_id or None, name=raw.name, type="UNKNOWN",
        status=("UNSET", "OK", "ERROR")[raw.status_code if raw.status_code < 3 else 0], start_ns=raw.start_ns,
        end_ns=raw.end_ns or None, given=raw.attributes, raw=raw,
    )  # fmt: skip


def found(bodies: Sequence[bytes]) -> list[dict[str, Any]]:
    made = ReceivedRows(LAYOUT).rows([decode(bodies)]).batch
    return [] if made is None else pyarrow.record_batch(made).to_pylist()


RECORDED = sorted((Path(__file__).parents[1] / "golden").glob("*/*/input.json"))


def recorded() -> list[bytes]:
    """Trace requests of every convention."""
    requests: list[Any] = []
    for path in RECORDED:
        read = json.loads(path.read_text())
        requests += read if isinstance(read, list) else [read]
    return [to_protobuf("traces", json.dumps(r).encode()).body for r in requests if "resourceSpans" in r]


def test_rows_of_every_convention() -> None:
    bodies = recorded()
    assert len(bodies) > 100
    assert found(bodies) == expected(bodies)


VALUES: st.SearchStrategy[AnyValue] = st.recursive(
    st.one_of(
        st.just(AnyValue()),
        st.text(max_size=4).map(lambda value: AnyValue(string_value=value)),
        st.booleans().map(lambda value: AnyValue(bool_value=value)),
        st.integers(-(1 << 63), (1 << 63) - 1).map(lambda value: AnyValue(int_value=value)),
        st.floats().map(lambda value: AnyValue(double_value=value)),
        st.binary(max_size=4).map(lambda value: AnyValue(bytes_value=value)),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda values: AnyValue(array_value=ArrayValue(values=values))),
        st.lists(st.tuples(st.text(max_size=2), inner), max_size=3).map(
            lambda pairs: AnyValue(kvlist_value=KeyValueList(values=[KeyValue(key=k, value=v) for k, v in pairs]))
        ),
    ),
    max_leaves=4,
)
BAGS = st.lists(st.builds(KeyValue, key=st.sampled_from(["a", "b", "service.name", ""]), value=VALUES), max_size=4)
COUNTS, NANOS, SMALL = st.integers(0, (1 << 32) - 1), st.integers(0, (1 << 64) - 1), st.text(max_size=3)
TRACE_IDS = st.sampled_from([b"t" * 16, b"u" * 16, bytes(16), b"", b"short"])
SPAN_IDS = st.sampled_from([b"s" * 8, b"p" * 8, bytes(8), b"", b"short"])
EVENTS = st.builds(
    Span.Event, name=SMALL, time_unix_nano=NANOS, attributes=BAGS, dropped_attributes_count=COUNTS
)  # fmt: skip
LINKS = st.builds(Span.Link, trace_id=TRACE_IDS, span_id=SPAN_IDS, attributes=BAGS, trace_state=SMALL, flags=COUNTS)
SPANS = st.builds(
    Span, trace_id=TRACE_IDS, span_id=SPAN_IDS, parent_span_id=SPAN_IDS, name=SMALL, kind=st.integers(-1, 9),
    trace_state=SMALL, flags=COUNTS, start_time_unix_nano=NANOS, end_time_unix_nano=NANOS | st.just(0),
    attributes=BAGS, dropped_attributes_count=COUNTS, dropped_events_count=COUNTS, dropped_links_count=COUNTS,
    events=st.lists(EVENTS, max_size=2), links=st.lists(LINKS, max_size=2),
    status=st.none() | st.builds(Status, code=st.integers(0, 2), message=SMALL),
)  # fmt: skip
SCOPES = st.builds(
    ScopeSpans, schema_url=SMALL, spans=st.lists(SPANS, max_size=3),
    scope=st.none() | st.builds(InstrumentationScope, name=SMALL, attributes=BAGS, dropped_attributes_count=COUNTS),
)  # fmt: skip
RESOURCES = st.builds(
    ResourceSpans, schema_url=SMALL, scope_spans=st.lists(SCOPES, max_size=2),
    resource=st.none() | st.builds(Resource, attributes=BAGS, dropped_attributes_count=COUNTS),
)  # fmt: skip
REQUESTS_OF = st.builds(ExportTraceServiceRequest, resource_spans=st.lists(RESOURCES, max_size=2))


@given(st.lists(REQUESTS_OF, min_size=1, max_size=3))
@settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
def test_rows_of_whatever_is_sent(requests: list[ExportTraceServiceRequest]) -> None:
    """Times and counts beyond their columns, ids that are none, keys sent twice, values of any kind."""
    bodies = [request.SerializeToString() for request in requests]
    assert found(bodies) == expected(bodies)


def test_of_a_value_that_was_sent_twice_the_last_stands() -> None:
    """As protobuf has it, also for fields of one message that come apart."""
    twice = AnyValue(string_value="first").SerializeToString() + AnyValue(int_value=2).SerializeToString()
    pair = field(1, b"key") + field(2, twice)
    span = field(1, b"t" * 16) + field(2, b"s" * 8) + field(9, pair) + field(15, b"") + field(15, b"\x18\x02")
    body = field(1, field(2, field(2, span)))
    [row] = found([body])
    assert row["attributes"] == [("key", "2")]
    assert [row] == expected([body])


def field(number: int, content: bytes) -> bytes:
    """A length-delimited protobuf field of less than 128 bytes."""
    return bytes([number << 3 | 2, len(content)]) + content


# ---------------------------------------------------------------------------------------- the exporter


class Counts:
    def __init__(self) -> None:
        self.values: Counter[tuple[str, str]] = Counter()

    def __call__(self, metric: str, n: int, /, **labels: str) -> None:
        self.values[metric, labels.get("issue", "")] += n

    def left_out(self, table: str, reason: str, n: int) -> None:
        self.values[table, reason] += n


def exporter(directory: Path, counts: Counts | None = None, **options: Any) -> Any:
    config = Config(
        path=str(directory / "tables"), tables=["spans", "metrics"], attributes="received",
        commit_interval=Duration(options.pop("interval", 0)), maintenance_interval=Duration(0), **options,
    )  # fmt: skip
    counts = counts or Counts()
    state = str(directory / "state")
    return config.build(Context(name="delta", state_directory=state, count=counts, left_out=counts.left_out))


def stored(directory: Path) -> polars.DataFrame:
    return polars.read_delta(str(directory / "tables" / "spanweir_otel_spans"))


def request(*spans: Span) -> Request:
    body = ExportTraceServiceRequest(resource_spans=[ResourceSpans(scope_spans=[ScopeSpans(spans=spans)])])
    return Request(signal="traces", body=body.SerializeToString())


def span(number: int, name: str = "call", **more: Any) -> Span:
    trace = more.pop("trace", 1)
    return Span(
        trace_id=trace.to_bytes(16, "big"), span_id=number.to_bytes(8, "big"), name=name,
        start_time_unix_nano=1_764_064_800_000_000_000 + number, end_time_unix_nano=1_764_064_801_000_000_000, **more,
    )  # fmt: skip


def names(directory: Path) -> list[str]:
    return sorted(stored(directory)["name"].to_list())


def test_nothing_is_mapped_for_it(tmp_path: Path) -> None:
    assert wants(exporter(tmp_path)) == {REQUESTS}


@pytest.mark.parametrize("interval", [0, 3600])
def test_a_span_that_is_sent_again_replaces_its_row(tmp_path: Path, interval: float) -> None:
    """In the same request, in the same commit, later, and after a restart; other spans of its trace are appended."""
    with exporter(tmp_path, interval=interval) as one:
        one.export(Batch(first=1, last=1, requests=[request(span(1, "a"), span(1, "b"), span(2, "x"))]))
        one.export(Batch(first=2, last=2, requests=[request(span(1, "c"), span(3, "y"))]))
    assert names(tmp_path) == ["c", "x", "y"]
    with exporter(tmp_path) as one:
        one.export(Batch(first=3, last=3, requests=[request(span(2, "z"), span(4, "new"))]))
    assert names(tmp_path) == ["c", "new", "y", "z"]


def test_late_spans_of_a_trace_are_appended(tmp_path: Path) -> None:
    with exporter(tmp_path) as one:
        for number in range(1, 5):
            one.export(Batch(first=number, last=number, requests=[request(span(number))]))
    history = DeltaTable(str(tmp_path / "tables" / "spanweir_otel_spans")).history()
    assert [entry["operation"] for entry in history] == ["WRITE"] * 4 + ["CREATE TABLE"]
    assert len(stored(tmp_path)) == 4


def test_a_state_directory_that_is_lost(tmp_path: Path) -> None:
    batch = Batch(first=1, last=3, requests=[request(span(n)) for n in (1, 2, 3)])
    with exporter(tmp_path) as one:
        one.export(batch)
    (tmp_path / "state").rename(tmp_path / "lost")
    with exporter(tmp_path) as one:
        one.export(batch)
    assert len(stored(tmp_path)) == 3


def test_spans_without_valid_ids_are_counted_and_neighbours_kept(tmp_path: Path) -> None:
    counts = Counts()
    bad = Span(trace_id=b"short", span_id=b"s" * 8, name="bad")
    odd = span(2, "odd", parent_span_id=b"x")
    doubled = span(3, "doubled", attributes=[KeyValue(key="k", value=AnyValue(int_value=n)) for n in (1, 2)])
    doubled.end_time_unix_nano = 5
    with exporter(tmp_path, counts) as one:
        one.export(Batch(first=1, last=1, requests=[request(span(1, "good"), bad, odd, doubled), request(bad)]))
    assert names(tmp_path) == ["doubled", "good", "odd"]
    assert counts.values == {
        ("spans", "invalid_id"): 2,
        ("spanweir_exporter_repaired_spans", "invalid_parent_id"): 1,
        ("spanweir_exporter_repaired_spans", "duplicate_keys"): 1,
        ("spanweir_exporter_repaired_spans", "end_before_start"): 1,
        ("otelcol_exporter_sent_spans", ""): 3,
    }


@pytest.mark.parametrize("damage", [b"\xff\xff\xff", b"\x0a\x7f", b"bad text \xff"])
def test_what_is_no_request_is_refused_before_anything_is_written(tmp_path: Path, damage: bytes) -> None:
    body = damage if damage[:1] != b"b" else request(span(7, "bad text !")).body.replace(b"bad text !", damage)
    with exporter(tmp_path) as one:
        with pytest.raises(Permanent, match="ExportTraceServiceRequest"):
            one.export(Batch(first=1, last=2, requests=[request(span(1)), Request(signal="traces", body=body)]))
        one.export(Batch(first=3, last=2, requests=[request(span(1))]))
        one.export(Batch(first=3, last=3, requests=[request(span(2))]))
    assert len(stored(tmp_path)) == 2


def test_tables_of_the_other_kind_are_refused(tmp_path: Path) -> None:
    with exporter(tmp_path):
        pass
    mapped = Config(path=str(tmp_path / "tables"), tables=["spans"])
    refused = mapped.build(Context(name="delta", state_directory=str(tmp_path / "other")))
    with pytest.raises(Permanent, match="set attributes: received"), refused:
        pass


def test_options_that_do_not_go_together() -> None:
    with pytest.raises(ValueError, match=r"payload, logs, annotations.*set tables: \[spans\]"):
        Config(attributes="received")
    with pytest.raises(ValueError, match="schema_version v1, not v2"):
        Config(attributes="received", tables=["spans"], schema_version="v2")


def test_rows_of_a_row_limit_are_committed(tmp_path: Path) -> None:
    with exporter(tmp_path, interval=3600, commit_rows=10) as one:
        for number in range(1, 12):
            one.export(Batch(first=number, last=number, requests=[request(span(number))]))
        assert one.durable == 10
