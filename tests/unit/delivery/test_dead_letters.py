"""`spanweir dead-letters` shows what was set aside, sends it again and clears it away."""

from pathlib import Path

from click.testing import CliRunner

from spanweir.collector.cli import commands
from spanweir.collector.config import load
from spanweir.collector.delivery.deadletters import DeadLetters
from spanweir.collector.pipeline import dead_letters_of, undeliverable_of
from spanweir.exporters.api import Batch, Request
from spanweir.exporters.encode import spans_request
from tests.support.batches import batch
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
