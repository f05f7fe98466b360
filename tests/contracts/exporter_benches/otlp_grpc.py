"""A real gRPC server with the three OTLP services."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import (
    TraceServiceServicer,
    add_TraceServiceServicer_to_server,
)

from spanweir.exporters.otlp_grpc import Config
from spanweir.schemas.options import Duration, Secret
from tests.support.batches import SpanId


class Destination(TraceServiceServicer):
    """Keeps what it is sent. `refusals` are raised one by one, before anything is accepted."""

    def __init__(self) -> None:
        self.requests: list[ExportTraceServiceRequest] = []
        self.metadata: list[dict[str, Any]] = []
        self.refusals: list[Any] = []
        self.response = ExportTraceServiceResponse()

    def Export(self, request: Any, context: Any) -> Any:  # noqa: N802 - generated name
        if self.refusals:
            refusal = self.refusals.pop(0)
            if refusal is not None:
                refusal(context)
        self.requests.append(request)
        self.metadata.append(dict(context.invocation_metadata()))
        return self.response


def span_ids(requests: list[ExportTraceServiceRequest]) -> list[SpanId]:
    return sorted(
        (span.trace_id.hex(), span.span_id.hex())
        for request in requests
        for resource in request.resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    )


class Bench:
    exactly_once = False  # OTLP has no identity for a request, and a receiver need not know spans by their ids
    can_fail = True

    def __init__(self, directory: Path) -> None:
        self.destination = Destination()
        self._port = 0
        self._server: Any = None
        self.start()

    @property
    def config(self) -> Config:
        return Config(
            endpoint=f"127.0.0.1:{self._port}", timeout=Duration(5), headers={"authorization": Secret("Bearer t")}
        )

    def spans(self) -> list[SpanId]:
        return span_ids(self.destination.requests)

    def start(self) -> None:
        options = [("grpc.max_receive_message_length", -1)]
        self._server = grpc.server(ThreadPoolExecutor(4), options=options)
        add_TraceServiceServicer_to_server(self.destination, self._server)
        self._port = self._server.add_insecure_port(f"127.0.0.1:{self._port}")
        self._server.start()

    def stop(self) -> None:
        self._server.stop(None).wait()

    def close(self) -> None:
        self.stop()
