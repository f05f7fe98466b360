"""Wrong places, wrong columns, damage, a full disk: a clear error or a repair, nothing lost, nothing twice."""

import contextlib
import json
import random
import shutil
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import arro3.core
import msgspec
import polars
import pytest
from deltalake import DeltaTable, write_deltalake

from spanweir.exporters.api import Batch, Context, Permanent, Request, Retry
from spanweir.exporters.delta import Config, search_traces
from spanweir.schemas.options import Duration, Size
from spanweir.schemas.raw import RawLog
from spanweir.schemas.trace import Assessment
from tests.support import small_disk as disks
from tests.support.traces import log, trace


def built(path: Path, **options: Any) -> Any:
    config = Config(
        path=str(path / "tables"),
        **{"commit_interval": Duration(0), "maintenance_interval": Duration(0), **options},
    )
    return config.build(Context(name="delta", state_directory=str(path / "state")))


def read(path: Path, suffix: str) -> polars.DataFrame:
    return polars.read_delta(str(path / "tables" / f"spanweir_{suffix}"))


def whole(seed: int, sequence: int = 1) -> Batch:
    spans, row = trace(random.Random(seed))
    return Batch(first=sequence, last=sequence, spans=spans, traces=[row])


def told(path: Path, message: str, **options: Any) -> None:
    with pytest.raises(Permanent, match=message):
        built(path, **options).__enter__()


def test_a_directory_that_is_no_table(tmp_path: Path) -> None:
    place = tmp_path / "tables" / "spanweir_otel_spans"
    place.mkdir(parents=True)
    (place / "holiday.jpg").write_bytes(b"x")
    told(tmp_path, r"spanweir_otel_spans is a directory with files in it but no Delta table \(it has no _delta_log\)")


def test_a_file_in_the_place_of_a_table(tmp_path: Path) -> None:
    (tmp_path / "tables").mkdir()
    (tmp_path / "tables" / "spanweir_otel_spans").write_bytes(b"x")
    told(tmp_path, r"spanweir_otel_spans is a file; the table needs a directory of its own")


def test_a_table_of_other_columns(tmp_path: Path) -> None:
    table = arro3.core.Table.from_pydict({"colour": arro3.core.Array(["red"], arro3.core.DataType.string())})
    write_deltalake(str(tmp_path / "tables" / "spanweir_payload"), table)
    told(tmp_path, r"is a Delta table of other columns \(colour, …\), not a payload table")


def test_a_table_of_the_other_schema_version(tmp_path: Path) -> None:
    built(tmp_path, schema_version="v2").__enter__().__exit__(None, None, None)
    told(
        tmp_path,
        r"column attributes is VARIANT, not MAP \(the table says otel.schemaVersion=v2\); set schema_version to what",
    )


def test_columns_are_added_and_those_of_others_left(tmp_path: Path) -> None:
    with built(tmp_path) as exporter:
        exporter.export(whole(1))
    place = str(tmp_path / "tables" / "spanweir_otel_spans")
    table = DeltaTable(place)
    fields = [field for field in table.schema().fields if field.name not in ("service_name", "trace_state")]
    shutil.rmtree(place)
    from deltalake.schema import Field, PrimitiveType, Schema

    DeltaTable.create(place, Schema([*fields, Field("ours", PrimitiveType("string"))]), partition_by=["date"])
    with built(tmp_path) as exporter:
        exporter.export(whole(2, 2))
        exporter.export(whole(2, 2))
    rows = read(tmp_path, "otel_spans")
    assert set(rows["service_name"]) == {"librarian"}
    assert set(rows["ours"]) == {None}
    assert len(rows) == 4


def test_a_damaged_log_is_told_and_nothing_is_written_over_it(tmp_path: Path) -> None:
    with built(tmp_path) as exporter:
        exporter.export(whole(1))
    log = tmp_path / "tables" / "spanweir_otel_spans" / "_delta_log" / "00000000000000000001.json"
    log.write_bytes(log.read_bytes()[:40])
    before = sorted(log.parent.iterdir())
    with pytest.raises((Permanent, Retry), match="spanweir_otel_spans"):
        built(tmp_path).__enter__()
    assert sorted(log.parent.iterdir()) == before


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    with disks.small_disk(tmp_path / "disk", "4m") as place:
        yield place


