"""What is written in a transaction that is still open, and not committed yet.

A batch of a busy collector changes about a thousand pages of indexes, and the next one changes the same: committed
together, four batches cost a fifth less CPU than one by one. And while a commit waits for the disk, the next batch can
be made. Nothing of them is kept beside the transaction. If it fails, the delivery is told (`Lost`) and makes them again
from its queue.

Not here: which database may leave a transaction open (`Database.may_stay_open`).
"""

import time
from collections.abc import Callable
from typing import Final

from spanweir.exporters.api import Batch, Lost

HELD_BYTES: Final = 10 * 1024 * 1024
"""Of contents in a transaction. Twice as much gained 1 % more."""
CAREFUL_S: Final = 60.0
"""After a loss each batch is committed at once, so that what fails is in the delivery's hands."""


class Held:
    """For one thread at a time. True while something is held."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.durable = 0
        """See `Flushing`."""
        self._clock = clock
        self._accepted = 0
        self._bytes = 0
        self._since: float | None = None
        self._stay_s = 0.0
        self._careful_until = 0.0
        self._loss = ""

    def __bool__(self) -> bool:
        return self._since is not None

    @property
    def due(self) -> bool:
        """Whether the transaction is to be committed now."""
        since = self._since
        return since is not None and (self._bytes >= HELD_BYTES or self._clock() - since >= self._stay_s)

    def take(self, batch: Batch, content_bytes: int, stay_s: float | None) -> bool:
        """Whether the transaction that the batch was just written in is left open (see `Database.may_stay_open`)."""
        now = self._clock()
        # A batch without a record (made by the clock, or a part of one) could not be asked for again by its number.
        if stay_s is None or batch.first > batch.last or now < self._careful_until:
            return False
        if self._since is None:
            self._since = now
        self._stay_s = stay_s
        self._bytes += content_bytes
        self._accepted = max(self._accepted, batch.last)
        return True

    def committed(self, last: int = 0) -> None:
        """Whatever was held, and the batch up to `last`."""
        self.durable = self._accepted = max(self._accepted, last)
        self._since, self._bytes = None, 0

    def passed(self, last: int) -> None:
        """A batch up to `last` had nothing to write."""
        self._accepted = max(self._accepted, last)
        if not self:
            self.durable = self._accepted

    def lost(self, reason: str) -> None:
        """The transaction is undone."""
        self._accepted = self.durable
        self._since, self._bytes = None, 0
        self._careful_until = self._clock() + CAREFUL_S
        self._loss = reason

    def tell(self) -> None:
        """Raises `Lost`, once, if something was lost."""
        if reason := self._loss:
            self._loss = ""
            raise Lost(reason)
