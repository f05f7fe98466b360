"""A pipeline whose only exporter writes spans as received: nothing is mapped on the way, and commands read it all."""

import json
from pathlib import Path

import polars
from click.testing import CliRunner
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from spanweir.collector.cli import commands
from tests.benchmarks.load import make_requests
from tests.support.service import Service, eventually

RECEIVED = """\
receivers: {otlp: {protocols: {grpc: , http: }}}
processors: {redaction: {}}
exporters: {delta: {path: ./tables, tables: [spans, metrics], attributes: received, commit_interval: 200ms}}
service:
  queue: {type: disk, directory: ./queue}
  pipelines:
    traces: {receivers: [otlp], PROCESSORS exporters: [delta]}
    metrics: {receivers: [otlp], exporters: [delta]}
"""


def requests() -> list[bytes]:
    """The last one has a secret, a text that is no UTF-8, and a span that ends before it starts."""
    bodies = make_requests(3, 2)
    odd = ExportTraceServiceRequest.FromString(bodies[2])
    spans = odd.resource_spans[0].scope_spans[0].spans
    spans[0].attributes.add(key="note").value.string_value = "mail ada@example.com"
    spans[0].attributes.add(key="cut").value.string_value = "in the middle!!"
    spans[1].end_time_unix_nano = 5
    return [*bodies[:2], odd.SerializeToString().replace(b"middle!!", b"middle\xff\xff")]


def stored(directory: Path) -> polars.DataFrame:
    place = directory / "tables" / "spanweir_otel_spans"
    return polars.read_delta(str(place)) if (place / "_delta_log").is_dir() else polars.DataFrame()


def texts(directory: Path) -> list[str]:
    return [text for bag in stored(directory)["attributes"].to_list() for text in bag.values()]


def test_nothing_is_decoded_for_it_and_commands_read_it(tmp_path: Path) -> None:
    with Service(tmp_path, RECEIVED.replace("PROCESSORS", "")) as service:
        for body in requests():
            service.call(body)
        eventually(lambda: len(stored(tmp_path)) == 30, what="spans of the requests")
        eventually(lambda: service.metrics().get("otelcol_exporter_sent_spans") == 30, what="the count of spans")
        metrics = service.metrics()
        assert metrics.get("spanweir_delivery_spans", 0) == 0
        assert metrics["spanweir_exporter_repaired_spans"] == 1
    assert "in the middle??" in texts(tmp_path)
    config = tmp_path / "config.yaml"
    config.write_text(RECEIVED.replace("PROCESSORS", "").replace("./tables", str(tmp_path / "tables")))
    command = ["traces", "search", "--config", str(config), "--json", "span.type = 'CHAT_MODEL'"]
    done = CliRunner().invoke(commands, command)
    assert done.exit_code == 0, done.output
    assert [len(json.loads(line)["data"]["spans"]) for line in done.output.splitlines()] == [5] * 6


def test_what_processors_change_leaves_changed(tmp_path: Path) -> None:
    with Service(tmp_path, RECEIVED.replace("PROCESSORS", "processors: [redaction],")) as service:
        for body in requests():
            service.call(body)
        eventually(lambda: len(stored(tmp_path)) == 30, what="spans of the requests")
    assert any(text.startswith("mail ") for text in texts(tmp_path))
    assert not any("ada@example.com" in text for text in texts(tmp_path))
