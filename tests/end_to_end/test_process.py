"""Two processes: a child that dies is started again, one that cannot go on ends both; everything is accounted for."""

import os
import signal
from pathlib import Path

from tests.benchmarks.load import make_requests
from tests.support.service import MINIMAL, Service, eventually
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
