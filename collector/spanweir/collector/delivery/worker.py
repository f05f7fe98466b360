"""One exporter: its thread, its buffer, its attempts, its cursor.

A batch is tried until the destination has it. `Permanent` bisects it, first by trace, then by span, so that only what
is refused is set aside. The cursor moves when the destination has everything up to it durably.
"""

import logging
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from spanweir.collector.delivery import Count, Options
from spanweir.collector.delivery.bisection import halves, named
from spanweir.collector.delivery.deadletters import DeadLetters
from spanweir.exporters.api import Batch, Exporter, Flushing, Lost, Permanent, Retry, Settling

_log = logging.getLogger(__name__)
_IDLE_S = 1.0
_ADVANCE_S = 0.2
_END_LEAST_S = 0.1
_MISFIT_RETRIES = 10
"""Attempts after which a batch that fails with the same unforeseen error is taken for one that cannot be written."""
_BUGS = (TypeError, ValueError, AttributeError, KeyError, IndexError, AssertionError)


class Interrupted(Exception):  # noqa: N818
    """The collector stops; what was not written stays in the queue."""


class Waiting(msgspec.Struct):
    """A batch in an exporter's buffer."""

    batch: Batch
    size_bytes: int
    taken: int
    """Spans of queue records that the batch answers for."""
    held: int
    """The cursor may not pass this record once the batch is written; 0: no bound."""


class _Sent(msgspec.Struct):
    """What is counted when the destination has everything up to `last` durably."""

    last: int
    counts: dict[str, int]


