"""What lies where in a queue directory, and what its writer and its readers tell each other through it.

    <directory>/
        lock                 flock'ed by the writer; holds its process id
        state                the newest durable sequence number, published after every group commit
        <20 digits>.seg      segments, named by their first sequence number
        cursors/             one file for each exporter (`cursors.py`)
        corrupt/             segments with damage, set aside for inspection; never deleted by the queue

A damaged segment is set aside by a hard link: its good records are still delivered from where it is.
"""

import logging
import os
import struct
import time
from pathlib import Path

from spanweir.collector.queue import segment

_log = logging.getLogger(__name__)
_STATE = struct.Struct("<8sQQ")
_STATE_MAGIC = b"SPWSTAT\x01"
_ALL_ONES = (1 << 64) - 1


class QueueFiles:
    """Paths of one queue directory. Creates nothing by itself."""

    def __init__(self, directory: str | Path) -> None:
        self.directory = Path(directory)
        self.lock = self.directory / "lock"
        self.state = self.directory / "state"
        self.corrupt = self.directory / "corrupt"

    def segments(self) -> list[int]:
        """First sequence numbers of all segments, ascending."""
        names = (segment.first_of(entry) for entry in os.listdir(self.directory))
        return sorted(first for first in names if first is not None)

    def path(self, first: int) -> Path:
        return self.directory / segment.file_name(first)

    def size_bytes(self) -> int:
        """Bytes of all segments. One that is deleted meanwhile counts 0."""
        total = 0
        for first in self.segments():
            try:
                total += self.path(first).stat().st_size
            except FileNotFoundError:
                continue
        return total

    def set_aside(self, first: int, reason: str) -> None:
        """Link the segment into `corrupt/` (once) and say so."""
        target = self.corrupt / segment.file_name(first)
        if target.exists():
            return
        try:
            self.corrupt.mkdir(exist_ok=True)
            os.link(self.path(first), target)
        except OSError as error:
            _log.error("segment %s is damaged (%s) and cannot be set aside: %s", self.path(first), reason, error)
            return
        _log.error("segment %s is damaged: %s; it is set aside as %s", self.path(first), reason, target)


class StateFile:
    """One number in 24 bytes, written twice (plain and inverted), so that a torn read is noticed and repeated."""

    def __init__(self, path: Path, *, write: bool = False) -> None:
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT if write else os.O_RDONLY, 0o644)

    def publish(self, sequence: int) -> None:
        """Raises OSError."""
        os.pwrite(self._descriptor, _STATE.pack(_STATE_MAGIC, sequence, sequence ^ _ALL_ONES), 0)

    def durable(self) -> int | None:
        """The published number; None if there is none that verifies."""
        for _ in range(3):
            data = os.pread(self._descriptor, _STATE.size, 0)
            if len(data) < _STATE.size:
                return None
            magic, sequence, inverted = _STATE.unpack(data)
            if magic == _STATE_MAGIC and sequence ^ inverted == _ALL_ONES:
                return int(sequence)
            time.sleep(0.0002)
        return None

    def close(self) -> None:
        os.close(self._descriptor)


def last_of(files: QueueFiles, firsts: list[int]) -> int:
    """The newest sequence number that can be read from the segments; 0 if there is none."""
    for first in reversed(firsts):
        with files.path(first).open("rb") as file:
            descriptor = file.fileno()

            def read(offset: int, size: int, descriptor: int = descriptor) -> bytes:
                return os.pread(descriptor, size, offset)

            last = first - 1
            for found in segment.walk(read, segment.FILE_HEADER_BYTES, os.fstat(descriptor).st_size):
                last = found.record.sequence if found.record else last
        if last >= first:
            return last
    return firsts[0] - 1 if firsts else 0
