"""Mapped spans and rows in the forms that a tracking server takes. Pure.

Spans go as OTLP with MLflow's own attributes. MLflow encodes each attribute value as JSON once more, and takes that off
again where it finds JSON text of an object, a list or a string inside (`sanitize_attributes`): objects and lists are
sent as their JSON text, everything else as what it is. Databricks keeps attributes as they come, so there all of them
are sent as what they are, as MLflow's own client does it.
"""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

import orjson
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from spanweir.exporters.encode import fill, set_value, utf8
from spanweir.exporters.mlflow.rows import (
    COST,
    FULL_CLIENT_REQUEST,
    FULL_SESSION,
    ID_CHARS,
    KEY_CHARS,
    PREVIEW_CHARS,
    SESSION,
    SESSION_CHARS,
    TOKEN_USAGE,
    TRACE_NAME,
    TRACE_NAME_CHARS,
    VALUE_CHARS,
    cost_values,
    distinct,
    metadata_of,
    request_id,
    spaced_json,
    text,
    usage_values,
)
from spanweir.schemas.trace import Assessment, MappedSpan, TraceRow

_STATUS = {"OK": 1, "ERROR": 2}
_UINT64 = (1 << 64) - 1


def request(spans: Iterable[MappedSpan], location: str = "") -> bytes:
    """An `ExportTraceServiceRequest`; for Databricks `location` is where in Unity Catalog the traces are."""
    message = ExportTraceServiceRequest()
    into = message.resource_spans.add().scope_spans.add().spans
    for span in spans:
        made = into.add()
        _add(made, span)
        if location:
            values = {key: orjson.loads(encoded) for key, encoded in span.attributes.items()}
            values["mlflow.traceRequestId"] = f"trace:/{location}/{span.trace_id}"
            fill(made.attributes, values)
        else:
            _add_attributes(made, span)
    return bytes(message.SerializeToString())


def _add(into: Any, span: MappedSpan) -> None:
    into.trace_id = bytes.fromhex(span.trace_id)
    into.span_id = bytes.fromhex(span.span_id)
    if span.parent_id:
        into.parent_span_id = bytes.fromhex(span.parent_id)
    into.name = utf8(span.name)
    into.kind = span.raw.kind if span.raw.kind in Span.SpanKind.values() else 0
    into.start_time_unix_nano = min(max(span.start_ns, 0), _UINT64)
    # MLflow takes 0 for a time in 1970; a running span is written again when it ends.
    into.end_time_unix_nano = min(max(span.end_ns or span.start_ns, 0), _UINT64)
    into.status.code = _STATUS.get(span.status, 0)
    into.status.message = utf8(span.raw.status_message)
    for event in span.raw.events:
        made = into.events.add()
        made.name, made.time_unix_nano = utf8(event.name), min(max(event.time_ns, 0), _UINT64)
        fill(made.attributes, event.attributes)
    for link in span.raw.links:
        linked = into.links.add()
        linked.trace_id, linked.span_id = bytes.fromhex(link.trace_id), bytes.fromhex(link.span_id)
        fill(linked.attributes, link.attributes)


def _add_attributes(into: Any, span: MappedSpan) -> None:
    for key, encoded in span.attributes.items():
        attribute = into.attributes.add()
        attribute.key = utf8(key)
        if encoded[:1] in "{[":
            attribute.value.string_value = utf8(encoded)
        else:
            value = orjson.loads(encoded)
            # Text that looks like JSON would lose its quotes; all other text is sent bare, since MLflow fills the
            # column of the span's type before it takes the second encoding off.
            looks_like_json = isinstance(value, str) and value.lstrip()[:1] in ('"', "{", "[")
            set_value(attribute.value, encoded if looks_like_json else value)


def trace_body(row: TraceRow, experiment_id: str, spans: Sequence[MappedSpan]) -> bytes:
    """The JSON body of `StartTraceV3`. `spans` are those that were sent with it."""
    place = {"type": "MLFLOW_EXPERIMENT", "mlflow_experiment": {"experiment_id": experiment_id}}
    return orjson.dumps({"trace": {"trace_info": _info(row, request_id(row.trace_id), place, spans)}})


