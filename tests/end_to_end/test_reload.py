"""SIGHUP: the configuration is read again while data flows; a bad one changes nothing."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest

from spanweir.collector.demo.process import free_ports
from tests.benchmarks.load import make_requests
from tests.support.service import Service, eventually

BEFORE = """\
receivers:
  otlp: {protocols: {grpc: , http: }}
  otlp/second: {protocols: {grpc: {endpoint: "127.0.0.1:SECOND"}}}
processors: {attributes: {actions: [{key: seen, value: config-one}]}}
exporters:
  file: {path: out.jsonl, fsync: false}
  file/other: {path: other.jsonl, fsync: false}
  mlflow: {tracking_uri: "sqlite:///mlflow.db", create_schema: false}
service:
  queue: {type: disk, directory: ./queue}
  pipelines: {traces: {receivers: [otlp], processors: [attributes], exporters: [file]}}
"""


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    text = BEFORE.replace("SECOND", str(free_ports(1)[0]))
    with Service(tmp_path, text) as running:
        yield running


def change(service: Service, *replacements: tuple[str, str]) -> None:
    """Rewrite the file and send SIGHUP."""
    path = service.directory / "otel-config.yaml"
    text = path.read_text()
    for old, new in replacements:
        assert old in text
        text = text.replace(old, new)
    path.write_text(text)
    hang_up(service)


def hang_up(service: Service) -> None:
    assert service.process is not None
    os.kill(service.process.pid, signal.SIGHUP)


def logged(service: Service, text: str, times: int = 1) -> None:
    eventually(lambda: service.log.read_text().count(text) >= times, timeout_s=30, what=text)


def spans_with(service: Service, text: str, file: str = "out.jsonl") -> Callable[[], int]:
    path = service.directory / file
    return lambda: path.read_text().count(text) if path.exists() else 0


def test_a_reload_changes_processors_and_exporters_and_keeps_everything(service: Service) -> None:
    bodies = make_requests(600, 1)
    enough = threading.Event()
    sent, failed = [], []

    def send() -> None:
        for body in bodies:
            if enough.wait(0.05):
                return
            try:
                service.call(body)
            except grpc.RpcError as error:
                failed.append(error)
            sent.append(body)

    sender = threading.Thread(target=send)
    sender.start()
    try:
        eventually(spans_with(service, "config-one"), what="spans of the first configuration")
        change(
            service, ("value: config-one", "value: config-two"), ("exporters: [file]", "exporters: [file, file/other]")
        )
        logged(service, "reloaded")
        eventually(spans_with(service, "config-two"), what="spans of the second configuration")
        eventually(spans_with(service, "config-two", "other.jsonl"), what="the new exporter's file")
    finally:
        enough.set()
        sender.join()
    assert failed == []
    # Receivers were not touched: no request failed. Each span is written once, by the one configuration or the other.
    eventually(lambda: spans_with(service, '"seen"')() >= 5 * len(sent), what="every span")
    assert spans_with(service, '"seen"')() == 5 * len(sent)
    assert service.metrics()["otelcol_receiver_accepted_spans"] == 5 * len(sent)
    eventually(lambda: service.metrics().get("spanweir_exporter_answered_spans", 0) >= 5 * len(sent))


def test_a_bad_configuration_changes_nothing(service: Service) -> None:
    change(service, ("path: out.jsonl", "paht: out.jsonl"))
    logged(service, "exporters.file.paht: unknown option")
    logged(service, "not reloaded: the collector goes on with the configuration it has")
    change(service, ("paht", "path"), ("directory: ./queue", "directory: ./elsewhere"))
    logged(service, "service.queue cannot change while the collector runs")
    (service.directory / "otel-config.yaml").write_text("")
    hang_up(service)
    logged(service, "not reloaded", times=3)
    service.call(make_requests(1, 1)[0])
    eventually(lambda: spans_with(service, "config-one")() == 5, what="the spans in the file")


def test_an_end_goes_before_the_reloads_that_wait_and_many_of_these_are_one(service: Service) -> None:
    assert service.process is not None
    for _ in range(20):
        hang_up(service)
        time.sleep(0.01)
    service.process.send_signal(signal.SIGTERM)
    assert service.process.wait(60) == 0
    assert 1 <= service.log.read_text().count("the configuration is read again") <= 3


def test_a_configuration_that_cannot_be_built_changes_nothing(service: Service) -> None:
    change(service, ("actions: [{key: seen, value: config-one}]", "actions: [{action: extract, key: a, pattern: '('}]"))
    logged(service, "is no RE2 pattern")
    logged(service, "not reloaded")
    service.call(make_requests(1, 1)[0])
    eventually(lambda: spans_with(service, "config-one")() == 5, what="the spans in the file")


def test_a_port_that_is_taken_changes_nothing(service: Service) -> None:
    with Service(service.directory / "neighbour", BEFORE.replace("SECOND", "0")) as neighbour:
        change(
            service,
            ("receivers: [otlp]", "receivers: [otlp, otlp/second]"),
            ("otlp/second: {protocols: {grpc: {endpoint: ", "otlp/second: {protocols: {grpc: {endpoint: !!str "),
        )
        logged(service, "reloaded")
        text = (service.directory / "otel-config.yaml").read_text()
        second = text.partition('!!str "')[2].partition('"')[0]
        change(service, (second, f"127.0.0.1:{neighbour.grpc_port}"))
        logged(service, "receivers.otlp/second.protocols.grpc: cannot listen on")
        logged(service, "not reloaded")
    logged(service, f"otlp/second: grpc on {second}", times=2)
    service.call(make_requests(1, 1)[0])
    eventually(lambda: spans_with(service, "config-one")() == 5, what="the spans in the file")


def test_an_exporter_that_can_never_work_is_taken_back(service: Service) -> None:
    change(service, ("exporters: [file]", "exporters: [file, mlflow]"))
    logged(service, "reloaded")
    logged(service, "the configuration from before the reload is in force again")
    service.call(make_requests(1, 1)[0])
    eventually(lambda: spans_with(service, "config-one")() == 5, what="the spans in the file")


def test_the_memory_queue_is_kept_too(tmp_path: Path) -> None:
    text = BEFORE.replace("SECOND", "0").replace("{type: disk, directory: ./queue}", "{type: memory}")
    with Service(tmp_path, text) as running:
        running.call(make_requests(1, 1)[0])
        eventually(lambda: spans_with(running, "config-one")() == 5, what="spans of the first configuration")
        change(running, ("value: config-one", "value: config-two"))
        logged(running, "reloaded")
        running.call(make_requests(1, 1, seed=2)[0])
        eventually(lambda: spans_with(running, "config-two")() == 5, what="spans of the second configuration")
        assert spans_with(running, "config-one")() == 5
