"""An exporter that keeps what it is given, and fails as it is told."""

import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from spanweir.exporters.api import Batch
from spanweir.schemas.trace import MappedSpan, TraceRow


class Recorder:
    """`refuse` looks at a batch and raises; `gate` holds exports back while it is cleared."""

    def __init__(self, refuse: Callable[[Batch], None] = lambda batch: None) -> None:
        self.batches: list[Batch] = []
        self.spans: dict[tuple[str, str], MappedSpan] = {}
        self.rows: dict[str, TraceRow] = {}
        self.refuse = refuse
        self.gate = threading.Event()
        self.gate.set()
        self.entered = self.left = False

    def __enter__(self) -> Self:
        self.entered = True
        return self

    def export(self, batch: Batch) -> None:
        self.gate.wait(30)
        self.refuse(batch)
        self.batches.append(batch)
        for span in batch.spans:
            self.spans[(span.trace_id, span.span_id)] = span
        for row in batch.traces:
            self.rows[row.trace_id] = row

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        self.left = True


def until(true: Callable[[], object], seconds: float = 20.0) -> None:
    """Wait until something is true."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it never became true"
        time.sleep(0.005)
