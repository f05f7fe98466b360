"""Rows of one table that wait for the next commit.

Held as record batches, a fifth of the memory of the spans they were made of. One costs 0.6 ms however few rows are in
it, and most requests hold few: so many are put together as are still in the processor's cache.
"""

import logging
from bisect import bisect_right
from collections.abc import Callable, Iterable, KeysView, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar

from arro3.core import Array, DataType, RecordBatch
from deltalake.transaction import AddAction

if TYPE_CHECKING:
    from spanweir.exporters.delta.table import Target

_LOG: Final = logging.getLogger(__name__)
_BUILD_ROWS: Final = 1024
_BUILD_BYTES: Final = 1 << 20
Item = TypeVar("Item")
Columns: TypeAlias = Sequence[Sequence[Any]]
Build: TypeAlias = Callable[[Columns], RecordBatch]


class Rows:
    """Rows that have keys; one that comes again replaces the one that waits.

    `build` makes a record batch of them; `left_out` is called for each row of which it cannot.
    """

    def __init__(self, build: Build, left_out: Callable[[], None] = lambda: None) -> None:
        self._build, self._left_out = build, left_out
        self._batches: list[RecordBatch] = []
        self._starts: list[int] = []
        self._columns: list[list[Any]] = []
        """Of the rows that are in no batch yet, which come last."""
        self._unbuilt_bytes = 0
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

    def add(self, columns: Columns, keys: Sequence[str], days: Iterable[int], size_bytes: int) -> None:
        self._place(keys, days, size_bytes)
        if self._columns:
            for waiting, column in zip(self._columns, columns, strict=True):
                waiting += column
        else:
            self._columns = list(map(list, columns))
        self._unbuilt_bytes += size_bytes
        if len(self._columns[0]) >= _BUILD_ROWS or self._unbuilt_bytes >= _BUILD_BYTES:
            self._build_all()

    def add_batch(self, batch: RecordBatch, keys: Sequence[str], days: Iterable[int], size_bytes: int) -> None:
        """As `add`, of rows that are a record batch already."""
        self._build_all()
        self._batches.append(batch)
        self._starts.append(self._rows)
        self._place(keys, days, size_bytes)

    def _place(self, keys: Sequence[str], days: Iterable[int], size_bytes: int) -> None:
        places = dict(zip(keys, range(self._rows, self._rows + len(keys)), strict=True))
        if len(places) < len(keys):
            self._replaced.update(range(self._rows, self._rows + len(keys)))
            self._replaced.difference_update(places.values())
        if not self._places.keys().isdisjoint(places):
            self._replaced.update(self._places[key] for key in self._places.keys() & places)
        self._places.update(places)
        self._rows += len(keys)
        self.days.update(days)
        self.bytes += size_bytes

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
        self._build_all()
        place = self._places[key]
        number = bisect_right(self._starts, place) - 1
        return self._batches[number].slice(place - self._starts[number], 1)

    def batches(self) -> list[RecordBatch]:
        """What waits, without replaced rows."""
        self._build_all()
        if not self._replaced:
            return list(self._batches)
        kept = map(self._kept, self._starts, self._batches)
        return [batch for batch in kept if batch.num_rows]

    def _kept(self, start: int, batch: RecordBatch) -> RecordBatch:
        rows = [row for row in range(batch.num_rows) if start + row not in self._replaced]
        return batch if len(rows) == batch.num_rows else batch.take(Array(rows, DataType.int64()))

    def _build_all(self) -> None:
        if self._columns:
            columns, self._columns, self._unbuilt_bytes = self._columns, [], 0
            self._add_batch(columns, self._rows - len(columns[0]))

    def _add_batch(self, columns: Columns, start: int) -> None:
        """A row that no batch can be built of would stop the table for good: it is left out."""
        rows = len(columns[0])
        try:
            batch = self._build(columns)
        except MemoryError:
            raise
        except Exception as error:
            if rows == 1:
                _LOG.exception("left out a row that cannot be written (%s …): %s", columns[0][0], error)
                if start not in self._replaced:
                    self._left_out()
                self._places = {key: place for key, place in self._places.items() if place != start}
                return
            half = rows // 2
            self._add_batch([column[:half] for column in columns], start)
            self._add_batch([column[half:] for column in columns], start + half)
        else:
            self._batches.append(batch)
            self._starts.append(start)

    def keys(self) -> KeysView[str]:
        return self._places.keys()

    def clear(self) -> None:
        self._batches, self._starts, self._columns, self._unbuilt_bytes = [], [], [], 0
        self._places, self._replaced, self._rows = {}, set(), 0
        self.days, self.times, self.bytes = set(), None, 0


class Pending:
    """All that waits for one table: rows to append, and rows to merge because they may be there already.

    Appended rows become files before they are committed (`stage`), so that many rows wait in little memory.
    """

    def __init__(self, build: Build, left_out: Callable[[], None] = lambda: None) -> None:
        self.appends, self.merges = Rows(build, left_out), Rows(build, left_out)
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
        merging = self.merging(keys, known)
        if not merging:
            return [(self.appends, items, keys)]
        pairs = list(zip(keys, items, strict=True))
        groups = (
            (self.appends, [pair for pair in pairs if pair[0] not in merging]),
            (self.merges, [pair for pair in pairs if pair[0] in merging]),
        )
        return [(rows, [item for _, item in group], [key for key, _ in group]) for rows, group in groups if group]

    def merging(self, keys: Sequence[str], known: Iterable[str]) -> set[str]:
        """Those of the keys whose rows have to be merged. `known` are the keys that may be in the table."""
        merging = set(known)
        if len(self.merges):
            merging |= self.merges.keys() & keys
        if self.staged:
            merging |= self.staged.intersection(keys)
        if self.deletes:
            for key in self.deletes.keys() & keys:
                del self.deletes[key]
                merging.add(key)
        merging -= {key for key in merging if key in self.appends}
        return merging

    def add(self, columns: Columns, keys: Sequence[str], known: bool, days: Iterable[int], size_bytes: int) -> None:
        """Rows of one batch, which are appended or merged together."""
        merging = known or any(key in self.merges or key in self.staged for key in keys)
        if merging:
            for key in keys:
                self.appends.discard(key)
        (self.merges if merging else self.appends).add(columns, keys, days, size_bytes)

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
            batches = self.appends.batches()
            self.actions += write(batches, self.appends.days) if batches else []
            self.staged.update(self.appends.keys())
            self.appends.clear()

    def commit(self, target: "Target", last: int) -> None:
        """Write everything, up to the sequence number `last`. Raises `Retry`; then it may be called again."""
        if self.attempted is not None and target.has(self.actions, self.attempted):
            self._committed()
        self.stage(target.write)
        if self.actions:
            self.attempted = last
            target.append(self.actions, last)
            self._committed()
        if self.deletes:
            target.delete(self.deletes.values(), last)
            self.deletes.clear()
        if len(self.merges):
            days = {day + n for day in self.merges.days for n in (-1, 0, 1)}
            target.merge(self.merges.batches(), last, days, self.merges.times)
            self.merges.clear()

    def _committed(self) -> None:
        """The files are part of the table."""
        self.actions, self.staged, self.attempted = [], set(), None
