"""The memory queue: the contract of `disk` without the disk, inside one process. For tests and throw-away runs.

Writer and reader of one directory name find each other in this process; cursors live as long as the process does.
"""

import threading
import time
from collections import deque
from collections.abc import Collection, Iterator, Sequence

import msgspec

from spanweir.collector.queue.api import (
    NEARLY_FULL,
    Done,
    Gap,
    QueueFull,
    QueueInUse,
    QueueUnavailable,
    Reader,
    Record,
    Writer,
)
from spanweir.collector.queue.segment import SIGNALS, encode_meta
from spanweir.schemas.options import MIB, Size


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Records in memory: lost when the process ends."""

    directory: str = "memory"
    """Names the queue: writer and reader of one name in one process belong together. No directory is made."""
    max_bytes: Size = Size(128 * MIB)
    """Bound of all records together. Over it senders are told to try again (UNAVAILABLE, 503)."""

    def open_writer(self) -> Writer:
        return MemoryWriter(_queue(self), self)

    def open_reader(self, cursors: Collection[str]) -> Reader:
        return MemoryReader(_queue(self), cursors, self.max_bytes)


class _Queue:
    """What writer and readers share."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.records: deque[Record] = deque()
        self.bytes = 0
        self.last = 0
        self.cursors: dict[str, int] = {}
        self.retired: dict[str, int] = {}
        self.written = False

    def drop_passed(self) -> None:
        passed = min(self.cursors.values(), default=0)
        while self.records and self.records[0].sequence <= passed:
            self.bytes -= _size(self.records.popleft())


_QUEUES: dict[str, _Queue] = {}
_QUEUES_LOCK = threading.Lock()


def _queue(config: Config) -> _Queue:
    with _QUEUES_LOCK:
        return _QUEUES.setdefault(config.directory, _Queue())


def forget(config: Config) -> None:
    """Drop the queue of this name and all that is in it."""
    with _QUEUES_LOCK:
        _QUEUES.pop(config.directory, None)


def _size(record: Record) -> int:
    return len(record.body) + 200


class MemoryWriter:
    """A `Writer`. Raises `QueueInUse` if the queue has one already."""

    def __init__(self, queue: _Queue, config: Config) -> None:
        self._queue = queue
        self._max_bytes = config.max_bytes
        self._closed = False
        with queue.changed:
            if queue.written:
                raise QueueInUse(f"memory queue {config.directory} has a writer already")
            queue.written = True

    def append(self, record: Record) -> int:
        encode_meta(record.tenant, record.headers)
        if record.signal not in SIGNALS:
            raise ValueError(f"no signal {record.signal!r}")
        queue = self._queue
        with queue.changed:
            if self._closed:
                raise QueueUnavailable("the collector is shutting down")
            if queue.bytes + _size(record) > self._max_bytes:
                raise QueueFull(f"the queue holds its {self._max_bytes}; exporters are behind")
            queue.last += 1
            queue.records.append(msgspec.structs.replace(record, sequence=queue.last))
            queue.bytes += _size(record)
            queue.changed.notify_all()
            return queue.last

    def submit(self, record: Record, done: Done) -> None:
        done(self.append(record))

    def last(self) -> int:
        return self._queue.last

    def size_bytes(self) -> int:
        return self._queue.bytes

    def close(self) -> None:
        with self._queue.changed:
            if not self._closed:
                self._closed = True
                self._queue.written = False


class MemoryReader:
    """A `Reader`."""

    def __init__(self, queue: _Queue, cursors: Collection[str], max_bytes: int) -> None:
        self._queue = queue
        self._max_bytes = max_bytes
        self._closed = False
        with queue.changed:
            for name in [name for name in queue.cursors if name not in cursors]:
                queue.retired[name] = queue.cursors.pop(name)
            for name in cursors:
                queue.cursors.setdefault(name, queue.retired.pop(name, 0))

    @property
    def gaps(self) -> Sequence[Gap]:
        return ()

    @property
    def lost_records(self) -> int:
        return 0

    def read(self, after: int, max_records: int, max_bytes: int, wait_s: float) -> Sequence[Record]:
        queue = self._queue
        deadline = time.monotonic() + wait_s
        with queue.changed:
            while queue.last <= after and not self._closed:
                left = deadline - time.monotonic()
                if left <= 0:
                    return []
                queue.changed.wait(left)
            records: list[Record] = []
            size = 0
            # Sequence numbers have no holes here, so the place of a record follows from its number.
            start = max(after + 1 - queue.records[0].sequence, 0) if queue.records else 0
            for index in range(start, len(queue.records)):
                if len(records) >= max_records or size >= max_bytes or self._closed:
                    break
                records.append(queue.records[index])
                size += len(queue.records[index].body)
            return records

    def cursor(self, name: str) -> int:
        with self._queue.changed:
            return self._queue.cursors[name]

    def advance(self, name: str, sequence: int) -> None:
        with self._queue.changed:
            if sequence > self._queue.cursors[name]:
                self._queue.cursors[name] = sequence
                self._queue.drop_passed()

    def last(self) -> int:
        return self._queue.last

    def nearly_full(self) -> bool:
        return self._queue.bytes > NEARLY_FULL * self._max_bytes

    def scan(self) -> Iterator[Record]:
        with self._queue.changed:
            records = list(self._queue.records)
        yield from records

    def close(self) -> None:
        with self._queue.changed:
            self._closed = True
            self._queue.changed.notify_all()
