"""OTLP protobuf requests as `RawSpan` and `RawLog` values.

`decode_traces` and `decode_logs` take the body of an ExportTraceServiceRequest or ExportLogsServiceRequest. What can be
understood is never lost to what cannot: invalid UTF-8 and nesting beyond what protobuf accepts are repaired in place
(`repair`) and only a body that is no protobuf at all is refused.

Not here: the meaning of attributes (`spanweir.schemas.mapping`), OTLP/JSON (receivers turn it into protobuf).
"""

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import InstrumentationScope
from opentelemetry.proto.resource.v1.resource_pb2 import Resource as PbResource

from spanweir.collector.decode import Undecodable
from spanweir.collector.decode.repair import repair
from spanweir.schemas.raw import NO_RESOURCE, NO_SCOPE, Attributes, Event, Link, RawLog, RawSpan, Resource, Scope, Value

_REQUESTS: dict[str, Any] = {
    "traces": ExportTraceServiceRequest,
    "logs": ExportLogsServiceRequest,
    "metrics": ExportMetricsServiceRequest,
}


def decode_traces(body: bytes) -> list[RawSpan]:
    """All spans of an ExportTraceServiceRequest, in order.

    Raises `Undecodable`. Spans with invalid ids are kept, with `invalid_trace_id` or `invalid_span_id` in `issues`.
    """
    found = _native_spans(body, _resource_of, _scope_of, _flag)
    return _spans(*_parse(ExportTraceServiceRequest, body)) if found is None else found


def decode_logs(body: bytes) -> list[RawLog]:
    """All log records of an ExportLogsServiceRequest, in order. Raises `Undecodable`."""
    found = _native_logs(body, _resource_of, _scope_of, _flag_log)
    return _logs(*_parse(ExportLogsServiceRequest, body)) if found is None else found


def _left_to_python(*_: Any) -> None:
    """What the native twin answers of a request that has something rare in it, or that protobuf refuses."""


try:
    from spanweir.collector.decode._native import logs as _native_logs
    from spanweir.collector.decode._native import spans as _native_spans
except ImportError:  # installed where no C compiler was
    _native_logs = _native_spans = _left_to_python


def readable(signal: str, body: bytes) -> bytes:
    """The request as every protobuf library reads it: repaired where it was accepted with a value that they refuse."""
    message = _REQUESTS[signal]
    try:
        message.FromString(body)
    except DecodeError:
        return repair(message.DESCRIPTOR, body)[0]
    return body


def _parse(message: Any, body: bytes) -> tuple[Any, tuple[str, ...]]:
    try:
        return message.FromString(body), ()
    except DecodeError:
        repaired, issues = repair(message.DESCRIPTOR, body)
        if not issues:
            raise Undecodable(f"{len(body)} bytes are not an {message.DESCRIPTOR.name}") from None
        try:
            return message.FromString(repaired), issues
        except DecodeError as error:
            raise Undecodable(f"{len(body)} bytes are not an {message.DESCRIPTOR.name}: {error}") from None


def _spans(request: Any, issues: tuple[str, ...]) -> list[RawSpan]:
    spans: list[RawSpan] = []
    append = spans.append
    for resource_spans in request.resource_spans:
        resource = _resource(resource_spans)
        for scope_spans in resource_spans.scope_spans:
            scope = _scope(scope_spans)
            for span in scope_spans.spans:
                append(_span(span, resource, scope, issues))
    return spans


def _logs(request: Any, issues: tuple[str, ...]) -> list[RawLog]:
    logs: list[RawLog] = []
    for resource_logs in request.resource_logs:
        resource = _resource(resource_logs)
        for scope_logs in resource_logs.scope_logs:
            scope = _scope(scope_logs)
            logs.extend(_log(record, resource, scope, issues) for record in scope_logs.log_records)
    return logs


def _span(span: Any, resource: Resource, scope: Scope, issues: tuple[str, ...]) -> RawSpan:
    trace_id, span_id, parent_id = span.trace_id.hex(), span.span_id.hex(), span.parent_span_id.hex()
    status, pairs = span.status, span.attributes
    raw = RawSpan(
        trace_id=trace_id,
        span_id=span_id,
        parent_id=parent_id,
        name=span.name,
        kind=span.kind,
        start_ns=span.start_time_unix_nano,
        end_ns=span.end_time_unix_nano,
        attributes=_attributes(pairs),
        status_code=status.code,
        status_message=status.message,
        trace_state=span.trace_state,
        flags=span.flags,
        dropped_attributes_count=span.dropped_attributes_count,
        dropped_events_count=span.dropped_events_count,
        dropped_links_count=span.dropped_links_count,
        resource=resource,
        scope=scope,
    )
    if span.events:
        raw.events = [_event(event) for event in span.events]
    if span.links:
        raw.links = [_link(link) for link in span.links]
    if (
        issues
        or len(trace_id) != 32
        or len(span_id) != 16
        or len(parent_id) not in _PARENT_LENGTHS
        or trace_id == _ZERO_TRACE
        or span_id == _ZERO_SPAN
        or parent_id == _ZERO_SPAN
        or len(raw.attributes) != len(pairs)
    ):
        _flag(raw, len(pairs), issues)
    return raw


_PARENT_LENGTHS = (0, 16)
_ZERO_TRACE, _ZERO_SPAN = "0" * 32, "0" * 16


