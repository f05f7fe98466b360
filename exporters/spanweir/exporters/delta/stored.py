"""Payload rows that were written before, read back so that late spans can be put into them."""

import logging
from collections.abc import Mapping
from typing import Any, Final

from deltalake import QueryBuilder
from deltalake.exceptions import DeltaError

from spanweir.exporters.delta.errors import later
from spanweir.exporters.delta.overflow import COLUMNS, Overflow
from spanweir.exporters.delta.payload import TRACE_PREFIX, Stored
from spanweir.exporters.delta.spool import Times
from spanweir.exporters.delta.table import Target, within

_LOG: Final = logging.getLogger(__name__)


def stored_rows(target: Target, overflow: Overflow, times: Mapping[str, Times]) -> dict[str, Stored]:
    """Rows by trace id. `times` says, by trace id, from when to when the row's request time may be.

    Raises `Retry`.
    """
    result: dict[str, Stored] = {}
    for row in _rows(target, times):
        try:
            result[row["databricks_request_id"].removeprefix(TRACE_PREFIX)] = overflow.stored(row)
        except ValueError as error:
            _LOG.warning("%s: row %s holds no trace: %s", target.uri, row["databricks_request_id"], error)
    return result


def _rows(target: Target, times: Mapping[str, Times]) -> list[dict[str, Any]]:
    """Only files that overlap the time of one of the rows are opened."""
    first, last = min(t for t, _ in times.values()), max(t for _, t in times.values())
    ids = ",".join(f"'{TRACE_PREFIX}{trace}'" for trace in times)
    query = (
        f"SELECT {', '.join(COLUMNS)} FROM payload WHERE {' AND '.join(within(target.spec, '', (first, last)))} "
        f"AND databricks_request_id IN ({ids})"
    )
    try:
        batches = QueryBuilder().register("payload", target.newest()).execute(query).read_all().to_batches()
    except (DeltaError, OSError, ValueError) as error:
        raise later(target.uri, error) from error
    return [
        dict(zip(COLUMNS, row, strict=True))
        for batch in batches
        for row in zip(*(column.to_pylist() for column in batch.columns), strict=True)
    ]
