"""Cursor files: how far each exporter has come, one small file each.

    file = place, zeros up to 4096, place
    place = sequence number, space, CRC-32 of its digits in hexadecimal, line feed

The higher one counts, and the next is written over the other: a power cut costs no more than the place that was being
written. A new file has the first only. Writing a file anew and renaming it costs three times the CPU.

`cursors/` holds those that keep records from being deleted; `cursors/.retired/` those of exporters that are configured
no longer, in case they come back. A file of which nothing verifies counts as a new cursor: delivery starts over with
what is still there, and exporters leave the same rows.
"""

import errno
import logging
import os
from collections.abc import Collection
from pathlib import Path
from urllib.parse import quote, unquote
from zlib import crc32

from spanweir.collector.durable import fdatasync, replace_file

_log = logging.getLogger(__name__)
_SECOND = 4096
"""Offset of the second place: in another block of the disk."""
_PLACE_BYTES = 40


class Cursors:
    """Not thread-safe; `DiskReader` guards it. `fsync=False` leaves durability to the operating system."""

    def __init__(self, directory: Path, *, fsync: bool = True) -> None:
        self._directory = directory / "cursors"
        self._retired = self._directory / ".retired"
        self._fsync = fsync
        self._next: dict[str, int] = {}
        """Offset of the place that is written over next."""

    def activate(self, names: Collection[str]) -> dict[str, int]:
        """Keep exactly `names` as those that hold records back; return where each stands."""
        self._retired.mkdir(parents=True, exist_ok=True)
        for name in self.load():
            if name not in names:
                os.replace(self._path(name), self._retired / quote(name, safe=""))
        for name in names:
            old = self._retired / quote(name, safe="")
            if old.exists() and not self._path(name).exists():
                os.replace(old, self._path(name))
        positions = self.load()
        for name in names:
            if name not in positions:
                self.put(name, 0)
                positions[name] = 0
        return positions

    def load(self) -> dict[str, int]:
        """All active cursors, sorted by name."""
        return self._load(self._directory)

    def retired(self) -> dict[str, int]:
        return self._load(self._retired)

    def put(self, name: str, sequence: int) -> None:
        """Wherever it was before, also back. Durable on return. Raises OSError."""
        replace_file(self._path(name), _place(sequence), sync=self._fsync)
        self._next[name] = _SECOND

    def store(self, name: str, sequence: int) -> None:
        """Move it forward. Durable on return. Raises OSError."""
        path, place = self._path(name), _place(sequence)
        try:
            descriptor = os.open(path, os.O_RDWR)
        except FileNotFoundError:
            return self.put(name, sequence)
        try:
            offset = self._next.get(name)
            if offset is None:
                first, second = _places(descriptor)
                offset = 0 if first < second else _SECOND
            if os.pwrite(descriptor, place, offset) < len(place):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            if self._fsync:
                fdatasync(descriptor)
        finally:
            os.close(descriptor)
        self._next[name] = _SECOND - offset

    def _path(self, name: str) -> Path:
        return self._directory / quote(name, safe="")

    def _load(self, directory: Path) -> dict[str, int]:
        try:
            entries = sorted(entry.name for entry in os.scandir(directory) if entry.is_file())
        except FileNotFoundError:
            return {}
        return {unquote(name): _read(directory / name) for name in entries if not name.startswith(".")}


def _read(path: Path) -> int:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        place = max(_places(descriptor))
    finally:
        os.close(descriptor)
    if place < 0:
        _log.warning("cursor %s does not verify; its exporter starts over with the oldest record", path)
    return max(place, 0)


def _places(descriptor: int) -> tuple[int, int]:
    """The sequence numbers of both places; -1 for one that does not verify."""
    return _number(os.pread(descriptor, _PLACE_BYTES, 0)), _number(os.pread(descriptor, _PLACE_BYTES, _SECOND))


def _place(sequence: int) -> bytes:
    text = b"%d" % sequence
    return b"%b %08x\n" % (text, crc32(text))


def _number(place: bytes) -> int:
    text, _, checksum = place.partition(b"\n")[0].partition(b" ")
    return int(text) if text.isdigit() and checksum == b"%08x" % crc32(text) else -1
