"""The quick starts for Node.js, as they stand, against a collector and a local model server."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.fake_models import ANSWER, serve
from tests.support.service import Service, eventually
from tests.support.stores import sqlite_store

pytestmark = [pytest.mark.external, pytest.mark.slow, pytest.mark.timeout(600)]

QUICKSTART = Path(__file__).parents[2] / "instrumentation" / "quickstarts" / "node"
MODULES = Path(os.environ.get("SPANWEIR_NODE_MODULES") or Path(tempfile.gettempdir()) / "spanweir-quickstart-node")


@pytest.fixture(scope="module")
def project() -> Path:
    """The quick start with its packages, installed once."""
    if shutil.which("npm") is None:
        pytest.skip("no Node.js")
    MODULES.mkdir(parents=True, exist_ok=True)
    for file in QUICKSTART.iterdir():
        shutil.copy(file, MODULES)
    if not (MODULES / "node_modules" / ".package-lock.json").exists():
        command = ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts"]
        if subprocess.run(command, cwd=MODULES, check=False, timeout=500, capture_output=True).returncode:
            pytest.skip("the packages could not be installed")
    return MODULES


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    directory = tmp_path_factory.mktemp("node")
    sqlite_store(directory / "mlflow.db")
    with Service(directory) as running:
        yield running


def run(project: Path, script: str, service: Service, *, at_least: int) -> list[tuple[str, str]]:
    """Runs an npm script; gives name and type of the spans that it added to the store."""
    before = {row[0] for row in service.rows("SELECT span_id FROM spans")}
    with serve() as models:
        environment = {
            "PATH": os.environ["PATH"],
            "OPENAI_API_KEY": "none",
            "OPENAI_BASE_URL": f"{models.address}/v1",
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{service.http_port}",
            "OTEL_SERVICE_NAME": f"node-{script}",
        }
        command = ["npm", "run", "--silent", script]
        done = subprocess.run(
            command, cwd=project, env=environment, capture_output=True, text=True, timeout=120, check=False
        )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(ANSWER) == 2

    def added() -> list[tuple[str, str]]:
        rows = service.rows("SELECT span_id, name, type FROM spans ORDER BY start_time_unix_nano")
        return [(name, kind) for span_id, name, kind in rows if span_id not in before]

    eventually(lambda: len(added()) >= at_least, what="the spans in the store")
    return added()


def test_the_openai_client(project: Path, service: Service) -> None:
    assert [kind for _, kind in run(project, "openai", service, at_least=2)] == ["CHAT_MODEL", "CHAT_MODEL"]
    previews = service.rows("SELECT request_preview, response_preview FROM trace_info ORDER BY timestamp_ms")
    assert "What does a weir do?" in previews[0][0]
    assert ANSWER in previews[0][1]


def test_the_ai_sdk(project: Path, service: Service) -> None:
    spans = run(project, "ai-sdk", service, at_least=6)
    kinds = [kind for _, kind in spans]
    assert kinds.count("CHAT_MODEL") == 3
    assert kinds.count("TOOL") == 1
    assert ("execute_tool weather", "TOOL") in spans
