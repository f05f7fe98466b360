"""`spanweir dead-letters` shows what was set aside, sends it again and clears it away."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from spanweir.collector.building import receiver_of
from spanweir.collector.cli import commands
from spanweir.collector.config import Component, load
from spanweir.collector.decode.otlp_proto import decode_logs
from spanweir.collector.delivery.deadletters import DeadLetters
from spanweir.collector.observer import CountingObserver
from spanweir.collector.pipeline import dead_letters_of, undeliverable_of
from spanweir.collector.receivers.otlp import Config as Otlp
from spanweir.collector.receivers.otlp import Grpc, Protocols
from spanweir.collector.telemetry import Counters
from spanweir.exporters.api import Batch, Request
from spanweir.exporters.encode import spans_request
from spanweir.schemas.raw import RawLog
from tests.support.batches import batch
from tests.support.certificates import Authority
from tests.support.otlp_sink import sink

CONFIG = """
receivers: {{otlp: {{protocols: {{grpc: }}}}}}
exporters: {{debug: , file: {{path: out.jsonl}}}}
service:
  queue: {{directory: {directory}/queue}}
  pipelines: {{traces: {{receivers: [otlp], exporters: [debug, file]}}}}
"""


def test_look_send_again_and_clear(tmp_path: Path) -> None:
    config = tmp_path / "c.yaml"
    config.write_text(CONFIG.format(directory=tmp_path))
    directory = dead_letters_of(load([str(config)]), "debug")
    letters = DeadLetters(directory, "debug")
    one, two = batch(1, traces=1), batch(2, traces=1)
    letters.put(one, "too odd")
    letters.put(two, "archived")

    def run(*arguments: str) -> str:
        result = CliRunner().invoke(commands, ["dead-letters", *arguments, "--config", str(config)])
        assert result.exit_code == 0, result.output
        return result.output

    first, second = run("ls").splitlines()
    assert first.endswith(f"5 spans  {one.spans[0].trace_id}  too odd")
    assert second.endswith("archived")
    with sink() as receiver:
        assert run("resend", "debug", "--endpoint", receiver.endpoint.removeprefix("http://")) == "sent 2\n"
        sent = {(span.trace_id.hex(), span.span_id.hex()) for span in receiver.spans}
    assert sent == {(span.trace_id, span.span_id) for span in (*one.spans, *two.spans)}
    assert run("ls") == ""
    letters.put(one, "again")
    assert run("clear", "debug", "--yes") == "removed 1\n"
    assert list(directory.iterdir()) == []


def test_what_is_sent_again_goes_where_it_was_routed(tmp_path: Path) -> None:
    config = tmp_path / "c.yaml"
    config.write_text(CONFIG.format(directory=tmp_path))
    routed, request = batch(1, traces=1), Request(signal="traces", body=spans_request([]))
    routed.traces[0].experiment = "support-bot"
    DeadLetters(dead_letters_of(load([str(config)]), "debug"), "debug").put(routed, "too odd")
    lost = DeadLetters(undeliverable_of(load([str(config)])), "delivery")
    lost.put(Batch(first=2, last=2, requests=[request]), "this version cannot take it in")
    with sink() as receiver:
        endpoint = receiver.endpoint.removeprefix("http://")
        for name in ("debug", "undeliverable"):
            arguments = ["dead-letters", "resend", name, "--endpoint", endpoint, "--config", str(config)]
            assert CliRunner().invoke(commands, arguments).output == "sent 1\n"
    assert [given.get("x-mlflow-experiment-id") for given in receiver.metadata] == ["support-bot", None]
    assert list(undeliverable_of(load([str(config)])).iterdir()) == []


def test_refused_log_records_are_whole_and_can_be_sent_again(tmp_path: Path) -> None:
    config = tmp_path / "c.yaml"
    config.write_text(CONFIG.format(directory=tmp_path))
    configuration = load([str(config)])
    record = RawLog(time_ns=7, body={"why": ["odd", 1]}, attributes={"n": 1})
    DeadLetters(dead_letters_of(configuration, "debug"), "debug").put(Batch(first=1, last=1, logs=[record]), "odd")
    queue = configuration.service.queue.config
    writer, observer = queue.open_writer(), CountingObserver(Counters())
    options = Component(kind="receivers", id="otlp", type="otlp", config=Otlp(protocols=FREE_PORT))
    receiver = receiver_of(options, writer, frozenset({"logs"}), observer, told_apart=False)
    receiver.start()
    try:
        assert resent(config, "debug", "--endpoint", receiver.endpoints["grpc"]) == "sent 1\n"
    finally:
        receiver.stop(1)
        writer.close()
    reader = queue.open_reader([])
    (sent,) = reader.scan()
    reader.close()
    (log,) = decode_logs(sent.body)
    assert (sent.signal, log.time_ns, log.body, log.attributes) == ("logs", 7, record.body, record.attributes)


FREE_PORT = Protocols(grpc=Grpc(endpoint="127.0.0.1:0"))
GUARDED = """
receivers:
  otlp:
    protocols: {{{protocols}}}
    auth:
      bearer: {{acme: "${{env:ACME_TOKEN}}"}}
      basic: {{weir: open-sesame}}
