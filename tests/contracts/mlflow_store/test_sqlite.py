"""The embedded SQLite store, from an absent file to what MLflow shows of it."""

import sqlite3
from pathlib import Path

import pytest

from spanweir.exporters.api import Context, Permanent
from spanweir.exporters.mlflow import Config
from tests.support.mlflow_spans import make_batch, make_feedback, make_trace


def test_a_trace_comes_back_through_mlflow(sqlite_path: Path) -> None:
    from mlflow.tracking import MlflowClient

    uri = f"sqlite:///{sqlite_path}"
    row, spans = make_trace(1, experiment="rag")
    row.assessments = [make_feedback(row.trace_id)]
    with Config(tracking_uri=uri).build(Context(name="mlflow", state_directory="")) as exporter:
        exporter.export(make_batch([(row, spans)]))
        exporter.export(make_batch([(row, spans)]))
    trace = MlflowClient(uri).get_trace(f"tr-{row.trace_id}")
    assert [span.name for span in trace.data.spans] == [span.name for span in spans]
    assert trace.info.token_usage == {"input_tokens": 1001, "output_tokens": 250, "total_tokens": 1251}
    assert trace.info.trace_metadata["mlflow.trace.session"] == "session-1"
    assert trace.info.tags["mlflow.traceName"] == "librarian"
    assert [assessment.value for assessment in trace.info.assessments] == [0.75]


def test_a_database_of_something_else_is_refused_at_start(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE accounts (id INTEGER)")
    exporter = Config(tracking_uri=f"sqlite:///{path}").build(Context(name="mlflow", state_directory=""))
    with pytest.raises(Permanent, match=r"not an MLflow database.*accounts"):
        exporter.__enter__()
