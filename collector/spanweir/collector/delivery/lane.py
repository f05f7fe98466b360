"""A position in the queue, the stages that make batches from there on, and the exporters that get them.

Normally all exporters of a pipeline share one lane, so that every record is decoded, mapped and assembled once. An
exporter that fails for long is given a lane of its own (`runner`).
"""

import logging
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import msgspec

from spanweir.collector.delivery import Options
from spanweir.collector.delivery.deadletters import DeadLetters
from spanweir.collector.delivery.stages import Made, Stages
from spanweir.collector.delivery.worker import Worker
from spanweir.collector.queue.api import RECEIVER_HEADER, Reader, Record
from spanweir.exporters.api import MAPPED, REQUESTS, Batch, Request

_log = logging.getLogger(__name__)
_LOOK_S = 0.01


class Outlet(NamedTuple):
    """An exporter, and what it reads."""

    worker: Worker
    wants: frozenset[str]
    signals: frozenset[str]
    """Signals of the pipelines that name it."""


class Lane:
    """Not thread-safe: the runner's."""

    def __init__(
        self,
        stages: Stages,
        outlets: Sequence[Outlet],
        reader: Reader,
        position: int,
        options: Options,
        undeliverable: DeadLetters,
        receivers: frozenset[tuple[str, str]] = frozenset(),
    ) -> None:
        """`receivers` are (signal, receiver id) of the records that are for it; without any, all are."""
        self.stages = stages
        self.outlets = list(outlets)
        self.position = position
        """The last record that was taken in."""
        self.known_until = 0
        """Up to here a snapshot knows the traces, and every exporter has them."""
        self.stuck: list[tuple[Record, str]] = []
        """Records that cannot be taken in, and why, for which there is no room where they are set aside. They are
        tried again, no cursor passes them, and what is behind them goes on while they are few."""
        self._taken_s = 0.0
        """When records were taken in last (monotonic)."""
        self._reader = reader
        self._options = options
        self._undeliverable = undeliverable
        self._receivers = receivers

    def step(self, wait_s: float, until: int | None = None) -> int:
        """Take in some records, up to `until`, and hand them to the exporters; how many. 0: none, or no room."""
        if not self.has_room() or (until is not None and self.position >= until):
            return 0
        options = self._options
        if sum(len(record.body) for record, _ in self.stuck) > options.buffer_bytes:
            return 0
        limit = options.read_max_records
        boundary = min((b for b in (self._boundary(), until) if b is not None), default=None)
        if boundary is not None:
            limit = min(limit, boundary - self.position)
        records = self._read(limit, wait_s)
        if boundary is not None:
            records = [record for record in records if record.sequence <= boundary]
            if not records:  # numbers may be left out of a queue
                self.position = boundary
                return 0
        if not records:
            return 0
        self._taken_s = time.monotonic()
        self._take_in(records)
        return len(records)

    def _read(self, max_records: int, wait_s: float) -> list[Record]:
        """The next records. Where they do not fill a batch, those are waited for that come soon: each batch costs a
        commit of each destination, and much else that does not depend on how much is in it."""
        max_bytes = self._options.read_max_bytes
        records = list(self._reader.read(self.position, max_records, max_bytes, wait_s))
        size = sum([len(record.body) for record in records])
        until_s = self._taken_s + self._options.batch_interval if wait_s else 0.0
        while records and len(records) < max_records and size < max_bytes and time.monotonic() < until_s:
            time.sleep(_LOOK_S)
            more = self._reader.read(records[-1].sequence, max_records - len(records), max_bytes - size, 0.0)
            size += sum([len(record.body) for record in more])
            records += more
        return records

    def _take_in(self, records: Sequence[Record]) -> None:
        last = records[-1].sequence
        now_s, now_ns = time.monotonic(), time.time_ns()
        try:
            if last <= self.known_until:
                self.stages.relearn(self._mine(records), now_s, now_ns)
                made = None
            else:
                made = self.stages.run(self._mine(records), now_s, now_ns)
        except Exception as error:
            if len(records) > 1:
                for record in records:
                    self._take_in([record])
                return
            made = self._give_up(records[0], error)
        if made is not None:
            self._hand_out(made, self.position + 1, last)
        self.position = last

    def _mine(self, records: Sequence[Record]) -> Sequence[Record]:
        """Those that are for this lane. One that does not say where it came in is for all."""
        if not self._receivers and not any(RECEIVER_HEADER in record.headers for record in records):
            return records
        mine = []
        for record in records:
            headers = dict(record.headers)
            receiver = headers.pop(RECEIVER_HEADER, None)
            if receiver is None or not self._receivers or (record.signal, receiver) in self._receivers:
                mine.append(msgspec.structs.replace(record, headers=headers))
        return mine

    def _give_up(self, record: Record, error: Exception) -> Made:
        """A record that this version cannot take in is set aside: it must not stop those behind it for ever."""
        _log.exception("record %d cannot be taken in", record.sequence)
        reason = f"{type(error).__name__}: {error}"
        try:
            self._set_aside(record, reason)
        except OSError as refusal:
            _log.error("record %d cannot be set aside either, and waits: %s", record.sequence, refusal)
            self.stuck.append((record, reason))
        return Made()

    def _set_aside(self, record: Record, reason: str) -> None:
        """Raises OSError."""
        request = Request(
            signal=record.signal,
            body=record.body,
            headers=record.headers,
            tenant=record.tenant,
            received_ns=record.received_ns,
        )
        self._undeliverable.put(Batch(first=record.sequence, last=record.sequence, requests=[request]), reason)
        self.stages.failed(record.signal)

    def _free(self) -> bool:
        """Set aside what is stuck; whether that went for some."""
        before = len(self.stuck)
        try:
            while self.stuck:
                self._set_aside(*self.stuck[0])
                del self.stuck[0]
        except OSError:  # told when it got stuck
            pass
        return len(self.stuck) < before

    def tick(self) -> None:
        """Hand out what the clock makes; not while an exporter has no room."""
        if self.has_room():
            freed = self._free()
            try:
                made = self.stages.tick(time.monotonic(), time.time_ns())
            except Exception:
                _log.exception("what the clock makes cannot be made")
                made = Made()
            if made or freed:
                self._hand_out(made, self.position + 1, self.position)

    def finalise(self, keep: Callable[[str], bool]) -> None:
        """Finalise the open traces that `keep` does not name, before the lane is given up."""
        self._hand_out(self.stages.finalise(keep, time.monotonic()), self.position + 1, self.position)

    def has_room(self) -> bool:
        return all(outlet.worker.has_room() for outlet in self.outlets)

    def names(self) -> list[str]:
        return [outlet.worker.name for outlet in self.outlets]

    def _boundary(self) -> int | None:
        """The next position at which an exporter that is ahead begins: no batch may straddle it."""
        ahead = [o.worker.offered for o in self.outlets if o.worker.offered > self.position]
        if self.known_until > self.position:
            ahead.append(self.known_until)
        return min(ahead, default=None)

    def _hand_out(self, made: Made, first: int, last: int) -> None:
        held = made.held
        if self.stuck:
            held = min(held or self.stuck[0][0].sequence, self.stuck[0][0].sequence)
        batches: dict[tuple[frozenset[str], frozenset[str]], Batch] = {}
        for outlet in self.outlets:
            if first <= last <= outlet.worker.offered:
                continue
            key = (outlet.wants, outlet.signals)
            batch = batches.get(key)
            if batch is None:
                batch = batches[key] = _batch(made, outlet, first, last)
            outlet.worker.offer(batch, made.size_bytes, made.taken, held)


def _batch(made: Made, outlet: Outlet, first: int, last: int) -> Batch:
    mapped = MAPPED in outlet.wants
    traces = mapped and "traces" in outlet.signals
    return Batch(
        first=first,
        last=last,
        spans=made.spans if traces else [],
        traces=made.traces if traces else [],
        logs=made.logs if mapped and "logs" in outlet.signals else [],
        requests=[request for request in made.requests if _wanted(request, outlet)],
        retracted=made.retracted if traces else [],
    )


def _wanted(request: Request, outlet: Outlet) -> bool:
    return request.signal in outlet.signals and (request.signal == "metrics" or REQUESTS in outlet.wants)
