"""Taking back spans that no longer stand, and traces of which nothing is left.

Rows that belong to them are deleted by hand: SQLite's foreign keys are not checked on our connection.
"""

from collections.abc import Sequence

from spanweir.exporters.mlflow.database import Database, select_in
from spanweir.exporters.mlflow.rows import request_id

_OF_A_SPAN = ("span_metrics", "spans")
_OF_A_TRACE = (
    ("trace_tags", "request_id"),
    ("trace_request_metadata", "request_id"),
    ("trace_metrics", "request_id"),
    ("assessments", "trace_id"),
    ("trace_info", "request_id"),
)


def spans(database: Database, retracted: Sequence[tuple[str, str]]) -> None:
    """`retracted` are trace and span ids; those that are not stored are passed over."""
    if not retracted:
        return
    rows = sorted((request_id(trace_id), span_id) for trace_id, span_id in retracted)
    for table in _OF_A_SPAN:
        database.execute_many(f"DELETE FROM {table} WHERE trace_id = ? AND span_id = ?", rows)


def empty_traces(database: Database, retracted: Sequence[tuple[str, str]]) -> None:
    """After everything else of the batch is written: a trace goes with its last span."""
    if not retracted:
        return
    keys = sorted({request_id(trace_id) for trace_id, _ in retracted})
    left = {row[0] for row in select_in(database, "SELECT s.trace_id FROM spans s WHERE s.trace_id IN", keys)}
    gone = [(key,) for key in keys if key not in left]
    for table, column in _OF_A_TRACE:
        database.execute_many(f"DELETE FROM {table} WHERE {column} = ?", gone)
    database.execute_many("DELETE FROM entity_associations WHERE source_type = 'trace' AND source_id = ?", gone)
