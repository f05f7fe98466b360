"""Payload rows that were written before, read back so that late spans can be put into them."""

import logging
from collections.abc import Mapping
from datetime import date, timedelta
from typing import Any, Final

from deltalake import QueryBuilder
from deltalake.exceptions import DeltaError

from spanweir.exporters.api import Retry
from spanweir.exporters.delta.overflow import Overflow
from spanweir.exporters.delta.payload import TRACE_PREFIX, Contents, contents_of
from spanweir.exporters.delta.table import Target

_LOG: Final = logging.getLogger(__name__)
_EPOCH: Final = date(1970, 1, 1)


def stored_contents(target: Target, overflow: Overflow, days: Mapping[str, tuple[int, ...]]) -> dict[str, Contents]:
    """Contents by trace and span id. `days` names, by trace id, the days under which the row may stand.

    Raises `Retry`.
    """
    result: dict[str, Contents] = {}
    for row in _rows(target, days):
        response = row["response"]
        if response is None:
            day = (row["request_date"] - _EPOCH).days
            response = overflow.read(day, f"{row['databricks_request_id']}.response.json")
        if response is None:
            continue
        try:
            result[row["databricks_request_id"].removeprefix(TRACE_PREFIX)] = contents_of(response)
        except ValueError as error:
            _LOG.warning("%s: row %s has no trace: %s", target.uri, row["databricks_request_id"], error)
    return result


def _rows(target: Target, days: Mapping[str, tuple[int, ...]]) -> list[dict[str, Any]]:
    dates = ",".join(
        f"DATE '{_EPOCH + timedelta(days=day)}'" for day in sorted({d for ds in days.values() for d in ds})
    )
    ids = ",".join(f"'{TRACE_PREFIX}{trace}'" for trace in days)
    query = (
        "SELECT databricks_request_id, request_date, response FROM payload "
        f"WHERE request_date IN ({dates}) AND databricks_request_id IN ({ids})"
    )
    try:
        table = target.table
        table.update_incremental()
        batches = QueryBuilder().register("payload", table).execute(query).read_all().to_batches()
    except (DeltaError, OSError, ValueError) as error:
        raise Retry(f"{target.uri}: {error}", after_s=1.0) from error
    return [
        {"databricks_request_id": str(i), "request_date": d, "response": r}
        for batch in batches
        for i, d, r in zip(*(column.to_pylist() for column in batch.columns), strict=True)
    ]
