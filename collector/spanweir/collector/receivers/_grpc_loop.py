"""OTLP/gRPC by one thread on grpcio's core: no request is handed from thread to thread.

grpcio's own server wakes a worker for each request, wakes it again when the message is there, and once more when the
queue has it: thirteen context switches a request, which with small requests cost more than all the work. Here one
thread takes the core's events in turn, and the queue's commit thread starts the answers of its whole group: three.
Measured with one trace a request and sixteen senders: 400 us CPU a request by threads, 190 us here, durable either way.

What grpcio promises is `grpc.server`; this stands on the layer below (`grpc._cython.cygrpc`), which has had these names
since 1.20. `usable` tells whether they are there.
"""

import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

try:
    from grpc._cython import cygrpc
except ImportError:  # told by `usable`
    cygrpc = None

from spanweir.collector.receivers._grpc import SIGNALS, Admission, Caller, cannot_listen, credentials, options, trailers
from spanweir.collector.receivers._grpc_stop import UnderWay, hang_up
from spanweir.collector.receivers._intake import ACCEPTED, CLOSING, OK, UNIMPLEMENTED, Answer, Intake
from spanweir.collector.receivers._responses import partial_success

if TYPE_CHECKING:
    from spanweir.collector.receivers.otlp import Grpc

_log = logging.getLogger(__name__)
_NAMES = {
    "": ("auth_context", "CompletionQueue", "CompletionType", "Server"),
    "Server": ("add_http2_port", "cancel_all_calls", "destroy", "register_completion_queue", "request_call", "start"),
    "CompletionQueue": ("poll",),
    "ReceiveCloseOnServerOperation": ("cancelled",),
    "ReceiveMessageOperation": ("message",),
    "SendInitialMetadataOperation": (),
    "SendMessageOperation": (),
    "SendStatusFromServerOperation": (),
}
_Start = Callable[[Sequence[Any], Callable[[Any], None]], Any]
_NOT_FOUND = Answer(UNIMPLEMENTED, 404, "Method not found!")
_NO_MESSAGE = Answer(UNIMPLEMENTED, 400, "exactly one request message is required")


def usable() -> bool:
    """Whether grpcio has what is needed here."""
    return cygrpc is not None and all(
        hasattr(getattr(cygrpc, owner, None) if owner else cygrpc, name)
        for owner, names in _NAMES.items()
        for name in (*names, "__class__")
    )


class _Call:
    """One request. `start` begins operations of the core's; `tag` is called in the thread when they are done."""

    __slots__ = ("caller", "signal", "start")

    def __init__(self, start: _Start, signal: str, caller: Caller):
        self.start = start
        self.signal = signal
        self.caller = caller


