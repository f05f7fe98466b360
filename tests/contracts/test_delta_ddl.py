"""Tables as they are made, against the DDL that Databricks gives: every column, its type and its place.

Sources: `SHOW CREATE TABLE` of an AI-Gateway-enabled inference table; the tables of MLflow traces in Unity Catalog,
version 2 (documentation, and databricks-agents 1.13, `migrations/migrate_traces_to_uc`). Of the properties
`otel.schemaVersion` is the one that readers ask for. CLUSTER BY is Databricks' own; here tables are partitioned by day.
NOT NULL, which the DDL has for `annotation_id`, is left out: deltalake 1.6 does not name the feature `invariants` in a
table with VARIANT columns, and Spark refuses to open such a table.
"""

import json
import re
from typing import Any

import pytest
from deltalake import DeltaTable

from spanweir.exporters.api import Context
from spanweir.exporters.delta import Config
from spanweir.schemas.options import Duration

_RESOURCE = "STRUCT<attributes:VARIANT, dropped_attributes_count:INT>"
_SCOPE = "STRUCT<name:STRING, version:STRING, attributes:VARIANT, dropped_attributes_count:INT>"
_EXEMPLARS = (
    "ARRAY<STRUCT<time_unix_nano:LONG, value:DOUBLE, span_id:STRING, trace_id:STRING, filtered_attributes:VARIANT>>"
)
_BUCKETS = "STRUCT<offset:INT, bucket_counts:ARRAY<LONG>>"
DDL = {
    "payload": """
        databricks_request_id STRING, request_date DATE, client_request_id STRING, request_time TIMESTAMP,
        status_code INT, sampling_fraction DOUBLE, execution_duration_ms BIGINT, request STRING, response STRING,
        logging_error_codes ARRAY<STRING>, served_entity_id STRING, requester STRING""",
    "otel_spans": f"""
        record_id STRING, time TIMESTAMP, date DATE, service_name STRING, trace_id STRING, span_id STRING,
        trace_state STRING, parent_span_id STRING, flags INT, name STRING, kind STRING, start_time_unix_nano LONG,
        end_time_unix_nano LONG, attributes VARIANT, dropped_attributes_count INT,
        events ARRAY<STRUCT<time_unix_nano:LONG, name:STRING, attributes:VARIANT, dropped_attributes_count:INT>>,
        dropped_events_count INT,
        links ARRAY<STRUCT<trace_id:STRING, span_id:STRING, trace_state:STRING, attributes:VARIANT,
        dropped_attributes_count:INT, flags:INT>>,
        dropped_links_count INT, status STRUCT<message:STRING, code:STRING>, resource {_RESOURCE},
        resource_schema_url STRING, instrumentation_scope {_SCOPE}, span_schema_url STRING""",
    "otel_logs": f"""
        record_id STRING, time TIMESTAMP, date DATE, service_name STRING, event_name STRING, trace_id STRING,
        span_id STRING, time_unix_nano LONG, observed_time_unix_nano LONG, severity_number STRING,
        severity_text STRING, body VARIANT, attributes VARIANT, dropped_attributes_count INT, flags INT,
        resource {_RESOURCE}, resource_schema_url STRING, instrumentation_scope {_SCOPE}, log_schema_url STRING""",
    "otel_metrics": f"""
        record_id STRING, time TIMESTAMP, date DATE, service_name STRING, start_time_unix_nano LONG,
        time_unix_nano LONG, name STRING, description STRING, unit STRING, metric_type STRING,
        gauge STRUCT<value:DOUBLE, exemplars:{_EXEMPLARS}, attributes:VARIANT, flags:INT>,
        sum STRUCT<value:DOUBLE, exemplars:{_EXEMPLARS}, attributes:VARIANT, flags:INT, aggregation_temporality:STRING,
        is_monotonic:BOOLEAN>,
        histogram STRUCT<count:LONG, sum:DOUBLE, bucket_counts:ARRAY<LONG>, explicit_bounds:ARRAY<DOUBLE>,
        exemplars:{_EXEMPLARS}, attributes:VARIANT, flags:INT, min:DOUBLE, max:DOUBLE, aggregation_temporality:STRING>,
        exponential_histogram STRUCT<attributes:VARIANT, count:LONG, sum:DOUBLE, scale:INT, zero_count:LONG,
        positive_bucket:{_BUCKETS}, negative_bucket:{_BUCKETS}, flags:INT, exemplars:{_EXEMPLARS}, min:DOUBLE,
        max:DOUBLE, zero_threshold:DOUBLE, aggregation_temporality:STRING>,
        summary STRUCT<count:LONG, sum:DOUBLE, quantile_values:ARRAY<STRUCT<quantile:DOUBLE, value:DOUBLE>>,
        attributes:VARIANT, flags:INT>,
        metadata VARIANT, resource {_RESOURCE}, resource_schema_url STRING, instrumentation_scope {_SCOPE},
        metric_schema_url STRING""",
    "otel_annotations": """
        annotation_id STRING, target_type STRING, target_id STRING, annotation_type STRING, name STRING,
        value VARIANT, comment STRING, metadata VARIANT, created_at TIMESTAMP, created_by STRING, updated_at TIMESTAMP,
        updated_by STRING, deleted_at TIMESTAMP, deleted_by STRING, _change_type STRING""",
}
_TYPES = {"integer": "INT", "long": "LONG"}


def sql(kind: Any) -> str:
    if isinstance(kind, str):
        return _TYPES.get(kind, kind.upper())
    match kind["type"]:
        case "struct":
            fields = (f"{field['name']}:{sql(field['type'])}" for field in kind["fields"])
            return f"STRUCT<{', '.join(fields)}>"
        case "array":
            return f"ARRAY<{sql(kind['elementType'])}>"
    return f"MAP<{sql(kind['keyType'])},{sql(kind['valueType'])}>"


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Place by schema version."""
    places = {}
    for version in ("v1", "v2"):
        directory = tmp_path_factory.mktemp(version)
        config = Config(path=str(directory), schema_version=version, maintenance_interval=Duration(0))
        with config.build(Context(name="delta", state_directory=str(directory / "state"))):
            places[version] = str(directory)
    return places


@pytest.mark.parametrize("version", ["v1", "v2"])
@pytest.mark.parametrize("suffix", list(DDL))
def test_columns(tables: dict[str, str], suffix: str, version: str) -> None:
    table = DeltaTable(f"{tables[version]}/spanweir_{suffix}")
    wanted = re.sub(r"\s+", " ", DDL[suffix]).strip().replace("BIGINT", "LONG")
    if version == "v1":  # attributes as MAP; a log's body and an annotation's value as text
        for name in ("body", "value"):
            wanted = wanted.replace(f", {name} VARIANT", f", {name} STRING")
        wanted = wanted.replace("VARIANT", "MAP<STRING,STRING>")
    fields = json.loads(table.schema().to_json())["fields"]
    assert ", ".join(f"{field['name']} {sql(field['type'])}" for field in fields) == wanted
    assert all(field["nullable"] for field in fields)
    said = table.metadata().configuration.get("otel.schemaVersion")
    assert said == (None if suffix == "payload" else version)
