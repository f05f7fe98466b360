"""What a queue is: an ordered log of records, one writer, one cursor per reader.

Sequence numbers start at 1 and grow by 1 per record; they are never reused, also not after a restart.
"""

from collections.abc import Iterator, Sequence
from typing import Protocol

import msgspec


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


class QueueFull(Exception):  # noqa: N818
    """The byte bound is reached. Senders are told to try again (UNAVAILABLE / 503)."""


class QueueUnavailable(Exception):  # noqa: N818
    """The queue cannot be written just now (disk full, read-only, shutting down). Senders try again."""


class Writer(Protocol):
    """The receiving side. Thread-safe."""

    def append(self, record: Record) -> int:
        """Return the record's sequence number once it is durable. Raises `QueueFull` or `QueueUnavailable`."""
        ...

    def close(self) -> None: ...


class Reader(Protocol):
    """The delivering side, in another process than the writer."""

    def read(self, after: int, max_records: int, max_bytes: int, wait_s: float) -> Sequence[Record]:
        """Records with sequence > `after`, in order; at least one record if there is any, else empty after `wait_s`."""
        ...

    def cursor(self, name: str) -> int:
        """The last sequence that reader `name` has done with; 0 for a new one."""
        ...

    def advance(self, name: str, sequence: int) -> None:
        """Durably move cursor `name` forward; segments that every known cursor has passed may be deleted."""
        ...

    def last(self) -> int:
        """The newest durable sequence number."""
        ...

    def scan(self) -> Iterator[Record]:
        """All records that are still there, oldest first (for `spanweir queue cat` and replay)."""
        ...

    def close(self) -> None: ...
