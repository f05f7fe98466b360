"""Traces whose row MLflow's client wrote itself: its times and totals stand, only gaps are filled."""

from collections.abc import Mapping, Sequence
from typing import Any

from spanweir.exporters.mlflow.database import Database, select_in
from spanweir.exporters.mlflow.revisions import COST_COLUMNS, TOKEN_COLUMNS, Layout
from spanweir.exporters.mlflow.rows import Row, Rows


def keep(database: Database, layout: Layout, rows: Rows, finalized: Sequence[str]) -> None:
    """Change `rows` to what may be written of the traces of those MLflow ids."""
    if not finalized:
        return
    keys = sorted(finalized)
    columns = [name for name in layout.traces.columns if name != layout.traces.counter]
    names = ", ".join(f"i.{name}" for name in columns)
    found = select_in(database, f"SELECT {names} FROM trace_info i WHERE i.request_id IN", keys)
    theirs = {row[0]: dict(zip(columns, row, strict=True)) for row in found}
    for index, ours in enumerate(rows.traces):
        if kept := theirs.get(ours[0]):
            rows.traces[index] = _merged(layout, ours, kept)
    if not layout.analytics:
        _keep_metadata(database, rows, keys)


def _keep_metadata(database: Database, rows: Rows, keys: Sequence[str]) -> None:
    names = "m.key IN ('mlflow.trace.tokenUsage', 'mlflow.trace.cost', 'mlflow.trace.session')"
    statement = f"SELECT m.request_id, m.key FROM trace_request_metadata m WHERE {names} AND m.request_id IN"
    kept = {(row[0], row[1]) for row in select_in(database, statement, keys)}
    rows.metadata = [row for row in rows.metadata if row[:2] not in kept]
    usage = {key for key, name in kept if name == "mlflow.trace.tokenUsage"}
    rows.trace_metrics = [row for row in rows.trace_metrics if row[0] not in usage]


def _merged(layout: Layout, ours: Row, theirs: Mapping[str, Any]) -> Row:
    """MLflow 3.18 `_log_spans_once`: of a finalised trace times stay, and each total that is there at all."""
    has_tokens = any(theirs.get(name) is not None for name in TOKEN_COLUMNS)
    has_cost = any(theirs.get(name) is not None for name in COST_COLUMNS)
    merged = []
    for name, value in zip(layout.traces.columns, ours, strict=True):
        if name == layout.traces.counter:
            stays = False
        elif name in TOKEN_COLUMNS:
            stays = has_tokens
        elif name in COST_COLUMNS:
            stays = has_cost
        elif name == "status":
            stays = theirs[name] not in ("IN_PROGRESS", "STATE_UNSPECIFIED")
        elif name in ("timestamp_ms", "execution_time_ms"):
            stays = True
        else:
            stays = theirs[name] is not None
        merged.append(theirs[name] if stays else value)
    return tuple(merged)
