"""The disk queue's reading side: any number of lanes, each at its own place, in another process than the writer.

A reader sees a record when the writer has published it as durable (the state file), so nothing is ever delivered that
a power cut could take back. It looks there with growing pauses, at most every 8 ms while idle: no signal between the
processes can get lost, and a hundred looks a second cost nothing that can be measured.

Every record is verified as it is read. Damage costs what is damaged: the segment is set aside in `corrupt/` by a hard
link, reading goes on behind the damage, and what is missing is a `Gap`.
"""

import logging
import os
import time
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING

from spanweir.collector.durable import sync_directory
from spanweir.collector.queue import segment
from spanweir.collector.queue.api import NEARLY_FULL, Gap, QueueUnavailable, Record
from spanweir.collector.queue.base_reader import BaseReader
from spanweir.collector.queue.cursors import Cursors
from spanweir.collector.queue.files import QueueFiles, StateFile, last_of

if TYPE_CHECKING:
    from spanweir.collector.queue.disk import Config

_log = logging.getLogger(__name__)
_FIRST_PAUSE_S = 0.0005
_LONGEST_PAUSE_S = 0.008
_KEPT_PLACES = 32


class _Place:
    """Where the record after some sequence number begins."""

    __slots__ = ("expected", "first", "offset")

    def __init__(self, first: int, offset: int, expected: int) -> None:
        self.first = first
        self.offset = offset
        self.expected = expected
        """The next sequence number, if nothing is lost."""


