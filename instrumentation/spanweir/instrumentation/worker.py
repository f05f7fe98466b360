"""The span processor: takes ended spans from application threads, sends them from a thread of its own.

An application thread does one append and returns; it never waits, whatever becomes of the collector. The thread turns
spans into requests bounded in bytes, sends them, and retries with backoff. What waits is bounded in bytes; beyond that
spans are dropped and counted. Not here: protobuf (`wire`), sockets (`transport`).
"""

import dataclasses
import logging
import os
import queue
import random
import sys
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from opentelemetry import context as otel_context
from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, Span
from opentelemetry.trace import TraceFlags

from spanweir.instrumentation import lazy, start, wire
from spanweir.instrumentation.overlap import Overlap
from spanweir.instrumentation.policy import Policy
from spanweir.instrumentation.start import Follower, QuickSpan
from spanweir.instrumentation.transport import Answer, Settings, Transport, shown

_log = logging.getLogger(__name__)
Listener = Callable[[ReadableSpan], None]
_SPAN_BYTES = 1500
"""What a span without large content is taken to weigh."""


@dataclasses.dataclass(frozen=True)
class Limits:
    """Bounds of the worker."""

    interval_s: float = 0.5
    """How long a span may wait before it is sent."""
    max_request_bytes: int = 16 << 20
    """Requests are split to stay below this; only a single larger span exceeds it. Keep it below the collector's limit
    (64 MiB for spanweir; set 4 MiB for an OpenTelemetry Collector with its default)."""
    max_queued_bytes: int = 128 << 20
    """What may wait in memory; beyond it spans are dropped and counted."""
    max_request_spans: int = 512
    """Spans of one request, and how many may wait (`max_queued_spans`): bounds beside those in bytes."""
    max_queued_spans: int = 1 << 20
    retry_for_s: float = 300.0
    """A request that was refused for so long is dropped and counted."""
    shutdown_s: float = 5.0
    """How long the end of the program may be held up by spans that still wait."""

    @classmethod
    def of_environment(cls) -> "Limits":
        """With `OTEL_BSP_SCHEDULE_DELAY` (ms) as the interval, `OTEL_BSP_EXPORT_TIMEOUT` (ms) for the shutdown, and
        `OTEL_BSP_MAX_EXPORT_BATCH_SIZE` and `OTEL_BSP_MAX_QUEUE_SIZE` as bounds in spans. What is no number is not
        looked at."""
        given = {
            "interval_s": _positive("OTEL_BSP_SCHEDULE_DELAY", 1000),
            "shutdown_s": _positive("OTEL_BSP_EXPORT_TIMEOUT", 1000),
            "max_request_spans": _positive("OTEL_BSP_MAX_EXPORT_BATCH_SIZE"),
            "max_queued_spans": _positive("OTEL_BSP_MAX_QUEUE_SIZE"),
        }
        return dataclasses.replace(cls(), **{name: value for name, value in given.items() if value is not None})


def _positive(variable: str, divisor: int = 1) -> Any:
    text = os.environ.get(variable, "").strip()
    if not text.isdecimal() or not int(text):
        return None
    return int(text) if divisor == 1 else int(text) / divisor


@dataclasses.dataclass
class Counters:
    """Spans, since the start of this process."""

    ended: int = 0
    sent: int = 0
    dropped_full: int = 0
    dropped_failed: int = 0
    dropped_records: int = 0
    """Details records (capture modes with EVENT) for which there was no room."""
    requests: int = 0
    last_error: str = ""

    @property
    def waiting(self) -> int:
        return self.ended - self.sent - self.dropped_full - self.dropped_failed


