"""Rows of one table that wait for the next commit.

Held as record batches: a fifth of the memory of the spans they were made of.
"""

from collections.abc import Callable, Iterable, Sequence

from arro3.core import Array, DataType, RecordBatch
from deltalake.transaction import AddAction


class Rows:
    """Record batches whose rows have keys; a row that comes again replaces the one that waits."""

    def __init__(self) -> None:
        self._batches: list[RecordBatch] = []
        self._places: dict[str, tuple[int, int]] = {}
        self._replaced: dict[int, set[int]] = {}
        self.days: set[int] = set()
        """Days, since 1970, in whose partitions the rows stand."""
        self.times: tuple[int, int] | None = None
        """First and last time of the rows and of their earlier forms in the table, if that is known."""
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, key: str) -> bool:
        return key in self._places

    def add(self, batch: RecordBatch, keys: Sequence[str], days: Iterable[int]) -> None:
        number = len(self._batches)
        places = self._places
        for row, key in enumerate(keys):
            if (place := places.get(key)) is not None:
                self._replaced.setdefault(place[0], set()).add(place[1])
            places[key] = (number, row)
        self._batches.append(batch)
        self.days.update(days)
        self.bytes += batch.nbytes

    def reach(self, times: Iterable[tuple[int, int]]) -> None:
        """Widen `times`."""
        every = [*times, *([self.times] if self.times else [])]
        if every:
            self.times = min(first for first, _ in every), max(last for _, last in every)

    def discard(self, key: str) -> bool:
        """Take a row out again; whether it was there."""
        place = self._places.pop(key, None)
        if place is None:
            return False
        self._replaced.setdefault(place[0], set()).add(place[1])
        return True

    def get(self, key: str) -> RecordBatch:
        """The row that waits, as a batch of one. Raises KeyError."""
        number, row = self._places[key]
        return self._batches[number].slice(row, 1)

    def batches(self) -> list[RecordBatch]:
        """What waits, without replaced rows."""
        kept = (self._kept(number, batch) for number, batch in enumerate(self._batches))
        return [batch for batch in kept if batch.num_rows]

    def _kept(self, number: int, batch: RecordBatch) -> RecordBatch:
        replaced = self._replaced.get(number)
        if not replaced:
            return batch
        return batch.take(Array([row for row in range(batch.num_rows) if row not in replaced], DataType.int64()))

    def keys(self) -> Iterable[str]:
        return self._places.keys()

    def clear(self) -> None:
        self._batches, self._places, self._replaced = [], {}, {}
        self.days, self.times, self.bytes = set(), None, 0


class Pending:
    """All that waits for one table: rows to append, and rows to merge because they may be there already.

    Appended rows become files before they are committed (`stage`), so that many rows wait in little memory.
    """

    def __init__(self) -> None:
        self.appends, self.merges = Rows(), Rows()
        self.deletes: dict[str, str] = {}
        """Key -> SQL condition of rows that no longer stand."""
        self.staged: set[str] = set()
        """Keys of the rows in files that are not committed yet."""
        self.actions: list[AddAction] = []
        """These files."""
        self.attempted: int | None = None
        """They may have been committed with this sequence number: the attempt failed."""

    def __len__(self) -> int:
        return len(self.appends) + len(self.merges) + len(self.deletes) + len(self.staged)

    @property
    def bytes(self) -> int:
        return self.appends.bytes + self.merges.bytes

    def merging(self, key: str, known: bool) -> bool:
        """Whether a row has to be merged. `known`: it may be in the table."""
        known = self.deletes.pop(key, None) is not None or known
        return key not in self.appends and (known or key in self.merges or key in self.staged)

    def delete(self, key: str, condition: str) -> None:
        """A row no longer stands: neither here nor in the table."""
        self.appends.discard(key)
        self.merges.discard(key)
        self.deletes[key] = condition

    def get(self, key: str) -> RecordBatch | None:
        """The row that waits, as a batch of one, unless it is staged."""
        for rows in (self.appends, self.merges):
            if key in rows:
                return rows.get(key)
        return None

    def stage(self, write: Callable[[Sequence[RecordBatch], Iterable[int]], list[AddAction]]) -> None:
        """Write the rows to append into files."""
        if len(self.appends):
            self.actions += write(self.appends.batches(), self.appends.days)
            self.staged.update(self.appends.keys())
            self.appends.clear()

    def committed(self) -> None:
        """The files are part of the table."""
        self.actions, self.staged, self.attempted = [], set(), None
