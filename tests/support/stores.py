"""MLflow stores for tests that are not about how a store comes to be: made once a run, then copied.

MLflow's migrations take about five seconds of CPU time.
"""

import sqlite3
import tempfile
from functools import cache
from pathlib import Path

from spanweir.exporters.api import Context
from spanweir.exporters.mlflow import Config


def sqlite_store(path: Path, artifact_root: str = "") -> str:
    """Make `path` an empty store at MLflow's newest schema, as the exporter makes it; its tracking URI.

    Artifacts lie in `artifact_root`, by default where the exporter would have them: beside the file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(_empty())
    root = artifact_root or str(path.absolute().parent / "mlartifacts")
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE experiments SET artifact_location = ? || '/' || experiment_id", (root,))
    connection.close()
    return f"sqlite:///{path}"


@cache
def _empty() -> bytes:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "mlflow.db"
        with Config(tracking_uri=f"sqlite:///{path}").build(Context(name="mlflow", state_directory=directory)):
            pass
        return path.read_bytes()