def catalog_body(row: TraceRow, location: str, spans: Sequence[MappedSpan]) -> bytes:
    """The JSON body of `CreateTraceInfo` (Databricks, `/api/4.0`) for a trace in Unity Catalog."""
    catalog, schema, *prefix = location.split(".")
    names = {"catalog_name": catalog, "schema_name": schema}
    place: dict[str, Any] = (
        {"type": "UC_TABLE_PREFIX", "uc_table_prefix": {**names, "table_prefix": prefix[0]}}
        if prefix
        else {"type": "UC_SCHEMA", "uc_schema": names}
    )
    info = _info(row, row.trace_id, place, spans)
    for assessment in info["assessments"]:
        assessment["trace_location"] = place
    return orjson.dumps(info)


def _info(row: TraceRow, trace_id: str, place: dict[str, Any], spans: Sequence[MappedSpan]) -> dict[str, Any]:
    info: dict[str, Any] = {
        "trace_id": trace_id,
        "trace_location": place,
        "request_time": _timestamp(row.start_ns // 1_000_000),
        "state": row.state,
        "trace_metadata": _metadata(row, [len(span.content) for span in spans]),
        "tags": _tags(row),
        "assessments": [_assessment(given, trace_id) for given in row.assessments],
    }
    if row.end_ns is not None:
        milliseconds = row.end_ns // 1_000_000 - row.start_ns // 1_000_000
        info["execution_duration"] = f"{milliseconds / 1000:.3f}s"
    if row.client_request_id:
        info["client_request_id"] = distinct(row.client_request_id, ID_CHARS)
    for name in ("request_preview", "response_preview"):
        if (preview := getattr(row, name)) is not None:
            info[name] = text(utf8(preview), PREVIEW_CHARS)
    return info


def _metadata(row: TraceRow, sizes: list[int]) -> dict[str, str]:
    metadata = metadata_of(row, sizes)
    if row.client_request_id and len(row.client_request_id) > ID_CHARS:
        metadata[FULL_CLIENT_REQUEST] = row.client_request_id
    if row.session_id:
        metadata[SESSION] = distinct(row.session_id, SESSION_CHARS)
        if len(row.session_id) > SESSION_CHARS:
            metadata[FULL_SESSION] = row.session_id
    if row.usage is not None:
        metadata[TOKEN_USAGE] = spaced_json(usage_values(row.usage))
    if row.cost is not None:
        metadata[COST] = spaced_json(cost_values(row.cost))
    return _bounded(metadata)


def _tags(row: TraceRow) -> dict[str, str]:
    tags = _bounded(row.tags)
    if row.name:
        tags[TRACE_NAME] = text(utf8(row.name), TRACE_NAME_CHARS)
    return tags


def _bounded(values: dict[str, str]) -> dict[str, str]:
    return {
        text(distinct(utf8(key), KEY_CHARS), KEY_CHARS): text(utf8(value), VALUE_CHARS) for key, value in values.items()
    }


def _assessment(given: Assessment, trace_id: str) -> dict[str, Any]:
    made: dict[str, Any] = {
        "assessment_id": distinct(given.assessment_id, ID_CHARS),
        "assessment_name": text(utf8(given.name), KEY_CHARS),
        "trace_id": trace_id,
        "source": {"source_type": given.source_type, "source_id": text(utf8(given.source_id), KEY_CHARS)},
        "create_time": _timestamp(given.created_ms),
        "last_update_time": _timestamp(given.created_ms),
        "metadata": given.metadata,
        "valid": True,
    }
    if given.kind == "feedback":
        made["feedback"] = {"value": orjson.loads(given.value)}
    else:
        value = orjson.loads(given.value)
        simple = value is None or isinstance(value, bool | int | float | str)
        made["expectation"] = (
            {"value": value}
            if simple
            else {"serialized_value": {"value": given.value, "serialization_format": "JSON_FORMAT"}}
        )
    if given.span_id:
        made["span_id"] = given.span_id
    if given.rationale:
        made["rationale"] = utf8(given.rationale)
    return made


def _timestamp(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S.") + f"{at_ms % 1000:03d}Z"


def size_of(spans: Sequence[MappedSpan]) -> int:
    return sum(len(span.content) for span in spans)
