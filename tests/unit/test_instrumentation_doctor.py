"""The doctor's findings."""

import socket

import pytest
from opentelemetry.sdk.trace import TracerProvider

import spanweir.instrumentation as spanweir
from spanweir.collector.queue.memory import Config as MemoryQueue
from spanweir.collector.queue.memory import forget
from spanweir.collector.receivers.api import Context
from spanweir.collector.receivers.otlp import Config, Http, Protocols
from spanweir.instrumentation import __main__, doctor, setup
from tests.support.otlp_sink import sink


def test_a_reachable_collector(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    with sink() as receiver:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.endpoint)
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "authorization=secret")
        assert __main__.main(["doctor"]) == 0
        assert receiver.spans == []
    said = capsys.readouterr().out
    assert f"{receiver.endpoint} (grpc)" in said
    assert "reachable, takes OTLP" in said
    assert "content     on spans" in said
    assert "secret" not in said


def test_no_collector(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{free.getsockname()[1]}")
    assert __main__.main(["doctor"]) == 1
    said = capsys.readouterr().out
    assert "NOT reachable: UNAVAILABLE" in said
    assert "start one with `spanweir up`" in said


def test_a_port_for_the_other_protocol(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    queue = MemoryQueue(directory="doctor")
    writer = queue.open_writer()
    config = Config(protocols=Protocols(http=Http(endpoint="127.0.0.1:0")))
    receiver = config.build(Context(name="otlp", writer=writer))
    receiver.start()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://{receiver.endpoints['http']}")
    try:
        assert __main__.main(["doctor"]) == 1
    finally:
        receiver.stop(1)
        writer.close()
        forget(queue)
    assert "that is a port for OTLP/HTTP: set OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf" in capsys.readouterr().out


def test_what_this_process_exports() -> None:
    setup.reset()
    with sink() as receiver:
        spanweir.init(endpoint=receiver.endpoint, tracer_provider=TracerProvider(shutdown_on_exit=False))
        with spanweir.workflow("w"):
            pass
        spanweir.flush(10)
        report = doctor.examine()
        setup.reset()
    assert report.exporting
    assert "1 ended, 1 sent, 0 waiting" in doctor.text(report)


def test_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert __main__.main([]) == 2
    assert "usage" in capsys.readouterr().err


def test_libraries_are_named_by_version() -> None:
    report = doctor._library(
        "openai", doctor.Library("pytest", ("no.such.module:X",), "the-package"), {"pytest": ["pytest"]}
    )
    assert report.version == pytest.__version__
    assert (report.instrumentor, report.problem) == (None, "pip install the-package")


def test_a_password_in_the_address_is_not_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://me:hunter2@127.0.0.1:1?token=hunter2")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")
    assert __main__.main(["doctor"]) == 1
    said = capsys.readouterr().out
    assert "collector   http://127.0.0.1:1" in said
    assert "hunter2" not in said
