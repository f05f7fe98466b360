"""OTLP/gRPC: what its two servers have in common, and which one listens.

`_grpc_loop` is one thread on grpcio's core and costs half; it needs names that grpcio does not promise. With a version
that has others `_grpc_threads` listens, which is grpcio's own server: slower, with the same answers.
"""

import logging
import socket
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import grpc

from spanweir.collector.receivers._auth import Unauthenticated
from spanweir.collector.receivers._intake import UNAUTHENTICATED, Answer, Intake, travels
from spanweir.collector.receivers._responses import status
from spanweir.collector.receivers._tls import read, server_context

if TYPE_CHECKING:
    from spanweir.collector.receivers.otlp import Grpc, Tls

_log = logging.getLogger(__name__)
SIGNALS = {
    f"/opentelemetry.proto.collector.{name}.v1.{title}Service/Export": signal
    for signal, name, title in (
        ("traces", "trace", "Trace"),
        ("logs", "logs", "Logs"),
        ("metrics", "metrics", "Metrics"),
    )
}
"""By method."""
_MANY = 1 << 30
_STATUS_DETAILS = "grpc-status-details-bin"


class GrpcServer(Protocol):
    """Listens from its construction on. Raises OSError if it cannot."""

    endpoint: str

    def stop(self, grace_s: float) -> None:
        """Refuse new requests, and end those under way after `grace_s`."""
        ...


def serve(config: "Grpc", intake: Intake) -> GrpcServer:
    """Raises OSError if it cannot listen."""
    from spanweir.collector.receivers import _grpc_loop, _grpc_threads

    if _grpc_loop.usable():
        return _grpc_loop.LoopServer(config, intake)
    _log.info("grpcio %s has another core than this version knows: its own server listens", grpc.__version__)
    return _grpc_threads.ThreadServer(config, intake)


class Caller(NamedTuple):
    """Who sends, known before what is sent is read."""

    tenant: str
    headers: dict[str, str]


class Admission:
    """From a call's metadata to a `Caller`, or the answer that it gets."""

    def __init__(self, config: "Grpc", intake: Intake) -> None:
        self._intake = intake
        self._authenticator = intake.authenticator
        metadata = config.include_metadata
        self._wanted = None if metadata is True else frozenset(name.lower() for name in metadata or ())
        self.certificates = self._authenticator.required and config.tls is not None and bool(config.tls.client_ca_file)
        """The peer's certificate may tell who sends."""

    def caller(self, signal: str, metadata: Iterable[Any], common_name: str = "") -> Caller | Answer:
        headers: dict[str, str] = {}
        authorization = ""
        for name, value in metadata:
            if name == "authorization":
                authorization = _text(value)
            elif travels(name, self._wanted):
                headers[name] = _text(value)
        try:
            return Caller(self._authenticator.tenant(authorization, common_name), headers)
        except Unauthenticated as error:
            self._intake.observer.rejected(signal, "grpc", "", 0, "unauthenticated")
            return Answer(UNAUTHENTICATED, 401, str(error))


def trailers(answer: Answer) -> tuple[tuple[str, bytes], ...] | None:
    """The trailing metadata of a refusal."""
    return ((_STATUS_DETAILS, status(answer)),) if answer.retry_after_s else None


def credentials(tls: "Tls") -> grpc.ServerCredentials:
    """Raises OSError for files that cannot be used."""
    # grpc says nothing about a key that does not fit; this does.
    server_context(tls)
    pair = (read(tls, "key_file"), read(tls, "cert_file"))
    ca = read(tls, "client_ca_file") if tls.client_ca_file else None
    return grpc.ssl_server_credentials([pair], root_certificates=ca, require_client_auth=ca is not None)


def cannot_listen(config: "Grpc") -> OSError:
    # grpc does not say why; a socket does.
    host, _, port = config.endpoint.rpartition(":")
    reason = "the address is in use or not one of this machine's"
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        reason = error.strerror or str(error)
    return OSError(f"cannot listen on {config.endpoint}: {reason}; choose another endpoint")


def options(config: "Grpc") -> list[tuple[str, int]]:
    """Channel arguments."""
    server, policy = config.keepalive.server_parameters, config.keepalive.enforcement_policy
    durations = {
        "grpc.max_connection_idle_ms": server.max_connection_idle,
        "grpc.max_connection_age_ms": server.max_connection_age,
        "grpc.max_connection_age_grace_ms": server.max_connection_age_grace,
        "grpc.keepalive_time_ms": server.time,
        "grpc.keepalive_timeout_ms": server.timeout,
        "grpc.http2.min_ping_interval_without_data_ms": policy.min_time,
    }
    return [
        ("grpc.max_receive_message_length", config.max_recv_msg_size_mib << 20),
        ("grpc.max_concurrent_streams", config.max_concurrent_streams),
        # A sender that has its answer begins the next request at once, and the core counts the one before until it has
        # been tidied away: with the default of as many as may be under way it refuses a tenth of a busy connection.
        ("grpc.http2.max_deallocating_streams", max(1000, 10 * config.max_concurrent_streams)),
        # Calls that nobody has looked at yet. Above 1,000 the core cancels some at random; here they wait.
        ("grpc.server.max_pending_requests", _MANY),
        ("grpc.server.max_pending_requests_hard_limit", _MANY),
        # Otherwise a second collector on the same port would silently take half of the connections.
        ("grpc.so_reuseport", 0),
        ("grpc.keepalive_permit_without_calls", int(policy.permit_without_stream)),
        *((name, int(value * 1000)) for name, value in durations.items() if value is not None),
    ]


def _text(value: str | bytes) -> str:
    return value if isinstance(value, str) else value.decode("latin-1")
