"""An MLflow store in a SQLite file, read back by SQL. The other databases have the suite in `mlflow_store`."""

import shutil
import sqlite3
import tempfile
from functools import cache
from pathlib import Path

from spanweir.exporters.api import Context
from spanweir.exporters.mlflow import Config
from tests.support.batches import SpanId


@cache
def empty_database() -> bytes:
    """MLflow's migrations take seconds: once for all tests."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "mlflow.db"
        with Config(tracking_uri=f"sqlite:///{path}").build(Context(name="mlflow", state_directory=directory)):
            pass
        return path.read_bytes()


class Bench:
    exactly_once = True
    can_fail = True

    def __init__(self, directory: Path) -> None:
        self.directory = directory / "store"
        self.directory.mkdir()
        self.path = self.directory / "mlflow.db"
        self.path.write_bytes(empty_database())

    @property
    def config(self) -> Config:
        return Config(tracking_uri=f"sqlite:///{self.path}")

    def spans(self) -> list[SpanId]:
        with sqlite3.connect(self.path) as connection:
            rows = connection.execute("SELECT trace_id, span_id FROM spans").fetchall()
        return sorted((trace.removeprefix("tr-"), span) for trace, span in rows)

    def stop(self) -> None:
        shutil.move(self.directory, self.directory.with_name("away"))

    def start(self) -> None:
        shutil.move(self.directory.with_name("away"), self.directory)

    def close(self) -> None: ...
