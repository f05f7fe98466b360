"""What a reader of any queue could not read back."""

import threading
from collections import deque
from collections.abc import Sequence

from spanweir.collector.queue.api import Gap

_KEPT_GAPS = 1000


class Losses:
    """The part of `Reader` that tells of losses."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._gaps: deque[Gap] = deque(maxlen=_KEPT_GAPS)
        self._lost = 0

    @property
    def gaps(self) -> Sequence[Gap]:
        with self._lock:
            return tuple(self._gaps)

    @property
    def lost_records(self) -> int:
        return self._lost

    def _lose(self, gap: Gap) -> None:
        with self._lock:
            self._gaps.append(gap)
            self._lost += gap.last - gap.first + 1
