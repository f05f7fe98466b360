"""The commands as processes: output, exit codes, errors."""

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest
import yaml
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

from spanweir.collector.decode.otlp_proto import decode_traces
from spanweir.collector.demo.process import free_ports
from spanweir.exporters.delta import Config as DeltaConfig
from tests.benchmarks.load import make_requests
from tests.support.service import MINIMAL, TO_FILE, Service, eventually

LISTENING = (
    "receivers.otlp.protocols.grpc.endpoint",
    "receivers.otlp.protocols.http.endpoint",
    "service.telemetry.metrics.endpoint",
)


def spanweir(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "spanweir.collector", *arguments],
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.fixture
def minimal(tmp_path: Path) -> Path:
    (tmp_path / "otel-config.yaml").write_text(MINIMAL)
    return tmp_path


def test_validate(minimal: Path) -> None:
    done = spanweir("validate", cwd=minimal)
    assert (done.returncode, done.stdout) == (0, "otel-config.yaml: valid; pipelines: traces, logs, metrics\n")
    assert list(minimal.iterdir()) == [minimal / "otel-config.yaml"], "validate leaves nothing behind"


def test_the_shipped_configuration_is_used_where_there_is_none(tmp_path: Path) -> None:
    done = spanweir("validate", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("otel-config.yaml: valid; pipelines: traces, logs, metrics\n")


@pytest.mark.parametrize("command", ["run", "validate", "print-config", "up"])
def test_a_wrong_configuration_is_exit_code_2(minimal: Path, command: str) -> None:
    done = spanweir(command, "--set", "exporters.mlflow.experment=x", cwd=minimal)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith(
        "--set exporters.mlflow.experment: exporters.mlflow.experment: unknown option; did you mean 'experiment'?"
    )


def test_validate_builds_the_graph(minimal: Path) -> None:
    done = spanweir(
        "validate", "--set", "exporters.otlp={}", "--set", "service.pipelines.logs.exporters=[otlp]", cwd=minimal
    )
    told = "endpoint is missing; write the destination's host:port, such as tempo:4317\n"
    assert (done.returncode, done.stderr) == (2, f"--set exporters.otlp: exporters.otlp: {told}")


def test_two_pipelines_that_contradict_each_other(minimal: Path) -> None:
    done = spanweir(
        "validate",
        "--set",
        "service.pipelines.traces/2={receivers: [otlp], processors: [genai], exporters: [mlflow]}",
        "--set",
        "processors.genai={}",
        cwd=minimal,
    )
    assert done.returncode == 2
    assert "both name the exporter mlflow and have different processors" in done.stderr


CONTRADICTION = "service.pipelines.traces/2={receivers: [otlp], processors: [filter], exporters: [mlflow]}"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["processors.filter={}", CONTRADICTION], "both name the exporter mlflow and have different processors"),
        (["exporters.otlp={}", "service.pipelines.logs.exporters=[otlp]"], "exporters.otlp: endpoint is missing"),
        (
            ["processors.redaction={blocked_values: ['(']}", "service.pipelines.traces.processors=[redaction]"],
            "processors.redaction: blocked_values: '(' is no RE2 pattern: missing ): (",
        ),
        (
            [
                "exporters.file/a b={path: a}",
                "exporters.file/a_b={path: b}",
                "service.pipelines.traces.exporters=[file/a b, file/a_b]",
            ],
            "exporters.file/a_b: has its state in the directory 'file_a_b', as exporters.file/a b has",
        ),
        (
            ["receivers.otlp.protocols.grpc.tls={cert_file: /no/c, key_file: /no/k}"],
            "receivers.otlp: protocols.grpc: tls.cert_file /no/c: No such file or directory",
        ),
    ],
)
@pytest.mark.parametrize("queue", ["disk", "memory"])
def test_a_graph_that_cannot_be_built_ends_run_with_exit_code_2(
    minimal: Path, settings: list[str], message: str, queue: str
) -> None:
    free = [f"{place}=127.0.0.1:0" for place in LISTENING]
    arguments = [f"--set={setting}" for setting in (*free, *settings, f"service.queue={{type: {queue}}}")]
    done = spanweir("run", *arguments, cwd=minimal)
    assert done.returncode == 2, done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_print_config_shows_what_is_in_force(minimal: Path) -> None:
    uri = "postgresql://me:hunter2@db/mlflow"
    done = spanweir("print-config", "--set", "exporters.mlflow.tracking_uri=${env:URI}", cwd=minimal, URI=uri)
    assert done.returncode == 0, done.stderr
    shown = yaml.safe_load(done.stdout)
    assert shown["exporters"]["mlflow"]["tracking_uri"] == "postgresql://me:[REDACTED]@db/mlflow"
    assert shown["exporters"]["delta"]["commit_rows"] == DeltaConfig().commit_rows, "defaults are shown"
    assert "hunter2" not in done.stdout + done.stderr
    open_ = spanweir(
        "print-config", "--mode", "unredacted", "--format", "json",
        "--set", "exporters.mlflow.tracking_uri=${env:URI}", cwd=minimal, URI=uri,
    )  # fmt: skip
    assert json.loads(open_.stdout)["exporters"]["mlflow"]["tracking_uri"] == uri


