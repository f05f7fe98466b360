"""Programs that spanweir did not write, against the real process: an OpenTelemetry Collector and a JavaScript app.

Both are built from their registries when the tool chain is there (`go`, `npm`); elsewhere these tests skip.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import yaml

from spanweir.collector.decode.otlp_proto import decode_traces
from spanweir.collector.demo.process import free_ports
from tests.benchmarks.load import make_requests
from tests.support.service import TO_FILE, Service, eventually
from tests.support.stores import sqlite_store

pytestmark = [pytest.mark.external, pytest.mark.slow]
HERE = Path(__file__).parent


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    with Service(tmp_path / "spanweir", TO_FILE) as running:
        yield running


def spans_in(service: Service) -> list[dict[str, Any]]:
    return [
        span
        for line in service.lines()
        for resource in json.loads(line).get("resourceSpans", [])
        for scope in resource["scopeSpans"]
        for span in scope["spans"]
    ]


# ----------------------------------------------------------------------------------------- OpenTelemetry Collector


@pytest.fixture(scope="session")
def otelcol(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An OpenTelemetry Collector built from its Go modules."""
    if shutil.which("go") is None:
        pytest.skip("needs go to build an OpenTelemetry Collector")
    binary = tmp_path_factory.mktemp("otelcol") / "otelcol"
    done = subprocess.run(
        ["go", "build", "-o", str(binary), "."], cwd=HERE / "otelcol", capture_output=True, text=True, timeout=900
    )
    if done.returncode and "dial tcp" in done.stderr:
        pytest.skip("the Go module proxy is not reachable")
    assert done.returncode == 0, done.stderr
    return binary


class Upstream:
    """An OpenTelemetry Collector that receives OTLP and exports to a spanweir."""

    def __init__(self, binary: Path, directory: Path, exporter: dict[str, Any]) -> None:
        (self.port,) = free_ports(1)
        (kind, options), *_ = exporter.items()
        retry = {"enabled": True, "initial_interval": "200ms", "max_interval": "1s", "max_elapsed_time": "60s"}
        configuration = {
            "receivers": {"otlp": {"protocols": {"grpc": {"endpoint": f"127.0.0.1:{self.port}"}}}},
            "processors": {"batch": {"timeout": "100ms"}},
            "exporters": {kind: {**options, "retry_on_failure": retry}},
            "service": {
                "telemetry": {"metrics": {"level": "none"}},
                "pipelines": {
                    signal: {"receivers": ["otlp"], "processors": ["batch"], "exporters": [kind]}
                    for signal in ("traces", "logs", "metrics")
                },
            },
        }
        path = directory / "otelcol.yaml"
        path.write_text(yaml.safe_dump(configuration))
        self.run(binary, directory, path)

    def run(self, binary: Path, directory: Path, *configurations: Path) -> None:
        """Later files override what stands in the first."""
        self.log = directory / "otelcol.log"
        files = [argument for path in configurations for argument in ("--config", f"file:{path}")]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen([str(binary), *files], stdout=log, stderr=log)

    def send(self, body: bytes) -> None:
        """Once it listens."""
        options = [("grpc.max_receive_message_length", -1)]
        with grpc.insecure_channel(f"127.0.0.1:{self.port}", options=options) as channel:
            call = channel.unary_unary("/opentelemetry.proto.collector.trace.v1.TraceService/Export")
            assert self.process.poll() is None, self.log.read_text()
            call(body, timeout=30, wait_for_ready=True)

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(20)
        finally:
            if self.process.poll() is None:
                self.process.kill()
                self.process.wait()


EXPORTERS = {
    "grpc": lambda s: {"otlp_grpc": {"endpoint": f"127.0.0.1:{s.grpc_port}", "tls": {"insecure": True}}},
    "http": lambda s: {"otlp_http": {"endpoint": f"http://127.0.0.1:{s.http_port}", "compression": "gzip"}},
    "http-zstd": lambda s: {"otlp_http": {"endpoint": f"http://127.0.0.1:{s.http_port}", "compression": "zstd"}},
    "http-json": lambda s: {
        "otlp_http": {"endpoint": f"http://127.0.0.1:{s.http_port}", "encoding": "json", "compression": "none"}
    },
}


@pytest.mark.parametrize("way", EXPORTERS)
def test_a_collector_in_front(otelcol: Path, service: Service, tmp_path: Path, way: str) -> None:
    bodies = make_requests(3, 4, seed=21)
    expected = sorted((span.trace_id, span.span_id) for body in bodies for span in decode_traces(body))
    upstream = Upstream(otelcol, tmp_path, EXPORTERS[way](service))
    try:
        for body in bodies:
            upstream.send(body)
        eventually(lambda: len(spans_in(service)) >= len(expected), what="every span comes through")
    finally:
        upstream.stop()
    assert sorted((span["traceId"], span["spanId"]) for span in spans_in(service)) == expected


def test_a_collector_waits_while_spanweir_is_away(otelcol: Path, service: Service, tmp_path: Path) -> None:
    bodies = make_requests(2, 2, seed=22)
    expected = sorted((span.trace_id, span.span_id) for body in bodies for span in decode_traces(body))
    upstream = Upstream(otelcol, tmp_path, EXPORTERS["grpc"](service))
    try:
        upstream.send(bodies[0])
        eventually(lambda: len(spans_in(service)) == 10, what="the first request comes through")
        assert service.stop() == 0
        upstream.send(bodies[1])
        time.sleep(1)
        service.start()
        eventually(lambda: len(spans_in(service)) >= 20, what="the second request comes through after the restart")
    finally:
        upstream.stop()
    assert sorted((span["traceId"], span["spanId"]) for span in spans_in(service)) == expected


