"""`spanweir run` as a process, for end-to-end tests: real sockets, a real queue, real stores."""

import http.client
import sqlite3
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import grpc

from spanweir.collector.demo.process import Collector, free_ports

MINIMAL = """\
receivers: {otlp: {protocols: {grpc: {endpoint: 127.0.0.1:4317}, http: {endpoint: 127.0.0.1:4318}}}}
exporters:
  mlflow: {tracking_uri: "sqlite:///mlflow.db", experiment: Default}
  delta: {path: ./tables}
service:
  queue: {type: disk, directory: ./queue, max_bytes: 10GiB}
  pipelines:
    traces: {receivers: [otlp], exporters: [mlflow, delta]}
    logs: {receivers: [otlp], exporters: [mlflow, delta]}
    metrics: {receivers: [otlp], exporters: [delta]}
"""
"""The smallest useful configuration, as in the README."""

TO_FILE = """\
receivers: {otlp: {protocols: {grpc: , http: }}}
exporters: {file: {path: out.jsonl, fsync: false}}
service:
  queue: {type: disk, directory: ./queue}
  pipelines:
    traces: {receivers: [otlp], exporters: [file]}
    logs: {receivers: [otlp], exporters: [file]}
    metrics: {receivers: [otlp], exporters: [file]}
"""
"""No store to create: for tests of what happens before the exporters."""

_METHODS = {
    "traces": "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
    "logs": "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
    "metrics": "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
}


class Service(Collector):
    """Listens on free ports whatever the configuration says."""

    def __init__(self, directory: Path, configuration: str = MINIMAL, *, assignments: Iterable[str] = ()) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.grpc_port, self.http_port, self.metrics_port = free_ports(3)
        settings = [
            f"receivers.otlp.protocols.grpc.endpoint=127.0.0.1:{self.grpc_port}",
            f"receivers.otlp.protocols.http.endpoint=127.0.0.1:{self.http_port}",
            f"service.telemetry.metrics.endpoint=127.0.0.1:{self.metrics_port}",
            *assignments,
        ]
        arguments = [argument for setting in settings for argument in ("--set", setting)]
        super().__init__(directory, configuration, ports=(self.grpc_port, self.http_port), arguments=arguments)
        self.database = directory / "mlflow.db"

    def call(self, body: bytes, signal: str = "traces", *, metadata: Mapping[str, str] | None = None) -> bytes:
        """One OTLP/gRPC request. Raises grpc.RpcError."""
        options = [("grpc.max_send_message_length", -1)]
        with grpc.insecure_channel(f"127.0.0.1:{self.grpc_port}", options=options) as channel:
            answer = channel.unary_unary(_METHODS[signal])(body, timeout=30, metadata=list((metadata or {}).items()))
        return bytes(answer)

    def post(
        self,
        body: bytes,
        signal: str = "traces",
        *,
        content_type: str = "application/x-protobuf",
        headers: Mapping[str, str] | None = None,
    ) -> tuple[int, dict[str, str], bytes]:
        """One OTLP/HTTP request: status, headers, body."""
        connection = http.client.HTTPConnection("127.0.0.1", self.http_port, timeout=30)
        try:
            connection.request("POST", f"/v1/{signal}", body, {"content-type": content_type, **(headers or {})})
            answer = connection.getresponse()
            return answer.status, {key.lower(): value for key, value in answer.getheaders()}, answer.read()
        finally:
            connection.close()

    def metrics(self) -> dict[str, float]:
        """The collector's own metrics, summed over their labels."""
        connection = http.client.HTTPConnection("127.0.0.1", self.metrics_port, timeout=10)
        try:
            connection.request("GET", "/metrics")
            text = connection.getresponse().read().decode()
        finally:
            connection.close()
        sums: dict[str, float] = {}
        for line in text.splitlines():
            if line and not line.startswith("#"):
                name, _, value = line.rpartition(" ")
                plain = name.partition("{")[0].removesuffix("_total")
                sums[plain] = sums.get(plain, 0.0) + float(value)
        return sums

    def rows(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        """Of the MLflow database; none while there is no such table."""
        if not self.database.exists():
            return []
        try:
            connection = sqlite3.connect(f"file:{self.database}?mode=ro", uri=True, timeout=10)
            try:
                return connection.execute(statement, values).fetchall()
            finally:
                connection.close()
        except sqlite3.OperationalError:
            return []

    def stored_spans(self) -> list[tuple[str, str]]:
        """Trace id and span id of every span in the MLflow store, sorted."""
        rows = self.rows("SELECT trace_id, span_id FROM spans")
        return sorted((str(trace_id).removeprefix("tr-"), str(span_id)) for trace_id, span_id in rows)

    def lines(self) -> list[bytes]:
        """Of the file exporter's file."""
        path = self.directory / "out.jsonl"
        return path.read_bytes().splitlines() if path.exists() else []


def eventually(check: Callable[[], Any], *, timeout_s: float = 120.0, what: str = "") -> Any:
    """The first true value of `check()`; fails after `timeout_s` with its last one."""
    deadline = time.monotonic() + timeout_s
    while True:
        value = check()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout_s:.0f} s: {what or check}; last: {value!r}")
        time.sleep(0.1)
