"""Rows of one table that wait for the next commit.

Held as record batches: a fifth of the memory of the spans they were made of.
"""

from bisect import bisect_right
from collections.abc import Callable, Iterable, KeysView, Sequence
from typing import TypeVar

from arro3.core import Array, DataType, RecordBatch
from deltalake.transaction import AddAction

Item = TypeVar("Item")


class Rows:
    """Record batches whose rows have keys; a row that comes again replaces the one that waits."""

    def __init__(self) -> None:
        self._batches: list[RecordBatch] = []
        self._starts: list[int] = []
        self._places: dict[str, int] = {}
        self._replaced: set[int] = set()
        self._rows = 0
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
        places = dict(zip(keys, range(self._rows, self._rows + len(keys)), strict=True))
        if len(places) < len(keys):
            self._replaced.update(range(self._rows, self._rows + len(keys)))
            self._replaced.difference_update(places.values())
        self._replaced.update(self._places[key] for key in self._places.keys() & places)
        self._places.update(places)
        self._batches.append(batch)
        self._starts.append(self._rows)
        self._rows += len(keys)
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
        self._replaced.add(place)
        return True

    def get(self, key: str) -> RecordBatch:
        """The row that waits, as a batch of one. Raises KeyError."""
        place = self._places[key]
        number = bisect_right(self._starts, place) - 1
        return self._batches[number].slice(place - self._starts[number], 1)

    def batches(self) -> list[RecordBatch]:
        """What waits, without replaced rows."""
        if not self._replaced:
            return list(self._batches)
        kept = map(self._kept, self._starts, self._batches)
        return [batch for batch in kept if batch.num_rows]

    def _kept(self, start: int, batch: RecordBatch) -> RecordBatch:
        rows = [row for row in range(batch.num_rows) if start + row not in self._replaced]
        return batch if len(rows) == batch.num_rows else batch.take(Array(rows, DataType.int64()))

    def keys(self) -> KeysView[str]:
        return self._places.keys()

    def clear(self) -> None:
        self._batches, self._starts, self._places, self._replaced, self._rows = [], [], {}, set(), 0
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

    def split(
        self, items: Sequence[Item], keys: Sequence[str], known: Iterable[str]
    ) -> list[tuple[Rows, Sequence[Item], Sequence[str]]]:
        """Whether what the keys stand for is appended or has to be merged: rows to add to, items, their keys.

        `known` are the keys that may be in the table.
        """
        merging = {*known, *(self.merges.keys() & keys), *self.staged.intersection(keys)}
        for key in self.deletes.keys() & keys:
            del self.deletes[key]
            merging.add(key)
        merging -= {key for key in merging if key in self.appends}
        if not merging:
            return [(self.appends, items, keys)]
        pairs = list(zip(keys, items, strict=True))
        groups = (
            (self.appends, [pair for pair in pairs if pair[0] not in merging]),
            (self.merges, [pair for pair in pairs if pair[0] in merging]),
        )
        return [(rows, [item for _, item in group], [key for key, _ in group]) for rows, group in groups if group]

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
