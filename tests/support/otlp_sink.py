"""A real OTLP/gRPC receiver that keeps what it gets, and can refuse."""

import threading
import time
from collections.abc import Iterator
from concurrent import futures
from contextlib import contextmanager
from typing import Any

import grpc
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue


class Sink:
    """`refusals` are the answers to the next requests; what is larger than `limit_bytes` is refused as well."""

    def __init__(self) -> None:
        self.endpoint = ""
        self.requests: list[ExportTraceServiceRequest] = []
        self.sizes: list[int] = []
        self.metadata: list[dict[str, str]] = []
        self.refusals: list[grpc.StatusCode] = []
        self.limit_bytes = 1 << 30
        self._lock = threading.Lock()

    def export(self, body: bytes, context: Any) -> bytes:
        with self._lock:
            if self.refusals:
                context.abort(self.refusals.pop(0), "refused by the test")
            if len(body) > self.limit_bytes:
                context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "message too large")
            self.sizes.append(len(body))
            self.requests.append(ExportTraceServiceRequest.FromString(body))
            self.metadata.append(dict(context.invocation_metadata()))
        return ExportTraceServiceResponse().SerializeToString()

    @property
    def spans(self) -> list[Any]:
        with self._lock:
            return [s for r in self.requests for rs in r.resource_spans for ss in rs.scope_spans for s in ss.spans]

    def named(self, name: str) -> Any:
        found = [span for span in self.spans if span.name == name]
        assert len(found) == 1, f"{name}: {len(found)} of {[span.name for span in self.spans]}"
        return found[0]

    def wait_for(self, count: int, timeout_s: float = 20.0) -> list[Any]:
        until = time.monotonic() + timeout_s
        while len(self.spans) < count and time.monotonic() < until:
            time.sleep(0.02)
        return self.spans


def attributes(span: Any) -> dict[str, Any]:
    """An OTLP span's attributes as Python values."""
    return {pair.key: value_of(pair.value) for pair in span.attributes}


def value_of(value: AnyValue) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [value_of(item) for item in value.array_value.values]
    if kind == "kvlist_value":
        return {pair.key: value_of(pair.value) for pair in value.kvlist_value.values}
    return None if kind is None else getattr(value, kind)


@contextmanager
def sink() -> Iterator[Sink]:
    receiver = Sink()
    handler = grpc.method_handlers_generic_handler(
        "opentelemetry.proto.collector.trace.v1.TraceService",
        {"Export": grpc.unary_unary_rpc_method_handler(receiver.export)},
    )
    server = grpc.server(futures.ThreadPoolExecutor(2), options=[("grpc.max_receive_message_length", -1)])
    server.add_generic_rpc_handlers((handler,))
    receiver.endpoint = f"http://127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    try:
        yield receiver
    finally:
        server.stop(None)
