"""What a pipeline is: only what its receivers took in, changed by its processors, for every signal."""

import json
from pathlib import Path
from typing import Any

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue

from spanweir.collector.demo.process import free_ports
from tests.benchmarks.load import make_requests
from tests.support.otlp_client import send
from tests.support.service import Service, eventually

MAIL = "jane@example.com"
APART = """\
receivers:
  otlp: {protocols: {grpc: , http: }}
  otlp/second: {protocols: {grpc: {endpoint: "127.0.0.1:SECOND"}}}
exporters:
  file: {path: out.jsonl, fsync: false}
  file/second: {path: second.jsonl, fsync: false}
  file/both: {path: both.jsonl, fsync: false}
service:
  queue: {type: disk, directory: ./queue}
  pipelines:
    traces: {receivers: [otlp], exporters: [file, file/both]}
    traces/second: {receivers: [otlp/second], exporters: [file/second, file/both]}
"""
REDACTED = """\
receivers: {otlp: {protocols: {grpc: , http: }}}
processors:
  redaction: {}
  attributes: {actions: [{key: region, value: north}]}
  resource: {attributes: [{key: cluster, value: one}]}
exporters: {file: {path: out.jsonl, fsync: false}, file/plain: {path: plain.jsonl, fsync: false}}
service:
  queue: {type: disk, directory: ./queue}
  pipelines:
    logs: {receivers: [otlp], processors: [redaction], exporters: [file]}
    metrics: {receivers: [otlp], processors: [attributes, resource, redaction], exporters: [file]}
    metrics/plain: {receivers: [otlp], exporters: [file/plain]}
"""


def pair(key: str, value: str) -> KeyValue:
    return KeyValue(key=key, value=AnyValue(string_value=value))


def metrics_of_every_kind() -> bytes:
    request = ExportMetricsServiceRequest()
    resource = request.resource_metrics.add()
    resource.resource.attributes.append(pair("owner", MAIL))
    scope = resource.scope_metrics.add()
    scope.scope.attributes.append(pair("author", MAIL))
    for kind in ("gauge", "sum", "histogram", "exponential_histogram", "summary"):
        metric = scope.metrics.add(name=f"calls.{kind}")
        metric.metadata.append(pair("contact", MAIL))
        point = getattr(metric, kind).data_points.add()
        point.attributes.extend([pair("user", MAIL), pair("password", "hunter2"), pair("model", "m")])
        if kind != "summary":
            exemplar = point.exemplars.add(span_id=b"12345678", trace_id=b"1234567890123456")
            exemplar.filtered_attributes.append(pair("customer", MAIL))
    return request.SerializeToString()


def objects(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def spans_in(path: Path) -> int:
    return path.read_text().count('"spanId"') if path.exists() else 0


def test_pipelines_tell_receivers_apart(tmp_path: Path) -> None:
    (second,) = free_ports(1)
    with Service(tmp_path, APART.replace("SECOND", str(second))) as service:
        for body in make_requests(2, 1):
            service.call(body, metadata={"x-mlflow-experiment-id": "1"})
        assert send("grpc", f"127.0.0.1:{second}", make_requests(1, 1, seed=2)[0]).code == 0
        eventually(lambda: spans_in(tmp_path / "both.jsonl") == 15, what="all spans in the file of both")
        eventually(lambda: spans_in(tmp_path / "out.jsonl") == 10, what="the first receiver's spans")
        eventually(lambda: spans_in(tmp_path / "second.jsonl") == 5, what="the second receiver's spans")
    assert (spans_in(tmp_path / "out.jsonl"), spans_in(tmp_path / "second.jsonl")) == (10, 5)


def test_processors_of_a_logs_pipeline_are_applied(tmp_path: Path) -> None:
    request = ExportLogsServiceRequest()
    record = request.resource_logs.add().scope_logs.add().log_records.add(time_unix_nano=1)
    record.body.string_value = f"from {MAIL}"
    with Service(tmp_path, REDACTED) as service:
        service.call(request.SerializeToString(), "logs")
        eventually(lambda: objects(tmp_path / "out.jsonl"), what="the log record")
    text = (tmp_path / "out.jsonl").read_text()
    assert "from [REDACTED_EMAIL]" in text
    assert MAIL not in text


def test_metrics_are_redacted_and_changed_in_every_place(tmp_path: Path) -> None:
    with Service(tmp_path, REDACTED) as service:
        service.call(metrics_of_every_kind(), "metrics")
        eventually(lambda: objects(tmp_path / "out.jsonl"), what="the metrics")
        eventually(lambda: objects(tmp_path / "plain.jsonl"), what="the metrics of the other pipeline")
    text = (tmp_path / "out.jsonl").read_text()
    assert MAIL not in text
    assert "hunter2" not in text
    # Owner, author, and of each kind its contact and user, of all but the summary its exemplar's customer.
    assert text.count("[REDACTED_EMAIL]") == 2 + 5 + 5 + 4
    assert text.count('"north"') == 5
    assert text.count('"one"') == 1
    assert all(f"calls.{kind}" in text for kind in ("gauge", "sum", "histogram", "exponential_histogram", "summary"))
    plain = (tmp_path / "plain.jsonl").read_text()
    assert plain.count(MAIL) == 16
    assert '"north"' not in plain
