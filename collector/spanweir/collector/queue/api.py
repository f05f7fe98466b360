"""What a queue is: an ordered log of records, one writer, one cursor per reader.

Sequence numbers start at 1 and grow by 1 per record; no acknowledged record's number is ever used again, also not
after a restart or a repair (a repair may leave numbers out).
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Protocol

import msgspec

NEARLY_FULL = 0.75
"""Part of a queue's byte bound."""
RECEIVER_HEADER = "x-spanweir-receiver"
"""Among a record's headers: the id of the receiver that took it in, where pipelines tell receivers apart."""


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """One accepted OTLP request as it was received: decompressed, and always protobuf (JSON is converted first)."""

    sequence: int = 0
    signal: str
    """`traces`, `logs` or `metrics`."""
    tenant: str = ""
    headers: dict[str, str] = {}
    """Only the headers that route (`x-mlflow-*` and those the configuration names), lower-case."""
    received_ns: int
    body: bytes


class Gap(msgspec.Struct, frozen=True, kw_only=True):
    """Acknowledged records that could not be read back: `first` to `last`, inclusive."""

    first: int
    last: int
    segment: str
    reason: str


class QueueFull(Exception):  # noqa: N818
    """The byte bound is reached. Senders are told to try again (UNAVAILABLE / 503)."""


class QueueUnavailable(Exception):  # noqa: N818
    """The queue cannot be written just now (disk full, read-only, shutting down). Senders try again."""


class QueueInUse(QueueUnavailable):
    """Another process has this queue. At the start this ends the process; it says which one to stop."""


Done = Callable[[int | Exception], None]
"""Called with the record's sequence number, or with a `QueueUnavailable`. 0: other collectors deliver all of it."""


class Writer(Protocol):
    """The receiving side. Thread-safe."""

    def append(self, record: Record) -> int:
        """Return the record's sequence number once it is durable. Raises `QueueFull` or `QueueUnavailable`.

        `record.sequence` is ignored. ValueError for routing headers over 64 KiB.
        """
        ...

    def submit(self, record: Record, done: Done) -> None:
        """`append` without waiting: `done` is called once, from a thread of the queue's, and must not block or raise.

        Raises what `append` raises when it is known at once; `done` is not called then.
        """
        ...

    def last(self) -> int:
        """The newest durable sequence number."""
        ...

    def size_bytes(self) -> int:
        """What counts against the byte bound."""
        ...

    def close(self) -> None:
        """Write what was submitted, then refuse everything."""
        ...


class Reader(Protocol):
    """The delivering side, in another process than the writer. Thread-safe: lanes share one."""

    @property
    def gaps(self) -> Sequence[Gap]:
        """Records found to be lost since this reader was opened (the newest 1000)."""
        ...

    @property
    def lost_records(self) -> int:
        """How many records the gaps sum up to since this reader was opened."""
        ...

    def read(self, after: int, max_records: int, max_bytes: int, wait_s: float) -> Sequence[Record]:
        """Records with sequence > `after`, in order; at least one record if there is any, else empty after `wait_s`."""
        ...

    def cursor(self, name: str) -> int:
        """The last sequence that reader `name` has done with; 0 for a new one."""
        ...

    def advance(self, name: str, sequence: int) -> None:
        """Durably move cursor `name` forward (never back); segments that all cursors have passed may be deleted.

        Raises KeyError for a name that the reader was not opened with, OSError if it cannot be written.
        """
        ...

    def last(self) -> int:
        """The newest durable sequence number."""
        ...

    def nearly_full(self) -> bool:
        """Whether little is left to the byte bound, at which senders are refused: the time to move cursors."""
        ...

    def scan(self) -> Iterator[Record]:
        """All records that are still there, oldest first (for `spanweir queue cat` and replay)."""
        ...

    def close(self) -> None: ...


class QueueConfig(Protocol):
    """The frozen `Config` struct of a queue module."""

    def open_writer(self) -> Writer:
        """Raises `QueueInUse`, or `QueueUnavailable` if the queue cannot be opened."""
        ...

    def open_reader(self, cursors: Collection[str]) -> Reader:
        """`cursors` names all that hold records back; cursors that are kept but not named no longer do."""
        ...
