"""The tables of one exporter, opened to be read: SQL over them, and whole traces by their ids.

DataFusion, which comes with deltalake, runs the queries; nothing else has to be installed.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from itertools import islice
from typing import Any, Final, TypeAlias

import msgspec
from arro3.core import RecordBatchReader
from arro3.core import Table as ArrowTable

from spanweir.exporters.api import Permanent, Retry
from spanweir.exporters.delta import Config, overflow
from spanweir.exporters.delta.arrow import Layout
from spanweir.exporters.delta.errors import explained
from spanweir.exporters.delta.overflow import Overflow
from spanweir.exporters.delta.payload import assessed, span_hex
from spanweir.exporters.delta.unity import Place, place
from spanweir.schemas.inference_table import RESPONSE_TOO_LARGE

Source: TypeAlias = "str | Config | Tables"
"""Where tables are: the `path` of an exporter, its configuration, or opened tables."""

_IDS_A_QUERY: Final = 500
_COLUMNS: Final = "databricks_request_id, request_date, request, response, logging_error_codes"

UNIFIED: Final = (
    ("trace_id", "STRING"),
    ("client_request_id", "STRING"),
    ("request_time", "TIMESTAMP"),
    ("state", "STRING"),
    ("execution_duration_ms", "DOUBLE"),
    ("request", "STRING"),
    ("response", "STRING"),
    ("trace_metadata", "MAP<STRING,STRING>"),
    ("tags", "MAP<STRING,STRING>"),
    (
        "spans",
        "ARRAY<STRUCT<span_id:STRING, parent_span_id:STRING, name:STRING, kind:STRING, start_time_unix_nano:LONG,"
        " end_time_unix_nano:LONG, status:STRUCT<message:STRING, code:STRING>, attributes:MAP<STRING,STRING>>>",
    ),
    (
        "assessments",
        "ARRAY<STRUCT<assessment_id:STRING, name:STRING, source:STRUCT<type:STRING, id:STRING>, value:STRING,"
        " kind:STRING, span_id:STRING, rationale:STRING, create_time:STRING, valid:BOOLEAN>>",
    ),
)
"""Columns of `trace_unified`. Spans are in the order of their start; attribute values are JSON text."""
METADATA: Final = ("trace_id", "client_request_id", "tags", "trace_metadata", "assessments")
"""Columns of `trace_metadata`."""


class Tables:
    """Opened at the newest version when they are first used; a query sees what stood then."""

    def __init__(self, source: "str | Config", *, prefix: str = "spanweir", storage_options: Any = None) -> None:
        if isinstance(source, str):
            source = Config(path=source, prefix=prefix, storage_options=storage_options or {})
        self.config = source
        self._open: dict[str, Any] = {}
        self._places: dict[str, Place] = {}

    def table(self, suffix: str) -> Any:
        """The DeltaTable of `{prefix}_{suffix}`. Raises LookupError where there is none, or none that can be opened."""
        from deltalake import DeltaTable
        from deltalake.exceptions import DeltaError, TableNotFoundError

        if suffix not in self._open or not self._places[suffix].current:
            uri = self.config.table_uri(suffix)
            try:
                self._places[suffix] = where = place(uri, self.config.storage_options)
                self._open[suffix] = DeltaTable(where.uri, storage_options=where.options or None)
            except TableNotFoundError as error:
                raise LookupError(f"there is no table {uri}; check path and prefix") from error
            except (Permanent, Retry) as error:
                raise LookupError(str(error)) from error
            except (DeltaError, OSError, ValueError) as error:
                raise LookupError(str(explained(uri, error))) from error
        return self._open[suffix]

    def has(self, suffix: str) -> bool:
        try:
            self.table(suffix)
        except LookupError:
            return False
        return True

    def version(self, suffix: str = "otel_spans") -> str:
        """`v1` or `v2`, as the table's properties say. Raises LookupError."""
        return str(self.table(suffix).metadata().configuration.get("otel.schemaVersion", "v1"))

    def days(self) -> set[date]:
        """The days of which the payload table has files."""
        return {date.fromisoformat(found["request_date"]) for found in self.table("payload").partitions()}

    def refresh(self) -> None:
        """See what was committed since. Raises LookupError for tables that are gone."""
        from deltalake.exceptions import DeltaError

        for suffix, table in list(self._open.items()):
            try:
                table.update_incremental()
            except DeltaError:  # entries of the log since then are cleaned away
                del self._open[suffix]
                self.table(suffix)

    def query(self, sql: str, *suffixes: str, instead: Mapping[str, Any] | None = None) -> ArrowTable:
        """Run SQL in which the tables are called by their suffixes: `payload`, `otel_spans`, `otel_annotations`, …

        `instead` are DeltaTables that stand in for those of the same suffix.
        """
        return ArrowTable.from_arrow(self.stream(sql, *suffixes, instead=instead))

    def stream(self, sql: str, *suffixes: str, instead: Mapping[str, Any] | None = None) -> RecordBatchReader:
        """As `query`, batch by batch."""
        from deltalake import QueryBuilder

        builder = QueryBuilder()
        for suffix in suffixes:
            builder = builder.register(suffix, (instead or {}).get(suffix) or self.table(suffix))
        found: RecordBatchReader = builder.execute(sql)
        return found

    def traces(self, ids: Sequence[str], days: Iterable[object] = ()) -> list[dict[str, Any]]:
        """`Trace.to_dict()` of the traces (`tr-…`), in the order of `ids`; unknown ids are left out.

        `days` are values of `request_date` among which theirs are; without any, all days are looked at.
        """
        dates = ", ".join(f"DATE '{day}'" for day in sorted({str(day) for day in days}))
        files = Overflow(overflow.directory(self.config), self.config.storage_options)
        found: dict[str, dict[str, Any]] = {}
        wanted = iter(ids)
        while chunk := list(islice(wanted, _IDS_A_QUERY)):
            conditions = [f"databricks_request_id IN ({', '.join(map(literal, chunk))})"]
            if dates:
                conditions.append(f"request_date IN ({dates})")
            sql = f"SELECT {_COLUMNS} FROM payload WHERE {' AND '.join(conditions)}"
            for row in rows(self.query(sql, "payload")):
                found[row["databricks_request_id"]] = _trace(row, files)
        return [found[trace_id] for trace_id in ids if trace_id in found]


