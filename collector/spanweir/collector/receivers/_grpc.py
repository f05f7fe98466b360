"""OTLP/gRPC by grpcio's threaded server, with requests as raw bytes: of all ways measured this is the cheapest.

A worker reads a request, checks it, and waits until the queue has it durably; sixteen of them share the queue's group
commits. Requests that find no worker wait in their connections, where HTTP/2's flow control holds them back.
"""

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, NoReturn

import grpc

from spanweir.collector.receivers._auth import Unauthenticated
from spanweir.collector.receivers._intake import ACCEPTED, OK, UNAUTHENTICATED, Answer, Intake, travels
from spanweir.collector.receivers._responses import partial_success, status
from spanweir.collector.receivers._tls import read, server_context

if TYPE_CHECKING:
    from spanweir.collector.receivers.otlp import Grpc, Tls

_SERVICES = {
    f"/opentelemetry.proto.collector.{name}.v1.{title}Service/Export": signal
    for signal, name, title in (
        ("traces", "trace", "Trace"),
        ("logs", "logs", "Logs"),
        ("metrics", "metrics", "Metrics"),
    )
}
_CODES = {code.value[0]: code for code in grpc.StatusCode}
_STATUS_DETAILS = "grpc-status-details-bin"


class GrpcServer:
    """Listens from its construction on. Raises OSError if it cannot."""

    def __init__(self, config: "Grpc", intake: Intake) -> None:
        self._pool = ThreadPoolExecutor(config.workers, thread_name_prefix="otlp-grpc")
        self._server = grpc.server(self._pool, options=_options(config))
        self._server.add_generic_rpc_handlers((_Export(config, intake),))
        try:
            port = self._listen(config)
        except OSError:
            self._pool.shutdown(wait=False)
            raise
        self.endpoint = f"{config.endpoint.rpartition(':')[0]}:{port}"
        self._server.start()

    def stop(self, grace_s: float) -> None:
        self._server.stop(grace_s).wait(grace_s + 1)
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _listen(self, config: "Grpc") -> int:
        credentials = _credentials(config.tls) if config.tls else None
        try:
            if credentials is None:
                return int(self._server.add_insecure_port(config.endpoint))
            return int(self._server.add_secure_port(config.endpoint, credentials))
        except RuntimeError as error:
            # grpc does not say which of these it is.
            reason = "the address is in use or not one of this machine's; choose another endpoint"
            raise OSError(f"cannot listen on {config.endpoint}: {reason}") from error


def _credentials(tls: "Tls") -> Any:
    # grpc says nothing about a key that does not fit; this does.
    server_context(tls)
    pair = (read(tls, "key_file"), read(tls, "cert_file"))
    ca = read(tls, "client_ca_file") if tls.client_ca_file else None
    return grpc.ssl_server_credentials([pair], root_certificates=ca, require_client_auth=ca is not None)


def _options(config: "Grpc") -> list[tuple[str, int]]:
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
        # Otherwise a second collector on the same port would silently take half of the connections.
        ("grpc.so_reuseport", 0),
        ("grpc.keepalive_permit_without_calls", int(policy.permit_without_stream)),
        *((name, int(value * 1000)) for name, value in durations.items() if value is not None),
    ]


class _Export:
    """A `grpc.GenericRpcHandler`. Knows who sends before the request is read: `service` sees the metadata only."""

    def __init__(self, config: "Grpc", intake: Intake) -> None:
        self._intake = intake
        metadata = config.include_metadata
        self._wanted = None if metadata is True else frozenset(name.lower() for name in metadata or ())
        self._certificates = config.tls is not None and bool(config.tls.client_ca_file)
        self._plain = {
            signal: grpc.unary_unary_rpc_method_handler(self._handler(signal, "", {})) for signal in _SERVICES.values()
        }

    def service(self, details: Any) -> Any:
        signal = _SERVICES.get(details.method)
        if signal is None:
            return None
        headers: dict[str, str] = {}
        authorization = ""
        for name, value in details.invocation_metadata:
            if name == "authorization":
                authorization = _text(value)
            elif travels(name, self._wanted):
                headers[name] = _text(value)
        authenticator = self._intake.authenticator
        if not authenticator.required:
            if not headers:
                return self._plain[signal]
            return grpc.unary_unary_rpc_method_handler(self._handler(signal, "", headers))
        if self._certificates:
            return grpc.unary_unary_rpc_method_handler(self._certified(signal, headers, authorization))
        try:
            tenant = authenticator.tenant(authorization)
        except Unauthenticated as error:
            return grpc.stream_unary_rpc_method_handler(self._stranger(signal, str(error)))
        return grpc.unary_unary_rpc_method_handler(self._handler(signal, tenant, headers))

    def _stranger(self, signal: str, message: str) -> Callable[[Iterable[bytes], Any], NoReturn]:
        """A stream's handler, because that one is called before anything is read."""

        def refuse(_: Iterable[bytes], context: Any) -> NoReturn:
            self._intake.observer.rejected(signal, "grpc", "", 0, "unauthenticated")
            _abort(context, Answer(UNAUTHENTICATED, 401, message))

        return refuse

    def _certified(self, signal: str, headers: dict[str, str], authorization: str) -> Callable[[bytes, Any], bytes]:
        """The peer's certificate is known to the call only, so here the request has been read already."""

        def export(body: bytes, context: Any) -> bytes:
            names = context.auth_context().get("x509_common_name", [])
            try:
                tenant = self._intake.authenticator.tenant(authorization, names[0].decode() if names else "")
            except Unauthenticated as error:
                self._intake.observer.rejected(signal, "grpc", "", 0, "unauthenticated")
                _abort(context, Answer(UNAUTHENTICATED, 401, str(error)))
            return self._handler(signal, tenant, headers)(body, context)

        return export

    def _handler(self, signal: str, tenant: str, headers: dict[str, str]) -> Callable[[bytes, Any], bytes]:
        receive = self._intake.receive

        def export(body: bytes, context: Any) -> bytes:
            # A lock that is acquired twice is the cheapest thing one thread can wait on.
            ready = threading.Lock()
            ready.acquire()
            answers: list[Answer] = []

            def done(answer: Answer) -> None:
                answers.append(answer)
                ready.release()

            receive(signal, "grpc", tenant, headers, body, done)
            ready.acquire()
            answer = answers[0]
            if answer is ACCEPTED:
                return b""
            if answer.code != OK:
                _abort(context, answer)
            return partial_success(answer)

        return export


def _abort(context: Any, answer: Answer) -> NoReturn:
    if answer.retry_after_s:
        context.set_trailing_metadata(((_STATUS_DETAILS, status(answer)),))
    context.abort(_CODES[answer.code], answer.message)
    raise AssertionError("abort raises")


def _text(value: str | bytes) -> str:
    return value if isinstance(value, str) else value.decode("latin-1")