class QuickStart(Upstream):
    """The quick start as it stands, but on free ports."""

    def __init__(self, binary: Path, directory: Path, service: Service) -> None:
        self.port, http_port = free_ports(2)
        protocols = {"grpc": {"endpoint": f"127.0.0.1:{self.port}"}, "http": {"endpoint": f"127.0.0.1:{http_port}"}}
        ports = directory / "ports.yaml"
        ports.write_text(
            yaml.safe_dump(
                {
                    "receivers": {"otlp": {"protocols": protocols}},
                    "exporters": {"otlp_grpc/spanweir": {"endpoint": f"127.0.0.1:{service.grpc_port}"}},
                    "service": {"telemetry": {"metrics": {"level": "none"}}},
                }
            )
        )
        self.run(binary, directory, HERE.parents[1] / "instrumentation/quickstarts/otelcol/otelcol.yaml", ports)


LARGE = """
import spanweir.instrumentation as spanweir

spanweir.init(service_name="large")
with spanweir.workflow("answer", input="What does a weir do?") as answer:
    spanweir.chat("m")(lambda messages: "It meters a river.")([{"role": "user", "content": "x" * 9_000_000}] * 3)
    answer.set_output("It meters a river.")
for n in range(3000):
    with spanweir.tool(f"t{n}", arguments={"text": "y" * 1000}):
        pass
assert spanweir.flush(60)
"""


def test_the_quick_start_passes_large_traces(otelcol: Path, tmp_path: Path) -> None:
    sqlite_store(tmp_path / "spanweir" / "mlflow.db")
    with Service(tmp_path / "spanweir") as service:
        upstream = QuickStart(otelcol, tmp_path, service)
        try:
            endpoint = {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{upstream.port}"}
            done = subprocess.run(
                [sys.executable, "-c", LARGE],
                env={**os.environ, **endpoint},
                capture_output=True,
                text=True,
                timeout=120,
                check=False,
            )
            assert done.returncode == 0, done.stderr
            count = "SELECT count(*) FROM spans"
            eventually(lambda: service.rows(count) == [(3002,)], what="every span comes through", timeout_s=60)
        finally:
            upstream.stop()
        question = "SELECT request_preview, response_preview FROM trace_info WHERE request_preview LIKE '%weir%'"
        assert len(service.rows(question)) == 1
        (size,) = service.rows("SELECT max(length(content)) FROM spans")[0]
    assert size > 16_000_000  # what a client keeps of one attribute


# ----------------------------------------------------------------------------------------- JavaScript


@pytest.fixture(scope="session")
def node_app(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The application with its packages installed."""
    if shutil.which("npm") is None or shutil.which("node") is None:
        pytest.skip("needs node and npm")
    directory = tmp_path_factory.mktemp("node")
    for name in ("package.json", "app.mjs"):
        shutil.copy(HERE / "node" / name, directory)
    command = ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts"]
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=300)
    if done.returncode and "network" in done.stderr.lower():
        pytest.skip("the npm registry is not reachable")
    assert done.returncode == 0, done.stderr
    return directory


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf", "http/json"])
def test_a_javascript_application(node_app: Path, tmp_path: Path, protocol: str) -> None:
    with Service(tmp_path / "spanweir") as service:
        port = service.grpc_port if protocol == "grpc" else service.http_port
        done = subprocess.run(
            ["node", "app.mjs"],
            cwd=node_app,
            env={
                **os.environ,
                "OTEL_SERVICE_NAME": "js-app",
                "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{port}",
                "OTEL_EXPORTER_OTLP_PROTOCOL": protocol,
                "OTEL_TRACES_EXPORTER": "otlp",
                "OTEL_METRICS_EXPORTER": "none",
                "OTEL_LOGS_EXPORTER": "none",
            },
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        trace_id = done.stdout.split()[-1]
        state = "SELECT status FROM trace_info WHERE request_id = ?"
        eventually(lambda: service.rows(state, f"tr-{trace_id}") == [("OK",)], what="the trace is complete")
        rows = service.rows("SELECT name, type, content FROM spans WHERE trace_id = ?", f"tr-{trace_id}")
    assert sorted(row[0] for row in rows) == [
        "POST /ask",
        "ai.generateText",
        "ai.generateText.doGenerate",
        "ai.generateText.doGenerate",
        "ai.toolCall weather",
    ]
    contents = {row[0]: json.loads(row[2])["attributes"] for row in rows}
    assert "Is it sunny in Paris?" in contents["ai.generateText"]["mlflow.spanInputs"]
    assert "It is sunny in Paris." in contents["ai.generateText"]["mlflow.spanOutputs"]
    assert json.loads(contents["ai.toolCall weather"]["mlflow.spanType"]) == "TOOL"
    assert json.loads(contents["ai.toolCall weather"]["mlflow.spanInputs"]) == {"city": "Paris"}
    usage = json.loads(contents["ai.generateText.doGenerate"]["mlflow.chat.tokenUsage"])
    assert usage["input_tokens"] in (20, 40)