def test_a_full_disk_mid_commit_loses_nothing(small_disk: Path, tmp_path: Path) -> None:
    config = Config(path=str(small_disk), commit_interval=Duration(0), maintenance_interval=Duration(0))
    one, two = whole(1), whole(2, 2)
    with config.build(Context(name="delta", state_directory=str(tmp_path / "state"))) as exporter:
        exporter.export(one)
        filler = small_disk / "filler"
        with contextlib.suppress(OSError):
            filler.write_bytes(bytes(4 << 20))
        for _ in range(2):
            with pytest.raises(Retry):
                exporter.export(two)
        assert exporter.durable == 1
        filler.unlink()
        exporter.export(two)
        assert exporter.durable == 2
    for suffix, expected in (("otel_spans", 8), ("payload", 2), ("otel_annotations", 8)):
        assert len(polars.read_delta(str(small_disk / f"spanweir_{suffix}"))) == expected


def test_a_disk_that_is_full_at_any_point_of_a_commit(small_disk: Path, tmp_path: Path) -> None:
    """From no room at all to room for all of it, in steps: files, log entries and overflow meet the end in turn."""
    config = Config(
        path=str(small_disk), commit_interval=Duration(0), maintenance_interval=Duration(0), max_payload_bytes=Size(400)
    )
    filler, refused = small_disk / "filler", 0
    batches = [whole(400 + n, n + 1) for n in range(22)]
    with config.build(Context(name="delta", state_directory=str(tmp_path / "state"))) as exporter:
        exporter.export(batches[0])
        for number, batch in enumerate(batches[1:]):
            free = shutil.disk_usage(small_disk).free - number * 4096
            filler.write_bytes(bytes(max(free, 0)))
            try:
                exporter.export(batch)
            except Retry:
                refused += 1
                filler.unlink()
                exporter.export(batch)
            filler.unlink(missing_ok=True)
        assert exporter.durable == len(batches)
    assert 5 < refused < len(batches) - 1
    added = {Path(uri).name for uri in DeltaTable(config.table_uri("otel_spans")).file_uris()}
    there = {file.name for file in Path(config.table_uri("otel_spans")).rglob("part-*")}
    assert len(there - added) <= refused  # a whole file whose commit failed may stay until it is swept; no halves do
    assert all(file.stat().st_size for file in Path(config.table_uri("otel_spans")).rglob("part-*"))
    spans = polars.read_delta(str(small_disk / "spanweir_otel_spans")).select("trace_id", "span_id").rows()
    assert sorted(spans) == sorted((s.trace_id, s.span_id) for b in batches for s in b.spans)
    payload = polars.read_delta(str(small_disk / "spanweir_payload"))["databricks_request_id"].to_list()
    assert sorted(payload) == sorted(f"tr-{b.traces[0].trace_id}" for b in batches)
    assert len(search_traces(config, max_results=100)) == len(batches)


def test_clocks_that_disagree_by_days(tmp_path: Path) -> None:
    """Spans of one trace by three clocks; replayed by a writer that has lost what it knew."""
    day_ns = 86_400_000_000_000
    batch = whole(20)
    for span, days in zip(batch.spans, (0, 2, -1, 36_500), strict=True):
        span.start_ns += days * day_ns
        span.end_ns = span.start_ns + 1
    for state in ("state", "other"):
        config = Config(path=str(tmp_path / "tables"), commit_interval=Duration(0), maintenance_interval=Duration(0))
        with config.build(Context(name="delta", state_directory=str(tmp_path / state))) as exporter:
            exporter.export(batch)
            exporter.export(batch)
    assert sorted(read(tmp_path, "otel_spans")["span_id"]) == sorted(span.span_id for span in batch.spans)
    assert len(read(tmp_path, "payload")) == 1
    start_ms = batch.traces[0].start_ns // 1_000_000
    [found] = search_traces(config, filter_string=f"timestamp_ms = {start_ms} AND span.name = 'step 1'")
    assert len(found.data.spans) == 4


