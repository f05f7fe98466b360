"""Forward over OTLP/gRPC, as received or normalised to the newest OpenTelemetry GenAI conventions.

Not here: queueing and retries, which are the delivery's.
"""

from ipaddress import ip_address
from types import TracebackType
from typing import Any, Literal, Self
from urllib.parse import urlsplit

import msgspec

from spanweir.exporters import _otlp
from spanweir.exporters.api import Batch, Context, Permanent, Request, Retry
from spanweir.schemas.options import Duration, Secret

RETRYABLE = frozenset({"CANCELLED", "DEADLINE_EXCEEDED", "ABORTED", "OUT_OF_RANGE", "UNAVAILABLE", "DATA_LOSS"})
"""RESOURCE_EXHAUSTED as well, but only where the answer carries RetryInfo (OTLP 1.7, "Retryable response codes")."""
UNAUTHORISED = frozenset({"UNAUTHENTICATED", "PERMISSION_DENIED"})


class Tls(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    insecure: bool = False
    """Speak plain text. Loopback addresses are plain text unless a certificate is named."""
    ca_file: str = ""
    """PEM file of the authorities to trust instead of the system's."""
    cert_file: str = ""
    """PEM file of the client certificate (mutual TLS)."""
    key_file: str = ""
    """PEM file of the client certificate's key."""
    server_name_override: str = ""
    """Name expected in the server's certificate instead of the endpoint's."""


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    endpoint: str = ""
    """host:port of the destination; `https://` or `http://` before it decides about TLS."""
    tls: Tls = Tls()
    """Transport security."""
    headers: dict[str, Secret] = {}
    """Metadata sent with every request, over the routing headers that a request came with."""
    compression: Literal["gzip", "none"] = "gzip"
    """`gzip` or `none`."""
    timeout: Duration = Duration(10)
    """For one request."""
    max_in_flight: int = 8
    """Requests sent at once."""
    normalize: bool = False
    """Send spans in the newest OpenTelemetry GenAI conventions instead of as they came. Logs and metrics are sent as
    they came."""

    def __post_init__(self) -> None:
        if self.max_in_flight < 1:
            raise ValueError(f"max_in_flight must be at least 1, not {self.max_in_flight}")
        if bool(self.tls.cert_file) != bool(self.tls.key_file):
            raise ValueError("tls: cert_file and key_file go together; name both or none")
        if "@" in self.endpoint:
            raise ValueError("endpoint is host:port without a user; gRPC takes credentials in headers: authorization")

    def build(self, context: Context) -> "OtlpGrpc":
        if not self.endpoint:
            raise ValueError("endpoint is missing; write the destination's host:port, such as tempo:4317")
        _otlp.check_files(self.tls)
        return OtlpGrpc(self, context.name)


class OtlpGrpc:
    """An `Exporter`."""

    def __init__(self, config: Config, name: str) -> None:
        self._config = config
        self._name = name
        self._channel: Any = None
        self._calls: dict[str, Any] = {}
        self._sent = _otlp.Sent()
        self.wants = _otlp.WANTS[config.normalize]

    def __enter__(self) -> Self:
        import grpc

        options: list[tuple[str, Any]] = [
            ("grpc.max_send_message_length", -1),
            ("grpc.max_receive_message_length", 64 << 20),
            # The delivery decides when to try again; gRPC's own back-off grows to two minutes under it.
            ("grpc.initial_reconnect_backoff_ms", 200),
            ("grpc.max_reconnect_backoff_ms", 2000),
        ]
        config = self._config
        compression = grpc.Compression.Gzip if config.compression == "gzip" else grpc.Compression.NoCompression
        scheme, _, target = config.endpoint.rpartition("://")
        target = target.rstrip("/")
        if _is_local(target):
            # gRPC sends through HTTP_PROXY whatever NO_PROXY does not name.
            options.append(("grpc.enable_http_proxy", 0))
        if config.tls.server_name_override:
            options.append(("grpc.ssl_target_name_override", config.tls.server_name_override))
        if _plain_text(config, scheme, target):
            self._channel = grpc.insecure_channel(target, options=options, compression=compression)
        else:
            self._channel = grpc.secure_channel(
                target, _credentials(config.tls), options=options, compression=compression
            )
        for signal, service in _otlp.SERVICES.items():
            self._calls[signal] = self._channel.unary_unary(service.grpc_method)
        return self

    def export(self, batch: Batch) -> None:
        own = {key.lower(): value.reveal() for key, value in self._config.headers.items()}
        pending = self._sent.pending(batch, self._config.normalize)
        for start in range(0, len(pending), self._config.max_in_flight):
            window = pending[start : start + self._config.max_in_flight]
            self._await([(item, self._start(item.request, own)) for item in window])

    def _start(self, request: Request, own: dict[str, str]) -> Any:
        metadata = list(_otlp.routing_headers(request, own).items())
        return self._calls[request.signal].future(request.body, timeout=self._config.timeout, metadata=metadata)

    def _await(self, flights: list[tuple[_otlp.Outgoing, Any]]) -> None:
        import grpc

        failure: Permanent | Retry | None = None
        for item, call in flights:
            try:
                _otlp.warn_of_rejects(self._name, item.request.signal, call.result())
            except grpc.RpcError as error:
                refusal = _refusal(error)
                # One permanent refusal must be bisected even if its neighbours only have to wait.
                failure = refusal if failure is None or isinstance(refusal, Permanent) else failure
            else:
                self._sent.add(item)
        if failure is not None:
            raise failure

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        if self._channel is not None:
            self._channel.close()
            self._channel = None


def _plain_text(config: Config, scheme: str, target: str) -> bool:
    if scheme:
        return scheme == "http"
    if config.tls.insecure:
        return True
    if config.tls.ca_file or config.tls.cert_file:
        return False
    return target.rpartition(":")[0].strip("[]") in ("localhost", "127.0.0.1", "::1")


def _credentials(tls: Tls) -> Any:
    import grpc

    def pem(path: str) -> bytes | None:
        if not path:
            return None
        with open(path, "rb") as file:
            return file.read()

    return grpc.ssl_channel_credentials(pem(tls.ca_file), pem(tls.key_file), pem(tls.cert_file))


def _refusal(error: Any) -> Permanent | Retry:
    """What an RPC error means for the batch."""
    code, details = error.code().name, error.details() or "no details"
    after_s = _retry_after_s(error)
    if code in RETRYABLE or (code == "RESOURCE_EXHAUSTED" and after_s is not None):
        return Retry(f"{code}: {details}", after_s=after_s or 0.0)
    if code in UNAUTHORISED:
        return Retry(f"{code}: {details}", after_s=_otlp.UNAUTHORISED_RETRY_S)
    return Permanent(f"{code}: {details}")


def _is_local(target: str) -> bool:
    host = urlsplit(f"//{target}").hostname or ""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def _retry_after_s(error: Any) -> float | None:
    """The delay of a `google.rpc.RetryInfo` among the status details, None without one."""
    from google.rpc import error_details_pb2, status_pb2

    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin":
            status = status_pb2.Status.FromString(value)
            for detail in status.details:
                info = error_details_pb2.RetryInfo()
                if detail.Unpack(info):
                    return float(info.retry_delay.ToTimedelta().total_seconds())
    return None
