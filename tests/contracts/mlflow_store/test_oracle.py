"""The same mapped spans, written by MLflow's own store and by ours, are the same to whoever looks.

Deliberate differences, and why:
- `mlflow.trace.infoFinalized` (metadata): set by MLflow's client to stop the server from changing the row again. Ours
  may be amended by late spans.
- `db_payload_generation`: counts write transactions; ours needs one where MLflow's needs two.
- `mlflow.trace.sizeStats`, `mlflow.trace.sizeBytes` (metadata): MLflow's client counts bytes of a form that nobody
  stores; ours are the bytes stored. The number of spans is the same.
- `kind`, `flags`, `resource` and `scope` of a span's content: MLflow 3.17 forgets them.
- `mlflow.trace_schema.version` (metadata): MLflow's client sends it, its server does not add it to spans that come over
  OTLP, and nothing reads it. Ours leaves it out: six rows of tags and metadata a trace are a fifth of an insert.
"""

from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
import sqlalchemy
from mlflow.entities.trace_metrics import AggregationType, MetricAggregation, MetricViewType
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

from spanweir.exporters.mlflow.schema import with_driver
from spanweir.schemas.trace import Assessment, MappedSpan, TraceRow
from tests.benchmarks.load import make_requests
from tests.contracts.mlflow_store.conftest import Pair
from tests.support import mapped
from tests.support import mlflow_oracle as oracle
from tests.support.mlflow_spans import START_NS, make_batch, make_feedback, make_span, make_trace

TABLES = {
    "trace_info": ("request_id",),
    "trace_tags": ("request_id", "key"),
    "trace_request_metadata": ("request_id", "key"),
    "spans": ("trace_id", "span_id"),
    "assessments": ("assessment_id",),
    "entity_associations": ("source_id", "destination_id"),
    "trace_metrics": ("request_id",),
    "span_metrics": ("trace_id",),
}
FINALIZED = "mlflow.trace.infoFinalized"
VERSION = "mlflow.trace_schema.version"
MORE = ("kind", "flags", "resource", "scope")
MADE_UP = {"association_id", "created_time", "db_payload_generation"}
"""Columns that no two writers fill alike."""


class Both(msgspec.Struct, frozen=True):
    """The same traces in two stores."""

    traces: list[tuple[TraceRow, list[MappedSpan]]]
    ours: SqlAlchemyStore
    theirs: SqlAlchemyStore
    ours_experiment: str
    theirs_experiment: str

    def sides(self) -> Iterator[tuple[SqlAlchemyStore, str]]:
        yield self.ours, self.ours_experiment
        yield self.theirs, self.theirs_experiment