def test_payloads_too_large_keep_their_row(tmp_path: Path) -> None:
    batch = whole(3)
    batch.traces[0].request = json.dumps({"question": "x" * 500}).encode()
    with built(tmp_path, max_payload_bytes=Size(400)) as exporter:
        exporter.export(batch)
        late = whole(3, 2)
        late.spans, late.traces[0].request = late.spans[:1], None
        exporter.export(late)
    [row] = read(tmp_path, "payload").to_dicts()
    assert (row["request"], row["response"]) == (None, None)
    assert row["logging_error_codes"] == ["MAX_REQUEST_SIZE_EXCEEDED", "MAX_RESPONSE_SIZE_EXCEEDED"]
    folder = tmp_path / "tables" / "spanweir_payload_overflow" / "date=2025-11-25"
    files = {f.name: f.read_bytes() for f in folder.iterdir()}
    request_id = f"tr-{batch.spans[0].trace_id}"
    assert json.loads(files[f"{request_id}.request.json"]) == {"question": "x" * 500}
    response = json.loads(files[f"{request_id}.response.json"])
    assert len(response["databricks_output"]["trace"]["data"]["spans"]) == 4


def test_odd_values_cost_no_neighbour(tmp_path: Path) -> None:
    batch, other = whole(4), whole(5)
    odd = batch.spans[0]
    odd.name, odd.raw.flags, odd.end_ns = "lone \ud800 surrogate", 1 << 32, 1 << 64
    odd.own["note"] = '"\\ud800"'
    batch.traces[0].request_preview = batch.traces[0].tags["odd"] = "half a pair \ud800"
    batch.traces += other.traces
    batch.spans += other.spans
    strange: dict[str, Any] = {"big": 1 << 70, "bytes": b"\xff", "deep": {"a": [None, {"b": float("nan")}]}}
    batch.logs.append(RawLog(time_ns=1, body=strange, attributes={**strange, "lone": "\ud800"}))
    with built(tmp_path) as exporter:
        exporter.export(batch)
    spans = read(tmp_path, "otel_spans")
    assert len(spans) == 8
    assert "lone ? surrogate" in spans["name"].to_list()
    traces = [json.loads(text)["databricks_output"]["trace"] for text in read(tmp_path, "payload")["response"]]
    previews = {trace["info"]["request_preview"] for trace in traces}
    assert previews == {"half a pair ?", "why?"}
    [stored] = read(tmp_path, "otel_logs").to_dicts()
    assert json.loads(stored["body"])["bytes"] == "/w=="


def test_days_far_apart_and_a_clock_at_zero(tmp_path: Path) -> None:
    batch = Batch(first=1, last=1)
    for day in (0, 1, 20_000, 40_000):
        spans, row = trace(random.Random(day), 2, day * 86_400_000_000_000 + 5)
        batch.spans += spans
        batch.traces.append(row)
    with built(tmp_path) as exporter:
        exporter.export(batch)
    days = read(tmp_path, "otel_spans")["date"].to_list()
    assert sorted({day.isoformat() for day in days}) == ["1970-01-01", "1970-01-02", "2024-10-04", "2079-07-08"]


def test_metrics_become_rows_once(tmp_path: Path) -> None:
    from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

    request = ExportMetricsServiceRequest()
    of_resource = request.resource_metrics.add()
    of_resource.resource.attributes.add(key="service.name").value.string_value = "meter"
    metrics = of_resource.scope_metrics.add().metrics
    for name, kind in (
        ("g", "gauge"),
        ("s", "sum"),
        ("h", "histogram"),
        ("e", "exponential_histogram"),
        ("q", "summary"),
    ):
        metric = metrics.add(name=name, unit="1")
        point = getattr(metric, kind).data_points.add(time_unix_nano=1_764_064_800_000_000_000)
        point.attributes.add(key="model").value.string_value = "m"
        if kind in ("gauge", "sum"):
            point.as_int = 7
            point.exemplars.add(as_double=1.5, span_id=b"\1" * 8)
        elif kind == "histogram":
            point.count, point.sum = 3, 4.5
            point.bucket_counts.extend([1, 2])
            point.explicit_bounds.append(0.5)
        elif kind == "summary":
            point.quantile_values.add(quantile=0.5, value=2.0)
    batch = Batch(first=1, last=1, requests=[Request(signal="metrics", body=request.SerializeToString())])
    for version in ("v1", "v2"):
        path = tmp_path / version
        for _ in range(2):
            with built(path, schema_version=version) as exporter:
                exporter.export(batch)
        rows = {row["name"]: row for row in read(path, "otel_metrics").to_dicts()}
        assert len(rows) == len(read(path, "otel_metrics")) == 5
        assert rows["g"]["gauge"]["value"] == 7.0
        assert rows["s"]["sum"]["exemplars"][0]["span_id"] == "01" * 8
        assert rows["h"]["histogram"]["bucket_counts"] == [1, 2]
        assert rows["q"]["summary"]["quantile_values"] == [{"quantile": 0.5, "value": 2.0}]
        assert rows["g"]["service_name"] == "meter"
        assert rows["g"]["histogram"] is None


