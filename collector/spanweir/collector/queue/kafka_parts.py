"""A request in the parts that the partitions of a topic get: all of a trace in one, whichever collector took it in.

A part has a key, and Kafka's partitioner a place for each key: the trace id in hex, which is also the key of the
OpenTelemetry Collector's Kafka exporter with `partition_traces_by_id`. A coding agent's turn is put together from
several traces and from log records without any, so an agent's records go by their resource.

Not here: what is without a key. Metrics and log records of no trace belong to no trace that could be torn.
"""

import hashlib
from collections.abc import Iterator
from typing import Any, NamedTuple

from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from spanweir.schemas.agents import agent_of

_NO_TRACE = bytes(16)


class Shape(NamedTuple):
    """The names of a request's levels."""

    message: Any
    resources: str
    scopes: str
    items: str


_SHAPES: dict[str, Shape] = {
    "traces": Shape(ExportTraceServiceRequest, "resource_spans", "scope_spans", "spans"),
    "logs": Shape(ExportLogsServiceRequest, "resource_logs", "scope_logs", "log_records"),
}


class Part(NamedTuple):
    """What of a request goes to one partition, as a request of its own."""

    key: bytes | None
    """None: any partition will do."""
    body: bytes


def parts(signal: str, body: bytes) -> list[Part]:
    """At least one; the body itself where it need not be divided, or cannot be: one that is no valid protobuf and was
    accepted all the same is repaired by its reader."""
    shape = _SHAPES.get(signal)
    if shape is None:
        return [Part(None, body)]
    try:
        request = shape.message.FromString(body)
    except DecodeError:
        return [Part(None, body)]
    keys: set[bytes | None] = {key for key, *_ in _keyed(request, shape)}
    if len(keys) <= 1:
        return [Part(next(iter(keys), None), body)]
    shares: dict[bytes | None, _Share] = {}
    for key, resource, scope, item in _keyed(request, shape):
        share = shares.get(key)
        if share is None:
            share = shares[key] = _Share(shape)
        share.add(resource, scope, item)
    return [Part(key, share.request.SerializeToString()) for key, share in shares.items()]


def _keyed(request: Any, shape: Shape) -> Iterator[tuple[bytes | None, Any, Any, Any]]:
    """Every span or log record with its key, and the messages of its resource and its scope."""
    for resource in getattr(request, shape.resources):
        attributes = resource.resource.attributes
        service = next((pair.value.string_value for pair in attributes if pair.key == "service.name"), "")
        for scope in getattr(resource, shape.scopes):
            common = _resource_key(resource) if agent_of(scope.scope.name, service) else None
            for item in getattr(scope, shape.items):
                yield common or _trace_key(item.trace_id), resource, scope, item


def _resource_key(message: Any) -> bytes:
    return hashlib.sha256(message.resource.SerializeToString(deterministic=True)).hexdigest()[:32].encode()


def _trace_key(trace_id: bytes) -> bytes | None:
    return trace_id.hex().encode() if len(trace_id) == len(_NO_TRACE) and trace_id != _NO_TRACE else None


class _Share:
    """What one key gets of a request. Items are added in the request's order, those of a scope after each other."""

    def __init__(self, shape: Shape) -> None:
        self.request = shape.message()
        self._shape = shape
        self._resource: Any = None
        self._scope: Any = None
        self._resource_copy: Any = None
        self._scope_copy: Any = None

    def add(self, resource: Any, scope: Any, item: Any) -> None:
        if resource is not self._resource:
            self._resource, self._scope = resource, None
            self._resource_copy = getattr(self.request, self._shape.resources).add(schema_url=resource.schema_url)
            if resource.HasField("resource"):
                self._resource_copy.resource.CopyFrom(resource.resource)
        if scope is not self._scope:
            self._scope = scope
            self._scope_copy = getattr(self._resource_copy, self._shape.scopes).add(schema_url=scope.schema_url)
            if scope.HasField("scope"):
                self._scope_copy.scope.CopyFrom(scope.scope)
        getattr(self._scope_copy, self._shape.items).append(item)