def opened(source: Source) -> Tables:
    return source if isinstance(source, Tables) else Tables(source)


def rows(table: ArrowTable) -> list[dict[str, Any]]:
    names = table.column_names
    columns = [[value for chunk in table[name].chunks for value in chunk.to_pylist()] for name in names]
    return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]


def literal(value: str | int | float) -> str:
    """A SQL literal."""
    return "'" + value.replace("'", "''") + "'" if isinstance(value, str) else repr(value)


def _trace(row: Mapping[str, Any], files: Overflow) -> dict[str, Any]:
    response = row["response"]
    if response is None and RESPONSE_TOO_LARGE in (row["logging_error_codes"] or ()):
        response = files.response(row)
    if response is None:
        raise LookupError(f"{row['databricks_request_id']}: the file with its response is gone")
    trace: dict[str, Any] = msgspec.json.decode(response)["databricks_output"]["trace"]
    return trace


def trace_unified(source: Source, *, where: str = "TRUE", limit: int = 1000) -> ArrowTable:
    """Whole traces, one a row, newest first, as `{prefix}_trace_unified` shows them.

    `where` is SQL over the columns of the payload table.
    """
    from spanweir.exporters.delta.received_view import mapped

    sql = (
        f"SELECT databricks_request_id, request_date FROM payload WHERE {where} "
        f"ORDER BY request_time DESC, databricks_request_id LIMIT {int(limit)}"
    )
    with mapped(opened(source)) as tables:
        found = rows(tables.query(sql, "payload"))
        traces = tables.traces([row["databricks_request_id"] for row in found], [row["request_date"] for row in found])
    return unified(traces)


def trace_metadata(source: Source, *, where: str = "TRUE", limit: int = 1000) -> ArrowTable:
    """`trace_id`, `client_request_id`, `tags`, `trace_metadata`, `assessments`, newest first."""
    return trace_unified(source, where=where, limit=limit).select(METADATA)


def unified(traces: Sequence[dict[str, Any]]) -> ArrowTable:
    """Traces (`Trace.to_dict()`) as Arrow with the columns `UNIFIED`."""
    layout = Layout(UNIFIED)
    made = [_unified_row(trace) for trace in traces]
    columns = list(zip(*made, strict=True)) if made else [()] * len(UNIFIED)
    return ArrowTable.from_batches([layout.batch(columns)], schema=layout.schema)


def _unified_row(trace: dict[str, Any]) -> tuple[Any, ...]:
    info, spans = trace["info"], trace["data"]["spans"]
    attributes: dict[str, str] = next((s["attributes"] for s in spans if not s.get("parent_span_id")), {})
    return (
        info["trace_id"], info.get("client_request_id"), time_us(info["request_time"]), info.get("state"),
        info.get("execution_duration_ms"), attributes.get("mlflow.spanInputs"),
        attributes.get("mlflow.spanOutputs"), info.get("trace_metadata", {}), info.get("tags", {}),
        [
            (
                span_hex(s["span_id"]), span_hex(s["parent_span_id"]) if s.get("parent_span_id") else None, s["name"],
                s.get("kind"), s["start_time_unix_nano"], s.get("end_time_unix_nano"),
                (s["status"].get("message"), s["status"]["code"]), s["attributes"],
            )
            for s in spans
        ],
        [_unified_assessment(a) for a in info.get("assessments", ())],
    )  # fmt: skip


def _unified_assessment(assessment: dict[str, Any]) -> tuple[Any, ...]:
    kind = "expectation" if "expectation" in assessment else "feedback"
    source = assessment.get("source", {})
    return (
        assessment.get("assessment_id"), assessment.get("assessment_name"),
        (source.get("source_type"), source.get("source_id")), json.dumps(assessed(assessment[kind])), kind,
        assessment.get("span_id"), assessment.get("rationale"), assessment.get("create_time"),
        assessment.get("valid"),
    )  # fmt: skip


def time_us(text: str) -> int:
    """Microseconds since 1970 of an RFC 3339 time."""
    from datetime import datetime, timedelta

    time = datetime.fromisoformat(text)
    return (time - datetime.fromisoformat("1970-01-01T00:00:00+00:00")) // timedelta(microseconds=1)
