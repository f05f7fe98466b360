"""Raw spans and log records back to OTLP protobuf: the inverse of `spanweir.collector.decode`."""

from collections.abc import Iterable
from typing import Any

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from spanweir.schemas.raw import Attributes, RawLog, RawSpan, Value


def request_of(spans: Iterable[RawSpan]) -> bytes:
    """A serialized ExportTraceServiceRequest; every span stands in a ResourceSpans of its own."""
    request = ExportTraceServiceRequest()
    for raw in spans:
        resource_spans = request.resource_spans.add(schema_url=raw.resource.schema_url)
        _fill(resource_spans.resource.attributes, raw.resource.attributes)
        scope_spans = resource_spans.scope_spans.add(schema_url=raw.scope.schema_url)
        scope_spans.scope.name, scope_spans.scope.version = raw.scope.name, raw.scope.version
        _fill(scope_spans.scope.attributes, raw.scope.attributes)
        _span(scope_spans.spans.add(), raw)
    body: bytes = request.SerializeToString()
    return body


def logs_request_of(logs: Iterable[RawLog]) -> bytes:
    """A serialized ExportLogsServiceRequest; every record stands in a ResourceLogs of its own."""
    request = ExportLogsServiceRequest()
    for raw in logs:
        resource_logs = request.resource_logs.add(schema_url=raw.resource.schema_url)
        _fill(resource_logs.resource.attributes, raw.resource.attributes)
        scope_logs = resource_logs.scope_logs.add(schema_url=raw.scope.schema_url)
        scope_logs.scope.name, scope_logs.scope.version = raw.scope.name, raw.scope.version
        _fill(scope_logs.scope.attributes, raw.scope.attributes)
        record = scope_logs.log_records.add(event_name=raw.event_name, flags=raw.flags)
        record.trace_id, record.span_id = bytes.fromhex(raw.trace_id), bytes.fromhex(raw.span_id)
        record.time_unix_nano, record.observed_time_unix_nano = raw.time_ns, raw.observed_ns
        record.severity_number, record.severity_text = raw.severity_number, raw.severity_text
        if raw.body is not None:
            _set(record.body, raw.body)
        _fill(record.attributes, raw.attributes)
    body: bytes = request.SerializeToString()
    return body


def _span(message: Any, raw: RawSpan) -> None:
    message.trace_id, message.span_id = bytes.fromhex(raw.trace_id), bytes.fromhex(raw.span_id)
    message.parent_span_id = bytes.fromhex(raw.parent_id)
    message.name, message.kind, message.flags, message.trace_state = raw.name, raw.kind, raw.flags, raw.trace_state
    message.start_time_unix_nano, message.end_time_unix_nano = raw.start_ns, raw.end_ns
    message.status.code, message.status.message = raw.status_code, raw.status_message
    _fill(message.attributes, raw.attributes)
    for event in raw.events:
        _fill(message.events.add(name=event.name, time_unix_nano=event.time_ns).attributes, event.attributes)
    for link in raw.links:
        out = message.links.add(trace_state=link.trace_state, flags=link.flags)
        out.trace_id, out.span_id = bytes.fromhex(link.trace_id), bytes.fromhex(link.span_id)
        _fill(out.attributes, link.attributes)


def _fill(pairs: Any, attributes: Attributes) -> None:
    for key, value in attributes.items():
        _set(pairs.add(key=key).value, value)


def _set(any_value: Any, value: Value) -> None:
    if isinstance(value, str):
        any_value.string_value = value
    elif isinstance(value, bool):
        any_value.bool_value = value
    elif isinstance(value, int):
        any_value.int_value = value
    elif isinstance(value, float):
        any_value.double_value = value
    elif isinstance(value, bytes):
        any_value.bytes_value = value
    elif isinstance(value, list):
        any_value.array_value.SetInParent()
        for item in value:
            _set(any_value.array_value.values.add(), item)
    elif isinstance(value, dict):
        any_value.kvlist_value.SetInParent()
        _fill(any_value.kvlist_value.values, value)
