"""Columns of the tables that traces are kept in, as SQL text. Tables only: nothing here knows Arrow or Delta.

Sources: the DDL of Databricks' AI-Gateway-enabled inference tables (`<endpoint>_payload`), and of the OpenTelemetry
tables of MLflow traces in Unity Catalog, versions 1 and 2 (`otel.schemaVersion`; databricks-agents 1.13 wheel,
`migrations/migrate_traces_to_uc`). Version 1 keeps attributes as MAP<STRING,STRING>, version 2 as VARIANT. Of the
columns that came with version 2, `record_id`, `time`, `date` and `service_name` stand in both here, because pruning
by day and by service needs them; readers of version 1 name their columns and do not see them.
"""

from typing import Final, Literal

import msgspec

Version = Literal["v1", "v2"]


class Table(msgspec.Struct, frozen=True, kw_only=True):
    """One table: `columns` are pairs of name and SQL type, in order."""

    suffix: str
    """Its name is `{prefix}_{suffix}`."""
    columns: tuple[tuple[str, str], ...]
    key: tuple[str, ...]
    """Rows are unique by these columns."""
    partition: str
    """DATE column that the table is partitioned by; empty for none."""
    time: str
    """TIMESTAMP column whose range is kept for each file, so that readers skip files."""
    properties: dict[str, str] = {}


PAYLOAD: Final = Table(
    suffix="payload",
    columns=(
        ("databricks_request_id", "STRING"),
        ("request_date", "DATE"),
        ("client_request_id", "STRING"),
        ("request_time", "TIMESTAMP"),
        ("status_code", "INT"),
        ("sampling_fraction", "DOUBLE"),
        ("execution_duration_ms", "BIGINT"),
        ("request", "STRING"),
        ("response", "STRING"),
        ("logging_error_codes", "ARRAY<STRING>"),
        ("served_entity_id", "STRING"),
        ("requester", "STRING"),
    ),
    key=("databricks_request_id",),
    partition="request_date",
    time="request_time",
)

REQUEST_TOO_LARGE: Final = "MAX_REQUEST_SIZE_EXCEEDED"
RESPONSE_TOO_LARGE: Final = "MAX_RESPONSE_SIZE_EXCEEDED"

_BAG: Final = {"v1": "MAP<STRING,STRING>", "v2": "VARIANT"}
_VALUE: Final = {"v1": "STRING", "v2": "VARIANT"}


def _derived() -> tuple[tuple[str, str], ...]:
    return (("record_id", "STRING"), ("time", "TIMESTAMP"), ("date", "DATE"), ("service_name", "STRING"))


def _origin(bag: str, schema_url: str) -> tuple[tuple[str, str], ...]:
    return (
        ("resource", f"STRUCT<attributes:{bag}, dropped_attributes_count:INT>"),
        ("resource_schema_url", "STRING"),
        (
            "instrumentation_scope",
            f"STRUCT<name:STRING, version:STRING, attributes:{bag}, dropped_attributes_count:INT>",
        ),
        (schema_url, "STRING"),
    )


ATTRIBUTES: Final = "spanweir.attributes"
"""Table property of `{prefix}_otel_spans`: `MAPPED`, which is not written, or `RECEIVED`."""
MAPPED: Final = "mapped"
RECEIVED: Final = "received"


def spans(version: Version, *, received: bool = False) -> Table:
    """`{prefix}_otel_spans`: one row a span, with its attributes as they are mapped, or as they were `received`."""
    bag = _BAG[version]
    return Table(
        suffix="otel_spans",
        columns=(
            *_derived(),
            ("trace_id", "STRING"),
            ("span_id", "STRING"),
            ("trace_state", "STRING"),
            ("parent_span_id", "STRING"),
            ("flags", "INT"),
            ("name", "STRING"),
            ("kind", "STRING"),
            ("start_time_unix_nano", "LONG"),
            ("end_time_unix_nano", "LONG"),
            ("attributes", bag),
            ("dropped_attributes_count", "INT"),
            (
                "events",
                f"ARRAY<STRUCT<time_unix_nano:LONG, name:STRING, attributes:{bag}, dropped_attributes_count:INT>>",
            ),
            ("dropped_events_count", "INT"),
            (
                "links",
                "ARRAY<STRUCT<trace_id:STRING, span_id:STRING, trace_state:STRING,"
                f" attributes:{bag}, dropped_attributes_count:INT, flags:INT>>",
            ),
            ("dropped_links_count", "INT"),
            ("status", "STRUCT<message:STRING, code:STRING>"),
            *_origin(bag, "span_schema_url"),
        ),
        key=("trace_id", "span_id"),
        partition="date",
        time="time",
        properties={"otel.schemaVersion": version, **({ATTRIBUTES: RECEIVED} if received else {})},
    )


