"""What is the same for every transport: from a request's body to the answer that its sender gets.

Answers decide whether data is lost, so they are made in one place: a sender tries again after UNAVAILABLE (503) and
after RESOURCE_EXHAUSTED with RetryInfo (429 with Retry-After), and never after anything else (OTLP specification,
"Failures"; the OpenTelemetry Collector's exporters do the same).
"""

import logging
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

from spanweir.collector.decode import Undecodable
from spanweir.collector.queue.api import QueueFull, QueueUnavailable, Record
from spanweir.collector.receivers._auth import Authenticator, Limiter
from spanweir.collector.receivers._check import Checked, check
from spanweir.collector.receivers.api import Context

_log = logging.getLogger(__name__)
SIGNALS = ("traces", "logs", "metrics")
_RETRY_S = 1.0

OK, INVALID_ARGUMENT, DEADLINE_EXCEEDED, UNIMPLEMENTED = 0, 3, 4, 12
RESOURCE_EXHAUSTED, INTERNAL, UNAVAILABLE, UNAUTHENTICATED = 8, 13, 14, 16
"""gRPC status codes."""


class Answer(NamedTuple):
    """To one request."""

    code: int = OK
    http_status: int = 200
    message: str = ""
    """Why it was refused; with code OK, why items were rejected."""
    rejected: int = 0
    retry_after_s: float = 0.0


ACCEPTED = Answer()
CLOSING = Answer(UNAVAILABLE, 503, "the collector is shutting down", 0, _RETRY_S)


def undecodable(message: str) -> Answer:
    return Answer(INVALID_ARGUMENT, 400, message)


def too_large(message: str) -> Answer:
    """Permanent: the same request would be as large the next time."""
    return Answer(RESOURCE_EXHAUSTED, 413, message)


def unauthenticated(message: str) -> Answer:
    return Answer(UNAUTHENTICATED, 401, message)


class Intake:
    """Shared by the transports of one receiver. Thread-safe."""

    def __init__(self, context: Context, authenticator: Authenticator, limiter: Limiter) -> None:
        self.authenticator = authenticator
        self.observer = context.observer
        self._limiter = limiter
        self._submit = context.writer.submit
        self._signals = context.signals
        self._name = context.name
        self._headers = context.headers
        self._warned: set[str] = set()
        self._closing = False

    def receive(
        self,
        signal: str,
        transport: str,
        tenant: str,
        headers: dict[str, str],
        body: bytes,
        done: Callable[[Answer], None],
        *,
        rejected: int = 0,
        why: str = "",
    ) -> None:
        """`body` is decompressed protobuf; `rejected` items were left out of it already. `done` is called once."""
        if self._closing:
            self.observer.refused(signal, transport, tenant, 0, "shutting_down")
            return done(CLOSING)
        try:
            checked = check(signal, body)
        except Undecodable as error:
            self.observer.rejected(signal, transport, tenant, 0, "undecodable")
            return done(undecodable(str(error)))
        except Exception:
            return done(self.failed(signal, transport, tenant))
        rejected += checked.rejected
        answer = Answer(OK, 200, why or checked.why, rejected) if rejected else ACCEPTED
        if rejected:
            self.observer.rejected(
                signal, transport, tenant, rejected, "invalid_id" if checked.rejected else "undecodable"
            )
        if not checked.items:
            return done(answer)
        if signal not in self._signals:
            self._drop(signal, transport, tenant, checked.items)
            return done(answer)
        wait_s = self._limiter.wait_s(tenant, len(checked.body))
        if wait_s:
            self.observer.refused(signal, transport, tenant, checked.items, "tenant_limit")
            message = f"{tenant or 'this sender'} sends more than its limit"
            return done(Answer(RESOURCE_EXHAUSTED, 429, message, 0, wait_s))
        self._enqueue(signal, transport, tenant, headers, checked, answer, done)

    def _enqueue(
        self,
        signal: str,
        transport: str,
        tenant: str,
        headers: dict[str, str],
        checked: Checked,
        answer: Answer,
        done: Callable[[Answer], None],
    ) -> None:
        body, items = checked.body, checked.items
        if self._headers:
            headers = {**headers, **self._headers}

        def finished(result: int | Exception) -> None:
            if isinstance(result, Exception):
                done(self._refusal(result, signal, transport, tenant, items))
            else:
                self.observer.accepted(signal, transport, tenant, items, len(body))
                done(answer)

        record = Record(signal=signal, tenant=tenant, headers=headers, received_ns=time.time_ns(), body=body)
        try:
            self._submit(record, finished)
        except (QueueFull, QueueUnavailable) as error:
            done(self._refusal(error, signal, transport, tenant, items))
        except ValueError as error:
            self.observer.rejected(signal, transport, tenant, items, "undecodable")
            done(undecodable(str(error)))

    def failed(self, signal: str, transport: str, tenant: str) -> Answer:
        """For a request that met a fault of this program: permanent, because it would meet it again."""
        _log.exception("receiver %s cannot read a request of %s", self._name, signal)
        self.observer.rejected(signal, transport, tenant, 0, "internal")
        return Answer(INTERNAL, 500, "the collector failed to read this request; its log says more")

    def close(self) -> None:
        """Refuse everything from now on."""
        self._closing = True

    @property
    def closing(self) -> bool:
        return self._closing

    def _refusal(self, error: Exception, signal: str, transport: str, tenant: str, items: int) -> Answer:
        reason = "queue_full" if isinstance(error, QueueFull) else "queue_unavailable"
        self.observer.refused(signal, transport, tenant, items, reason)
        return Answer(UNAVAILABLE, 503, str(error), 0, _RETRY_S)

    def _drop(self, signal: str, transport: str, tenant: str, items: int) -> None:
        self.observer.dropped(signal, transport, tenant, items)
        if signal not in self._warned:
            self._warned.add(signal)
            _log.warning("receiver %s gets %s, and no pipeline takes them: they are dropped", self._name, signal)


def routing_headers(headers: Mapping[str, str], wanted: frozenset[str] | None) -> dict[str, str]:
    """Those that travel with the record: `x-mlflow-*`, and the `wanted` ones; all but secrets where that is None."""
    return {name: value for name, value in headers.items() if travels(name, wanted)}


_NEVER = frozenset(
    ("authorization", "proxy-authorization", "cookie", "x-api-key", "api-key", "host", "content-length", "content-type")
)


def travels(name: str, wanted: frozenset[str] | None) -> bool:
    """`name` in lower case. Credentials never reach the disk."""
    if name.startswith("x-mlflow-"):
        return True
    return name in wanted if wanted is not None else name not in _NEVER
