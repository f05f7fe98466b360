"""OTLP/gRPC by grpcio's threaded server, with requests as raw bytes.

A worker reads a request, checks it, and waits until the queue has it durably; sixteen of them share the queue's group
commits. Requests that find no worker wait in their connections, where HTTP/2's flow control holds them back.
"""

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, NoReturn

import grpc

from spanweir.collector.receivers._grpc import SIGNALS, Admission, Caller, cannot_listen, credentials, options, trailers
from spanweir.collector.receivers._grpc_stop import UnderWay, hang_up
from spanweir.collector.receivers._intake import ACCEPTED, OK, Answer, Intake
from spanweir.collector.receivers._responses import partial_success

if TYPE_CHECKING:
    from spanweir.collector.receivers.otlp import Grpc

_CODES = {code.value[0]: code for code in grpc.StatusCode}


class ThreadServer:
    """A `GrpcServer`."""

    def __init__(self, config: "Grpc", intake: Intake) -> None:
        self._pool = ThreadPoolExecutor(config.workers, thread_name_prefix="otlp-grpc")
        self._server = grpc.server(self._pool, options=options(config))
        self._under_way = UnderWay()
        self._server.add_generic_rpc_handlers((_Export(config, intake, self._under_way),))
        try:
            port = self._listen(config)
        except OSError:
            self._pool.shutdown(wait=False)
            raise
        self.endpoint = f"{config.endpoint.rpartition(':')[0]}:{port}"
        self._server.start()

    def stop(self, grace_s: float) -> None:
        # The receiver has closed the intake: what comes now is refused by `export`, or by the end of its connection.
        self._under_way.wait(grace_s)
        hang_up(self.endpoint, lambda: self._server.stop(1))
        self._server.wait_for_termination(2)
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _listen(self, config: "Grpc") -> int:
        try:
            if config.tls is None:
                return int(self._server.add_insecure_port(config.endpoint))
            return int(self._server.add_secure_port(config.endpoint, credentials(config.tls)))
        except RuntimeError as error:
            raise cannot_listen(config) from error


class _Export:
    """A `grpc.GenericRpcHandler`: `service` sees the metadata only, so that strangers are refused unread."""

    def __init__(self, config: "Grpc", intake: Intake, under_way: UnderWay) -> None:
        self._intake = intake
        self._under_way = under_way
        self._admission = Admission(config, intake)

    def service(self, details: Any) -> Any:
        signal = SIGNALS.get(details.method)
        if signal is None:
            return None
        if self._admission.certificates:
            return grpc.unary_unary_rpc_method_handler(self._certified(signal, details.invocation_metadata))
        caller = self._admission.caller(signal, details.invocation_metadata)
        if isinstance(caller, Answer):
            return grpc.stream_unary_rpc_method_handler(_refusing(caller))
        return grpc.unary_unary_rpc_method_handler(self._handler(signal, caller))

    def _certified(self, signal: str, metadata: Iterable[Any]) -> Callable[[bytes, Any], bytes]:
        """The peer's certificate is known to the call only, so here the request has been read already."""

        def export(body: bytes, context: Any) -> bytes:
            names = context.auth_context().get("x509_common_name", [])
            caller = self._admission.caller(signal, metadata, names[0].decode() if names else "")
            if isinstance(caller, Answer):
                _abort(context, caller)
            return self._handler(signal, caller)(body, context)

        return export

    def _handler(self, signal: str, caller: Caller) -> Callable[[bytes, Any], bytes]:
        intake, under_way = self._intake, self._under_way

        def export(body: bytes, context: Any) -> bytes:
            if not intake.closing:
                under_way.begin()
                if not context.add_callback(under_way.end):
                    under_way.end()
            # A lock that is acquired twice is the cheapest thing one thread can wait on.
            ready = threading.Lock()
            ready.acquire()
            answers: list[Answer] = []

            def done(answer: Answer) -> None:
                answers.append(answer)
                ready.release()

            intake.receive(signal, "grpc", caller.tenant, caller.headers, body, done)
            ready.acquire()
            answer = answers[0]
            if answer is ACCEPTED:
                return b""
            if answer.code != OK:
                _abort(context, answer)
            return partial_success(answer)

        return export


def _refusing(answer: Answer) -> Callable[[Iterable[bytes], Any], NoReturn]:
    """A stream's handler, because that one is called before anything is read."""

    def refuse(_: Iterable[bytes], context: Any) -> NoReturn:
        _abort(context, answer)

    return refuse


def _abort(context: Any, answer: Answer) -> NoReturn:
    if metadata := trailers(answer):
        context.set_trailing_metadata(metadata)
    context.abort(_CODES[answer.code], answer.message)
    raise AssertionError("abort raises")
