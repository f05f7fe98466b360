"""From the queue to the exporters: records are read, mapped and assembled once, and written by one thread an exporter.

`stages` makes batches of records; a `lane` moves them to its exporters; a `worker` is one exporter with its buffer,
retries, bisection and cursor; `deadletters` keeps what a destination refuses; `runner` is the loop over all lanes;
`snapshot` carries open traces over a restart. What was delivered is known by cursors in the queue alone.

Not here: which components there are (`spanweir.collector.pipeline`), processes (`spanweir.collector.service`).
"""

from typing import Protocol

import msgspec

from spanweir.schemas.options import Duration, Size


class Options(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`service.delivery` of the configuration."""

    read_max_records: int = 128
    """Queue records that are mapped as one batch, at most."""
    read_max_bytes: Size = Size(2 * 1024 * 1024)
    """Bytes of queue records that are mapped as one batch, at most; a larger record is a batch of its own."""
    batch_interval: Duration = Duration(0.1)
    """Batches that are not full begin so far apart at least: small requests that follow one another are written
    together. A request after a pause does not wait; 0 never waits, and more than a second is no use."""
    buffer_bytes: Size = Size(1024 * 1024)
    """Bound of the batches that wait for one exporter; over it its lane waits. One batch of a busy collector is more,
    so that mapping and writing take turns: done at the same time they cost a quarter more, and batches stay small."""
    initial_interval: Duration = Duration(0.5)
    """Pause after the first failed attempt of an exporter. Attempts never end: the queue holds the data."""
    max_interval: Duration = Duration(30)
    """Longest pause between attempts."""
    multiplier: float = 1.5
    """By how much the pause grows with each attempt."""
    detach_after: Duration = Duration(10)
    """An exporter that fails for this long while its buffer is full gets a lane of its own, so that the other
    exporters go on; it joins them again when it has caught up."""
    snapshot_interval: Duration = Duration(5)
    """How often the state of open traces is written to disk; more often while the queue is nearly full, because its
    records are kept until then."""

    def __post_init__(self) -> None:
        if self.batch_interval > 1:
            raise ValueError(f"batch_interval must be at most 1s, not {self.batch_interval:g}s")


class Count(Protocol):
    """Adds `n` to one of the collector's counters."""

    def __call__(self, name: str, n: float = 1, **labels: str) -> None: ...


class Gauge(Protocol):
    """Sets one of the collector's gauges."""

    def __call__(self, name: str, value: float, **labels: str) -> None: ...
