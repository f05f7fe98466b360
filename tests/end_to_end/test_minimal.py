"""The smallest configuration, as a process: what is sent over gRPC and HTTP stands in both stores, once."""

import json
from pathlib import Path

import pytest
from deltalake import DeltaTable
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

from spanweir.collector.decode.otlp_proto import decode_traces
from tests.benchmarks.load import make_requests
from tests.support.service import Service, eventually


def ids_of(*bodies: bytes) -> list[tuple[str, str]]:
    return sorted((span.trace_id, span.span_id) for body in bodies for span in decode_traces(body))


def table(directory: Path, name: str) -> list[dict]:
    try:
        return DeltaTable(str(directory / "tables" / f"spanweir_{name}")).to_pyarrow_table().to_pylist()
    except Exception:
        return []


def logs_request() -> bytes:
    request = ExportLogsServiceRequest()
    record = request.resource_logs.add().scope_logs.add().log_records.add(event_name="app.started", time_unix_nano=5)
    record.body.string_value = "hello"
    return request.SerializeToString()


def metrics_request() -> bytes:
    request = ExportMetricsServiceRequest()
    metric = request.resource_metrics.add().scope_metrics.add().metrics.add(name="queue.depth", unit="1")
    metric.gauge.data_points.add(time_unix_nano=7, as_double=2.5)
    return request.SerializeToString()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> tuple[Service, list[bytes]]:
    """A service that was sent traces over both transports, logs and metrics, and has stored and stopped."""
    bodies = make_requests(3, 2, seed=11)
    service = Service(tmp_path_factory.mktemp("minimal"))
    with service:
        service.call(bodies[0])
        assert service.post(bodies[1])[0] == 200
        assert service.post(json_of(bodies[2]), content_type="application/json")[0] == 200
        service.call(logs_request(), "logs")
        assert service.post(metrics_request(), "metrics")[0] == 200
        eventually(lambda: len(service.stored_spans()) >= 30, what="30 spans in the MLflow store")
        eventually(lambda: len(table(service.directory, "payload")) >= 6, what="6 rows in the inference table")
        eventually(lambda: table(service.directory, "otel_logs"), what="the log record")
        eventually(lambda: table(service.directory, "otel_metrics"), what="the metric")
        assert service.metrics()["otelcol_receiver_accepted_spans"] == 30
        assert service.stop() == 0
    return service, bodies


def json_of(body: bytes) -> bytes:
    from spanweir.exporters.api import Request
    from spanweir.exporters.file import json_line

    return json_line(Request(signal="traces", body=body))


def test_every_span_is_in_the_mlflow_store_once(served: tuple[Service, list[bytes]]) -> None:
    service, bodies = served
    assert service.stored_spans() == ids_of(*bodies)


def test_every_trace_is_complete(served: tuple[Service, list[bytes]]) -> None:
    service, _ = served
    rows = service.rows("SELECT status, request_preview, response_preview, execution_time_ms FROM trace_info")
    assert len(rows) == 6
    for status, request, response, duration in rows:
        assert status == "OK"
        assert request
        assert response
        assert duration > 0


def test_every_span_is_in_the_delta_table_once(served: tuple[Service, list[bytes]]) -> None:
    service, bodies = served
    rows = table(service.directory, "otel_spans")
    assert sorted((row["trace_id"], row["span_id"]) for row in rows) == ids_of(*bodies)


def test_every_trace_is_an_inference_row(served: tuple[Service, list[bytes]]) -> None:
    service, bodies = served
    rows = table(service.directory, "payload")
    traces = [json.loads(row["response"])["databricks_output"]["trace"] for row in rows]
    assert sorted(trace["info"]["trace_id"].removeprefix("tr-") for trace in traces) == sorted(
        {trace_id for trace_id, _ in ids_of(*bodies)}
    )
    assert all(len(trace["data"]["spans"]) == 5 for trace in traces)


def test_logs_and_metrics_are_there(served: tuple[Service, list[bytes]]) -> None:
    service, _ = served
    assert [row["event_name"] for row in table(service.directory, "otel_logs")] == ["app.started"]
    assert [row["name"] for row in table(service.directory, "otel_metrics")] == ["queue.depth"]


def test_mlflow_reads_the_traces(served: tuple[Service, list[bytes]]) -> None:
    from mlflow import MlflowClient

    service, bodies = served
    client = MlflowClient(f"sqlite:///{service.database}")
    found = client.search_traces(locations=["0"])
    assert len(found) == 6
    trace = client.get_trace(f"tr-{ids_of(bodies[0])[0][0]}")
    kinds = {span.span_type for span in trace.data.spans}
    assert kinds == {"AGENT", "EMBEDDING", "RETRIEVER", "CHAT_MODEL", "TOOL"}
    assert trace.info.token_usage
    root = next(span for span in trace.data.spans if span.parent_id is None)
    assert root.inputs
    assert root.outputs


def test_a_restart_goes_on_and_writes_nothing_twice(served: tuple[Service, list[bytes]]) -> None:
    before, bodies = served
    more = make_requests(1, 2, seed=12)
    service = Service(before.directory)
    with service:
        service.call(more[0])
        eventually(lambda: len(service.stored_spans()) >= 40, what="40 spans in the MLflow store")
        eventually(lambda: len(table(service.directory, "payload")) >= 8, what="8 rows in the inference table")
    assert service.stored_spans() == ids_of(*bodies, *more)
    rows = table(service.directory, "otel_spans")
    assert sorted((row["trace_id"], row["span_id"]) for row in rows) == ids_of(*bodies, *more)
