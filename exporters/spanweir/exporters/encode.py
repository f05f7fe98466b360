"""Raw spans and log records back to OTLP protobuf, with everything that OTLP has a place for.

Grouped by resource and scope as they came. Not here: which attributes are written (`spanweir.schemas.otel` normalises).
"""

from collections.abc import Iterable
from typing import Any

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from spanweir.schemas.raw import Attributes, RawLog, RawSpan, Resource, Scope, Value

_INT64 = 1 << 63


def spans_request(spans: Iterable[tuple[RawSpan, Attributes]]) -> bytes:
    """A serialized ExportTraceServiceRequest with each span and the attributes to write for it."""
    message = ExportTraceServiceRequest()
    groups = _Groups(message.resource_spans, "scope_spans")
    for raw, attributes in spans:
        _span(groups.of(raw.resource, raw.scope).spans.add(), raw, attributes)
    body: bytes = message.SerializeToString()
    return body


def logs_request(logs: Iterable[RawLog]) -> bytes:
    """A serialized ExportLogsServiceRequest."""
    message = ExportLogsServiceRequest()
    groups = _Groups(message.resource_logs, "scope_logs")
    for raw in logs:
        record = groups.of(raw.resource, raw.scope).log_records.add(event_name=raw.event_name, flags=raw.flags)
        record.trace_id, record.span_id = bytes.fromhex(raw.trace_id), bytes.fromhex(raw.span_id)
        record.time_unix_nano, record.observed_time_unix_nano = raw.time_ns, raw.observed_ns
        record.severity_number, record.severity_text = raw.severity_number, raw.severity_text
        record.dropped_attributes_count = raw.dropped_attributes_count
        if raw.body is not None:
            set_value(record.body, raw.body)
        fill(record.attributes, raw.attributes)
    body: bytes = message.SerializeToString()
    return body


class _Groups:
    """Resource and scope messages by the identity of what they are made from, which the spans keep alive."""

    def __init__(self, resources: Any, scopes_field: str) -> None:
        self._resources = resources
        self._scopes_field = scopes_field
        self._by_resource: dict[int, Any] = {}
        self._by_scope: dict[tuple[int, int], Any] = {}

    def of(self, resource: Resource, scope: Scope) -> Any:
        """The message that items of this resource and scope are added to."""
        key = id(resource), id(scope)
        found = self._by_scope.get(key)
        if found is None:
            outer = self._by_resource.get(key[0]) or self._add_resource(resource)
            found = self._by_scope[key] = getattr(outer, self._scopes_field).add(schema_url=scope.schema_url)
            found.scope.name, found.scope.version = scope.name, scope.version
            found.scope.dropped_attributes_count = scope.dropped_attributes_count
            fill(found.scope.attributes, scope.attributes)
        return found

    def _add_resource(self, resource: Resource) -> Any:
        message = self._by_resource[id(resource)] = self._resources.add(schema_url=resource.schema_url)
        message.resource.dropped_attributes_count = resource.dropped_attributes_count
        fill(message.resource.attributes, resource.attributes)
        return message


def _span(message: Any, raw: RawSpan, attributes: Attributes) -> None:
    message.trace_id, message.span_id = bytes.fromhex(raw.trace_id), bytes.fromhex(raw.span_id)
    message.parent_span_id = bytes.fromhex(raw.parent_id)
    message.trace_state, message.flags = raw.trace_state, raw.flags
    message.name, message.kind = raw.name, raw.kind
    message.start_time_unix_nano, message.end_time_unix_nano = raw.start_ns, raw.end_ns
    message.status.code, message.status.message = raw.status_code, raw.status_message
    message.dropped_attributes_count = raw.dropped_attributes_count
    message.dropped_events_count = raw.dropped_events_count
    message.dropped_links_count = raw.dropped_links_count
    fill(message.attributes, attributes)
    for event in raw.events:
        out = message.events.add(name=event.name, time_unix_nano=event.time_ns)
        out.dropped_attributes_count = event.dropped_attributes_count
        fill(out.attributes, event.attributes)
    for link in raw.links:
        out = message.links.add(trace_state=link.trace_state, flags=link.flags)
        out.trace_id, out.span_id = bytes.fromhex(link.trace_id), bytes.fromhex(link.span_id)
        out.dropped_attributes_count = link.dropped_attributes_count
        fill(out.attributes, link.attributes)


def fill(pairs: Any, attributes: Attributes) -> None:
    """Add `attributes` to `pairs`, a repeated KeyValue."""
    for key, value in attributes.items():
        set_value(pairs.add(key=utf8(key)).value, value)


def set_value(message: Any, value: Value) -> None:
    """Into an AnyValue; an integer that OTLP has no room for as text."""
    if isinstance(value, str):
        message.string_value = utf8(value)
    elif isinstance(value, bool):
        message.bool_value = value
    elif isinstance(value, int):
        if -_INT64 <= value < _INT64:
            message.int_value = value
        else:
            message.string_value = str(value)
    elif isinstance(value, float):
        message.double_value = value
    elif isinstance(value, bytes):
        message.bytes_value = value
    elif isinstance(value, list):
        message.array_value.SetInParent()
        for item in value:
            set_value(message.array_value.values.add(), item)
    elif isinstance(value, dict):
        message.kvlist_value.SetInParent()
        fill(message.kvlist_value.values, value)


def utf8(value: str) -> str:
    """Protobuf takes no lone surrogates."""
    return value if value.isascii() else value.encode("utf-8", "replace").decode()
