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

from spanweir.collector.durable import replace_file

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
        text = b"%d" % sequence
        replace_file(self._path(name), b"%b %08x\n" % (text, crc32(text)), sync=self._fsync)

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
