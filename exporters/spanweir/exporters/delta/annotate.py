"""Assessments written to traces that stand in the Delta tables already: into their payload row and as annotations."""

from collections.abc import Mapping
from typing import Any

import msgspec
import orjson

from spanweir.exporters.delta import Config, overflow, payload
from spanweir.exporters.delta.arrow import Layout
from spanweir.exporters.delta.overflow import Overflow
from spanweir.exporters.delta.reading import Tables, literal, rows
from spanweir.exporters.delta.received_view import is_received
from spanweir.exporters.delta.rows import AnnotationRows
from spanweir.exporters.delta.targets import targets
from spanweir.schemas import inference_table
from spanweir.schemas.trace import Assessment, TraceRow


def assess(config: Config, assessments: Mapping[str, list[Assessment]]) -> None:
    """Add assessments, or replace those with the same id, by trace id (`tr-…`).

    Raises LookupError naming traces that are not there (then nothing is written) and `Retry`.
    """
    ids = ", ".join(map(literal, assessments))
    columns = ", ".join(name for name, _ in inference_table.PAYLOAD.columns)
    sql = f"SELECT {columns} FROM payload WHERE databricks_request_id IN ({ids})"
    there = Tables(config)
    if is_received(there):
        raise LookupError(
            f"{config.table_uri('otel_spans')} holds spans as received: there are no traces to write assessments to"
        )
    found = {row["databricks_request_id"]: row for row in rows(there.query(sql, "payload"))}
    missing = sorted(set(assessments) - set(found))
    if missing:
        raise LookupError(f"no such trace: {', '.join(missing)}")
    if there.has("otel_annotations"):  # a configuration made of a path alone does not know the version
        config = msgspec.structs.replace(config, schema_version=there.version("otel_annotations"))
    files = Overflow(overflow.directory(config), config.storage_options)
    changed = [_amended(row, files, assessments[trace_id], config) for trace_id, row in found.items()]
    tables = targets(config, "spanweir/assessments")
    layout = Layout(inference_table.PAYLOAD.columns)
    for made in changed:
        files.add(made)
    files.write()
    tables["payload"].merge([layout.batch(payload.columns(changed))], 0, {made.day for made in changed})
    if "annotations" in tables and there.has("otel_annotations"):
        annotations = AnnotationRows(config.schema_version)
        owners = [TraceRow(trace_id=t.removeprefix("tr-"), assessments=given) for t, given in assessments.items()]
        values = annotations.columns([(owner, {}, {}) for owner in owners], assessments_only=True)
        tables["annotations"].merge([tables["annotations"].layout.batch(values)], 0, ())


def _amended(row: dict[str, Any], files: Overflow, given: list[Assessment], config: Config) -> payload.Payload:
    """The row with the assessments in its trace; everything else stands as the bytes it was."""
    trace_id = row["databricks_request_id"]
    response = row["response"] if row["response"] is not None else files.response(row)
    if response is None:
        raise LookupError(f"{trace_id}: the file with its response is gone")
    parts = msgspec.json.decode(response, type=dict[str, msgspec.Raw])
    output = msgspec.json.decode(parts["databricks_output"], type=dict[str, msgspec.Raw])
    trace = msgspec.json.decode(output["trace"], type=dict[str, msgspec.Raw])
    info = orjson.loads(bytes(trace["info"]))
    owner = TraceRow(trace_id=trace_id.removeprefix("tr-"))
    added = {a.assessment_id: payload.assessment(a, owner) for a in given}
    kept = [a for a in info.get("assessments", ()) if a.get("assessment_id") not in added]
    info["assessments"] = [*kept, *added.values()]
    trace["info"] = msgspec.Raw(orjson.dumps(info))
    output["trace"] = msgspec.Raw(msgspec.json.encode(trace))
    parts["databricks_output"] = msgspec.Raw(msgspec.json.encode(output))
    return payload.rewritten(row, msgspec.json.encode(parts), limit=config.max_payload_bytes)
