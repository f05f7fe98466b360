"""What the readers of every durable queue share: cursors, and the account of what could not be read back."""

import threading
from collections import deque
from collections.abc import Sequence

from spanweir.collector.queue.api import Gap

_KEPT_GAPS = 1000


class BaseReader:
    """The part of `Reader` that does not depend on where records are. Thread-safe, by `_lock`."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._positions: dict[str, int] = {}
        """Where each cursor is."""
        self._gaps: deque[Gap] = deque(maxlen=_KEPT_GAPS)
        self._lost = 0

    @property
    def gaps(self) -> Sequence[Gap]:
        with self._lock:
            return tuple(self._gaps)

    @property
    def lost_records(self) -> int:
        return self._lost

    def cursor(self, name: str) -> int:
        with self._lock:
            return self._positions[name]

    def advance(self, name: str, sequence: int) -> None:
        with self._lock:
            if sequence <= self._positions[name]:
                return
            self._store(name, sequence)
            self._positions[name] = sequence
            self._advanced()

    def nearly_full(self) -> bool:
        return False

    def _store(self, name: str, sequence: int) -> None:
        """Make a cursor's place durable. Raises OSError."""
        raise NotImplementedError

    def _advanced(self) -> None:
        """Called when a cursor has moved."""

    def _lose(self, gap: Gap) -> None:
        with self._lock:
            self._gaps.append(gap)
            self._lost += gap.last - gap.first + 1
