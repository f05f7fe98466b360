"""One serialized OTLP request to the collector, by gRPC or HTTP. Not here: retries and queueing (`worker`).

The stock exporters take spans, encode them again on every retry and do not say whether a failure is final, so only
their conventions are used here: the `OTEL_EXPORTER_OTLP_*` variables and the retryable status codes of the OTLP
specification. Nothing connects before the first request, and a forked child makes its own connection.
"""

import dataclasses
import gzip
import http.client
import logging
import os
import ssl
from collections.abc import Mapping
from ipaddress import ip_address
from typing import Any, Protocol
from urllib.parse import unquote, urlsplit, urlunsplit

from spanweir.instrumentation.version import __version__

_log = logging.getLogger(__name__)
PROTOCOLS = ("grpc", "http/protobuf")
USER_AGENT = f"spanweir-instrumentation/{__version__}"
GRPC_METHOD = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
_RETRYABLE_GRPC = {
    "CANCELLED",
    "DEADLINE_EXCEEDED",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNAVAILABLE",
    "DATA_LOSS",
}
_RETRYABLE_HTTP = {429, 502, 503, 504}


@dataclasses.dataclass(frozen=True)
class Answer:
    """What became of a request. `retry_after_s` is None when sending it again, as it is, cannot help."""

    accepted: bool
    reason: str = ""
    retry_after_s: float | None = None
    too_large: bool = False


ACCEPTED = Answer(True)


class Transport(Protocol):
    """One connection to a collector: opened for the first request, closed by whoever has it."""

    def send(self, body: bytes, timeout_s: float) -> Answer:
        """Never raises."""
        ...

    def close(self) -> None: ...


@dataclasses.dataclass(frozen=True)
class Settings:
    """Where and how to send. `settings` fills it from the environment."""

    endpoint: str = "http://localhost:4317"
    protocol: str = "grpc"
    headers: Mapping[str, str] = dataclasses.field(default_factory=dict)
    timeout_s: float = 10.0
    gzip: bool = False
    certificate: str = ""
    client_key: str = ""
    client_certificate: str = ""
    insecure: bool = False

    def open(self) -> Transport:
        return Grpc(self) if self.protocol == "grpc" else Http(self)


