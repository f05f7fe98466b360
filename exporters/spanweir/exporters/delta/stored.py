"""Payload rows that were written before, read back so that late spans can be put into them."""

import logging
from collections.abc import Mapping
from datetime import date, timedelta
from typing import Any, Final

from deltalake import QueryBuilder
from deltalake.exceptions import DeltaError

from spanweir.exporters.api import Retry
from spanweir.exporters.delta.overflow import COLUMNS, Overflow
from spanweir.exporters.delta.payload import TRACE_PREFIX, Stored
from spanweir.exporters.delta.table import Target

_LOG: Final = logging.getLogger(__name__)
_EPOCH: Final = date(1970, 1, 1)


def stored_rows(target: Target, overflow: Overflow, days: Mapping[str, tuple[int, ...]]) -> dict[str, Stored]:
    """Rows by trace id. `days` names, by trace id, the days under which the row may stand.

    Raises `Retry`.
    """
    result: dict[str, Stored] = {}
    for row in _rows(target, days):
        try:
            result[row["databricks_request_id"].removeprefix(TRACE_PREFIX)] = overflow.stored(row)
        except ValueError as error:
            _LOG.warning("%s: row %s holds no trace: %s", target.uri, row["databricks_request_id"], error)
    return result


def _rows(target: Target, days: Mapping[str, tuple[int, ...]]) -> list[dict[str, Any]]:
    dates = ",".join(
        f"DATE '{_EPOCH + timedelta(days=day)}'" for day in sorted({d for ds in days.values() for d in ds})
    )
    ids = ",".join(f"'{TRACE_PREFIX}{trace}'" for trace in days)
    query = (
        f"SELECT {', '.join(COLUMNS)} FROM payload WHERE request_date IN ({dates}) AND databricks_request_id IN ({ids})"
    )
    try:
        table = target.table
        table.update_incremental()
        batches = QueryBuilder().register("payload", table).execute(query).read_all().to_batches()
    except (DeltaError, OSError, ValueError) as error:
        raise Retry(f"{target.uri}: {error}", after_s=1.0) from error
    return [
        dict(zip(COLUMNS, row, strict=True))
        for batch in batches
        for row in zip(*(column.to_pylist() for column in batch.columns), strict=True)
    ]
