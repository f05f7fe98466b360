"""The loop of the delivery process: every lane in turn, the clock, snapshots, detaching and attaching.

One thread runs all lanes, as mapping is bound by the interpreter anyway; exporters have threads of their own.
"""

import gc
import logging
import threading
import time
from collections.abc import Callable, Sequence

import msgspec

from spanweir.collector import allocator
from spanweir.collector.delivery import Count, Gauge, Options
from spanweir.collector.delivery.deadletters import DeadLetters
from spanweir.collector.delivery.lane import Lane, Outlet
from spanweir.collector.delivery.snapshot import Snapshot, SnapshotFile
from spanweir.collector.delivery.stages import Stages
from spanweir.collector.delivery.worker import Worker
from spanweir.collector.queue.api import Reader

_log = logging.getLogger(__name__)
_TICK_S = 0.5
_COLLECT_S = 10.0
_WAIT_S = 0.25
_ROOM_S = 0.2
_PAUSE_S = 0.02
CLOSE_S = 2.0
"""For exporters to finish the call they are in and to close, after the time for draining is over."""
_DRAIN_LEAST_S = 0.5
_FAR_RECORDS = 2000
"""An exporter this far behind the others at the start begins in a lane of its own."""


class Group(msgspec.Struct):
    """The exporters that share a lane by their configuration."""

    name: str
    """Of its cursor in the queue."""
    make_stages: Callable[[], Stages]
    outlets: list[Outlet]
    snapshot: SnapshotFile
    undeliverable: DeadLetters
    """Where records go that cannot be taken in."""
    room: threading.Event
    """Set when an exporter has room again."""
    receivers: frozenset[tuple[str, str]] = frozenset()
    """(signal, receiver id) of the records that are for it; empty: all."""


class Runner:
    """Built in the thread that calls `run`. `stop` may be called from a signal handler."""

    def __init__(self, groups: Sequence[Group], reader: Reader, options: Options, count: Count, gauge: Gauge) -> None:
        self._reader = reader
        self._options = options
        self._count = count
        self._gauge = gauge
        self._stopping = False
        self._deadline_s: float | None = None
        self._end_s = 0.0
        self.hanging: list[str] = []
        """Exporters whose threads did not end."""
        self._lost = 0
        self._tracks = [_Track(group, reader, options) for group in groups]

    def workers(self) -> list[Worker]:
        return [outlet.worker for track in self._tracks for outlet in track.group.outlets]

    def stop(self, deadline_s: float, end_s: float | None = None) -> None:
        """Drain the queue until `deadline_s` at the latest, and have exporters closed by `end_s` (both monotonic)."""
        self._deadline_s = deadline_s
        self._end_s = end_s if end_s is not None else deadline_s + CLOSE_S
        self._stopping = True

    def run(self, on_tick: Callable[[], None] = lambda: None) -> str | None:
        """Deliver until stopped. Returns why it cannot go on, or None; raises what has ended an exporter's thread."""
        gc.collect()
        gc.freeze()
        gc.disable()
        for worker in self.workers():
            worker.start()
        tick_at = collect_at = 0.0
        try:
            while True:
                moved = sum([track.step(self._wait()) for track in self._tracks])
                now = time.monotonic()
                if now >= tick_at:
                    tick_at = now + _TICK_S
                    self._tick(now)
                    on_tick()
                    if fatal := next((f"{w.name}: {w.fatal}" for w in self.workers() if w.fatal), None):
                        return fatal
                    if crash := next((w.crash for w in self.workers() if w.crash), None):
                        raise crash
                if now >= collect_at:
                    collect_at = now + _COLLECT_S
                    gc.collect()
                    allocator.give_back()  # batches and files that are gone left holes: 30 MB of the child's memory
                if self._stopping and self._finished(moved, now):
                    return None
                if not moved:
                    self._rest()
        finally:
            self._end()
            on_tick()
            gc.enable()

    def _rest(self) -> None:
        """Nothing moved: wait for room, or a little for records where lanes must not wait for one another."""
        blocked = next((track for track in self._tracks if not track.shared.has_room()), None)
        if blocked is not None:
            blocked.group.room.clear()
            if not blocked.shared.has_room():
                blocked.group.room.wait(_ROOM_S)
        elif self._wait() == 0.0:
            time.sleep(_PAUSE_S)

    def _wait(self) -> float:
        """For records of the shared lane: none while another lane has something to do."""
        lanes = sum(len(track.lanes) for track in self._tracks)
        return 0.0 if self._stopping or lanes > 1 else _WAIT_S

    def _finished(self, moved: int, now: float) -> bool:
        if self._deadline_s is not None and now >= self._deadline_s:
            return True
        if moved:
            return False
        last = self._reader.last()
        return all(lane.position >= last for track in self._tracks for lane in track.lanes)

    def _tick(self, now: float) -> None:
        for track in self._tracks:
            track.tick(now)
        lost = self._reader.lost_records
        if lost > self._lost:
            self._count("spanweir_queue_lost_records", lost - self._lost)
            self._lost = lost
        last = self._reader.last()
        for worker in self.workers():
            self._gauge("otelcol_exporter_queue_size", max(0, last - worker.durable), exporter=worker.name)
            self._gauge("otelcol_exporter_in_flight_requests", worker.waiting, exporter=worker.name)
        self._gauge("spanweir_delivery_detached_lanes", sum(len(track.lanes) - 1 for track in self._tracks))
        sizes = [track.shared.stages.assembler.sizes for track in self._tracks]
        self._gauge("spanweir_assembly_open_traces", sum(size[0] for size in sizes))
        self._gauge("spanweir_assembly_kept_traces", sum(size[1] for size in sizes))

    def _end(self) -> None:
        least = time.monotonic() + _DRAIN_LEAST_S
        deadline = max(self._deadline_s, least) if self._deadline_s is not None else least
        for worker in self.workers():
            worker.drain()
        for worker in self.workers():
            if not worker.stop(deadline, self._end_s or deadline + CLOSE_S):
                self.hanging.append(worker.name)
                _log.warning("%s: its destination does not answer; what it has not written stays queued", worker.name)
        for track in self._tracks:
            track.save(final=True)