class Worker(Follower):
    """See the module. `counters` may be read at any time."""

    def __init__(self, settings: Settings, policy: Policy, limits: Limits | None = None) -> None:
        self.settings = settings
        self.limits = limits or Limits()
        self._policy = policy
        self._open: Callable[[], Transport] = settings.open
        self._listeners: tuple[Listener, ...] = ()
        self._reset()
        reference = weakref.ref(self)
        os.register_at_fork(after_in_child=lambda: _after_fork(reference))

    def _reset(self) -> None:
        """A new process: what the parent has queued is the parent's to send."""
        self.counters = Counters()
        self._queue: deque[tuple[ReadableSpan, int]] = deque()
        self._later: deque[tuple[Callable[[], None], int]] = deque()
        self._queued_bytes = 0
        # Signal handlers and finalisers may end spans in a thread that is in the middle of either of these.
        self._wake: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._lock = start.lock()
        self._flushes = 0
        self._idle = threading.Condition(self._lock)
        self._stopping = False
        self._overlap = Overlap()
        self.watches = self._overlap.streams
        self._deadline = float("inf")
        self._thread: threading.Thread | None = None
        self._warned = 0.0
        self._transport: Transport | None = None
        self._request_bytes = self.limits.max_request_bytes

    # application threads

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        try:
            self._overlap.started(span, parent_context)
        except Exception as error:  # another thread at the same moment, attributes that misbehave
            self._warn(f"a span is not told from another's: {type(error).__name__}")

    def on_end(self, span: ReadableSpan) -> None:
        context = span.context
        if context is None or not context.trace_flags & TraceFlags.SAMPLED or self._stopping:
            return
        try:
            exported = self._overlap.ended(span, context.span_id)
        except Exception as error:
            exported = (span,)
            self._warn(f"a span is not told from another's: {type(error).__name__}")
        for ended in exported:
            self._put(ended)

    def take(self, span: QuickSpan, content_bytes: int) -> bool:
        if self._overlap.open or self._overlap.inner or self._listeners or self._stopping:
            return False
        self._queue_up(span, _SPAN_BYTES + content_bytes)
        return True

    def listen(self, listener: Listener) -> None:
        """Call `listener` with every span that is exported, when it ends, in the thread that ended it."""
        if listener not in self._listeners:
            self._listeners = (*self._listeners, listener)

    def _put(self, span: ReadableSpan) -> None:
        for listener in self._listeners:
            listener(span)
        with self._lock:
            self._queue_up(span, _SPAN_BYTES + _content_bytes(span))

    def _queue_up(self, span: ReadableSpan, size: int) -> None:
        """Under the lock."""
        self.counters.ended += 1
        full = self._queued_bytes + size > self.limits.max_queued_bytes
        if full or len(self._queue) >= self.limits.max_queued_spans:
            self.counters.dropped_full += 1
            return
        self._queued_bytes += size
        self._queue.append((span, size))
        if self._thread is None:
            self._start()
        if self._queued_bytes > self.limits.max_request_bytes and self._wake.empty():
            self._wake.put(None)

    def defer(self, action: Callable[[], None], size: int) -> None:
        """Run `action` in the worker's thread; `size` is about how many bytes it holds until then."""
        with self._lock:
            if self._queued_bytes + size > self.limits.max_queued_bytes:
                self.counters.dropped_records += 1
                return
            self._queued_bytes += size
            self._later.append((action, size))
            if self._thread is None:
                self._start()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Wait until every span that has ended is sent or dropped. False: the time was up first."""
        until = time.monotonic() + timeout_millis / 1000
        with self._idle:
            if self._thread is None:
                return True
            self._flushes += 1
            self._wake.put(None)
            try:
                while (self.counters.waiting > 0 or self._later) and self._thread.is_alive():
                    if not self._idle.wait(min(until - time.monotonic(), 0.2)) and time.monotonic() >= until:
                        return False
                return self.counters.waiting == 0
            finally:
                self._flushes -= 1

    def shutdown(self) -> None:
        """Send what waits, for at most `Limits.shutdown_s`; a collector that refuses connections is tried once."""
        if self._stopping:
            return
        self._deadline = time.monotonic() + self.limits.shutdown_s
        self._stopping = True
        self._wake.put(None)
        thread = self._thread
        if thread is None:
            self._run()  # an interpreter that shuts down starts no thread (Python 3.12)
        elif thread is not threading.current_thread():
            thread.join(self.limits.shutdown_s + 0.5)
        if self.counters.waiting > 0:
            _log.warning("%d spans were not sent before the program ended", self.counters.waiting)

    # the worker's thread

    def _start(self) -> None:
        thread = threading.Thread(target=self._run, name="spanweir-export", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # the interpreter is shutting down
            return
        self._thread = thread
        # A child of multiprocessing leaves without the handlers of atexit.
        util = sys.modules.get("multiprocessing.util")
        if util is not None and sys.modules["multiprocessing.process"].parent_process() is not None:
            util.Finalize(None, self.shutdown, exitpriority=100)

    def _run(self) -> None:
        token = otel_context.attach(otel_context.set_value("suppress_instrumentation", True))
        try:
            while not self._stopping:
                with suppress(queue.Empty):
                    self._wake.get(timeout=self.limits.interval_s)
                self._drain()
            self._drain()
        finally:
            otel_context.detach(token)
            if self._transport is not None:
                self._transport.close()

    def _run_deferred(self) -> None:
        while self._later:
            action, size = self._later[0]  # stays until it is done: a flush waits for it
            try:
                action()
            except Exception as error:
                self._warn(f"a record was not sent: {type(error).__name__}")
            with self._idle:
                self._later.popleft()
                self._queued_bytes -= size
                self._idle.notify_all()

    def _drain(self) -> None:
        self._run_deferred()
        while True:
            spans, size = self._take()
            if not spans:
                return
            try:
                self._send_spans(spans)
            except Exception as error:  # a span that cannot be encoded must not end the thread
                self._dropped(len(spans), f"{type(error).__name__}: {error}")
            with self._idle:
                self._queued_bytes -= size
                self._idle.notify_all()

    def _take(self) -> tuple[list[ReadableSpan], int]:
        """Some spans that make about one request."""
        spans: list[ReadableSpan] = []
        total = 0
        with self._lock:
            while self._queue and len(spans) < self.limits.max_request_spans:
                span, size = self._queue[0]
                if spans and total + size > self.limits.max_request_bytes:
                    break
                self._queue.popleft()
                spans.append(span)
                total += size
        return spans, total

    def _send_spans(self, spans: list[ReadableSpan]) -> None:
        if self._policy.redact is not None or not self._policy.on_spans:
            spans = [wire.governed(span, self._policy) for span in spans]
        waiting = [(spans, self._request_bytes)]
        while waiting:
            batch, limit = waiting.pop()
            left = len(batch)
            try:
                for body, ids in wire.requests(batch, limit):
                    left -= len(ids)
                    if self._send(body, len(ids)):
                        continue
                    # Larger than the receiver accepts: in halves, and never again so large.
                    self._request_bytes = limit = max(len(body) // 2, 1 << 16)
                    known = {span.context.span_id.to_bytes(8, "big"): span for span in batch if span.context}
                    waiting.append(([known[i] for i in ids], limit))
            except Exception as error:
                if left == len(batch) > 1:  # one of them cannot be encoded: find it
                    middle = left // 2
                    waiting += [(batch[:middle], limit), (batch[middle:], limit)]
                elif left == 1 and (mended := wire.mended(batch[-1])) is not None:
                    waiting.append(([mended], limit))
                else:
                    self._dropped(left, f"{type(error).__name__}: {error}")

    def _send(self, body: bytes, count: int) -> bool:
        """Send, again and again if need be, until it is accepted or given up. False: it should be split."""
        started, attempt = time.monotonic(), 0
        while True:
            if self._transport is None:
                self._transport = self._open()
            timeout_s = min(self.settings.timeout_s, max(self._deadline - time.monotonic(), 0.2))
            answer = self._transport.send(body, timeout_s)
            self.counters.requests += 1
            if answer.accepted:
                self.counters.sent += count
                if answer.reason:
                    self._warn(answer.reason)
                return True
            self.counters.last_error = answer.reason
            delay = self._delay(answer, attempt, started)
            if delay is None:
                if answer.too_large and count > 1:
                    self._warn(f"{answer.reason}; sending smaller requests")
                    return False
                self._dropped(count, answer.reason)
                return True
            self._warn(f"{answer.reason}; trying again")
            attempt += 1
            self._pause(delay)

    def _delay(self, answer: Answer, attempt: int, started: float) -> float | None:
        """Seconds until the next attempt, None to give up."""
        if answer.retry_after_s is None:
            return None
        now = time.monotonic()
        if now - started > self.limits.retry_for_s:
            return None
        delay_s: float = max(answer.retry_after_s, min(0.2 * 2.0**attempt, 10.0) * random.uniform(0.8, 1.2))
        if self._stopping and (attempt >= 2 or now + delay_s > self._deadline):
            return None
        return delay_s

    def _pause(self, delay_s: float) -> None:
        """Sleep between attempts; the end of the program or a flush cuts it short, new spans do not."""
        until = time.monotonic() + delay_s
        while (left := until - time.monotonic()) > 0 and not self._stopping:
            time.sleep(min(left, 0.1))
            if self._flushes and delay_s > 0.5:
                return

    def _dropped(self, count: int, reason: str) -> None:
        self.counters.dropped_failed += count
        self.counters.last_error = reason
        self._warn(f"{count} spans were dropped: {reason}")

    def _warn(self, message: str) -> None:
        """At most once in 30 s: a dead collector must not fill the application's log."""
        now = time.monotonic()
        if now - self._warned > 30:
            self._warned = now
            _log.warning("%s: %s", shown(self.settings.endpoint), message)


def _content_bytes(span: ReadableSpan) -> int:
    """About how much text a span carries."""
    attributes: Any = span._attributes
    if type(attributes) is lazy.LazyAttributes:
        return attributes.size
    return sum(len(value) for value in (attributes or {}).values() if type(value) is str)


def _after_fork(reference: "weakref.ref[Worker]") -> None:
    worker = reference()
    if worker is not None:
        worker._reset()
