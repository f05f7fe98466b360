"""The state of open traces on disk, so that a restart or a crash does not lose what their first spans said.

A snapshot is written when every exporter has durably what was emitted up to it, never earlier: a trace that a snapshot
holds as finalised has been written as such.
"""

import logging
from pathlib import Path

import msgspec

from spanweir.collector.durable import replace_file

_log = logging.getLogger(__name__)
VERSION = 2
"""Of the fields of `assembly.state`: to be raised when one changes its meaning or its place."""


class Snapshot(msgspec.Struct, array_like=True):
    """What a snapshot file holds: the state of the assembler after the queue record `position`."""

    version: int
    position: int
    state: bytes


class SnapshotFile:
    """The snapshot of one group of exporters. For one thread."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> Snapshot | None:
        """The newest snapshot; None if there is none that can be used."""
        try:
            snapshot = msgspec.msgpack.decode(self._path.read_bytes(), type=Snapshot)
        except FileNotFoundError:
            return None
        except (OSError, msgspec.MsgspecError) as error:
            _log.warning("%s cannot be read, open traces are read back from destinations: %s", self._path, error)
            return None
        return snapshot if snapshot.version == VERSION else None

    def write(self, position: int, state: bytes) -> None:
        """Replace the snapshot durably. Raises OSError."""
        replace_file(self._path, msgspec.msgpack.encode(Snapshot(VERSION, position, state)))