class DiskReader(BaseReader):
    """Raises `QueueUnavailable` if there is no queue in the directory or its cursors cannot be written."""

    def __init__(self, config: "Config", cursors: Collection[str]) -> None:
        super().__init__()
        self._config = config
        self._files = QueueFiles(config.directory)
        self._cursors = Cursors(self._files.directory, fsync=config.fsync == "batch")
        self._places: OrderedDict[int, _Place] = OrderedDict()
        self._descriptors: OrderedDict[int, int] = OrderedDict()
        self._closed = False
        try:
            self._firsts = self._files.segments()
            self._positions = self._cursors.activate(cursors)
            self._state = StateFile(self._files.state)
        except FileNotFoundError as error:
            raise QueueUnavailable(f"there is no queue in {config.directory}") from error
        except OSError as error:
            raise QueueUnavailable(f"queue directory {config.directory} cannot be used: {error.strerror}") from error
        self._passed = min(self._positions.values(), default=0)

    def read(self, after: int, max_records: int, max_bytes: int, wait_s: float) -> Sequence[Record]:
        deadline = time.monotonic() + wait_s
        pause = _FIRST_PAUSE_S
        while True:
            with self._lock:
                if self._closed:
                    break
                durable = self.last()
                records = self._collect(after, durable, max_records, max_bytes) if durable > after else []
            if records:
                return records
            left = deadline - time.monotonic()
            if left <= 0:
                break
            time.sleep(min(pause, left))
            pause = min(pause * 2, _LONGEST_PAUSE_S)
        return []

    def last(self) -> int:
        with self._lock:
            durable = self._state.durable()
            return last_of(self._files, self._files.segments()) if durable is None else durable

    def scan(self) -> Iterator[Record]:
        after = 0
        while records := self.read(after, 100, 4 << 20, 0):
            yield from records
            after = records[-1].sequence

    def nearly_full(self) -> bool:
        return self._files.size_bytes() > NEARLY_FULL * self._config.max_bytes

    def close(self) -> None:
        with self._lock:
            if self._closed:
                return
            self._closed = True
            for descriptor in self._descriptors.values():
                os.close(descriptor)
            self._descriptors.clear()
            self._state.close()

    def _store(self, name: str, sequence: int) -> None:
        self._cursors.store(name, sequence)

    def _advanced(self) -> None:
        passed = min(self._positions.values())
        if passed > self._passed:
            self._passed = passed
            self._delete_passed()

    def _collect(self, after: int, durable: int, max_records: int, max_bytes: int) -> list[Record]:
        place = self._places.pop(after, None) or self._seek(after)
        if place is None:
            return []
        records: list[Record] = []
        size = 0
        while len(records) < max_records and size < max_bytes:
            batch, size = self._walk(place, durable, max_records - len(records), max_bytes, size)
            records += batch
            if len(records) >= max_records or size >= max_bytes or not self._next_segment(place, durable):
                break
        self._remember(records[-1].sequence if records else after, place)
        return records

    def _walk(
        self, place: _Place, durable: int, max_records: int, max_bytes: int, size: int
    ) -> tuple[list[Record], int]:
        """Records of the segment that `place` is in, up to the limits (of which `size` bytes are used already)."""
        records: list[Record] = []
        descriptor = self._descriptor(place.first)
        if descriptor is None:
            return records, size

        def read(offset: int, count: int) -> bytes:
            return os.pread(descriptor, count, offset)

        end = os.fstat(descriptor).st_size
        before = min(durable + 1, self._successor(place.first) or durable + 1)
        damage = ""
        for found in segment.walk(read, place.offset, end, after=place.expected - 1, before=before):
            record = found.record
            if record is None:
                damage = found.damage
                continue
            if record.sequence > place.expected:
                self._report(place.expected, record.sequence - 1, place.first, damage or "missing")
            records.append(record)
            size += len(record.body)
            place.offset, place.expected = found.end, record.sequence + 1
            if len(records) >= max_records or size >= max_bytes:
                break
        return records, size

    def _next_segment(self, place: _Place, durable: int) -> bool:
        """Move `place` to the start of the next segment. False if there is nothing more to read."""
        if place.expected > durable:
            return False
        following = self._successor(place.first)
        if following is None:
            self._firsts = self._files.segments()
            following = self._successor(place.first)
        if following is None:
            # Published as durable, and not there: an end that was damaged after it was acknowledged.
            self._report(place.expected, durable, place.first, "the end of the segment is damaged or missing")
            place.expected = durable + 1
            return False
        if place.expected < following:
            self._report(place.expected, following - 1, place.first, "the end of the segment is damaged or missing")
        place.first, place.offset, place.expected = following, segment.FILE_HEADER_BYTES, following
        return True

    def _report(self, first: int, last: int, in_segment: int, reason: str) -> None:
        path = self._files.path(in_segment)
        if path.exists():
            self._files.set_aside(in_segment, reason)
        _log.error("records %d to %d of %s are lost: %s", first, last, path, reason)
        self._lose(Gap(first=first, last=last, segment=path.name, reason=reason))

    def _seek(self, after: int) -> _Place | None:
        if not self._firsts or after >= self._firsts[-1]:
            self._firsts = self._files.segments()
        if not self._firsts:
            return None
        index = max(bisect_right(self._firsts, after + 1) - 1, 0)
        first = self._firsts[index]
        # Deleted records that come before the oldest segment are no loss: every cursor had passed them.
        return _Place(first, segment.FILE_HEADER_BYTES, max(after + 1, first))

    def _remember(self, after: int, place: _Place) -> None:
        self._places[after] = place
        self._places.move_to_end(after)
        while len(self._places) > _KEPT_PLACES:
            self._places.popitem(last=False)

    def _successor(self, first: int) -> int | None:
        index = bisect_right(self._firsts, first)
        return self._firsts[index] if index < len(self._firsts) else None

    def _descriptor(self, first: int) -> int | None:
        descriptor = self._descriptors.get(first)
        if descriptor is not None:
            self._descriptors.move_to_end(first)
            return descriptor
        try:
            descriptor = os.open(self._files.path(first), os.O_RDONLY)
        except FileNotFoundError:
            return None
        self._descriptors[first] = descriptor
        while len(self._descriptors) > 4:
            os.close(self._descriptors.popitem(last=False)[1])
        return descriptor

    def _delete_passed(self) -> None:
        """Delete segments that all cursors have passed, oldest first; never the newest, which tells what comes next."""
        following = self._successor(self._firsts[0]) if self._firsts else None
        if following is None:
            self._firsts = self._files.segments()
        deleted = False
        while len(self._firsts) > 1 and self._firsts[1] - 1 <= self._passed and self._may_delete(self._firsts[0]):
            first = self._firsts.pop(0)
            if first in self._descriptors:
                os.close(self._descriptors.pop(first))
            self._files.path(first).unlink(missing_ok=True)
            deleted = True
        if deleted and self._config.fsync == "batch":
            sync_directory(self._files.directory)

    def _may_delete(self, first: int) -> bool:
        if not self._config.retention:
            return True
        try:
            age_s = time.time() - self._files.path(first).stat().st_mtime
        except FileNotFoundError:
            return True
        return age_s > self._config.retention or self._files.size_bytes() * 2 > self._config.max_bytes