class _Pending(msgspec.Struct):
    """A snapshot that waits until everything emitted before it is durable."""

    position: int
    low: int
    state: bytes
    batches: dict[str, int]


class _Track:
    """The lanes of one group: the shared one first, then those of detached exporters."""

    def __init__(self, group: Group, reader: Reader, options: Options) -> None:
        self.group = group
        self._reader = reader
        self._options = options
        self._pending: _Pending | None = None
        self._saved_at = time.monotonic()
        self._saved = (0, 0)
        snapshot = group.snapshot.read()
        ahead = max((outlet.worker.offered for outlet in group.outlets), default=0)
        near = [o for o in group.outlets if ahead - o.worker.offered <= _FAR_RECORDS]
        far = [o for o in group.outlets if o not in near]
        self.shared = self._lane(near, snapshot)
        self.lanes = [self.shared, *(self._lane([outlet], snapshot) for outlet in far)]

    def _lane(self, outlets: Sequence[Outlet], snapshot: Snapshot | None) -> Lane:
        """A lane as of the last snapshot. Records since then are taken in again, those that exporters have as well:
        they tell of traces that are open."""
        position = min((o.worker.offered for o in outlets), default=0)
        lane = self._lane_of(self.group.make_stages(), outlets, position)
        lane.position = min(position, self._reader.cursor(self.group.name))
        if snapshot is not None:
            try:
                lane.stages.assembler.restore(snapshot.state, time.monotonic())
            except msgspec.MsgspecError as error:
                _log.warning("the snapshot of open traces is not usable: %s", error)
                return lane
            # What is held beside the traces (log records, coding agents' turns) is read again from further back.
            lane.known_until = min(snapshot.position, position)
            lane.position = min(lane.position, snapshot.position)
        return lane

    def _lane_of(self, stages: Stages, outlets: Sequence[Outlet], position: int) -> Lane:
        group = self.group
        return Lane(stages, outlets, self._reader, position, self._options, group.undeliverable, group.receivers)

    def step(self, wait_s: float) -> int:
        for lane in list(self.lanes):
            self._begin_again(lane)
        moved = self.shared.step(wait_s)
        for lane in list(self.lanes[1:]):
            moved += lane.step(0.0, until=self.shared.position)
            self._attach(lane)
        return moved

    def tick(self, now: float) -> None:
        for lane in self.lanes:
            lane.tick()
        self._detach(now)
        self._write_pending()
        if now - self._saved_at >= self._options.snapshot_interval or self._reader.nearly_full():
            self._saved_at = now
            self._begin_snapshot()

    # ---------------------------------------------------------------------------------------- detaching, attaching

    def _detach(self, now: float) -> None:
        """Give an exporter that holds the others up a lane of its own."""
        if len(self.shared.outlets) < 2:
            return
        stuck = [o for o in self.shared.outlets if self._is_stuck(o.worker, now)]
        for outlet in stuck[: len(self.shared.outlets) - 1]:
            _log.warning("%s fails for long: the other exporters go on without it", outlet.worker.name)
            stages = self.group.make_stages()
            stages.assembler.restore(self.shared.stages.assembler.snapshot(closed_max=1 << 30), now)
            self.shared.outlets.remove(outlet)
            self.lanes.append(self._lane_of(stages, [outlet], self.shared.position))

    def _is_stuck(self, worker: Worker, now: float) -> bool:
        since = worker.failing_since
        return since is not None and now - since >= self._options.detach_after and not worker.has_room()

    def _begin_again(self, lane: Lane) -> None:
        """Give each exporter that has lost what it had accepted a lane that begins where a restart would."""
        lost = [outlet for outlet in lane.outlets if outlet.worker.lost]
        if not lost:
            return
        snapshot = self.group.snapshot.read()
        for outlet in lost:
            lane.outlets.remove(outlet)
            outlet.worker.begin_again()
            self.lanes.append(self._lane([outlet], snapshot))
        if lane.outlets:
            return
        self.lanes.remove(lane)
        if lane is self.shared:
            self.shared = self.lanes.pop()
            self.lanes.insert(0, self.shared)
            self._pending = None

    def _attach(self, lane: Lane) -> None:
        """Take an exporter back that has caught up."""
        if lane.position != self.shared.position or lane.stuck:
            return
        if any(outlet.worker.failing_since is not None for outlet in lane.outlets):
            return
        lane.finalise(self.shared.stages.assembler.is_open)
        self.lanes.remove(lane)
        self.shared.outlets += lane.outlets
        _log.info("%s has caught up", ", ".join(lane.names()))

    # ---------------------------------------------------------------------------------------- snapshots

    def _begin_snapshot(self) -> None:
        stages = self.shared.stages
        mark = (self.shared.position, sum(o.worker.taken for o in self.shared.outlets))
        if self._pending is not None or mark == self._saved or self.shared.stuck:
            return  # of records that a snapshot knows, none is looked at again after a restart
        self._saved = mark
        self._pending = _Pending(
            self.shared.position,
            stages.low(),
            stages.assembler.snapshot(),
            {o.worker.name: o.worker.taken for o in self.shared.outlets},
        )
        self._write_pending()

    def _write_pending(self) -> None:
        pending = self._pending
        if pending is None:
            return
        for outlet in self.shared.outlets:
            worker = outlet.worker
            if worker.done < pending.batches.get(worker.name, 0) or worker.written < min(
                pending.position, worker.offered
            ):
                return
        self._pending = None
        try:
            self.group.snapshot.write(pending.position, pending.state)
            needed = pending.low - 1 if pending.low else pending.position
            self._reader.advance(self.group.name, min(pending.position, needed))
        except OSError as error:
            _log.error("the snapshot of open traces cannot be written: %s", error)

    def save(self, *, final: bool) -> None:
        """Write a snapshot now, if everything is durable."""
        self._write_pending()
        self._pending, self._saved = None, (-1, -1)
        self._begin_snapshot()