def test_components(tmp_path: Path) -> None:
    done = spanweir("components", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for name in ("otlp", "mlflow", "delta", "otlp_grpc", "file", "debug", "disk", "health_check", "genai"):
        assert f"\n  {name} " in done.stdout


def test_an_unknown_command(tmp_path: Path) -> None:
    done = spanweir("validat", cwd=tmp_path)
    assert done.returncode == 2
    assert "no command 'validat'; did you mean 'validate'? commands: " in done.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_and_its_child(tmp_path: Path, number: int) -> None:
    with Service(tmp_path) as service:
        assert service.process is not None
        children = Path(f"/proc/{service.process.pid}/task/{service.process.pid}/children").read_text().split()
        assert children
        service.process.send_signal(number)
        assert service.process.wait(30) == 0, service.log_tail()
        for child in children:
            eventually(lambda child=child: not Path(f"/proc/{child}").exists(), what="the child ends")
    assert "Traceback" not in service.log.read_text()


def test_health_and_metrics(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    settings = [f"extensions.health_check.endpoint=127.0.0.1:{port}", "service.extensions=[health_check]"]
    with Service(tmp_path, assignments=settings) as service:

        def healthy() -> bool:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=10) as answer:
                    return bool(answer.status == 200)
            except urllib.error.HTTPError:  # 503 until it has started whole
                return False

        eventually(healthy, what="health_check answers 200")
        metrics = service.metrics()
        assert metrics["otelcol_process_uptime"] >= 0
        assert metrics["otelcol_process_memory_rss"] > 0


def test_queue_and_explain_look_into_a_running_collector(tmp_path: Path) -> None:
    bodies = make_requests(2, 1, seed=5)
    trace_id = decode_traces(bodies[1])[0].trace_id
    with Service(tmp_path, TO_FILE) as service:
        for body in bodies:
            service.call(body)
        eventually(lambda: len(service.lines()) == 2, what="both requests are delivered")
        listed = json.loads(spanweir("queue", "ls", "--json", cwd=tmp_path).stdout)
        assert listed["last"] == 2
        assert "file" in {cursor["name"] for cursor in listed["cursors"]}
        assert "CURSOR" in spanweir("queue", "ls", cwd=tmp_path).stdout
        told = spanweir("queue", "replay", "file", cwd=tmp_path)
        assert told.returncode == 1
        assert "stop the collector first" in told.stderr
        shown = spanweir("queue", "cat", "--after", "1", "--json", cwd=tmp_path)
        assert [json.loads(line)["sequence"] for line in shown.stdout.splitlines()] == [2]
        assert len(spanweir("queue", "cat", "--limit", "1", cwd=tmp_path).stdout.splitlines()) == 1
        explained = spanweir("explain", f"tr-{trace_id}", cwd=tmp_path)
        assert explained.returncode == 0, explained.stderr
        assert "from otel_genai span: gen_ai.request.model" in explained.stdout
    explained = spanweir("explain", "out.jsonl", cwd=tmp_path)
    assert explained.stdout.count("conventions: otel_genai") == 10


def test_replay_delivers_again_and_leaves_the_same(tmp_path: Path) -> None:
    with Service(tmp_path, TO_FILE, assignments=["service.queue.retention=1h"]) as service:
        service.call(make_requests(1, 1, seed=6)[0])
        eventually(lambda: len(service.lines()) == 1, what="the request is delivered")
    unknown = spanweir("queue", "replay", "fill", cwd=tmp_path)
    assert unknown.returncode == 2
    assert "no exporter 'fill' reads this queue; did you mean 'file'?" in unknown.stderr
    done = spanweir("queue", "replay", "file", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "file was at 1 and goes on after 0 when the collector starts\n"
    before = (tmp_path / "out.jsonl").read_bytes()
    (tmp_path / "out.jsonl").unlink()
    with Service(tmp_path, TO_FILE, assignments=["service.queue.retention=1h"]) as service:
        eventually(lambda: service.lines(), what="it is delivered again")
    assert (tmp_path / "out.jsonl").read_bytes() == before


@pytest.mark.parametrize(
    "arguments",
    [("queue", "cat", "--limit", "-1"), ("queue", "cat", "--after", "-1"), ("traces", "search", "-n", "-1")],
)
def test_numbers_that_are_none(minimal: Path, arguments: tuple[str, ...]) -> None:
    done = spanweir(*arguments, cwd=minimal)
    assert done.returncode == 2
    assert "-1 is not in the range" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["queue", "ls"], "there is no queue in ./queue"),
        (["queue", "cat"], "there is no queue in ./queue"),
        (["explain", "nonsense"], "'nonsense' is neither a file nor a trace id of 32 hex digits"),
        (["explain", "ab" * 16], "there is no queue in ./queue"),
    ],
)
def test_nothing_to_look_into(minimal: Path, arguments: list[str], message: str) -> None:
    done = spanweir(*arguments, cwd=minimal)
    assert done.returncode in (1, 2)
    assert done.stderr.startswith(message)


