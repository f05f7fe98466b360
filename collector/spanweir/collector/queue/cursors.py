"""Cursor files: how far each exporter has come, one small file each, replaced by an atomic rename.

`cursors/` holds those that keep records from being deleted; `cursors/.retired/` those of exporters that are configured
no longer, in case they come back. A file that does not verify counts as a new cursor: delivery starts over with what
is still there, and exporters leave the same rows.
"""

import logging
import os
from collections.abc import Collection
from pathlib import Path
from urllib.parse import quote, unquote
from zlib import crc32

_log = logging.getLogger(__name__)


class Cursors:
    """Not thread-safe; `DiskReader` guards it. `fsync=False` leaves durability to the operating system."""

    def __init__(self, directory: Path, *, fsync: bool = True) -> None:
        self._directory = directory / "cursors"
        self._retired = self._directory / ".retired"
        self._fsync = fsync

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
                self.store(name, 0)
                positions[name] = 0
        return positions

    def load(self) -> dict[str, int]:
        """All active cursors, sorted by name."""
        return self._load(self._directory)

    def retired(self) -> dict[str, int]:
        return self._load(self._retired)

    def store(self, name: str, sequence: int) -> None:
        """Durable on return. Raises OSError."""
        path = self._path(name)
        temporary = path.with_name(f".{path.name}.new")
        text = b"%d" % sequence
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        try:
            os.write(descriptor, b"%b %08x\n" % (text, crc32(text)))
            if self._fsync:
                os.fdatasync(descriptor)
        finally:
            os.close(descriptor)
        os.replace(temporary, path)
        if self._fsync:
            sync_directory(self._directory)

    def _path(self, name: str) -> Path:
        return self._directory / quote(name, safe="")

    def _load(self, directory: Path) -> dict[str, int]:
        try:
            entries = sorted(entry.name for entry in os.scandir(directory) if entry.is_file())
        except FileNotFoundError:
            return {}
        return {unquote(name): _read(directory / name) for name in entries if not name.startswith(".")}


def _read(path: Path) -> int:
    text, _, checksum = path.read_bytes().strip().partition(b" ")
    if text.isdigit() and checksum == b"%08x" % crc32(text):
        return int(text)
    _log.warning("cursor %s does not verify; its exporter starts over with the oldest record", path)
    return 0


def sync_directory(directory: Path) -> None:
    """Make renames, creations and deletions in `directory` durable."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