def shown(url: str) -> str:
    """The URL without what may be secret in it: who asks, and parameters."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def variable(name: str) -> str:
    """`OTEL_EXPORTER_OTLP_TRACES_<name>`, else `OTEL_EXPORTER_OTLP_<name>`, else empty."""
    return os.environ.get(f"OTEL_EXPORTER_OTLP_TRACES_{name}") or os.environ.get(f"OTEL_EXPORTER_OTLP_{name}") or ""


def settings(
    endpoint: str | None = None, protocol: str | None = None, headers: Mapping[str, str] | None = None
) -> Settings:
    """Arguments first, then `OTEL_EXPORTER_OTLP_TRACES_*`, then `OTEL_EXPORTER_OTLP_*`, then gRPC to localhost:4317.

    A variable that says something else than it can only gives a warning: it is not the application that is wrong.

    Raises:
        ValueError: the argument `protocol` is neither `grpc` nor `http/protobuf`.
    """
    if protocol is not None and protocol not in PROTOCOLS:
        raise ValueError(f"OTLP protocol {protocol!r}: there are 'grpc' and 'http/protobuf'")
    protocol = protocol or _protocol(variable("PROTOCOL")) or _guess(endpoint or variable("ENDPOINT"))
    if endpoint is None:
        endpoint = os.environ.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") or ""
        general = os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT")
        if not endpoint and general and protocol != "grpc":
            endpoint = general.rstrip("/") + "/v1/traces"
        endpoint = endpoint or general or ("http://localhost:4317" if protocol == "grpc" else "")
        endpoint = endpoint or "http://localhost:4318/v1/traces"
    elif protocol != "grpc" and urlsplit(endpoint).path in ("", "/"):
        endpoint = endpoint.rstrip("/") + "/v1/traces"
    if "://" not in endpoint:
        endpoint = "http://" + endpoint
    insecure = variable("INSECURE").lower() == "true" or urlsplit(endpoint).scheme == "http"
    return Settings(
        endpoint=endpoint,
        protocol=protocol,
        headers={**_headers(variable("HEADERS")), **(headers or {})},
        timeout_s=_seconds(variable("TIMEOUT")),
        gzip=variable("COMPRESSION").lower() == "gzip",
        certificate=variable("CERTIFICATE"),
        client_key=variable("CLIENT_KEY"),
        client_certificate=variable("CLIENT_CERTIFICATE"),
        insecure=insecure,
    )


def _protocol(text: str) -> str:
    """`http/json` is in the specification, but whoever takes that takes protobuf at the same address."""
    if text in PROTOCOLS or not text:
        return text
    _log.warning("OTLP protocol %r: there are 'grpc' and 'http/protobuf'", text)
    return "http/protobuf" if text.startswith("http") else ""


def _seconds(text: str) -> float:
    try:
        return float(text or 10)
    except ValueError:
        _log.warning("OTEL_EXPORTER_OTLP_TIMEOUT=%r is no number of seconds: it is 10", text)
        return 10.0


def _guess(endpoint: str) -> str:
    address = urlsplit(endpoint if "://" in endpoint else f"//{endpoint}")
    return "http/protobuf" if address.port == 4318 or address.path.endswith("/v1/traces") else "grpc"


def _headers(text: str) -> dict[str, str]:
    pairs = (pair.partition("=") for pair in text.split(",") if "=" in pair)
    return {unquote(key).strip().lower(): unquote(value).strip() for key, _, value in pairs}


def _read(path: str) -> bytes | None:
    if not path:
        return None
    with open(path, "rb") as file:
        return file.read()


class Grpc:
    """OTLP/gRPC. The channel takes finished bytes, so nothing is encoded twice."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._channel: Any = None
        self._export: Any = None
        # gRPC wants lower-case metadata keys
        self._metadata = tuple((key.lower(), value) for key, value in settings.headers.items())

    def _connect(self) -> None:
        import grpc

        target = urlsplit(self._settings.endpoint).netloc
        options = [
            ("grpc.primary_user_agent", USER_AGENT),
            ("grpc.max_send_message_length", -1),
            # Other channels of the process must not share (or break) this one's connection.
            ("grpc.use_local_subchannel_pool", 1),
            ("grpc.initial_reconnect_backoff_ms", 200),
            ("grpc.max_reconnect_backoff_ms", 5000),
            # gRPC sends through HTTP_PROXY whatever NO_PROXY does not name, a collector on this machine too.
            ("grpc.enable_http_proxy", int(not is_local(target))),
        ]
        compression = grpc.Compression.Gzip if self._settings.gzip else grpc.Compression.NoCompression
        if self._settings.insecure:
            self._channel = grpc.insecure_channel(target, options, compression)
        else:
            credentials = grpc.ssl_channel_credentials(
                _read(self._settings.certificate),
                _read(self._settings.client_key),
                _read(self._settings.client_certificate),
            )
            self._channel = grpc.secure_channel(target, credentials, options, compression)
        self._export = self._channel.unary_unary(GRPC_METHOD)

    def send(self, body: bytes, timeout_s: float) -> Answer:
        try:
            if self._channel is None:
                self._connect()
            answer = self._export(body, timeout=timeout_s, metadata=self._metadata)
        except Exception as error:
            return self._failure(error)
        return _partial(answer)

    def _failure(self, error: Exception) -> Answer:
        code = getattr(error, "code", None)
        if code is None:
            return Answer(False, f"{type(error).__name__}: {error}")
        name = code().name
        reason = f"{name}: {error.details()}"  # type: ignore[attr-defined]
        delay = _retry_delay(error)
        if name in _RETRYABLE_GRPC or (name == "RESOURCE_EXHAUSTED" and delay is not None):
            return Answer(False, reason, delay or 0.0)
        return Answer(False, reason, too_large=name == "RESOURCE_EXHAUSTED")

    def close(self) -> None:
        if self._channel is not None:
            self._channel.close()
            self._channel = self._export = None


