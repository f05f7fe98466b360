"""A program of its own: MLflow creates its schema and its Default experiment in an empty database.

Takes `{"uri": ..., "artifact_root": ...}` on standard input, so that no password stands in a list of processes.
"""

import json
import sys

from mlflow.store.db import utils
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

from spanweir.exporters.mlflow.schema import with_driver


def main() -> None:
    given = json.load(sys.stdin)
    uri = with_driver(given["uri"])
    engine = utils.create_sqlalchemy_engine_with_retry(uri)
    if hasattr(utils, "_safe_initialize_tables"):
        # Two processes may find the same empty database.
        utils._safe_initialize_tables(engine)
    engine.dispose()
    SqlAlchemyStore(uri, given["artifact_root"])


if __name__ == "__main__":
    main()
