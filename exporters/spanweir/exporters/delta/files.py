"""Record batches -> Parquet files in a table's folder, and the log actions that add them.

Parquet is written by arro3 and the commit made by delta-rs: `write_deltalake` runs every append through a query engine,
which on the standard load doubles its CPU time and holds 90 MB (deltalake 1.6).
"""

import io
import json
import os
import time
import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from arro3.core import Array, DataType, RecordBatch
from arro3.core import Table as ArrowTable
from arro3.io import write_parquet
from deltalake.transaction import AddAction

from spanweir.schemas.inference_table import Table

_EPOCH: Final = date(1970, 1, 1)
_EXTENSIONS: Final = {"zstd": "zstd.parquet", "snappy": "snappy.parquet", "lz4_raw": "lz4_raw.parquet"}


class Files:
    """Writes data files below a table's URI; files are durable on local disks when `write` returns."""

    def __init__(self, spec: Table, uri: str, storage_options: Mapping[str, str], compression: str) -> None:
        self._spec, self._uri, self._options = spec, uri, dict(storage_options)
        self._local = None if "://" in uri else Path(uri)
        self._compression = compression
        self._extension = _EXTENSIONS.get(compression.partition("(")[0], "parquet")
        self._handler: Any = None

    def write(self, batches: Sequence[RecordBatch], days: Sequence[int]) -> list[AddAction]:
        """One file for each day. `days` are those that occur in the partition column (since 1970)."""
        table = ArrowTable.from_batches(batches)
        column = self._spec.partition
        if not column:
            return [self._file(table, "", {})]
        groups = {days[0]: table} if len(days) == 1 else _split(batches, column)
        return [
            self._file(group.drop_columns([column]), f"{column}={_day(day)}/", {column: _day(day)})
            for day, group in sorted(groups.items())
        ]

    def _file(self, table: ArrowTable, folder: str, partition: dict[str, str | None]) -> AddAction:
        path = f"{folder}part-00000-{uuid.uuid4()}-c000.{self._extension}"
        size = self._write_local(table, path) if self._local else self._write_remote(table, path)
        return AddAction(
            path=path,
            size=size,
            partition_values=partition,
            modification_time=int(time.time() * 1000),
            data_change=True,
            stats=json.dumps(self._statistics(table)),
        )

    def _write_local(self, table: ArrowTable, path: str) -> int:
        assert self._local is not None
        target = self._local / path
        new_folder = not target.parent.exists()
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("wb") as file:
            write_parquet(table, file, compression=self._compression)
            file.flush()
            os.fsync(file.fileno())
        sync_directory(target.parent)
        if new_folder:
            sync_directory(self._local)
        return target.stat().st_size

    def _write_remote(self, table: ArrowTable, path: str) -> int:
        buffer = io.BytesIO()
        write_parquet(table, buffer, compression=self._compression)
        content = buffer.getbuffer()
        if self._handler is None:
            from deltalake._internal import DeltaFileSystemHandler

            self._handler = DeltaFileSystemHandler(self._uri, self._options)
        stream = self._handler.open_output_stream(path, None)
        stream.write(bytes(content))
        stream.close()
        return len(content)

    def _statistics(self, table: ArrowTable) -> dict[str, Any]:
        """Rows, and the range of the time column: what readers prune files by."""
        column = self._spec.time
        times = [time for chunk in table[column].chunks for time in chunk.cast(DataType.int64()).to_pylist()]
        known = [time for time in times if time is not None]
        statistics: dict[str, Any] = {"numRecords": table.num_rows}
        if known:
            statistics["minValues"] = {column: _milliseconds(min(known) // 1000)}
            statistics["maxValues"] = {column: _milliseconds(-(-max(known) // 1000))}
            statistics["nullCount"] = {column: len(times) - len(known)}
        return statistics


def sync_directory(path: Path) -> None:
    """Make new names in a directory durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _split(batches: Sequence[RecordBatch], column: str) -> dict[int, ArrowTable]:
    groups: dict[int, list[RecordBatch]] = {}
    for batch in batches:
        rows: dict[int, list[int]] = {}
        for row, day in enumerate(batch[column].cast(DataType.int32()).to_pylist()):
            rows.setdefault(day, []).append(row)
        for day, numbers in rows.items():
            groups.setdefault(day, []).append(batch.take(Array(numbers, DataType.int64())))
    return {day: ArrowTable.from_batches(group) for day, group in groups.items()}


def _day(day: int) -> str:
    return (_EPOCH + timedelta(days=day)).isoformat()


def _milliseconds(time_ms: int) -> str:
    """As Delta writes timestamps in statistics."""
    seconds, ms = divmod(time_ms, 1000)
    return datetime.fromtimestamp(seconds, UTC).strftime(f"%Y-%m-%dT%H:%M:%S.{ms:03d}Z")
