"""An MLflow store in a SQLite file, read back by SQL. The other databases have the suite in `mlflow_store`."""

import shutil
import sqlite3
from pathlib import Path

from spanweir.exporters.mlflow import Config
from tests.support.batches import SpanId
from tests.support.stores import sqlite_store


class Bench:
    exactly_once = True
    can_fail = True

    def __init__(self, directory: Path) -> None:
        self.directory = directory / "store"
        self.path = self.directory / "mlflow.db"
        sqlite_store(self.path)

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