def test_a_signal_without_a_pipeline_is_accepted_counted_and_dropped_with_one_warning(tmp_path: Path) -> None:
    only_traces = TO_FILE.replace("    logs: {receivers: [otlp], exporters: [file]}\n", "")
    request = ExportLogsServiceRequest()
    for _ in range(3):
        request.resource_logs.add().scope_logs.add().log_records.add(event_name="e")
    with Service(tmp_path, only_traces) as service:
        for _ in range(4):
            service.call(request.SerializeToString(), "logs")
            assert service.post(request.SerializeToString(), "logs")[0] == 200
        assert service.metrics()["spanweir_receiver_unrouted_items"] == 24
        body = make_requests(1, 1, seed=8)[0]
        service.call(body)
        eventually(service.lines, what="traces are delivered")
        assert service.stop() == 0
    warnings = [line for line in service.log.read_text().splitlines() if "WARNING" in line]
    assert len(warnings) == 1, warnings
    assert "logs" in warnings[0]


@pytest.mark.parametrize(
    ("option", "place"),
    [
        ("receivers.otlp.protocols.grpc.endpoint", "receivers.otlp.protocols.grpc"),
        ("receivers.otlp.protocols.http.endpoint", "receivers.otlp.protocols.http"),
        ("service.telemetry.metrics.endpoint", "service.telemetry.metrics.endpoint"),
        ("extensions.health_check.endpoint", "extensions.health_check.endpoint"),
    ],
)
def test_a_port_that_is_taken(tmp_path: Path, option: str, place: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        others = [
            "receivers.otlp.protocols.grpc.endpoint=127.0.0.1:0",
            "receivers.otlp.protocols.http.endpoint=127.0.0.1:0",
            "service.telemetry.metrics.endpoint=127.0.0.1:0",
            "service.extensions=[health_check]",
            "extensions.health_check.endpoint=127.0.0.1:0",
            f"{option}={address}",
        ]
        (tmp_path / "otel-config.yaml").write_text(TO_FILE)
        done = spanweir("run", *(f"--set={setting}" for setting in others), cwd=tmp_path)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    told = done.stderr.splitlines()[-1]
    assert told.startswith("spanweir cannot start: ")
    assert place in told
    assert address in told
    assert "did not end in time" not in done.stderr, "the delivery process may not even have begun"