class LoopServer:
    """A `GrpcServer`."""

    def __init__(self, config: "Grpc", intake: Intake) -> None:
        self._intake = intake
        self._admission = Admission(config, intake)
        self._lock = threading.Lock()
        self._free = config.workers
        self._waiting: deque[_Call] = deque()
        """Calls whose message is not read yet, because `workers` others are under way."""
        self._under_way = UnderWay()
        self._stopping = False
        """No call is let in."""
        self._down = False
        """The core takes no requests for calls."""
        self._due = 0
        """Calls that have not ended, and the next one that is waited for. The thread's."""
        self._queue = cygrpc.CompletionQueue()
        self._server = cygrpc.Server(tuple(options(config)), False)
        self._server.register_completion_queue(self._queue)
        certificates = [credentials(config.tls)._credentials] if config.tls else []
        try:
            port = self._server.add_http2_port(config.endpoint.encode(), *certificates)
        except RuntimeError as error:
            raise cannot_listen(config) from error
        if not port:
            raise cannot_listen(config)
        self.endpoint = f"{config.endpoint.rpartition(':')[0]}:{port}"
        self._server.start()
        self._request()
        self._thread = threading.Thread(target=self._run, name="otlp-grpc", daemon=True)
        self._thread.start()

    def stop(self, grace_s: float) -> None:
        with self._lock:
            self._stopping = True
            waiting = list(self._waiting)
            self._waiting.clear()
        for call in waiting:
            self._answer(call.start, CLOSING, self._let_go)
        self._under_way.wait(grace_s)
        hang_up(self.endpoint, self._shutdown)
        self._thread.join(1.0)
        if self._thread.is_alive():
            self._server.cancel_all_calls()
            self._thread.join(1.0)
        if not self._thread.is_alive():
            # Here, because nothing may be under way in it then, `shutdown` above included.
            self._server.destroy()

    def _shutdown(self) -> None:
        with self._lock:
            self._down = True
            self._server.shutdown(self._queue, _SHUTDOWN)

    # ---------------------------------------------------------------------------------------- the thread

    def _run(self) -> None:
        down = False
        while not (down and not self._due):
            event = self._queue.poll()
            tag = event.tag
            try:
                if tag is _CALL:
                    self._due -= 1
                    if event.success and not down:
                        self._request()
                        self._arrived(event)
                elif tag is _SHUTDOWN:
                    down = True
                else:
                    tag(event)
            except Exception:
                _log.exception("a call failed")
            # A reference to the last call of a connection that is gone would keep the core busy.
            event = tag = None

    def _request(self) -> None:
        with self._lock:
            if self._down:
                return
            self._server.request_call(self._queue, self._queue, _CALL)
        self._due += 1

    def _arrived(self, event: Any) -> None:
        self._due += 1
        start = event.call.start_server_batch
        signal = SIGNALS.get(event.call_details.method.decode("latin-1"))
        if signal is None:
            return self._answer(start, _NOT_FOUND)
        caller = self._admission.caller(signal, event.invocation_metadata, self._common_name(event.call))
        if isinstance(caller, Answer):
            return self._answer(start, caller)
        call = _Call(start, signal, caller)
        with self._lock:
            if not self._stopping:
                self._under_way.begin()
                if not self._free:
                    return self._waiting.append(call)
                self._free -= 1
                return self._read(call)
        return self._answer(start, CLOSING)

    def _common_name(self, call: Any) -> str:
        if not self._admission.certificates:
            return ""
        names = (cygrpc.auth_context(call) or {}).get(b"x509_common_name") or ()
        return names[0].decode() if names else ""

    def _read(self, call: _Call) -> None:
        def read(event: Any) -> None:
            body = event.batch_operations[0].message()
            if body is None:
                # Cancelled, too large (the core has said so), or ended without a message.
                self._done(call, _NO_MESSAGE)
                return
            self._intake.receive(
                call.signal, "grpc", call.caller.tenant, call.caller.headers, body, lambda a: self._done(call, a)
            )

        call.start((cygrpc.ReceiveMessageOperation(0),), read)

    # ------------------------------------------------------------------------------- any thread: the queue's mostly

    def _done(self, call: _Call, answer: Answer) -> None:
        """Answer a call that was read, and read the next that waits."""
        self._answer(call.start, answer, self._let_go)
        with self._lock:
            following = self._waiting.popleft() if self._waiting else None
            if following is None:
                self._free += 1
        if following is not None:
            self._read(following)

    def _answer(self, start: _Start, answer: Answer, ended: Callable[[Any], None] | None = None) -> None:
        trailing, details = (None, b"") if answer.code == OK else (trailers(answer), answer.message.encode())
        operations = [
            cygrpc.SendInitialMetadataOperation(None, 0),
            cygrpc.SendStatusFromServerOperation(trailing, answer.code, details, 0),
            cygrpc.ReceiveCloseOnServerOperation(0),
        ]
        if answer.code == OK:
            body = b"" if answer is ACCEPTED else partial_success(answer)
            operations.append(cygrpc.SendMessageOperation(body, 0))
        start(operations, ended or self._ended)

    def _ended(self, event: Any) -> None:
        self._due -= 1

    def _let_go(self, event: Any) -> None:
        """The end of a call that was let in: its answer has left."""
        self._due -= 1
        self._under_way.end()


_CALL, _SHUTDOWN = object(), object()
