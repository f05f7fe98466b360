"""Canonical spans -> an OTLP request in the newest OpenTelemetry GenAI conventions."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from spanweir.exporters.api import Request
from spanweir.schemas import otel
from spanweir.schemas.raw import Attributes, RawSpan, Value
from spanweir.schemas.trace import MappedSpan


def request(spans: Iterable[MappedSpan]) -> Request:
    """One traces request with every span, grouped by resource and scope."""
    message = ExportTraceServiceRequest()
    resources: dict[int, Any] = {}
    scopes: dict[tuple[int, int], Any] = {}
    for span in spans:
        raw = span.raw
        key = id(raw.resource), id(raw.scope)
        scope = scopes.get(key)
        if scope is None:
            resource = resources.get(key[0])
            if resource is None:
                resource = resources[key[0]] = message.resource_spans.add(schema_url=raw.resource.schema_url)
                resource.resource.dropped_attributes_count = raw.resource.dropped_attributes_count
                _fill(resource.resource.attributes, raw.resource.attributes)
            scope = scopes[key] = resource.scope_spans.add(schema_url=raw.scope.schema_url)
            scope.scope.name, scope.scope.version = raw.scope.name, raw.scope.version
            scope.scope.dropped_attributes_count = raw.scope.dropped_attributes_count
            _fill(scope.scope.attributes, raw.scope.attributes)
        _span(scope.spans.add(), raw, otel.attributes(raw, span.canonical))
    return Request(signal="traces", body=message.SerializeToString())


def _span(message: Any, raw: RawSpan, attributes: Attributes) -> None:
    message.trace_id = bytes.fromhex(raw.trace_id)
    message.span_id = bytes.fromhex(raw.span_id)
    message.parent_span_id = bytes.fromhex(raw.parent_id)
    message.trace_state, message.flags = raw.trace_state, raw.flags
    message.name, message.kind = raw.name, raw.kind
    message.start_time_unix_nano, message.end_time_unix_nano = raw.start_ns, raw.end_ns
    message.status.code, message.status.message = raw.status_code, raw.status_message
    message.dropped_attributes_count = raw.dropped_attributes_count
    message.dropped_events_count = raw.dropped_events_count
    message.dropped_links_count = raw.dropped_links_count
    _fill(message.attributes, attributes)
    for event in raw.events:
        out = message.events.add(name=event.name, time_unix_nano=event.time_ns)
        out.dropped_attributes_count = event.dropped_attributes_count
        _fill(out.attributes, event.attributes)
    for link in raw.links:
        out = message.links.add(trace_state=link.trace_state, flags=link.flags)
        out.trace_id, out.span_id = bytes.fromhex(link.trace_id), bytes.fromhex(link.span_id)
        out.dropped_attributes_count = link.dropped_attributes_count
        _fill(out.attributes, link.attributes)


def _fill(pairs: Any, attributes: Attributes) -> None:
    for key, value in attributes.items():
        _any_value(pairs.add(key=key).value, value)


def _any_value(message: Any, value: Value) -> None:
    if isinstance(value, str):
        message.string_value = value
    elif isinstance(value, bool):
        message.bool_value = value
    elif isinstance(value, int):
        message.int_value = value
    elif isinstance(value, float):
        message.double_value = value
    elif isinstance(value, bytes):
        message.bytes_value = value
    elif isinstance(value, Mapping):
        message.kvlist_value.SetInParent()
        for key, item in value.items():
            _any_value(message.kvlist_value.values.add(key=key).value, item)
    elif isinstance(value, Sequence):
        message.array_value.SetInParent()
        for item in value:
            _any_value(message.array_value.values.add(), item)
