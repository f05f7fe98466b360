"""Traces shown under the runs that they belong to."""

import hashlib
import time
from collections.abc import Mapping

from spanweir.exporters.mlflow.database import Database, select_in
from spanweir.exporters.mlflow.revisions import LINKS


def link(database: Database, runs: Mapping[str, str]) -> None:
    """Link traces (MLflow ids) to those of their runs that exist, as MLflow's `link_traces_to_run` does."""
    found = {
        row[0] for row in select_in(database, "SELECT run_uuid FROM runs WHERE run_uuid IN", sorted(set(runs.values())))
    }
    now_ms = time.time_ns() // 1_000_000
    links = [
        (hashlib.sha256(f"{trace}/{run}".encode()).hexdigest()[:32], "trace", trace, "run", run, now_ms)
        for trace, run in sorted(runs.items())
        if run in found
    ]
    database.write(LINKS, links)