def logs(version: Version) -> Table:
    """`{prefix}_otel_logs`: one row a log record."""
    bag = _BAG[version]
    return Table(
        suffix="otel_logs",
        columns=(
            *_derived(),
            ("event_name", "STRING"),
            ("trace_id", "STRING"),
            ("span_id", "STRING"),
            ("time_unix_nano", "LONG"),
            ("observed_time_unix_nano", "LONG"),
            ("severity_number", "STRING"),
            ("severity_text", "STRING"),
            ("body", _VALUE[version]),
            ("attributes", bag),
            ("dropped_attributes_count", "INT"),
            ("flags", "INT"),
            *_origin(bag, "log_schema_url"),
        ),
        key=("record_id",),
        partition="date",
        time="time",
        properties={"otel.schemaVersion": version},
    )


def metrics(version: Version) -> Table:
    """`{prefix}_otel_metrics`: one row a data point."""
    bag = _BAG[version]
    exemplars = (
        "exemplars:ARRAY<STRUCT<time_unix_nano:LONG, value:DOUBLE, span_id:STRING, trace_id:STRING,"
        f" filtered_attributes:{bag}>>"
    )
    buckets = "STRUCT<offset:INT, bucket_counts:ARRAY<LONG>>"
    return Table(
        suffix="otel_metrics",
        columns=(
            *_derived(),
            ("start_time_unix_nano", "LONG"),
            ("time_unix_nano", "LONG"),
            ("name", "STRING"),
            ("description", "STRING"),
            ("unit", "STRING"),
            ("metric_type", "STRING"),
            ("gauge", f"STRUCT<value:DOUBLE, {exemplars}, attributes:{bag}, flags:INT>"),
            (
                "sum",
                f"STRUCT<value:DOUBLE, {exemplars}, attributes:{bag}, flags:INT,"
                " aggregation_temporality:STRING, is_monotonic:BOOLEAN>",
            ),
            (
                "histogram",
                "STRUCT<count:LONG, sum:DOUBLE, bucket_counts:ARRAY<LONG>, explicit_bounds:ARRAY<DOUBLE>,"
                f" {exemplars}, attributes:{bag}, flags:INT, min:DOUBLE, max:DOUBLE, aggregation_temporality:STRING>",
            ),
            (
                "exponential_histogram",
                f"STRUCT<attributes:{bag}, count:LONG, sum:DOUBLE, scale:INT, zero_count:LONG,"
                f" positive_bucket:{buckets}, negative_bucket:{buckets}, flags:INT, {exemplars},"
                " min:DOUBLE, max:DOUBLE, zero_threshold:DOUBLE, aggregation_temporality:STRING>",
            ),
            (
                "summary",
                "STRUCT<count:LONG, sum:DOUBLE, quantile_values:ARRAY<STRUCT<quantile:DOUBLE, value:DOUBLE>>,"
                f" attributes:{bag}, flags:INT>",
            ),
            ("metadata", bag),
            *_origin(bag, "metric_schema_url"),
        ),
        key=("record_id",),
        partition="date",
        time="time",
        properties={"otel.schemaVersion": version},
    )


def annotations(version: Version) -> Table:
    """`{prefix}_otel_annotations`: metadata, tags, feedback and expectations of traces.

    Version 1 of the tables has no such table (the same facts are log events there); it is written in both, with
    `value` as JSON text and `metadata` as a map in version 1.
    """
    return Table(
        suffix="otel_annotations",
        columns=(
            ("annotation_id", "STRING"),
            ("target_type", "STRING"),
            ("target_id", "STRING"),
            ("annotation_type", "STRING"),
            ("name", "STRING"),
            ("value", _VALUE[version]),
            ("comment", "STRING"),
            ("metadata", _BAG[version]),
            ("created_at", "TIMESTAMP"),
            ("created_by", "STRING"),
            ("updated_at", "TIMESTAMP"),
            ("updated_by", "STRING"),
            ("deleted_at", "TIMESTAMP"),
            ("deleted_by", "STRING"),
            ("_change_type", "STRING"),
        ),
        key=("annotation_id",),
        partition="",
        time="created_at",
        properties={"otel.schemaVersion": version},
    )