exporters:
  debug:
  otlp/other: {{endpoint: "http://{other}", headers: {{x-key: "${{env:OTHER_KEY}}"}}}}
service:
  queue: {{directory: {directory}/queue}}
  pipelines: {{traces: {{receivers: [otlp], exporters: [debug]}}}}
"""


def resent(config: Path, *arguments: str) -> str:
    """What it says, of which nothing is a secret."""
    result = CliRunner().invoke(commands, ["dead-letters", "resend", *arguments, "--config", str(config)])
    assert not any(secret in result.output for secret in ("token-of-acme", "open-sesame", "key-of-other"))
    return result.output


def put_all(config: Path) -> None:
    """Letters of three tenants, one of which the receiver does not know any more, and of an exporter."""
    lost = DeadLetters(undeliverable_of(load([str(config)])), "delivery")
    headers = {"x-mlflow-experiment-name": "bots", "x-team": "blue"}
    body = batch(1, traces=1).requests[0].body
    for number, tenant in enumerate(("acme", "weir", "gone"), 1):
        request = Request(signal="traces", body=body, headers=headers, tenant=tenant)
        lost.put(Batch(first=number, last=number, requests=[request]), "a bug")
    routed = batch(4, traces=1)
    routed.traces[0].tenant, routed.traces[0].experiment, routed.traces[0].run_id = "acme", "support-bot", "run-1"
    DeadLetters(dead_letters_of(load([str(config)]), "debug"), "debug").put(routed, "too odd")


@pytest.mark.parametrize("transport", ["grpc", "tls", "http"])
def test_each_letter_goes_in_as_its_tenant(tmp_path: Path, transport: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Through the configured receiver, with the credentials and the certificate that its options name."""
    monkeypatch.setenv("ACME_TOKEN", "token-of-acme")
    monkeypatch.setenv("OTHER_KEY", "key-of-other")
    cert, key = Authority(tmp_path).issue("spanweir.example")
    options = f", tls: {{cert_file: {cert}, key_file: {key}}}" if transport == "tls" else ""
    protocol = "http" if transport == "http" else "grpc"
    config = tmp_path / "c.yaml"

    def write(port: str) -> None:
        protocols = f"{protocol}: {{endpoint: '127.0.0.1:{port}', include_metadata: [x-team]{options}}}"
        config.write_text(GUARDED.format(protocols=protocols, directory=tmp_path, other="127.0.0.1:1"))

    write("0")
    configuration = load([str(config)])
    assert resent(config, "debug").startswith("no dead letters of an exporter 'debug'")
    put_all(config)
    assert resent(config, "debug").startswith("receivers.otlp listens on any free port; say on which with --endpoint")
    queue = configuration.service.queue.config
    writer, observer = queue.open_writer(), CountingObserver(Counters())
    receiver = receiver_of(configuration.receivers["otlp"], writer, frozenset({"traces"}), observer, told_apart=False)
    receiver.start()
    try:
        write(receiver.endpoints[protocol].rpartition(":")[2])
        assert resent(config, "debug") == "sent 1\n"
        unknown = (
            "the tenant 'gone' is none of receivers.otlp.auth; name an exporter that can send there with --through"
        )
        assert resent(config, "undeliverable") == f"{unknown} (2 sent before)\n"
    finally:
        receiver.stop(1)
        writer.close()
    reader = queue.open_reader([])
    routed, first, second = reader.scan()
    reader.close()
    assert (routed.tenant, routed.headers) == (
        "acme", {"x-mlflow-experiment-id": "support-bot", "x-mlflow-run-id": "run-1"}
    )  # fmt: skip
    for record, tenant in ((first, "acme"), (second, "weir")):
        assert (record.tenant, record.headers) == (tenant, {"x-mlflow-experiment-name": "bots", "x-team": "blue"})


def test_an_exporter_of_the_configuration_takes_them_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACME_TOKEN", "token-of-acme")
    monkeypatch.setenv("OTHER_KEY", "key-of-other")
    config = tmp_path / "c.yaml"
    with sink() as receiver:
        other = receiver.endpoint.removeprefix("http://")
        config.write_text(GUARDED.format(protocols="grpc: ", directory=tmp_path, other=other))
        put_all(config)
        assert resent(config, "undeliverable", "--through", "debug").startswith("exporters.debug sends no OTLP;")
        assert resent(config, "undeliverable", "--through", "otlp/other") == "sent 3\n"
    assert len(receiver.metadata) == 3
    for given in receiver.metadata:
        assert (given["x-key"], given["x-mlflow-experiment-name"]) == ("key-of-other", "bots")
        assert "authorization" not in given, "tenants' credentials are for the configured receiver alone"
