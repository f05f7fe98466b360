"""Making MLflow's schema while another program makes it too, and what is said when it cannot be made."""

import threading
import time
from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from spanweir.exporters.api import Context
from spanweir.exporters.mlflow import Config, schema
from spanweir.schemas.options import Secret
from tests.contracts.mlflow_store.conftest import Pair, execute
from tests.support.mlflow_spans import make_batch, make_trace


@pytest.mark.slow
def test_two_programs_find_the_same_empty_database(
    pairs: Callable[[str], Pair], caplog: pytest.LogCaptureFixture
) -> None:
    """As when MLflow's server and a collector start together: the one that comes second waits for the first."""
    server = pairs("postgresql").ours.rpartition("/")[0]
    execute(f"{server}/postgres", "CREATE DATABASE shared")
    config = Config(tracking_uri=f"{server}/shared", artifact_root="mlflow-artifacts:")
    with psycopg.connect(f"{server}/shared") as other:
        # Not committed, so it is not seen yet; but who makes a table of that name now has to wait.
        other.execute("CREATE TABLE experiments (experiment_id INTEGER)")
        committing = threading.Thread(target=commit_when_waited_for, args=(other, f"{server}/postgres"))
        committing.start()
        with config.build(Context(name="mlflow", state_directory="")) as exporter:
            committing.join()
            assert "another program is making MLflow's schema there" in caplog.text
            assert not config.has_schema()
            execute(f"{server}/shared", "DROP TABLE experiments")
            exporter.export(make_batch([make_trace(1)]))
    assert config.has_schema()


def commit_when_waited_for(connection: "psycopg.Connection[Any]", server: str) -> None:
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = 'shared' AND wait_event_type = 'Lock'"
    with psycopg.connect(server, autocommit=True) as watcher:
        while not watcher.execute(waiting).fetchall()[0][0]:
            time.sleep(0.1)
    connection.commit()


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (
            "Traceback (most recent call last):\n"
            '  File "a.py", line 1, in main\n'
            'sqlalchemy.exc.IntegrityError: (psycopg.errors.UniqueViolation) duplicate key "pg_type_typname"\n'
            "DETAIL:  Key (typname)=(experiments) already exists.\n"
            "[SQL: CREATE TABLE experiments ()]\n"
            "(Background on this error at: https://sqlalche.me/e/21/gkpj)\n",
            'sqlalchemy.exc.IntegrityError: (psycopg.errors.UniqueViolation) duplicate key "pg_type_typname"',
        ),
        ("Killed\n", "Killed"),
        ("", "no message"),
    ],
)
def test_the_reason_is_the_error_and_not_the_link_below_it(said: str, reason: str) -> None:
    assert schema._reason(said) == reason


@pytest.mark.parametrize(
    ("given", "uri"),
    [
        ("postgresql://ada@db:5432/mlflow", "postgresql+psycopg://ada:p%40ss@db:5432/mlflow"),
        ("postgresql+psycopg2://ada@db/mlflow", "postgresql+psycopg2://ada:p%40ss@db/mlflow"),
        ("mysql://ada@db/mlflow", "mysql+pymysql://ada:p%40ss@db/mlflow"),
        ("sqlite:///mlflow.db", "sqlite:///mlflow.db"),
    ],
)
def test_what_mlflows_server_is_given(given: str, uri: str) -> None:
    config = Config(tracking_uri=given, password=Secret("p@ss"))
    assert config.server_uri == uri
    assert "p@ss" not in repr(config)