def test_equal_log_records_are_kept_apart_and_replayed_once(tmp_path: Path) -> None:
    one = log(random.Random(1), trace(random.Random(2))[0][0])
    for _ in range(2):
        with built(tmp_path) as exporter:
            exporter.export(Batch(first=1, last=1, logs=[one, one, one]))
    rows = read(tmp_path, "otel_logs")
    assert len(rows) == rows["record_id"].n_unique() == 3
    assert rows["severity_number"][0] == "SEVERITY_NUMBER_INFO"


def test_the_schema_version_is_stated_and_readers_agree(tmp_path: Path) -> None:
    import duckdb

    with built(tmp_path) as exporter:
        exporter.export(whole(6))
    place = tmp_path / "tables" / "spanweir_otel_spans"
    assert DeltaTable(str(place)).metadata().configuration["otel.schemaVersion"] == "v1"
    files = DeltaTable(str(place)).file_uris()
    query = f"SELECT attributes['mlflow.spanType'] FROM read_parquet({files}) WHERE name = 'step 2'"
    assert duckdb.sql(query).fetchall() == [("CHAT_MODEL",)]
    [chat] = read(tmp_path, "otel_spans").filter(polars.col("name") == "step 2").to_dicts()
    assert {"key": "mlflow.spanType", "value": "CHAT_MODEL"} in _entries(chat["attributes"])
    [row] = read(tmp_path, "payload").to_dicts()
    assert (row["status_code"], row["sampling_fraction"], row["served_entity_id"]) == (201, 0.25, "librarian")


def _entries(attributes: Any) -> list[dict[str, Any]]:
    """Polars reads maps as lists of entries, or as dicts, depending on its version."""
    if isinstance(attributes, dict):
        return [{"key": key, "value": value} for key, value in attributes.items()]
    return list(attributes)


def test_what_is_written_can_be_read_by_mlflow(tmp_path: Path) -> None:
    from mlflow.entities import Trace

    batch = whole(7)
    batch.traces[0].assessments += [
        Assessment(
            assessment_id="a-2", name="facts", kind="expectation", value='{"a": [1]}', source_type="HUMAN",
            source_id="me", span_id=batch.spans[1].span_id, metadata={"k": "v"}, created_ms=1_764_064_800_123,
        ),
        Assessment(assessment_id="a-3", name="failed", kind="feedback", value="null", error="boom", created_ms=1),
    ]  # fmt: skip
    with built(tmp_path) as exporter:
        exporter.export(batch)
    [row] = read(tmp_path, "payload").to_dicts()
    stored = json.loads(row["response"])["databricks_output"]["trace"]
    assert Trace.from_dict(stored).to_dict() == stored


def test_it_tells_what_it_has_stored(tmp_path: Path) -> None:
    batch, other = whole(8), whole(9)
    with built(tmp_path) as exporter:
        exporter.export(batch)
    with built(tmp_path) as exporter:
        known = exporter.known([batch.traces[0].trace_id, other.traces[0].trace_id])
        assert list(known) == [batch.traces[0].trace_id]
        [stored] = known.values()
        sent = batch.traces[0]
        for field in ("name", "root_span_id", "start_ns", "session_id", "user_id", "usage", "tags", "metadata"):
            assert getattr(stored.row, field) == getattr(sent, field), field
        assert [a.name for a in stored.row.assessments] == ["relevance"]
        assert {s.span_id for s in stored.spans} == {s.span_id for s in batch.spans}
        assert stored.row.complete


