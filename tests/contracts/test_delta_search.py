"""Searching the Delta tables gives what MLflow gives over its own store, holding the same traces."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import polars
import pytest
from deltalake import DeltaTable

from spanweir.exporters import delta
from spanweir.exporters import mlflow as mlflow_exporter
from spanweir.exporters.api import Batch, Context
from spanweir.exporters.delta.reading import Tables, trace_metadata, trace_unified
from spanweir.schemas.options import Duration
from spanweir.schemas.trace import MappedSpan, TraceRow
from tests.support.stores import sqlite_store
from tests.support.traces import START_NS, trace

Stores = tuple[str, mlflow.MlflowClient]


@pytest.fixture(scope="module", params=["v1", "v2"])
def stores(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Stores:
    directory = tmp_path_factory.mktemp("search")
    spans, rows = _traces()
    batch = Batch(first=1, last=1, spans=spans, traces=rows)
    uri = sqlite_store(directory / "mlflow.db")
    tables = delta.Config(
        path=f"{directory}/tables", schema_version=request.param, commit_interval=Duration(0),
        maintenance_interval=Duration(0),
    )  # fmt: skip
    store = mlflow_exporter.Config(tracking_uri=uri, experiment="Default")
    for name, config in (("delta", tables), ("mlflow", store)):
        state = directory / name
        state.mkdir()
        with config.build(Context(name=name, state_directory=str(state))) as exporter:
            exporter.export(batch)
    return str(directory / "tables"), mlflow.MlflowClient(tracking_uri=uri)


def _traces() -> tuple[list[MappedSpan], list[TraceRow]]:
    rng, spans, rows = random.Random(1), [], []
    for number in range(60):
        of_trace, row = trace(rng, rng.randint(2, 5), START_NS + number * 3_600_000_000_000)
        row.experiment = "0"
        row.tags = {"team": "ab"[number % 2], 'odd "q"': "it's", "mlflow.traceName": f"step {number % 3}"}
        row.name = f"step {number % 3}"
        row.metadata = {"mlflow.source.name": f"src-{number}", "said": 'say "hi"'}
        row.assessments[0].value = str(number / 60)
        if number % 10 == 0:
            of_trace[0].status, row.state = "ERROR", "ERROR"
        spans += of_trace
        rows.append(row)
    return spans, rows


MIDDLE_MS = START_NS // 1_000_000 + 30 * 3_600_000
FILTERS = [
    None,
    "status = 'ERROR'",
    "status != 'ERROR' AND tag.team = 'a'",
    "tag.team != 'a'",
    "tag.team LIKE 'A'",
    "tag.team ILIKE 'A'",
    "tag.team RLIKE '^[b-z]$'",
    "tag.missing IS NULL",
    "tag.team IS NOT NULL",
    "name = 'step 1'",
    f"timestamp_ms = {MIDDLE_MS}",
    f"timestamp_ms > {MIDDLE_MS}",
    f"timestamp_ms <= {MIDDLE_MS} AND timestamp_ms >= {MIDDLE_MS - 7_200_000}",
    f"timestamp_ms != {MIDDLE_MS} AND span.name = 'step 4'",
    "execution_time >= 1",
    "execution_time < 1",
    "metadata.`mlflow.source.name` = 'src-7'",
    "metadata.said = 'say \"hi\"'",
    "metadata.said LIKE 'say%'",
    "metadata.missing IS NULL",
    "metadata.`mlflow.trace.session` = 'session'",
    "span.type = 'CHAT_MODEL'",
    "span.type IN ('CHAT_MODEL', 'TOOL') AND span.name = 'step 1'",
    "span.type = 'CHAIN' AND span.status = 'ERROR'",
    "span.type != 'CHAIN'",
    "span.type LIKE 'chat%'",
    "span.type ILIKE 'chat%'",
    "span.type RLIKE '^CHAT_[A-Z]+$' AND status = 'OK'",
    "span.attributes.mlflow.llm.model LIKE '%gpt-4%'",
    "span.content LIKE '%number 4%'",
    "trace.text ILIKE '%NUMBER 3%'",
    "span.content LIKE '%number 1%' AND span.content LIKE '%number 2%'",
    "trace.text LIKE '%number 3%' AND span.name = 'step 3'",
    "trace.text LIKE '%number 3%' AND span.name = 'step 2'",
    "trace.text ILIKE '%NUMBER 2, 0.1%' AND span.type = 'CHAT_MODEL' AND span.status != 'ERROR'",
    "trace.text LIKE '%number 2%' AND span.type IN ('CHAT_MODEL', 'TOOL') AND status = 'OK'",
    "trace.text LIKE '%number _, 0.5%' AND span.attributes.mlflow.llm.model LIKE '%gpt%' AND span.name RLIKE '2$'",
    "feedback.relevance > 0.5",
    "feedback.missing = 'yes'",
    "expectation.relevance IS NULL",
    "client_request_id LIKE 'client-%'",
]


@pytest.mark.parametrize("text", FILTERS)
def test_a_filter_finds_what_mlflow_finds(stores: Stores, text: str | None) -> None:
    tables, client = stores
    expected = client.search_traces(locations=["0"], filter_string=text, max_results=100)
    found = delta.search_traces(tables, filter_string=text, max_results=100)
    assert [t.info.trace_id for t in found] == [t.info.trace_id for t in expected]


# MLflow 3.18 compares `=` and RLIKE with the whole span document; here they mean the value of the attribute.
OF_ATTRIBUTES: dict[str, Callable[[MappedSpan], bool]] = {
    f"span.attributes.mlflow.llm.model = 'gpt-4o-mini' AND timestamp_ms > {MIDDLE_MS}": lambda span: (
        span.model is not None and span.start_ns // 1_000_000 > MIDDLE_MS
    ),
    "span.attributes.mlflow.llm.model IN ('gpt-4o-mini', 'other')": lambda span: span.model is not None,
    "span.attributes.mlflow.llm.model RLIKE '^gpt-.*-mini$'": lambda span: span.model is not None,
    "span.attributes.`gen_ai.usage.input_tokens` = '4' AND span.name = 'step 4'": lambda span: span.name == "step 4",
    "span.attributes.gen_ai.usage.input_tokens = '4' AND span.name = 'step 3'": lambda span: False,
    "span.attributes.note LIKE 'with \"quotes\" and %'": lambda span: True,
    "span.attributes.mlflow.spanInputs LIKE '%\"number 4, %'": lambda span: span.name == "step 4",
    "span.attributes.mlflow.llm.model LIKE '%4o-mini'": lambda span: span.model is not None,
    "span.attributes.gen_ai.usage.input_tokens LIKE '%4%'": lambda span: span.name == "step 4",
    "span.attributes.mlflow.spanInputs LIKE '%question%number 3%'": lambda span: span.name == "step 3",
    'span.attributes.mlflow.spanInputs LIKE \'{"question":"number 3, %\'': lambda span: span.name == "step 3",
    "span.attributes.missing != 'x'": lambda span: False,
    "span.type = 'CHAT_MODEL' AND span.name = 'step 1'": lambda span: False,
}


@pytest.mark.parametrize("text", OF_ATTRIBUTES)
def test_attributes_of_spans(stores: Stores, text: str) -> None:
    expected = {f"tr-{span.trace_id}" for span in _traces()[0] if OF_ATTRIBUTES[text](span)}
    assert {t.info.trace_id for t in delta.search_traces(stores[0], filter_string=text)} == expected


@pytest.mark.parametrize(
    "order", [["timestamp_ms ASC"], ["execution_time DESC", "timestamp_ms ASC"], ["tag.team ASC"], ["name DESC"]]
)
def test_an_order_is_mlflows(stores: Stores, order: list[str]) -> None:
    tables, client = stores
    expected = client.search_traces(locations=["0"], order_by=order, max_results=25)
    found = delta.search_traces(tables, order_by=order, max_results=25)
    assert [t.info.trace_id for t in found] == [t.info.trace_id for t in expected]


def test_a_trace_is_the_same_from_either_store(stores: Stores) -> None:
    tables, client = stores
    [found] = delta.search_traces(tables, filter_string="metadata.`mlflow.source.name` = 'src-7'")
    expected = client.get_trace(found.info.trace_id)
    ours, theirs = found.to_dict(), expected.to_dict()
    for of_one_store in ("mlflow.artifactLocation", "mlflow.trace.spansLocation"):
        theirs["info"]["tags"].pop(of_one_store, None)
    assert ours["data"] == theirs["data"]
    for key in ("trace_id", "request_time", "state", "execution_duration_ms", "request_preview", "client_request_id"):
        assert ours["info"][key] == theirs["info"][key]
    assert ours["info"]["tags"] == theirs["info"]["tags"]
    assert [a.name for a in found.info.assessments] == [a.name for a in expected.info.assessments]
    assert found.info.token_usage == expected.info.token_usage


def test_arrow_has_the_columns_of_trace_unified(stores: Stores) -> None:
    table: Any = polars.DataFrame(delta.search_traces(stores[0], max_results=3, return_type="arrow"))
    assert table["state"].to_list() == ["OK"] * 3
    assert table["spans"].list.len().to_list() == [len(s) for s in table["spans"].to_list()]
    assert {a["name"] for row in table["assessments"].to_list() for a in row} == {"relevance"}


def test_readers_take_sql_over_the_payload_table(stores: Stores) -> None:
    tables = Tables(stores[0])
    assert trace_unified(tables, where="status_code = 201 AND requester = 'user'", limit=7).num_rows == 7
    assert trace_metadata(tables).column_names == [
        "trace_id", "client_request_id", "tags", "trace_metadata", "assessments",
    ]  # fmt: skip


def test_files_of_other_days_are_not_opened(stores: Stores, tmp_path: Path) -> None:
    day_ms = START_NS // 1_000_000 + 50 * 3_600_000
    [gone] = list(Path(stores[0], "spanweir_payload", "request_date=2025-11-25").glob("*.parquet"))
    away = tmp_path / "away"
    gone.rename(away)
    try:
        found = delta.search_traces(stores[0], filter_string=f"timestamp_ms > {day_ms} AND status = 'OK'")
        assert len(found) == 9
    finally:
        away.rename(gone)


def test_no_table_is_told(tmp_path: Path) -> None:
    with pytest.raises(LookupError, match=r"there is no table .*/spanweir_payload; check path and prefix"):
        delta.search_traces(str(tmp_path))


def test_a_reader_outlives_the_log_that_it_has_read(tmp_path: Path) -> None:
    config = delta.Config(path=str(tmp_path / "tables"), commit_interval=Duration(0), maintenance_interval=Duration(0))
    rng, reader = random.Random(3), Tables(config)
    with config.build(Context(name="delta", state_directory=str(tmp_path / "state"))) as exporter:
        for sequence in range(1, 6):
            spans, row = trace(rng)
            exporter.export(Batch(first=sequence, last=sequence, spans=spans, traces=[row]))
            if sequence == 1:
                assert len(delta.search_traces(reader, filter_string="status = 'OK'")) == 1
    for suffix in ("payload", "otel_spans"):
        DeltaTable(config.table_uri(suffix)).create_checkpoint()
        log = Path(config.table_uri(suffix), "_delta_log")
        for entry in sorted(log.glob("*.json"))[:-1]:
            entry.unlink()
    reader.refresh()
    assert len(delta.search_traces(reader, filter_string="status = 'OK'")) == 5


def test_a_table_with_a_broken_log_is_told(tmp_path: Path) -> None:
    config = delta.Config(path=str(tmp_path / "tables"), maintenance_interval=Duration(0))
    config.build(Context(name="delta", state_directory=str(tmp_path / "state"))).__enter__().__exit__(None, None, None)
    Path(config.table_uri("payload"), "_delta_log", "00000000000000000000.json").write_bytes(b'{"metaData": ')
    with pytest.raises(LookupError, match=r"tables/spanweir_payload: "):
        delta.search_traces(config)
