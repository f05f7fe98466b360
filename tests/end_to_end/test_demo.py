"""`spanweir demo` and `spanweir up`, as a new user runs them."""

import os
import re
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from spanweir.collector.demo.process import free_ports
from tests.support.service import eventually


def test_demo(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "spanweir.collector", "demo"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stdout + done.stderr
    out = done.stdout
    for kind in ("WORKFLOW", "AGENT", "RETRIEVER", "EMBEDDING", "CHAT_MODEL", "TOOL"):
        assert f"── {kind}" in out, out
    assert "user: Is it sunny in Paris" in out
    assert "doc 1 (" in out
    assert "assistant: calls get_weather(" in out
    assert 'out: {"city": "Paris"' in out
    assert re.search(r"[\d,]+ \+ [\d,]+ tokens", out)
    assert "5 traces stand in both stores." in out
    assert f"sqlite:///{tmp_path}/spanweir-data/demo/mlflow.db" in out
    assert f"{tmp_path}/spanweir-data/demo/tables/spanweir_payload" in out
    assert "mlflow ui --backend-store-uri sqlite:///" in out
    assert "Traceback" not in (tmp_path / "spanweir-data" / "demo" / "collector.log").read_text()


def test_a_demo_that_cannot_work_says_why(tmp_path: Path) -> None:
    (tmp_path / "spanweir-data").write_text("in the way")
    command = [sys.executable, "-m", "spanweir.collector", "demo"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=280)
    assert done.returncode == 1
    assert done.stderr.startswith("The demo failed: ")
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_up_has_the_mlflow_ui_beside_it(tmp_path: Path) -> None:
    grpc, http, metrics, ui, health = free_ports(5)
    settings = [
        f"receivers.otlp.protocols.grpc.endpoint=127.0.0.1:{grpc}",
        f"receivers.otlp.protocols.http.endpoint=127.0.0.1:{http}",
        f"service.telemetry.metrics.endpoint=127.0.0.1:{metrics}",
        f"extensions.health_check.endpoint=127.0.0.1:{health}",
    ]
    command = [sys.executable, "-m", "spanweir.collector", "up", "--ui-port", str(ui)]
    command += [argument for setting in settings for argument in ("--set", setting)]
    log = (tmp_path / "up.log").open("wb")
    process = subprocess.Popen(command, cwd=tmp_path, stdout=log, stderr=log, start_new_session=True)
    try:

        def page() -> bool:
            assert process.poll() is None, (tmp_path / "up.log").read_text()
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{ui}/health", timeout=2) as answer:
                    return answer.status == 200
            except OSError:
                return False

        eventually(page, timeout_s=90, what="the MLflow UI answers")
        assert _rss_mb(process.pid) < 100, "MLflow is imported beside the collector and not in its supervisor"
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0
        left = subprocess.run(["pgrep", "-f", f"--port {ui}"], capture_output=True, text=True).stdout.split()
        assert not left, "the UI has ended with all its processes"
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        log.close()
    out = (tmp_path / "up.log").read_text()
    assert f"127.0.0.1:{grpc}" in out
    assert f"http://127.0.0.1:{ui}" in out
    assert "sqlite:///mlflow.db" in out


def _rss_mb(pid: int) -> float:
    return int(Path(f"/proc/{pid}/status").read_text().split("VmRSS:")[1].split()[0]) / 1024
