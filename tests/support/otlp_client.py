"""Send one OTLP request over gRPC or HTTP and see the answer in one shape."""

import http.client
from collections.abc import Mapping
from typing import Any, NamedTuple

import grpc
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

GRPC_METHODS = {
    "traces": "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
    "logs": "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
    "metrics": "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
}
HTTP_TO_GRPC = {200: 0, 400: 3, 401: 16, 413: 8, 429: 8, 500: 13, 503: 14}


class Reply(NamedTuple):
    code: int
    """gRPC status code; of an HTTP answer that of the Status in its body, checked against the HTTP status."""
    message: str = ""
    retry_after_s: float = 0.0
    rejected: int = 0


def send(
    transport: str, endpoint: str, body: bytes, *, signal: str = "traces", headers: Mapping[str, str] | None = None
) -> Reply:
    """`body` is serialized protobuf."""
    if transport == "grpc":
        return send_grpc(endpoint, body, signal=signal, headers=headers)
    return send_http(endpoint, body, signal=signal, headers=headers)


def send_grpc(
    endpoint: str, body: bytes, *, signal: str = "traces", headers: Mapping[str, str] | None = None, **options: Any
) -> Reply:
    unlimited = [("grpc.max_send_message_length", -1), ("grpc.use_local_subchannel_pool", 1)]
    with grpc.insecure_channel(endpoint, options=unlimited) as channel:
        return call(channel, body, signal=signal, headers=headers, **options)


def call(
    channel: grpc.Channel,
    body: bytes,
    *,
    signal: str = "traces",
    headers: Mapping[str, str] | None = None,
    **options: Any,
) -> Reply:
    method = channel.unary_unary(GRPC_METHODS[signal])
    try:
        response = method(body, metadata=list((headers or {}).items()), timeout=30, **options)
    except grpc.RpcError as error:
        details = dict(error.trailing_metadata() or ()).get("grpc-status-details-bin", b"")
        return Reply(error.code().value[0], error.details() or "", _retry_delay(details))
    return _accepted(response)


def send_http(endpoint: str, body: bytes, *, signal: str = "traces", headers: Mapping[str, str] | None = None) -> Reply:
    status, answered, response = post(
        endpoint, body, path=f"/v1/{signal}", headers={"content-type": "application/x-protobuf", **(headers or {})}
    )
    assert answered["content-type"] == "application/x-protobuf"
    if status == 200:
        return _accepted(response)
    parsed = Status.FromString(response)
    assert HTTP_TO_GRPC[status] == parsed.code
    assert (float(answered.get("retry-after", 0)) > 0) == bool(_retry_delay(response))
    return Reply(parsed.code, parsed.message, _retry_delay(response))


def post(
    endpoint: str, body: bytes, *, path: str = "/v1/traces", headers: Mapping[str, str], method: str = "POST"
) -> tuple[int, dict[str, str], bytes]:
    """Status, headers in lower case, body."""
    host, _, port = endpoint.rpartition(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=30)
    try:
        connection.request(method, path, body, dict(headers))
        response = connection.getresponse()
        return response.status, {name.lower(): value for name, value in response.getheaders()}, response.read()
    finally:
        connection.close()


def _accepted(response: bytes) -> Reply:
    partial = ExportTraceServiceResponse.FromString(response).partial_success
    return Reply(0, partial.error_message, 0.0, partial.rejected_spans)


def _retry_delay(details: bytes) -> float:
    for detail in Status.FromString(details).details:
        info = RetryInfo()
        if detail.Unpack(info):
            return info.retry_delay.ToTimedelta().total_seconds()
    return 0.0
