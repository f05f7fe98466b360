"""Where a writer goes on after the last one stopped, however it stopped.

Only the newest segment can be torn, so only that one is read whole; the others are verified as they are delivered.
What was never acknowledged is cut off. Damage to what was acknowledged is set aside and never written over.
"""

import logging
import os
from typing import NamedTuple

from spanweir.collector.queue import segment
from spanweir.collector.queue.api import QueueUnavailable
from spanweir.collector.queue.cursors import Cursors
from spanweir.collector.queue.files import QueueFiles

_log = logging.getLogger(__name__)


class Found(NamedTuple):
    """What is left of a queue, and where its writer goes on."""

    last: int
    """The newest sequence number that may have been acknowledged."""
    resume: int | None = None
    """First sequence number of the segment to go on with; None to begin a new one."""
    good_end: int = 0
    """Where to cut that segment."""


def recover(files: QueueFiles, durable: int | None) -> Found:
    """`durable` is what the state file says; None if it does not verify. Raises OSError or `QueueUnavailable`."""
    cursors = Cursors(files.directory)
    floor = max([durable or 0, *cursors.load().values(), *cursors.retired().values()])
    firsts = files.segments()
    if not firsts:
        return Found(floor)
    first = firsts[-1]
    path = files.path(first)
    with path.open("rb") as file:
        tail = _inspect(file.fileno(), first, trusted=durable is not None)
    if tail.unknown_version:
        raise QueueUnavailable(f"{path}: {tail.unknown_version}; use the release that wrote it to drain the queue")
    if tail.size < segment.FILE_HEADER_BYTES:
        # The writer stopped while it made the file; the next one makes it anew.
        return Found(max(floor, tail.last))
    if not tail.damage and floor <= tail.last:
        if tail.size > tail.good_end:
            _log.warning("%s: cutting off %d bytes of a torn write", path, tail.size - tail.good_end)
        return Found(tail.last, first, tail.good_end)
    last = max(floor, tail.last, tail.last_possible)
    if tail.damage or tail.size > tail.good_end:
        _set_aside(files, first, tail, last)
    return Found(last)


class _Tail(NamedTuple):
    last: int
    last_possible: int
    good_end: int
    size: int
    damage: str
    unknown_version: str = ""


def _inspect(descriptor: int, first: int, *, trusted: bool) -> _Tail:
    """Without a state file (`trusted` false) a bad end may have been acknowledged, unless it looks torn."""

    def read(offset: int, size: int) -> bytes:
        return os.pread(descriptor, size, offset)

    size = os.fstat(descriptor).st_size
    header = segment.check_file_header(read(0, segment.FILE_HEADER_BYTES))
    if "version" in header:
        return _Tail(first - 1, 0, 0, size, "", header)
    last, good_end, damage, trailing = first - 1, segment.FILE_HEADER_BYTES, "", ""
    if header and size > segment.FILE_HEADER_BYTES:
        damage = header
    for found in segment.walk(read, segment.FILE_HEADER_BYTES, size, after=first - 1):
        if found.record is None:
            trailing = found.damage
            continue
        damage = damage or trailing
        trailing = ""
        last, good_end = found.record.sequence, found.end
    possible = 0
    if trailing and trailing != segment.TORN and not trusted and any(read(good_end, size - good_end)):
        damage = damage or trailing
        possible = last + (size - good_end) // segment.FRAME_HEADER_BYTES
    return _Tail(last, possible, min(good_end, size), size, damage)


def _set_aside(files: QueueFiles, first: int, tail: _Tail, last: int) -> None:
    reason = tail.damage or f"records up to {last} were acknowledged, and only those up to {tail.last} are there"
    files.set_aside(first, reason)
    if tail.last < first and last < first:
        # Nothing to deliver from it, and the next segment will have its name.
        files.path(first).unlink()
