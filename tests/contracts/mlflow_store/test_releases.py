"""Each MLflow release whose schema `revisions` lists: its own database, its own reader.

The release is unpacked beside the installed one, whose dependencies it shares, and runs in processes of its own.
"""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from spanweir.exporters.api import Context
from spanweir.exporters.mlflow import Config, schema
from spanweir.exporters.mlflow.revisions import REVISIONS
from tests.support.mlflow_spans import make_batch, make_feedback, make_span, make_trace

RELEASES = ("3.18.0", "3.17.2", "3.16.1", "3.15.2", "3.14.0", "3.12.0", "3.10.1")

READ = """
import json, sys, mlflow
from mlflow.tracking import MlflowClient
client = MlflowClient(sys.argv[1])
experiment = client.get_experiment_by_name("rag").experiment_id
found = []
for info in client.search_traces([experiment], include_spans=True, order_by=["timestamp_ms ASC"]):
    one = client.get_trace(info.info.trace_id)
    found.append({
        "id": one.info.trace_id, "state": str(one.info.state), "name": one.info.tags.get("mlflow.traceName"),
        "session": one.info.trace_metadata.get("mlflow.trace.session"), "usage": one.info.token_usage,
        "cost": one.info.trace_metadata.get("mlflow.trace.cost"), "spans": [span.name for span in one.data.spans],
        "types": [span.span_type for span in one.data.spans], "feedback": [a.value for a in one.info.assessments],
        "searched": len(info.data.spans),
    })
by_name = client.search_traces([experiment], filter_string="attributes.name = 'librarian'")
print(json.dumps({"version": mlflow.__version__, "traces": found, "named": len(by_name)}))
"""

ADD_SPANS = """
import json, sys
from mlflow.entities import Span
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
store = SqlAlchemyStore(sys.argv[1], "/nowhere")
store.log_spans(store.get_experiment_by_name("rag").experiment_id, [Span.from_dict(json.loads(sys.stdin.read()))])
"""


@pytest.fixture(scope="session")
def downloads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("releases")


def unpacked(downloads: Path, version: str) -> Path:
    place = downloads / version
    if not place.exists():
        command = [
            sys.executable,
            "-m",
            "pip",
            "download",
            "-q",
            "--no-deps",
            "-d",
            str(downloads),
            f"mlflow=={version}",
        ]
        if subprocess.run(command, check=False, capture_output=True).returncode:
            pytest.skip(f"MLflow {version} cannot be downloaded here")
        with zipfile.ZipFile(next(downloads.glob(f"mlflow-{version}-*.whl"))) as wheel:
            wheel.extractall(place)
    return place


def run(place: Path, program: str, *arguments: str, given: str = "") -> str:
    environment = {**os.environ, "PYTHONPATH": str(place), "PYTHONWARNINGS": "ignore"}
    result = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        env=environment,
        input=given,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr[-2000:]
    return result.stdout


@pytest.mark.external
@pytest.mark.slow
@pytest.mark.parametrize("version", RELEASES)
def test_a_release_reads_what_is_written_into_its_schema(
    version: str, downloads: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = unpacked(downloads, version)
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    with monkeypatch.context() as patched:
        patched.setenv("PYTHONPATH", str(place))
        exporter = Config(tracking_uri=uri, experiment="rag").build(Context(name="mlflow", state_directory=""))
        exporter.__enter__()
    traces = [make_trace(seed) for seed in range(3)]
    traces[0][0].assessments = [make_feedback(traces[0][0].trace_id)]
    traces[2][0].name = None
    with exporter:
        assert REVISIONS[exporter._revision][1] == version.rpartition(".")[0]  # type: ignore[attr-defined]
        for _ in range(2):
            exporter.export(make_batch(traces))
        late = make_span(traces[1][0].trace_id, "00000000000000ff", traces[1][0].root_span_id, name="late")
        run(place, ADD_SPANS, uri, given=late.content.decode())
        exporter.export(make_batch([traces[1]]))
    answer = json.loads(run(place, READ, uri))
    assert answer["version"] == version
    assert answer["named"] == 2
    for (row, spans), found in zip(traces, answer["traces"], strict=True):
        more = ["late"] if row is traces[1][0] else []
        assert found["id"] == f"tr-{row.trace_id}"
        assert (found["state"], found["name"], found["session"]) == ("OK", row.name, row.session_id)
        assert found["usage"] == _usage(row)
        assert json.loads(found["cost"])["total_cost"] == pytest.approx(0.00045)
        assert sorted(found["spans"]) == sorted([*(span.name for span in spans), *more])
        assert found["searched"] == len(found["spans"])
        assert "RETRIEVER" in found["types"]
        assert found["feedback"] == ([0.75] if row.assessments else [])


def _usage(row: Any) -> dict[str, int]:
    return {"input_tokens": row.usage.input_tokens, "output_tokens": 250, "total_tokens": row.usage.total_tokens}


def test_every_listed_release_has_one_revision() -> None:
    releases = [release for _, release in REVISIONS.values() if release]
    assert len(releases) == len(set(releases))
    assert schema.TOO_OLD.isdisjoint(REVISIONS)
