"""Reading back what a collector stored: from MLflow by MLflow itself, from the inference table by delta-rs."""

import json
import os
import sqlite3
from collections.abc import Collection
from pathlib import Path
from typing import Any


def stored_states(database: Path, trace_ids: Collection[str]) -> dict[str, str]:
    """State of each trace that stands in the MLflow database, by trace id. Cheap, for polling."""
    if not database.exists():
        return {}
    ids = [f"tr-{trace_id}" for trace_id in trace_ids]
    marks = ",".join("?" * len(ids))
    try:
        connection = sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=5)
    except sqlite3.OperationalError:
        return {}
    try:
        rows = connection.execute(f"SELECT request_id, status FROM trace_info WHERE request_id IN ({marks})", ids)
        return {str(row[0]).removeprefix("tr-"): str(row[1]) for row in rows}
    except sqlite3.OperationalError:  # MLflow is just creating its tables
        return {}
    finally:
        connection.close()


def read_trace(tracking_uri: str, trace_id: str) -> dict[str, Any]:
    """The trace as MLflow gives it: `{"info": ..., "data": {"spans": [...]}}`. Raises what MLflow raises."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    from mlflow import MlflowClient

    trace: dict[str, Any] = json.loads(MlflowClient(tracking_uri).get_trace(f"tr-{trace_id}").to_json())
    return trace


def payload_rows(table: str, trace_ids: Collection[str]) -> dict[str, dict[str, Any]]:
    """Rows of the inference table by trace id, found by the trace in their response."""
    import pyarrow as pa
    from deltalake import DeltaTable
    from deltalake.exceptions import TableNotFoundError

    try:
        delta = DeltaTable(table)
    except TableNotFoundError:
        return {}
    columns = ["databricks_request_id", "request", "response", "status_code", "execution_duration_ms"]
    found = {}
    for row in pa.table(delta.to_pyarrow_table(columns=columns)).to_pylist():
        trace = (json.loads(row["response"] or "{}").get("databricks_output") or {}).get("trace") or {}
        trace_id = str((trace.get("info") or {}).get("trace_id", "")).removeprefix("tr-")
        if trace_id in trace_ids:
            found[trace_id] = row
    return found