class Worker:
    """Started once, stopped once. `offer` is the lane's, everything else the worker's thread."""

    def __init__(
        self,
        name: str,
        exporter: Exporter,
        options: Options,
        *,
        cursor: int,
        advance: Callable[[int], None],
        dead_letters: Path,
        count: Count,
        on_room: Callable[[], None] = lambda: None,
    ) -> None:
        """`on_room` is called when the buffer has room again."""
        self.name = name
        self.exporter = exporter
        self.failing_since: float | None = None
        self.fatal: str | None = None
        """Why this exporter can never work as it is configured."""
        self.lost = False
        """The exporter has lost what it had accepted after `durable`: nothing is taken until `begin_again`."""
        self.crash: Exception | None = None
        """A mistake in the delivery itself that has ended the thread: the process has to start again."""
        self.durable = cursor
        """Everything up to this record is done with: written durably, and no span of it waits in a processor."""
        self.written = cursor
        """The last record that the destination has durably, whatever waits in processors."""
        self.offered = cursor
        """The last sequence number that was put into the buffer."""
        self.taken = 0
        """Batches offered so far, and `done` of them written."""
        self.done = 0
        self._options = options
        self._advance = advance
        self._reached = cursor
        self._held = 0
        self._advanced = cursor
        self._advance_at = 0.0
        self._dead_letters = DeadLetters(dead_letters, name)
        self._count = count
        self._on_room = on_room
        self._buffer: deque[Waiting] = deque()
        self._bytes = 0
        self._changed = threading.Condition()
        self._stopping = threading.Event()
        self._draining = False
        self._refused = 0
        self._sent: list[_Sent] = []
        self._pause_s = 0.0
        self._thread = threading.Thread(target=self._run, name=f"exporter-{name}", daemon=True)

    # ---------------------------------------------------------------------------------------- the lane's side

    def start(self) -> None:
        self._thread.start()

    def has_room(self) -> bool:
        return self._bytes < self._options.buffer_bytes and not self.lost

    def offer(self, batch: Batch, size_bytes: int, taken: int = 0, held: int = 0) -> None:
        """Put a batch into the buffer, over its bound if need be: ask `has_room` first."""
        with self._changed:
            if self.lost:  # meanwhile; it is made again
                return
            self._buffer.append(Waiting(batch, size_bytes, taken, held))
            self._bytes += size_bytes
            self.taken += 1
            if batch.last > self.offered:
                self.offered = batch.last
            self._changed.notify_all()

    def begin_again(self) -> None:
        """After `lost`: take batches from behind `durable`."""
        with self._changed:
            self.offered = self.durable
            self.lost = False

    def idle(self) -> bool:
        with self._changed:
            return not self._buffer

    @property
    def waiting(self) -> int:
        return len(self._buffer)

    def drain(self) -> None:
        """End as soon as the buffer is empty."""
        with self._changed:
            self._draining = True
            self._changed.notify_all()

    def stop(self, deadline_s: float, end_s: float) -> bool:
        """Drain until `deadline_s`, then give up what is left; whether it has ended by `end_s` (both monotonic)."""
        self.drain()
        self._thread.join(max(0.0, deadline_s - time.monotonic()))
        self._stopping.set()
        with self._changed:
            self._changed.notify_all()
        self._thread.join(max(_END_LEAST_S, end_s - time.monotonic()))
        return not self._thread.is_alive()

    # ---------------------------------------------------------------------------------------- the thread

    def _run(self) -> None:
        try:
            self._enter()
        except Interrupted:
            return
        except Permanent as error:
            self.fatal = str(error)
            _log.error("%s: %s", self.name, error)
            return
        try:
            while (waiting := self._next()) is not None:
                try:
                    self._deliver(waiting)
                except Lost as error:
                    self._lose(error)
                    continue
                with self._changed:
                    self._bytes -= self._buffer.popleft().size_bytes
                    self.done += 1
                    self._changed.notify_all()
                self._on_room()
                if isinstance(self.exporter, Settling):
                    self._flush(self.exporter.settle)
                    self._move(force=False)
        except Interrupted:
            pass
        except Exception as error:
            _log.exception("%s: the exporter's thread has failed", self.name)
            self.crash = error
        finally:
            self._leave()

    def _enter(self) -> None:
        attempt = 0
        while True:
            try:
                self.exporter.__enter__()
                self.failing_since = None
                return
            except Permanent:
                raise
            except Exception as error:
                attempt += 1
                self._failed(error, attempt, "cannot start, will try again")

    def _leave(self) -> None:
        try:
            self.exporter.__exit__(None, None, None)
        except (Retry, Permanent, Lost, OSError) as error:
            _log.warning("%s: could not finish, what it has not written stays queued: %s", self.name, error)
        except Exception:
            _log.exception("%s: failed while it was closed", self.name)
        if self.crash is None:
            self._move(force=True)

    def _next(self) -> Waiting | None:
        """The oldest batch, which stays in the buffer until it is written; None to stop."""
        while True:
            with self._changed:
                if self._stopping.is_set():
                    return None
                if self._buffer:
                    return self._buffer[0]
                if self._draining:
                    return None
                moves = self.durable > self._advanced or self._reached > self.written
                self._changed.wait(_ADVANCE_S if moves else _IDLE_S)
                if self._buffer:
                    continue
            self._idle()

    def _idle(self) -> None:
        if isinstance(self.exporter, Flushing):
            self._flush(self.exporter.idle)
        self._move(force=True)

    def _flush(self, make_durable: Callable[[], None]) -> None:
        try:
            make_durable()
            self.failing_since = None
        except Lost as error:
            self._lose(error)
        except Exception as error:
            self._note_failure(error)

    def _lose(self, error: Lost) -> None:
        """Nothing that was offered after `durable` counts any more."""
        self._note_failure(error)
        self._move(force=True)
        _log.warning("%s: what came after record %d is made again: %s", self.name, self.durable, error)
        with self._changed:
            self.lost = True
            self._buffer.clear()
            self._bytes = 0
            self.done = self.taken
            self._reached, self._held = self.durable, 0
            self._sent.clear()
        self._on_room()

    def _deliver(self, waiting: Waiting) -> None:
        """Write the batch, or set aside what is refused of it."""
        batch = waiting.batch
        self._refused = 0
        try:
            self._attempt(batch)
        except Permanent as error:
            if error.names_what:
                self._set_aside_named(batch, error)
            else:
                self._bisect(batch, str(error))
        self._held = waiting.held
        self._reached = max(self._reached, batch.last)
        self._sent.append(_Sent(batch.last, {"spanweir_exporter_answered_spans": waiting.taken - self._refused}))
        self._move(force=False)

    def _attempt(self, batch: Batch) -> None:
        """Try until the destination has the batch. Raises `Permanent` or `Interrupted`."""
        attempt = 0
        while True:
            try:
                self.exporter.export(batch)
                break
            except (Permanent, Lost):
                raise
            except Exception as error:
                attempt += 1
                self._count("otelcol_exporter_send_failed_spans", len(batch.spans), exporter=self.name)
                if isinstance(error, _BUGS) and attempt >= _MISFIT_RETRIES:
                    raise Permanent(f"{type(error).__name__}: {error}") from error
                self._failed(error, attempt, "will try again")
        self.failing_since = None
        self._accepted(batch, len(batch.spans))

    def _accepted(self, batch: Batch, spans: int) -> None:
        """Note what the destination will have of the batch: so many of its spans, and all else."""
        counts = {
            "otelcol_exporter_sent_spans": spans,
            "otelcol_exporter_sent_log_records": len(batch.logs),
            "otelcol_exporter_sent_metric_points": sum(request.signal == "metrics" for request in batch.requests),
        }
        self._sent.append(_Sent(batch.last, counts))

    def _count_sent(self, reached: int) -> None:
        """Count what is durable up to there."""
        sent = self._sent
        while sent and sent[0].last <= reached:
            for name, n in sent.pop(0).counts.items():
                if n:
                    self._count(name, n, exporter=self.name)

    def _failed(self, error: Exception, attempt: int, what: str) -> None:
        """Note a failure and wait before the next attempt. Raises `Interrupted`."""
        self._note_failure(error)
        options = self._options
        # Step by step, within the bound: attempts never end, and a power of their number overflows after 14 hours.
        grown_s = options.initial_interval if attempt == 1 else self._pause_s * options.multiplier
        self._pause_s = min(grown_s, options.max_interval)
        pause_s = self._pause_s * random.uniform(0.8, 1.2)
        if isinstance(error, Retry):
            pause_s = max(pause_s, error.after_s)
        if attempt in (1, 5) or attempt % 50 == 0:
            _log.warning("%s: %s in %.1f s (attempt %d): %s", self.name, what, pause_s, attempt, error)
        if self._stopping.wait(pause_s):
            raise Interrupted

    def _note_failure(self, error: Exception) -> None:
        if self.failing_since is None:
            self.failing_since = time.monotonic()
        if not isinstance(error, Retry):
            _log.debug("%s: unforeseen error", self.name, exc_info=error)

    def _bisect(self, batch: Batch, reason: str) -> None:
        """Write the halves apart; what cannot be halved is set aside."""
        parts: Sequence[Batch] = halves(batch)
        if not parts:
            self._set_aside(batch, reason)
            return
        for part in parts:
            try:
                self._attempt(part)
            except Permanent as error:
                if error.names_what:
                    self._set_aside_named(part, error)
                else:
                    self._bisect(part, str(error))

    def _set_aside_named(self, batch: Batch, error: Permanent) -> None:
        """The destination has the rest."""
        before = self._refused
        for part, reason in named(batch, error):
            self._set_aside(part, reason)
        self._accepted(batch, len(batch.spans) - (self._refused - before))

    def _set_aside(self, batch: Batch, reason: str) -> None:
        """Waits while the disk is full: nothing but this batch knows of it. Raises `Interrupted`."""
        attempt = 0
        while True:
            try:
                path = self._dead_letters.put(batch, reason)
                break
            except OSError as error:
                attempt += 1
                self._failed(error, attempt, f"cannot set aside what was refused ({reason}), will try again")
        self.failing_since = None
        _log.warning("%s: refused, set aside as %s: %s", self.name, path or "a number only", reason)
        self._refused += len(batch.spans)
        self._count("spanweir_dead_letter_spans", len(batch.spans), exporter=self.name)
        others = len(batch.logs) + len(batch.requests) + (len(batch.traces) if not batch.spans else 0)
        if others:
            self._count("spanweir_dead_letter_items", others, exporter=self.name)

    def _move(self, *, force: bool) -> None:
        """Move the cursor to what is durable, a few times a second."""
        reached = self._reached
        if isinstance(self.exporter, Flushing):
            reached = min(self.exporter.durable, reached)
        self.written = max(self.written, reached)
        self._count_sent(reached)
        self.durable = max(self.durable, min(reached, self._held - 1) if self._held else reached)
        now = time.monotonic()
        if self.durable > self._advanced and (force or now >= self._advance_at):
            try:
                self._advance(self.durable)
            except OSError as error:
                _log.error("%s: the cursor cannot be moved: %s", self.name, error)
                return
            self._advanced = self.durable
            self._advance_at = now + _ADVANCE_S
