"""Rows taken from batches, kept until there are many, and committed so that each stands once.

Rows are appended when they are certainly new, and merged by their key when they may be in the table already. Delta
transaction ids say whether a batch reaches back to a sequence number that was committed. `durable` moves when all up to
it is committed.

Not here: which rows a batch has (`exporter`, `received`).
"""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import partial
from types import TracebackType
from typing import Final, Self

from spanweir.exporters.api import Batch, Context
from spanweir.exporters.delta import Config
from spanweir.exporters.delta.care import Care
from spanweir.exporters.delta.targets import targets
from spanweir.exporters.delta.window import Pending

_STAGE_BYTES: Final = 4 << 20
"""Rows to append to one table become a file at this size (uncompressed), committed or not."""
_COMMIT_BYTES: Final = 32 << 20
"""Commit when what waits in memory comes to this: rows to merge, contents of traces that are not complete."""
_BUSY_INTERVALS: Final = 5
"""How many times `commit_interval` rows may wait while others keep coming: a commit costs as much as 1,000 spans."""
_WORTH_ROWS: Final = 1000
"""So many are committed as soon as nothing else comes: who waits for the end of a burst need not wait an interval."""


class Committing(ABC):
    """`Exporter` and `Flushing`. See the module."""

    def __init__(self, config: Config, context: Context, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._config, self._clock = config, clock
        self._directory = context.state_directory
        self._left_out = context.left_out
        self._targets = targets(config, f"spanweir/{context.instance}/{context.name}")
        self._pending: dict[str, Pending] = {}
        self._care: Care | None = None
        self._durable = 0
        self._accepted = 0
        self._seen = 0
        self._floor = 0
        self._oldest: float | None = None
        self._taken: Batch | None = None
        """A batch whose rows are taken, but that will come again: writing it failed."""

    def _unwritable(self, table: str) -> Callable[[], None]:
        """To be called for a row of a table that cannot be written."""
        return partial(self._left_out, table, "unwritable", 1)

    @abstractmethod
    def _open(self) -> None:
        """Open what the exporter remembers with."""

    @abstractmethod
    def _finish(self) -> None:
        """Write down what is remembered, after the last commit."""

    @abstractmethod
    def _close(self) -> None: ...

    @abstractmethod
    def _add(self, batch: Batch, *, reaches_back: bool) -> None:
        """Take the batch's rows into the window. Raises `Permanent` before the first of them is taken."""

    def _is_staged(self, batch: Batch) -> bool:
        """Whether a row must be committed before the batch can be taken."""
        return False

    def _add_metrics(self, batch: Batch, known: bool) -> None:
        from spanweir.exporters.delta.metrics import metric_columns

        for request in batch.requests:
            if request.signal == "metrics" and (columns := metric_columns(request.body, self._config.schema_version)):
                ids, _, days = columns[:3]
                self._pending["metrics"].add(columns, ids, known, set(days), len(request.body))

    def _waiting_rows(self) -> int:
        """That are not in `_pending` yet."""
        return 0

    def _waiting_bytes(self) -> int:
        """In memory, beside rows."""
        return 0

    @abstractmethod
    def _before_commit(self) -> None:
        """Note what must be known when the commit is made, or may have been. Raises `Retry`."""

    @abstractmethod
    def _after_commit(self) -> None:
        """Forget what was committed."""

    def __enter__(self) -> Self:
        self._open()
        try:
            for target in self._targets.values():
                target.open()
        except BaseException:
            self._close()
            raise
        self._floor = max(target.written() for target in self._targets.values())
        if self._config.maintenance_interval:
            self._care = Care(self._config, self._targets)
            self._care.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        if self._care is not None:
            self._care.stop()
        try:
            self.flush()
            self._finish()
        finally:
            self._close()

    @property
    def durable(self) -> int:
        return self._durable

    def idle(self) -> None:
        self._accepted = max(self._accepted, self._seen)
        self._flush_when_due(idle=True)

    def export(self, batch: Batch) -> None:
        if batch is not self._taken:
            again = batch.first <= self._accepted
            if again or self._is_staged(batch):
                self.flush()
            self._add(batch, reaches_back=again or batch.first <= self._floor)
            self._taken = batch
            self._seen = max(self._seen, batch.last)
            if batch.first <= batch.last:  # else a part of a batch, of which more may follow, or made by the clock
                self._accepted = max(self._accepted, batch.last)
            if self._oldest is None:
                self._oldest = self._clock()
        self._stage()
        self._flush_when_due()
        self._taken = None

    def _stage(self) -> None:
        """Turn into files what has become large.

        Not while it is open whether files were committed: if they were, those that come after would be taken for them.
        """
        for name, target in self._targets.items():
            pending = self._pending[name]
            if pending.attempted is None and pending.appends.bytes >= _STAGE_BYTES:
                pending.stage(target.write)

    def _flush_when_due(self, *, idle: bool = False) -> None:
        if self._oldest is None:
            return
        pending = self._pending.values()
        most_rows = min(self._config.commit_rows, _WORTH_ROWS) if idle else self._config.commit_rows
        if (
            self._clock() - self._oldest >= self._config.commit_interval * (1 if idle else _BUSY_INTERVALS)
            or sum(len(p) for p in pending) + self._waiting_rows() >= most_rows
            or sum(p.bytes for p in pending) + self._waiting_bytes() >= _COMMIT_BYTES
        ):
            self.flush()

    def flush(self) -> None:
        """Commit everything that was accepted. Raises `Retry`; what was committed by then is not written again."""
        if self._oldest is None:
            return
        last = self._accepted
        self._before_commit()
        for name, target in self._targets.items():
            self._pending[name].commit(target, last)
        self._after_commit()
        self._oldest = None
        self._durable = last
