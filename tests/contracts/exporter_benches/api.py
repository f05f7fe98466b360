"""What the contract suite asks of an exporter's bench."""

from pathlib import Path
from typing import Any, Protocol

from tests.support.batches import SpanId


class Bench(Protocol):
    exactly_once: bool
    """Re-delivery leaves the same rows. False only where the destination has no identity to write by."""
    can_fail: bool
    """Whether `stop` makes the destination unavailable."""

    def __init__(self, directory: Path) -> None: ...
    @property
    def config(self) -> Any:
        """The exporter's `Config` for this destination."""
        ...

    def spans(self) -> list[SpanId]:
        """Every span that the destination holds, sorted; a span that stands twice is there twice."""
        ...

    def stop(self) -> None:
        """Make the destination unavailable."""
        ...

    def start(self) -> None:
        """Make it available again, with what it held."""
        ...

    def close(self) -> None: ...