def is_local(target: str) -> bool:
    """Whether `host:port` is this machine, by its name or address alone."""
    host = urlsplit(f"//{target}").hostname or ""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def _retry_delay(error: Any) -> float | None:
    """Seconds of a google.rpc.RetryInfo, None if there is none.

    It is a detail of the status (OTLP 1.7, "OTLP/gRPC Throttling"); some servers send it as metadata of its own.
    """
    for key, value in error.trailing_metadata() or ():
        if key not in ("grpc-status-details-bin", "google.rpc.retryinfo-bin"):
            continue
        from google.rpc.error_details_pb2 import RetryInfo
        from google.rpc.status_pb2 import Status

        info = RetryInfo()
        if key == "google.rpc.retryinfo-bin":
            info.ParseFromString(value)
        elif not any(detail.Unpack(info) for detail in Status.FromString(value).details):
            continue
        return float(info.retry_delay.seconds + info.retry_delay.nanos / 1e9)
    return None


def _partial(answer: bytes) -> Answer:
    """An accepted request may still have spans in it that were refused: final, and worth a word."""
    if not answer:
        return ACCEPTED
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

    try:
        partial = ExportTraceServiceResponse.FromString(answer).partial_success
    except Exception:
        return ACCEPTED
    if partial.rejected_spans:
        return Answer(True, f"{partial.rejected_spans} spans were refused: {partial.error_message}")
    return ACCEPTED


class Http:
    """OTLP/HTTP with protobuf bodies, on the standard library's client."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._address = urlsplit(settings.endpoint)
        self._connection: http.client.HTTPConnection | None = None
        self._headers = {"content-type": "application/x-protobuf", "user-agent": USER_AGENT, **settings.headers}
        if settings.gzip:
            self._headers["content-encoding"] = "gzip"

    def _connect(self, timeout_s: float) -> http.client.HTTPConnection:
        host, port = self._address.hostname or "localhost", self._address.port
        if self._address.scheme != "https":
            return http.client.HTTPConnection(host, port or 80, timeout=timeout_s)
        context = ssl.create_default_context(cafile=self._settings.certificate or None)
        if self._settings.client_certificate:
            context.load_cert_chain(self._settings.client_certificate, self._settings.client_key or None)
        return http.client.HTTPSConnection(host, port or 443, timeout=timeout_s, context=context)

    def send(self, body: bytes, timeout_s: float) -> Answer:
        if self._settings.gzip:
            body = gzip.compress(body, 1)
        path = self._address.path or "/v1/traces"
        if self._address.query:
            path += "?" + self._address.query
        reused = self._connection is not None
        try:
            if self._connection is None:
                self._connection = self._connect(timeout_s)
            self._connection.request("POST", path, body, self._headers)
            response = self._connection.getresponse()
            answer = response.read()
        except Exception as error:
            self.close()
            if reused:  # the server has closed an idle connection: that says nothing about it
                return self.send(body if not self._settings.gzip else gzip.decompress(body), timeout_s)
            return Answer(False, f"{type(error).__name__}: {error}", 0.0)
        if 200 <= response.status < 300:
            return _partial(answer)
        reason = f"HTTP {response.status} {answer[:200].decode('utf-8', 'replace')}"
        if response.status in _RETRYABLE_HTTP:
            after = response.headers.get("retry-after", "")
            return Answer(False, reason, float(after) if after.replace(".", "", 1).isdigit() else 0.0)
        return Answer(False, reason, too_large=response.status == 413)

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
