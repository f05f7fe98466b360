"""MLflow's queue of daily roll-ups to rebuild, for servers that run with MLFLOW_SQL_TRACE_ROLLUPS_ENABLED.

A writer names the days it changes before it changes them, so that a roll-up of an older state is not served
(MLflow 3.17 `sql_trace_rollups.enqueue_rollup_rebuild_partitions`).
"""

import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from spanweir.exporters.mlflow.database import Database
from spanweir.exporters.mlflow.revisions import REBUILDS
from spanweir.exporters.mlflow.rows import Rows

LAG_MS: Final = 24 * 3600 * 1000
"""Younger days are not rolled up yet."""


def enqueue(database: Database, rows: Rows, before: Mapping[str, tuple[int, int]]) -> None:
    """`before` is the stored experiment id and time (ms) of the traces that exist."""
    newest_ms = time.time_ns() // 1_000_000 - LAG_MS
    changed: set[tuple[int, int, str]] = set()
    for row in rows.traces:
        for experiment_id, at_ms in ((row[1], row[2]), *(([before[row[0]]]) if row[0] in before else [])):
            if at_ms <= newest_ms:
                changed.update((experiment_id, at_ms // LAG_MS, family) for family in ("trace_metric", "assessment"))
    for span in rows.spans:
        if (at_ms := span[7] // 1_000_000) <= newest_ms:
            changed.add((span[2], at_ms // LAG_MS, "span_cost"))
    database.write(REBUILDS, [_row(*key) for key in sorted(changed)])


def _row(experiment_id: int, day: int, family: str) -> tuple[Any, ...]:
    return (experiment_id, datetime.fromtimestamp(day * 86400, UTC).date().isoformat(), family)
