"""Answers as bytes: google.rpc.Status and partial_success in protobuf and JSON, and HTTP responses around them."""

import math
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import orjson
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from spanweir.collector.receivers._intake import ACCEPTED, OK, Answer

if TYPE_CHECKING:
    from spanweir.collector.receivers._exchange import Exchange
    from spanweir.collector.receivers.otlp import Cors

_REJECTED = {"traces": "rejectedSpans", "logs": "rejectedLogRecords", "metrics": "rejectedDataPoints"}
_PROTOBUF, _JSON, _TEXT = b"application/x-protobuf", b"application/json", b"text/plain; charset=utf-8"


def partial_success(answer: Answer) -> bytes:
    """The response message; its fields have the same numbers for all signals."""
    response = ExportTraceServiceResponse()
    response.partial_success.rejected_spans = answer.rejected
    response.partial_success.error_message = answer.message
    return bytes(response.SerializeToString())


def status(answer: Answer) -> bytes:
    """`google.rpc.Status`, with RetryInfo where the sender shall come again."""
    result = Status(code=answer.code, message=answer.message)
    if answer.retry_after_s:
        info = RetryInfo()
        info.retry_delay.FromNanoseconds(int(answer.retry_after_s * 1e9))
        result.details.add().Pack(info)
    return bytes(result.SerializeToString())


def _json_status(answer: Answer) -> bytes:
    result: dict[str, Any] = {"code": answer.code, "message": answer.message}
    if answer.retry_after_s:
        delay = f"{answer.retry_after_s:.9f}".rstrip("0").rstrip(".") + "s"
        result["details"] = [{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": delay}]
    return orjson.dumps(result)


class Responses:
    """Makes responses of one server. `date` is set by it once a second."""

    def __init__(self, cors: "Cors") -> None:
        self.date = b""
        self._cors = cors

    def encode(self, exchange: "Exchange", answer: Answer) -> bytes:
        extra = self._allow_origin(exchange.origin) if exchange.origin else b""
        if exchange.method == b"OPTIONS" and answer is ACCEPTED:
            return self._http(204, b"", b"", extra + self._preflight(exchange, extra), exchange.wants_close)
        kind = _JSON if exchange.json else _PROTOBUF
        if answer.code == OK:
            return self._http(200, kind, self._accepted(exchange, answer), extra, exchange.wants_close)
        if answer.http_status in (404, 405, 415):
            extra += b"allow: POST\r\n" if answer.http_status == 405 else b""
            # After a HEAD a body would be the beginning of the next response.
            text = b"" if exchange.method == b"HEAD" else answer.message.encode()
            return self._http(answer.http_status, _TEXT, text, extra, exchange.wants_close)
        if answer.retry_after_s:
            extra += b"retry-after: %d\r\n" % math.ceil(answer.retry_after_s)
        if answer.http_status == 401:
            extra += b'www-authenticate: Bearer realm="otlp", Basic realm="otlp"\r\n'
        body = _json_status(answer) if exchange.json else status(answer)
        return self._http(answer.http_status, kind, body, extra, exchange.wants_close)

    def plain(self, http_status: int, message: str) -> bytes:
        """For what was not understood well enough to be an exchange; the connection ends with it."""
        return self._http(http_status, _TEXT, message.encode(), b"", True)

    def _accepted(self, exchange: "Exchange", answer: Answer) -> bytes:
        if not answer.rejected:
            return b"{}" if exchange.json else b""
        if not exchange.json:
            return partial_success(answer)
        # int64 is text in protobuf's JSON.
        partial = {_REJECTED[exchange.signal]: str(answer.rejected), "errorMessage": answer.message}
        return orjson.dumps({"partialSuccess": partial})

    def _http(self, http_status: int, kind: bytes, body: bytes, extra: bytes, close: bool) -> bytes:
        return b"HTTP/1.1 %d %b\r\ndate: %b\r\n%b%bcontent-length: %d\r\n%b\r\n%b" % (
            http_status,
            HTTPStatus(http_status).phrase.encode(),
            self.date,
            b"content-type: %b\r\n" % kind if kind else b"",
            extra,
            len(body),
            b"connection: close\r\n" if close else b"",
            body,
        )

    def _allow_origin(self, origin: bytes) -> bytes:
        allowed = self._cors.allowed_origins
        if "*" in allowed:
            return b"access-control-allow-origin: *\r\n"
        if origin.decode("latin-1") in allowed:
            return b"access-control-allow-origin: %b\r\nvary: origin\r\n" % origin
        return b""

    def _preflight(self, exchange: "Exchange", allowed: bytes) -> bytes:
        if not allowed:
            return b""
        names = {"content-type", "content-encoding", *(name.lower() for name in self._cors.allowed_headers)}
        wanted = [name.strip().lower() for name in exchange.requested_headers.decode("latin-1").split(",")]
        headers = ", ".join(name for name in wanted if name and (name in names or "*" in names))
        return (
            b"access-control-allow-methods: POST\r\naccess-control-allow-headers: %b\r\naccess-control-max-age: %d\r\n"
            % (
                headers.encode("latin-1"),
                int(self._cors.max_age),
            )
        )