def make_traces(experiment: str, runs: tuple[str, str]) -> list[tuple[TraceRow, list[MappedSpan]]]:
    traces = [make_trace(100 + seed, experiment=experiment) for seed in range(12)]
    failed, spans = traces[3]
    failed.state = "ERROR"
    spans[0] = make_span(
        failed.trace_id, spans[0].span_id, None, name="failed", kind="AGENT", status="ERROR", start_ns=failed.start_ns
    )
    failed.size_bytes = sum(len(span.content) for span in spans)
    traces[4][0].assessments = [
        make_feedback(traces[4][0].trace_id),
        Assessment(assessment_id="a-expected", name="answer", kind="expectation", value='"blue"', source_type="HUMAN",
                   source_id="me", created_ms=START_NS // 1_000_000, span_id=traces[4][1][0].span_id),
        Assessment(assessment_id="a-yes", name="safe", kind="feedback", value='"yes"', created_ms=1, source_id="x"),
        Assessment(assessment_id="a-true", name="ok", kind="feedback", value="true", created_ms=1, source_id="x"),
    ]  # fmt: skip
    unicode, spans = traces[5]
    unicode.name, unicode.request_preview = "größe 漢字 🙂", "naïve 'quoted' \"text\" \\ %s ? 🙂"
    unicode.tags["tag 🙂"] = "line\nbreak\ttab \\N"
    unicode.client_request_id = "request-5"
    spans[1] = make_span(unicode.trace_id, spans[1].span_id, spans[0].span_id, name="%s ? \\ \t🙂",
                         values={"mlflow.spanInputs": "漢字\u0000\u2028 \\"}, start_ns=unicode.start_ns)  # fmt: skip
    unicode.size_bytes = sum(len(span.content) for span in spans)
    traces[6][0].run_id = runs[0]
    running, spans = traces[7]
    running.complete, running.state, running.name, running.tags, running.metadata = False, "IN_PROGRESS", None, {}, {}
    running.user_id = running.request_preview = running.response_preview = running.session_id = None
    running.end_ns = max(span.end_ns or 0 for span in spans[1:])
    running.start_ns = min(span.start_ns for span in spans[1:])
    del spans[0]
    return traces + real_traces(experiment)


def real_traces(experiment: str) -> list[tuple[TraceRow, list[MappedSpan]]]:
    """Of the standard load, as the pipeline really makes them."""
    traces = []
    for batch in mapped.batches(make_requests(2, 3, seed=9)):
        for row in batch.traces:
            row.experiment = experiment
            traces.append((row, [span for span in batch.spans if span.trace_id == row.trace_id]))
    return traces


@pytest.fixture(scope="module")
def both(pair: Pair) -> Both:
    name = "oracle"
    theirs, ours = oracle.store(pair.theirs, pair.artifact_root), oracle.store(pair.ours, pair.artifact_root)
    experiment = theirs.create_experiment(name)
    home = ours.create_experiment(f"runs of {name}")
    runs = [side.create_run(at, "me", 0, [], "run").info.run_id for side, at in ((ours, home), (theirs, experiment))]
    traces = make_traces(name, (runs[0], runs[1]))
    for row, spans in traces:
        run_id, row.run_id = row.run_id, runs[1] if row.run_id else None
        oracle.write(theirs, experiment, row, spans)
        row.run_id = run_id
    with pair.exporter() as exporter:
        exporter.export(make_batch(traces[:7]))
        exporter.export(make_batch(traces[5:]))
    found = ours.get_experiment_by_name(name)
    assert found is not None
    return Both(traces, ours, theirs, found.experiment_id, experiment)


def rows_of(store: SqlAlchemyStore, experiment_id: str, traces: list[tuple[TraceRow, Any]]) -> dict[str, list[Any]]:
    """Every row of these traces in every trace table, with what two databases cannot have in common replaced."""
    keys = [f"tr-{row.trace_id}" for row, _ in traces]
    tables: dict[str, list[Any]] = {}
    engine = sqlalchemy.create_engine(with_driver(str(store.db_uri)))
    with engine.connect() as connection:
        runs = {row[0] for row in connection.execute(sqlalchemy.text("SELECT run_uuid FROM runs"))}
        for name, key in TABLES.items():
            table = sqlalchemy.Table(name, sqlalchemy.MetaData(), autoload_with=engine)
            column = table.c["trace_id"] if name == "assessments" else table.c[key[0]]
            query = sqlalchemy.select(table).where(column.in_(keys)).order_by(*(table.c[part] for part in key))
            tables[name] = [
                {
                    column: _neutral(column, value, experiment_id, runs)
                    for column, value in row._mapping.items()
                    if column not in MADE_UP
                }
                for row in connection.execute(query)
            ]
    engine.dispose()
    tables["trace_request_metadata"] = [
        row for row in tables["trace_request_metadata"] if row["key"] not in (FINALIZED, VERSION)
    ]
    for row in tables["trace_request_metadata"]:
        row["value"] = _sizes(row["key"], row["value"])
    for rows in tables.values():
        rows.sort(key=repr)
    return tables


def _sizes(key: str, value: str) -> Any:
    if key == "mlflow.trace.sizeStats":
        stats = msgspec.json.decode(value)
        return sorted(stats), stats["num_spans"]
    return value.isdigit() if key == "mlflow.trace.sizeBytes" else value


def _neutral(column: str, value: Any, experiment_id: str, runs: set[str]) -> Any:
    if column == "experiment_id":
        assert str(value) == experiment_id
        return "its experiment"
    if isinstance(value, str):
        return "its run" if value in runs else value.replace(f"/{experiment_id}/traces/", "/its experiment/traces/")
    return value


def test_rows_are_equal_in_every_table(both: Both) -> None:
    ours, theirs = (rows_of(store, experiment, both.traces) for store, experiment in both.sides())
    assert {name: len(rows) for name, rows in ours.items()} == {name: len(rows) for name, rows in theirs.items()}
    for name in TABLES:
        for one, other in zip(ours[name], theirs[name], strict=True):
            if name == "spans":
                for side in (one, other):
                    side["content"] = _without_more(msgspec.json.decode(side["content"]))
            assert one == other, name


def test_traces_are_equal(both: Both) -> None:
    for row, _ in both.traces:
        ours, theirs = (trace_of(store, experiment, f"tr-{row.trace_id}") for store, experiment in both.sides())
        assert ours == theirs


def trace_of(store: SqlAlchemyStore, experiment_id: str, trace_id: str) -> Any:
    trace = store.get_trace(trace_id).to_dict()
    trace["data"]["spans"] = [_without_more(span) for span in trace["data"]["spans"]]
    return _without(trace, experiment_id)


def _without_more(span: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in span.items() if key not in MORE}


def _without(value: Any, experiment_id: str) -> Any:
    if isinstance(value, dict):
        dropped = (FINALIZED, VERSION, "mlflow.sourceRun")
        return {key: _part(key, item, experiment_id) for key, item in value.items() if key not in dropped}
    if isinstance(value, list):
        # Assessments come in whatever order the database has them.
        return sorted((_without(item, experiment_id) for item in value), key=repr)
    if isinstance(value, str):
        return value.replace(f"/{experiment_id}/traces/", "/E/traces/")
    return value


def _part(key: str, item: Any, experiment_id: str) -> Any:
    if key == "experiment_id" and item == experiment_id:  # a number that other values may be, too
        return "its experiment"
    return _sizes(key, item) if isinstance(item, str) and ".trace.size" in key else _without(item, experiment_id)


SEARCHES: list[tuple[str | None, list[str] | None]] = [
    (None, None),
    ("attributes.status = 'OK'", ["timestamp_ms ASC"]),
    ("attributes.status = 'ERROR'", None),
    ("attributes.name = 'librarian'", ["execution_time_ms DESC"]),
    ("attributes.name LIKE 'gr%'", None),
    ("attributes.client_request_id = 'request-5'", None),
    (f"attributes.timestamp_ms > {START_NS // 1_000_000 + 105_000}", ["timestamp_ms DESC"]),
    ("attributes.execution_time_ms >= 1900", ["request_id ASC"]),
    ("tags.team = 'team-1'", None),
    ("tags.`service.name` = 'librarian'", ["tags.team DESC"]),
    ("metadata.`mlflow.trace.session` = 'session-1'", None),
    ("metadata.`mlflow.trace.user` = 'user-1'", None),
    ("metadata.`mlflow.source.name` LIKE 'lib%'", None),
    ("span.type = 'CHAT_MODEL'", None),
    ("span.name LIKE 'retrieval%'", None),
    ("span.status = 'ERROR'", None),
    ("span.attributes.`gen_ai.request.model` RLIKE '^gpt'", None),
    ("span.attributes.`gen_ai.operation.name` RLIKE '^retrieval$'", None),
    ("span.attributes.`gen_ai.request.model` LIKE '%gpt%'", None),
    ("trace.text LIKE '%漢字%'", None),
    ("feedback.relevance > 0.5", None),
    ("feedback.safe = 'yes'", None),
    ("expectation.answer = 'blue'", None),
    ("attributes.run_id = 'none'", None),
]


@pytest.mark.parametrize("which", range(0, len(SEARCHES), 7))
def test_searches_find_the_same_in_the_same_order(both: Both, which: int) -> None:
    for filter_string, order_by in SEARCHES[which : which + 7]:
        found = []
        for store, experiment in both.sides():
            pages, token = [], None
            while True:
                page, token = store.search_traces(
                    locations=[experiment],
                    filter_string=filter_string,
                    order_by=order_by,
                    max_results=5,
                    page_token=token,
                )
                pages.append([_without(info.to_dict(), experiment) for info in page])
                if not token:
                    break
            found.append(pages)
        assert found[0] == found[1], filter_string
        assert found[0][0] or filter_string == "attributes.run_id = 'none'", f"{filter_string} tests nothing"


METRICS = [
    (MetricViewType.TRACES, "trace_count", AggregationType.COUNT, ["trace_name"]),
    (MetricViewType.TRACES, "trace_count", AggregationType.COUNT, ["trace_status"]),
    (MetricViewType.TRACES, "session_count", AggregationType.COUNT, []),
    (MetricViewType.TRACES, "latency", AggregationType.AVG, []),
    (MetricViewType.TRACES, "input_tokens", AggregationType.SUM, ["trace_name"]),
    (MetricViewType.TRACES, "total_tokens", AggregationType.MAX, []),
    (MetricViewType.SPANS, "span_count", AggregationType.COUNT, ["span_type", "span_status"]),
    (MetricViewType.SPANS, "latency", AggregationType.MAX, ["span_name"]),
    (MetricViewType.SPANS, "total_cost", AggregationType.SUM, ["span_model_name", "span_model_provider"]),
    (MetricViewType.ASSESSMENTS, "assessment_count", AggregationType.COUNT, ["assessment_name"]),
    (MetricViewType.ASSESSMENTS, "assessment_value", AggregationType.AVG, ["assessment_name"]),
]


def test_metrics_are_equal(both: Both) -> None:
    for view, metric, aggregation, dimensions in METRICS:
        ours, theirs = (
            store.query_trace_metrics([experiment], view, metric, [MetricAggregation(aggregation)], dimensions)
            for store, experiment in both.sides()
        )
        assert [_without_values(point) for point in ours] == [_without_values(point) for point in theirs]
        for mine, his in zip(ours, theirs, strict=True):
            # The order of a sum's terms is the database's plan, and so is its last digit.
            assert _floats(mine) == pytest.approx(_floats(his), rel=1e-14, abs=0)
        assert ours, f"{metric} tests nothing"


def _without_values(point: Any) -> dict[str, Any]:
    return {name: value for name, value in point.__dict__.items() if name != "values"}


def _floats(point: Any) -> dict[str, float]:
    """PostgreSQL answers some with decimals."""
    return {name: float(value) for name, value in point.values.items()}