def _flag(raw: RawSpan, pairs: int, issues: tuple[str, ...] = ()) -> None:
    """Say what is wrong with a span of so many attributes, and make an all-zero parent what it means: none."""
    found = list(issues)
    if len(raw.trace_id) != 32 or raw.trace_id == _ZERO_TRACE:
        found.append("invalid_trace_id")
    if len(raw.span_id) != 16 or raw.span_id == _ZERO_SPAN:
        found.append("invalid_span_id")
    if raw.parent_id == _ZERO_SPAN:
        raw.parent_id = ""
    elif len(raw.parent_id) not in _PARENT_LENGTHS:
        found.append("invalid_parent_id")
        raw.parent_id = ""
    if len(raw.attributes) != pairs:
        found.append("duplicate_keys")
    raw.issues = tuple(found)


def _event(event: Any) -> Event:
    return Event(
        name=event.name,
        time_ns=event.time_unix_nano,
        attributes=_attributes(event.attributes),
        dropped_attributes_count=event.dropped_attributes_count,
    )


def _link(link: Any) -> Link:
    return Link(
        trace_id=link.trace_id.hex(),
        span_id=link.span_id.hex(),
        trace_state=link.trace_state,
        attributes=_attributes(link.attributes),
        dropped_attributes_count=link.dropped_attributes_count,
        flags=link.flags,
    )


def _log(record: Any, resource: Resource, scope: Scope, issues: tuple[str, ...]) -> RawLog:
    pairs = record.attributes
    log = RawLog(
        trace_id=_id(record.trace_id, _ZERO_TRACE),
        span_id=_id(record.span_id, _ZERO_SPAN),
        event_name=record.event_name,
        time_ns=record.time_unix_nano,
        observed_ns=record.observed_time_unix_nano,
        severity_number=record.severity_number,
        severity_text=record.severity_text,
        body=_value(record.body) if record.HasField("body") else None,
        attributes=_attributes(pairs),
        flags=record.flags,
        dropped_attributes_count=record.dropped_attributes_count,
        resource=resource,
        scope=scope,
        issues=issues,
    )
    if len(log.attributes) != len(pairs):
        _flag_log(log, len(pairs))
    return log


def _flag_log(log: RawLog, pairs: int) -> None:
    """Say that keys stand twice among a record's attributes, of which so many were sent."""
    log.issues = (*log.issues, "duplicate_keys")


def _id(value: bytes, zero: str) -> str:
    text = value.hex()
    return text if len(text) == len(zero) and text != zero else ""


def _resource(message: Any) -> Resource:
    sent = message.resource.SerializeToString() if message.HasField("resource") else None
    return _resource_of(sent, message.schema_url)


def _resource_of(sent: bytes | None, schema_url: str) -> Resource:
    if sent is None and not schema_url:
        return NO_RESOURCE
    key = sent or b"", schema_url
    found = _RESOURCES.get(key)
    if found is None:
        resource = PbResource.FromString(key[0])
        found = Resource(
            attributes=_attributes(resource.attributes),
            dropped_attributes_count=resource.dropped_attributes_count,
            schema_url=schema_url,
        )
        _remember(_RESOURCES, key, found)
    return found


def _scope(message: Any) -> Scope:
    sent = message.scope.SerializeToString() if message.HasField("scope") else None
    return _scope_of(sent, message.schema_url)


def _scope_of(sent: bytes | None, schema_url: str) -> Scope:
    if sent is None and not schema_url:
        return NO_SCOPE
    key = sent or b"", schema_url
    found = _SCOPES.get(key)
    if found is None:
        scope = InstrumentationScope.FromString(key[0])
        found = Scope(
            name=scope.name,
            version=scope.version,
            attributes=_attributes(scope.attributes),
            dropped_attributes_count=scope.dropped_attributes_count,
            schema_url=schema_url,
        )
        _remember(_SCOPES, key, found)
    return found


Sent = tuple[bytes, str]
"""A resource or scope as protobuf, and its schema's URL."""

_RESOURCES: dict[Sent, Resource] = {}
_SCOPES: dict[Sent, Scope] = {}
_REMEMBERED = 512
_REMEMBERED_BYTES = 2048


Known = TypeVar("Known", Resource, Scope)


def _remember(known: dict[Sent, Known], key: Sent, found: Known) -> None:
    """A sender's resource comes with each of its requests: it stays one object, which nobody changes. Bounded in number
    and length."""
    if len(key[0]) + len(key[1]) <= _REMEMBERED_BYTES:
        if len(known) >= _REMEMBERED:
            known.clear()
        known[key] = found


def _attributes(pairs: Iterable[Any]) -> Attributes:
    attributes: Attributes = {}
    for pair in pairs:
        value = pair.value
        if text := value.string_value:  # most are: asking which kind a value has costs as much again
            attributes[pair.key] = text
            continue
        if number := value.int_value:  # most others are
            attributes[pair.key] = number
            continue
        which = value.WhichOneof("value")
        attributes[pair.key] = None if which is None else _READ[which](value)
    return attributes


def attributes_of(pairs: Iterable[Any]) -> Attributes:
    """Of repeated KeyValue; of a key that stands twice, what spans keep of it."""
    return _attributes(pairs)


def _value(value: Any) -> Value:
    which = value.WhichOneof("value")
    return None if which is None else _READ[which](value)


def _array(value: Any) -> Value:
    return [_value(item) for item in value.array_value.values]


def _kvlist(value: Any) -> Value:
    return {pair.key: _value(pair.value) for pair in value.kvlist_value.values}


_READ: dict[str, Callable[[Any], Value]] = {
    "string_value": lambda value: value.string_value,
    "bool_value": lambda value: value.bool_value,
    "int_value": lambda value: value.int_value,
    "double_value": lambda value: value.double_value,
    "bytes_value": lambda value: value.bytes_value,
    "array_value": _array,
    "kvlist_value": _kvlist,
    "string_value_strindex": lambda value: None,
}
