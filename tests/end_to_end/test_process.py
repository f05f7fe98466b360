"""Two processes: a child that dies is started again, one that cannot go on ends both; everything is accounted for."""

import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.benchmarks.load import make_requests
from tests.support.otlp_client import send
from tests.support.service import MINIMAL, TO_FILE, Service, eventually
from tests.torture.harness import Collector

FILTERED = """\
receivers: {otlp: {protocols: {grpc: {endpoint: 127.0.0.1:4317}, http: {endpoint: 127.0.0.1:4318}}}}
processors: {filter: {drop: [{name: execute_tool}]}}
exporters: {mlflow: {tracking_uri: "sqlite:///mlflow.db"}}
extensions: {health_check: {endpoint: "127.0.0.1:HEALTH"}}
service:
  extensions: [health_check]
  queue: {type: disk, directory: ./queue}
  pipelines: {traces: {receivers: [otlp], processors: [filter], exporters: [mlflow]}}
"""


def children(service: Service) -> list[int]:
    assert service.process is not None
    pid = service.process.pid
    threads = Path(f"/proc/{pid}/task").iterdir()
    return [int(child) for thread in threads for child in (thread / "children").read_text().split()]


def test_a_killed_child_is_started_again(tmp_path: Path) -> None:
    collector = Collector(tmp_path)
    collector.start()
    try:
        eventually(collector.children, what="a delivery process")
        (child,) = collector.children()
        os.kill(child, signal.SIGKILL)
        eventually(lambda: set(collector.children()) - {child}, what="another delivery process")
        assert collector.values()["spanweir_delivery_restarts"] == 1
    finally:
        assert collector.stop() == 0


def test_who_sees_the_metrics_may_send(tmp_path: Path) -> None:
    for _ in range(3):
        collector = Collector(tmp_path)
        collector.start()
        try:
            assert send("grpc", collector.endpoint, make_requests(1, 1)[0]).code == 0
        finally:
            assert collector.stop() == 0


def test_a_killed_parent_takes_its_child_along(tmp_path: Path) -> None:
    collector = Collector(tmp_path)
    collector.start()
    eventually(collector.children, what="a delivery process")
    (child,) = collector.children()
    collector.kill_parent()
    eventually(lambda: not Path(f"/proc/{child}").exists(), what="the end of the delivery process")


def test_an_exporter_that_can_never_work_ends_the_service(tmp_path: Path) -> None:
    service = Service(tmp_path, MINIMAL, assignments=["exporters.mlflow.create_schema=false"])
    service.start()
    assert service.process is not None
    assert service.process.wait(60) == 1
    assert "mlflow: " in service.log.read_text()


def test_everything_is_accounted_for(tmp_path: Path) -> None:
    bodies = make_requests(4, 5)
    service = Service(tmp_path, FILTERED.replace("HEALTH", "0"))
    with service:
        for body in bodies:
            service.call(body)
        eventually(lambda: len(service.stored_spans()) >= 80, what="80 spans in the store")
        eventually(lambda: service.metrics().get("otelcol_exporter_queue_size") == 0, what="an empty queue")
        metrics = service.metrics()
    assert metrics["otelcol_receiver_accepted_spans"] == 100
    assert metrics["spanweir_dropped_spans"] == 20
    assert metrics["spanweir_exporter_answered_spans"] == 80
    assert len(service.stored_spans()) == 80
    assert not service.rows("SELECT 1 FROM spans WHERE name LIKE 'execute_tool%'")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_before_the_child_is_ready_drains_the_queue(tmp_path: Path, number: signal.Signals) -> None:
    settings = ["service.queue.directory=./queue"]
    with Service(tmp_path, TO_FILE, assignments=settings) as first:
        (child,) = children(first)
        os.kill(child, signal.SIGSTOP)
        for body in make_requests(4, 1):
            first.call(body)
        first.kill()
    assert first.lines() == []
    second = Service(tmp_path, TO_FILE, assignments=settings)
    second.start()
    # Python itself takes longer than this to start.
    os.kill(eventually(lambda: children(second), what="a delivery process")[0], number)
    assert second.stop() == 0
    assert "starting it again" not in second.log.read_text()
    assert sum(line.count(b'"spanId"') for line in second.lines()) == 20


def test_a_secret_in_an_address_is_in_no_log_and_no_dead_letter(tmp_path: Path) -> None:
    """Whoever says it: the exporters, or the libraries below them at the level debug."""
    with http_server(400) as refusing:
        url = f"http://me:hunter2@{refusing}/v1/traces?sig=hunter2"
        s3 = f"{{aws_endpoint: 'http://k:hunter2@{refusing}', aws_access_key_id: a, aws_secret_access_key: b}}"
        others = f"otlp_http: {{traces_endpoint: '{url}'}}, delta: {{path: 's3://b/t', storage_options: {s3}}}"
        text = TO_FILE.replace("fsync: false}}", f"fsync: false}}, {others}}}")
        text = text.replace("exporters: [file]", "exporters: [file, otlp_http, delta]")
        with Service(tmp_path, text, assignments=["service.telemetry.logs.level=debug"]) as service:
            service.call(make_requests(1, 1)[0])
            log = service.log
            eventually(lambda: "dead-letters" in log.read_text() and "delta: " in log.read_text(), what="both refusals")
    letters = "".join(path.read_text() for path in tmp_path.glob("queue/delivery/*/dead-letters/*.json"))
    assert "HTTP 400" in letters
    assert "hunter2" not in log.read_text() + letters


@contextmanager
def http_server(status: int) -> Iterator[str]:
    """host:port of a server that answers everything with `status`."""

    class Answering(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("content-length") or 0))
            self.send_response(status)
            self.send_header("content-length", "0")
            self.end_headers()

        do_GET = do_HEAD = do_PUT = do_POST  # noqa: N815 - names that the library gives

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Answering) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()


def test_a_destination_that_hangs_does_not_hold_the_end_up(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}"
        text = TO_FILE.replace("fsync: false}}", "fsync: false}, otlp_http: {endpoint: ENDPOINT, timeout: 5m}}")
        text = text.replace("ENDPOINT", f'"{endpoint}"').replace("exporters: [file]", "exporters: [file, otlp_http]")
        with Service(tmp_path, text, assignments=["service.shutdown_timeout=4s"]) as service:
            service.call(make_requests(1, 1)[0])
            silent.accept()
            eventually(service.lines, what="the spans in the file")
            assert service.stop() == 0
    log = service.log.read_text()
    assert "otlp_http: its destination does not answer; what it has not written stays queued" in log
    assert "the delivery process did not end in time" not in log