def test_table_care_keeps_rows_and_drops_what_is_old(tmp_path: Path) -> None:
    from spanweir.exporters.delta.care import decode, encode, maintain

    config = Config(
        path=str(tmp_path / "tables"), commit_interval=Duration(0), maintenance_interval=Duration(0),
        max_payload_bytes=Size(400), vacuum_retention=Duration(0), compact_files=3,
    )  # fmt: skip
    assert decode(encode(config)) == config
    with config.build(Context(name="delta", state_directory=str(tmp_path / "state"))) as exporter:
        for sequence in range(1, 9):
            exporter.export(whole(sequence, sequence))
    done = maintain(config)
    assert done["spans"] == {"deleted": 0, "compacted": 8, "vacuumed": 8}
    assert len(DeltaTable(config.table_uri("otel_spans")).file_uris()) == 1
    assert read(tmp_path, "otel_spans").select("trace_id", "span_id").n_unique() == 32
    assert maintain(config)["spans"] == {"deleted": 0, "compacted": 0, "vacuumed": 0}
    overflow = tmp_path / "tables" / "spanweir_payload_overflow"
    assert len([f for f in overflow.rglob("*") if f.is_file()]) == 8
    limited = msgspec.structs.replace(config, retention=Duration(86400))
    done = maintain(limited)
    assert [done[name]["deleted"] for name in ("spans", "payload", "annotations")] == [32, 8, 32]
    assert [f for f in overflow.rglob("*") if f.is_file()] == []


def test_checkpoints_are_written_while_it_runs(tmp_path: Path) -> None:
    with built(tmp_path, maintenance_interval=Duration(0.05), checkpoint_commits=3) as exporter:
        place = tmp_path / "tables" / "spanweir_otel_spans" / "_delta_log" / "_last_checkpoint"
        for sequence in range(1, 400):
            exporter.export(whole(sequence, sequence))
            if place.exists():
                break
            time.sleep(0.02)
        assert json.loads(place.read_text())["version"] >= 3


def test_a_commit_goes_through_a_short_log(tmp_path: Path) -> None:
    """delta-rs goes through it with each commit: without this, commits become slower for as long as it runs."""
    with built(tmp_path) as exporter:
        target = exporter._targets["spans"]
        for sequence in (1, 2, 3):
            exporter.export(whole(sequence, sequence))
        opened = target.table
        target.checkpoint()
        exporter.export(whole(4, 4))
        reopened = target.table
        assert reopened is not opened
        assert target.written() == exporter.durable == 4
        exporter.export(whole(5, 5))
        assert target.table is reopened
    assert read(tmp_path, "otel_spans")["trace_id"].n_unique() == 5


def test_what_a_table_goes_without_is_counted(tmp_path: Path) -> None:
    left_out: list[tuple[str, str, int]] = []
    context = Context(
        name="delta", state_directory=str(tmp_path / "state"), left_out=lambda *what: left_out.append(what)
    )
    config = Config(path=str(tmp_path / "tables"), commit_interval=Duration(0), maintenance_interval=Duration(0))
    batch, open_one = whole(4), whole(5, 2)
    odd: Any = batch.spans[1].raw
    odd.trace_state = object()  # of what a request can hold, no value is known that Arrow refuses
    open_one.traces = []
    with config.build(context) as exporter:
        exporter.export(batch)
        exporter.export(open_one)
    assert len(read(tmp_path, "otel_spans")) == len(batch.spans) - 1 + len(open_one.spans)
    assert left_out == [("spans", "unwritable", 1)]
    with sqlite3.connect(tmp_path / "state" / "spool.db") as spool:  # nothing comes for a year
        spool.execute("UPDATE pending SET noted = noted - 365")
    with config.build(context):
        pass
    assert left_out[1:] == [("payload", "incomplete", len(open_one.spans))]
