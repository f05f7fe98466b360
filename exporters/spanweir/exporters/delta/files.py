"""Record batches -> Parquet files in a table's folder, and the log actions that add them.

Parquet is written by arro3 and the commit made by delta-rs: `write_deltalake` runs every append through a query engine,
which on the standard load doubles its CPU time and holds 90 MB (deltalake 1.6).
"""

import io
import json
import time
import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final

from arro3.core import Array, DataType, RecordBatch, RecordBatchReader
from arro3.core import Table as ArrowTable
from arro3.io import read_parquet, write_parquet
from deltalake.transaction import AddAction

from spanweir.exporters.delta.blobs import Blobs
from spanweir.schemas.inference_table import Table

_BATCH_ROWS: Final = 2048
_GROUP_ROWS: Final = 65_536
_PAGE_BYTES: Final = 256 << 10
_PAGE_CHECK_ROWS: Final = 16
"""The writer looks after so many rows whether a page is full: rows of the payload table are large."""
_EXPECTED_MOST_BYTES: Final = 4 << 20
_COMPACTED: Final = "zstd(3)"
_EPOCH: Final = date(1970, 1, 1)
_EXTENSIONS: Final = {"zstd": "zstd.parquet", "snappy": "snappy.parquet", "lz4_raw": "lz4_raw.parquet"}


class Files:
    """Writes data files below a table's URI; files are durable on local disks when `write` returns."""

    def __init__(self, spec: Table, uri: str, storage_options: Mapping[str, str], compression: str) -> None:
        self._spec = spec
        self._blobs = Blobs(uri, storage_options)
        self._compression = compression
        self._expected_bytes = 0
        """Of the next file: about what the last one had."""

    def write(self, batches: Sequence[RecordBatch], days: Sequence[int]) -> list[AddAction]:
        """One file for each day. `days` are those that occur in the partition column (since 1970)."""
        column = self._spec.partition
        if not column:
            return [self._file(batches, "", {})]
        groups = {days[0]: batches} if len(days) == 1 else _split(batches, column)
        return [
            self._file(group, f"{column}={_day(day)}/", {column: _day(day)}) for day, group in sorted(groups.items())
        ]

    def rewrite(self, paths: Sequence[str], partition: dict[str, str | None]) -> tuple[AddAction, list[str]] | None:
        """One zstd file with the rows of files of one partition, which are streamed; and which files it replaces.

        These are the most that have the same columns: other writers, and merges, name nested fields otherwise. None if
        there are no two.
        """
        schemas = [(path, self.read(path).schema) for path in paths]
        alike = max(([p for p, s in schemas if s == schema] for _, schema in schemas), key=len, default=[])
        if len(alike) < 2:
            return None
        tally = _Tally(self._spec.time)
        batches = (tally.add(batch) for path in alike for batch in self.read(path))
        reader = RecordBatchReader.from_batches(dict(schemas)[alike[0]], batches)
        folder = "".join(f"{column}={value}/" for column, value in partition.items())
        return self._add(reader, folder, partition, tally, compacted=True), alike

    def read(self, path: str) -> RecordBatchReader:
        """The rows of a data file."""
        local = self._blobs.local
        return read_parquet(self._blobs.get(path) if local is None else local / path, batch_size=_BATCH_ROWS)

    def _file(self, batches: Sequence[RecordBatch], folder: str, partition: dict[str, str | None]) -> AddAction:
        tally = _Tally(self._spec.time)
        for batch in batches:
            tally.add(batch)
        rows = ArrowTable.from_batches(batches)
        if partition:
            rows = rows.drop_columns(list(partition))
        return self._add(rows, folder, partition, tally, compacted=False)

    def _add(
        self,
        rows: ArrowTable | RecordBatchReader,
        folder: str,
        partition: dict[str, str | None],
        tally: "_Tally",
        *,
        compacted: bool,
    ) -> AddAction:
        compression = _COMPACTED if compacted else self._compression
        extension = _EXTENSIONS.get(compression.partition("(")[0], "parquet")
        path = f"{folder}part-00000-{uuid.uuid4()}-c000.{extension}"
        # Into memory first: arro3 0.9 panics when a file cannot be written, on a full disk for example.
        memory = _memory(self._expected_bytes)
        write_parquet(
            rows,
            memory,
            compression=compression,
            # Costs a tenth, and texts of new files are hardly ever the same. Compaction is where space is saved.
            dictionary_enabled=compacted,
            data_page_size_limit=_PAGE_BYTES,
            write_batch_size=_PAGE_CHECK_ROWS,
            max_row_group_size=_GROUP_ROWS,
        )
        size = memory.tell()
        with memory.getbuffer() as buffer, buffer[:size] as content:
            self._blobs.put(path, content)
        self._expected_bytes = min(size + size // 8, _EXPECTED_MOST_BYTES)
        return AddAction(
            path=path,
            size=size,
            partition_values=partition,
            modification_time=int(time.time() * 1000),
            data_change=not compacted,
            stats=json.dumps(tally.statistics()),
        )


def _memory(size_bytes: int) -> io.BytesIO:
    """A file in memory that is empty, and holds so much before it grows: growing moves all that is there, each time."""
    memory = io.BytesIO()
    memory.seek(size_bytes)
    memory.write(b"\0")
    memory.seek(0)
    return memory


class _Tally:
    """Rows, and the range of the time column: what readers prune files by."""

    def __init__(self, column: str) -> None:
        self._column = column
        self._rows = self._nulls = 0
        self._least: int | None = None
        self._most: int | None = None

    def add(self, batch: RecordBatch) -> RecordBatch:
        times = batch[self._column].cast(DataType.int64()).to_pylist()
        known = [time for time in times if time is not None]
        self._rows += len(times)
        self._nulls += len(times) - len(known)
        if known:
            least, most = min(known), max(known)
            self._least = least if self._least is None else min(self._least, least)
            self._most = most if self._most is None else max(self._most, most)
        return batch

    def statistics(self) -> dict[str, Any]:
        statistics: dict[str, Any] = {"numRecords": self._rows}
        if self._least is not None and self._most is not None:
            statistics["minValues"] = {self._column: _milliseconds(self._least // 1000)}
            statistics["maxValues"] = {self._column: _milliseconds(-(-self._most // 1000))}
            statistics["nullCount"] = {self._column: self._nulls}
        return statistics


def _split(batches: Sequence[RecordBatch], column: str) -> Mapping[int, Sequence[RecordBatch]]:
    groups: dict[int, list[RecordBatch]] = {}
    for batch in batches:
        rows: dict[int, list[int]] = {}
        for row, day in enumerate(batch[column].cast(DataType.int32()).to_pylist()):
            rows.setdefault(day, []).append(row)
        for day, numbers in rows.items():
            groups.setdefault(day, []).append(batch.take(Array(numbers, DataType.int64())))
    return groups


def _day(day: int) -> str:
    return (_EPOCH + timedelta(days=day)).isoformat()


def _milliseconds(time_ms: int) -> str:
    """As Delta writes timestamps in statistics."""
    seconds, ms = divmod(time_ms, 1000)
    return datetime.fromtimestamp(seconds, UTC).strftime(f"%Y-%m-%dT%H:%M:%S.{ms:03d}Z")
