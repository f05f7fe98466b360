"""The file exporter: the format, exactly-once over a torn write, rotation."""

import json
from pathlib import Path

import pytest
from google.protobuf.json_format import ParseDict
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

from spanweir.exporters.api import Batch, Request
from spanweir.exporters.file import Config, File, Rotation, json_line
from tests.benchmarks.load import make_requests
from tests.support.batches import context


def requests(first: int, signal: str = "traces") -> Batch:
    return Batch(first=first, last=first, requests=[Request(signal=signal, body=make_requests(1, 1, seed=first)[0])])


def exporter(tmp_path: Path, **options: object) -> File:
    return Config(path=str(tmp_path / "out.jsonl"), **options).build(context("file", tmp_path / "state"))


def test_ids_are_hex_wherever_they_stand_and_attributes_are_left_alone() -> None:
    logs = ExportLogsServiceRequest()
    record = logs.resource_logs.add().scope_logs.add().log_records.add(trace_id=bytes(range(16)), span_id=bytes(8))
    record.severity_number = 9
    record.attributes.add(key="traceId").value.string_value = "YWJj"
    record.body.kvlist_value.values.add(key="spanId").value.string_value = "YWJj"
    document = json.loads(json_line(Request(signal="logs", body=logs.SerializeToString())))
    written = document["resourceLogs"][0]["scopeLogs"][0]["logRecords"][0]
    assert written["traceId"] == "000102030405060708090a0b0c0d0e0f"
    assert written["spanId"] == "0000000000000000"
    assert written["severityNumber"] == 9
    assert written["attributes"] == [{"key": "traceId", "value": {"stringValue": "YWJj"}}]
    assert written["body"]["kvlistValue"]["values"][0]["value"] == {"stringValue": "YWJj"}


def test_metrics_with_exemplars() -> None:
    request = ExportMetricsServiceRequest()
    metric = request.resource_metrics.add().scope_metrics.add().metrics.add(name="m")
    point = metric.histogram.data_points.add(count=3, bucket_counts=[1, 2], explicit_bounds=[0.5])
    point.exemplars.add(trace_id=b"\xab" * 16, span_id=b"\xcd" * 8, as_double=1.5)
    line = json.loads(json_line(Request(signal="metrics", body=request.SerializeToString())))
    written = line["resourceMetrics"][0]["scopeMetrics"][0]["metrics"][0]["histogram"]["dataPoints"][0]
    assert written["exemplars"][0]["traceId"] == "ab" * 16
    assert written["bucketCounts"] == ["1", "2"]
    del written["exemplars"]
    assert ParseDict(line, ExportMetricsServiceRequest()).resource_metrics[0].scope_metrics[0].metrics[0].name == "m"


def test_a_torn_write_is_cut_off_at_the_next_start(tmp_path: Path) -> None:
    with exporter(tmp_path) as file:
        file.export(requests(1))
    path = tmp_path / "out.jsonl"
    whole = path.read_bytes()
    with path.open("ab") as torn:
        torn.write(b'{"resourceSpans":[{"res')
    with exporter(tmp_path) as file:
        file.export(requests(2))
    assert path.read_bytes().startswith(whole)
    assert len([json.loads(line) for line in path.read_text().splitlines()]) == 2


def test_a_file_that_somebody_emptied_is_appended_to(tmp_path: Path) -> None:
    with exporter(tmp_path) as file:
        file.export(requests(1))
    (tmp_path / "out.jsonl").write_bytes(b"")
    with exporter(tmp_path) as file:
        file.export(requests(2))
    assert len((tmp_path / "out.jsonl").read_text().splitlines()) == 1


def test_rotation_keeps_the_newest_files(tmp_path: Path) -> None:
    rotation = Rotation(max_megabytes=1, max_backups=2)
    big = Request(signal="traces", body=make_requests(1, 100, seed=1)[0])
    assert len(json_line(big)) > 1_000_000
    with exporter(tmp_path, rotation=rotation) as file:
        for first in range(1, 7):
            file.export(Batch(first=first, last=first, requests=[big]))
    names = sorted(path.name for path in tmp_path.glob("*.jsonl"))
    assert names[-1] == "out.jsonl"
    assert len(names) == 3
    assert all(len((tmp_path / name).read_text().splitlines()) == 1 for name in names)


def test_a_path_that_names_no_file_is_refused() -> None:
    with pytest.raises(ValueError, match="path must name a file"):
        Config(path="/")
