"""MLflow's database in a SQLite file.

Foreign keys stay unchecked on this connection (SQLite's default): checking them took two thirds of an insert, and the
parents are written in the same transaction. Write-ahead log, because MLflow's UI reads while this writes; large batches
go past it while no other connection is there to read.
"""

import math
import os
import sqlite3
from bisect import bisect_right
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote

from spanweir.exporters.mlflow.database import Dialect, Trouble
from spanweir.exporters.mlflow.revisions import METADATA, TAGS, Table
from spanweir.exporters.mlflow.rows import Row
from spanweir.exporters.mlflow.writeback import WriteBack

DIALECT: Final = Dialect(mark="?", quote='"')

PAGE_BYTES: Final = 8 * 1024
"""Of a new file. A page costs the kernel nearly as much at 4 KiB, SQLite's own, as at 8: that was a sixth of the CPU
of a span, a third of that of a trace of 1 MB."""
CACHE_KIB: Final = 8 * 1024
CHECKPOINT_BYTES: Final = 16 * 1024 * 1024
"""The write-ahead log is copied back at this size. SQLite's own 4 MB wrote hot index pages back over and over; 64 MB
cost as much CPU, and three times the room."""
PAST_LOG_BYTES: Final = 1024 * 1024
"""Batches with so much content go past the write-ahead log, which writes each page twice: a rollback journal holds only
what was there before. It halves the bytes, and for a trace of 10 MB the CPU."""
PAST_LOG_BATCHES: Final = 16
"""Then one goes through the log again: a reader that came meanwhile holds it from then on, and is not made to wait."""
STAY_OPEN_S: Final = 0.5
"""Who comes meanwhile waits that long to write, and to read where the cache is full."""
LARGE_BYTES: Final = 4 * 1024 * 1024
"""Batches with so much content are written to the disk while they are made (see `writeback`), where they go past the
log. For smaller ones it costs a tenth more CPU and gains little; through the log it gained nothing."""
LARGE_CACHE_KIB: Final = 1024
"""Then SQLite hands pages to the kernel early, instead of most of them at the end."""
BUSY_S: Final = 20.0
TOGETHER_VALUES: Final = 256
"""Values in a statement of several rows. sqlite3 lets go of the interpreter's lock for each statement and, where other
threads are busy, waits to have it back; and a row apart costs a fifth more CPU."""
TOGETHER_BYTES: Final = 32 * 1024
"""Longer contents are written one by one: a statement keeps a copy of all its values."""
_OTHER_COLUMNS_BYTES = 180
"""Of a span's row, its place in the page included."""

_BUSY_CODES = {
    sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_FULL, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_PROTOCOL,
}  # fmt: skip
_GONE_CODES = {sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_PERM}


def path_of(uri: str) -> str:
    """The file of `sqlite:///relative.db` or `sqlite:////absolute.db` (SQLAlchemy's form). Raises ValueError."""
    scheme, _, path = uri.partition(":///")
    path = unquote(path.partition("?")[0])
    if not scheme.startswith("sqlite") or not path or path == ":memory:":
        raise ValueError(f"{uri!r} names no SQLite file; write sqlite:///mlflow.db or sqlite:////var/lib/mlflow.db")
    return path


def packed(rows: Sequence[Row], at: int, page_bytes: int) -> list[Row]:
    """The rows in an order that leaves pages full: SQLite begins a new page for a row that does not fit.

    `at` is the column of the long values. What of a row is in the table's own page, and what in pages that are always
    full, is in "Database File Format", 1.6; the other columns are estimated.
    """
    most = page_bytes - 35
    least = (page_bytes - 12) * 32 // 255 - 23
    sizes = []
    for row in rows:
        size = len(row[at]) + _OTHER_COLUMNS_BYTES
        if size > most:
            size = least + (size - least) % (page_bytes - 4)
        sizes.append(size if size <= most else least)
    order = sorted(range(len(rows)), key=sizes.__getitem__)
    sizes.sort()
    found = []
    while order:
        room = page_bytes - sizes.pop()
        found.append(rows[order.pop()])
        while fitting := bisect_right(sizes, room):
            room -= sizes.pop(fitting - 1)
            found.append(rows[order.pop(fitting - 1)])
    return found


class Sqlite:
    """A `Database`."""

    def __init__(self, path: str, *, synchronous: str = "FULL", busy_s: float = BUSY_S) -> None:
        self._path = Path(path)
        self._synchronous = synchronous
        self._busy_s = busy_s
        self._connection: sqlite3.Connection | None = None
        self._inode = 0
        self._page_bytes = PAGE_BYTES
        self._has_log = False
        self._past_log = False
        self._turns = 0
        self._cache_kib = 0
        self._write_back = WriteBack()
        self._statements: dict[str, str] = {}

    @property
    def place(self) -> str:
        return str(self._path)

    lock = ""
    idle_is_in_the_way = True
    null = math.nan
    """SQLite stores it as NULL ("Floating Point Numbers", 3). None goes through a search for adapters in sqlite3, for
    each value of each row: a tenth of an insert."""

    def open(self, *, read_only: bool = False, create: bool = False) -> None:
        self.close()
        if create:
            self._path.parent.mkdir(parents=True, exist_ok=True)
        mode = "ro" if read_only else "rwc" if create else "rw"
        uri = f"{self._path.absolute().as_uri()}?mode={mode}"
        connection = sqlite3.connect(
            uri, uri=True, isolation_level=None, timeout=self._busy_s, check_same_thread=False, cached_statements=256
        )
        self._connection = connection
        if create:
            connection.execute(f"PRAGMA page_size = {PAGE_BYTES}")  # without effect on a file that has pages
        self._page_bytes = page_bytes = connection.execute("PRAGMA page_size").fetchone()[0]
        self._cache_kib = 0
        self._set_cache(CACHE_KIB)
        connection.execute("PRAGMA temp_store = MEMORY")
        if not read_only:
            self._has_log = self._set_journal("WAL", busy_s=self._busy_s)
            self._past_log, self._turns = False, 0
            connection.execute(f"PRAGMA synchronous = {self._synchronous}")
            connection.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_BYTES // page_bytes}")
            connection.execute(f"PRAGMA journal_size_limit = {2 * CHECKPOINT_BYTES}")
        self._inode = os.stat(self._path).st_ino

    def _set_cache(self, kib: int) -> None:
        if kib != self._cache_kib:
            self._open_connection().execute(f"PRAGMA cache_size = -{kib}")
            self._cache_kib = kib

    def _set_journal(self, mode: str, *, busy_s: float = 0.0) -> bool:
        """Whether the file has that journal now.

        Another process may hold the file, or its file system have no shared memory for a write-ahead log.
        """
        connection = self._open_connection()
        connection.execute(f"PRAGMA busy_timeout = {int(busy_s * 1000)}")
        try:
            return bool(connection.execute(f"PRAGMA journal_mode = {mode}").fetchone()[0] == mode.lower())
        except sqlite3.OperationalError:
            return False
        finally:
            connection.execute(f"PRAGMA busy_timeout = {int(self._busy_s * 1000)}")

    def _choose_journal(self, content_bytes: int) -> None:
        self._turns -= 1
        if not self._has_log or self._turns > 0:
            return
        if self._past_log:
            self._past_log = not self._set_journal("WAL")
        elif content_bytes >= PAST_LOG_BYTES:
            # Refused while another connection has the log open, in whatever process.
            self._past_log = self._set_journal("TRUNCATE")
            self._turns = PAST_LOG_BATCHES

    def close(self) -> None:
        self._write_back.stop()
        if self._connection is not None:
            if self._past_log:
                self._set_journal("WAL")
                self._past_log = False
            self._connection.close()
            self._connection = None

    def may_stay_open(self, content_bytes: int) -> float | None:
        """Past the log nobody else had the file open: pages of indexes that batches share can be written once."""
        if not PAST_LOG_BYTES <= content_bytes < LARGE_BYTES:
            return None
        return STAY_OPEN_S if self._past_log else 0.0

    def begin(self, content_bytes: int = 0) -> None:
        """Raises sqlite3.OperationalError, also if the file was deleted or replaced since it was opened."""
        self._check_place()
        if self._open_connection().in_transaction:
            self._turns -= 1
            return
        self._choose_journal(content_bytes)
        large = self._past_log and content_bytes >= LARGE_BYTES
        self._set_cache(LARGE_CACHE_KIB if large else CACHE_KIB)
        self._open_connection().execute("BEGIN IMMEDIATE")
        if large:
            self._write_back.start(self._inode)

    def _check_place(self) -> None:
        try:
            if os.stat(self._path).st_ino != self._inode:
                raise FileNotFoundError
        except FileNotFoundError:
            # SQLite would go on writing into the deleted file.
            self.close()
            raise sqlite3.OperationalError(f"{self._path} was deleted or replaced") from None

    def commit(self) -> None:
        """Raises as `begin` does."""
        self._check_place()
        self._open_connection().execute("COMMIT")
        self._write_back.stop()

    def rollback(self) -> None:
        self._write_back.stop()
        if self._connection is not None and self._connection.in_transaction:
            try:
                self._connection.execute("ROLLBACK")
            except sqlite3.Error:
                self.close()

    def tables(self) -> set[str]:
        return {row[0] for row in self.select("SELECT name FROM sqlite_master WHERE type = 'table'")}

    def select(self, statement: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        return self._open_connection().execute(statement, tuple(values)).fetchall()

    def execute(self, statement: str, values: Sequence[object] = ()) -> None:
        self._open_connection().execute(statement, tuple(values))

    def execute_many(self, statement: str, rows: Sequence[Row]) -> None:
        self._open_connection().executemany(statement, rows)

    def insert_id(self, statement: str, values: Sequence[object], column: str) -> int:
        row = self._open_connection().execute(f"{statement} RETURNING {column}", tuple(values)).fetchone()
        return int(row[0])

    def write(self, table: Table, rows: Sequence[Row], fresh: set[str] | None = None) -> None:
        if not rows:
            return
        if table.text_from_bytes is not None:
            at = table.columns.index(table.text_from_bytes)
            rows = packed(rows, at, self._page_bytes)
            if max(len(row[at]) for row in rows) > TOGETHER_BYTES:
                self._upsert(table, rows)
                return
        fresh = fresh or set()
        new = [row for row in rows if row[0] in fresh]
        if new:
            try:
                # FAIL needs no copy of each page that the statement changes, as ABORT would to undo it alone.
                written = self._write_together("INSERT OR FAIL", table, new)
            except sqlite3.IntegrityError:
                # Left over from a trace that somebody deleted without these, or twice in the batch.
                written = 0
            self._upsert(table, new[written:])
        known = [row for row in rows if row[0] not in fresh] if len(new) < len(rows) else []
        if known and table in (TAGS, METADATA):
            known = known[self._write_together("INSERT OR REPLACE", table, known) :]
        self._upsert(table, known)

    def _upsert(self, table: Table, rows: Sequence[Row]) -> None:
        if not rows:
            return
        statement = self._statements.get(table.name)
        if statement is None:
            # Bytes bound and cast cost a copy; decoded to str they would cost two and a check.
            statement = DIALECT.insert(table, "CAST(? AS TEXT)") + DIALECT.on_conflict(table)
            self._statements[table.name] = statement
        self._open_connection().executemany(statement, rows)

    def _write_together(self, verb: str, table: Table, rows: Sequence[Row]) -> int:
        """Write rows many at a time, as far as they fill a statement; how many."""
        many = TOGETHER_VALUES // len(table.columns)
        statement = self._statements.get(verb + table.name)
        if statement is None:
            statement = verb + DIALECT.insert(table, "CAST(? AS TEXT)").removeprefix("INSERT")
            statement += f", {statement.partition(' VALUES ')[2]}" * (many - 1)
            self._statements[verb + table.name] = statement
        whole = len(rows) // many * many
        execute = self._open_connection().execute
        for start in range(0, whole, many):
            values: list[object] = []
            for row in rows[start : start + many]:
                values += row
            execute(statement, values)
        return whole

    def trouble(self, error: BaseException) -> Trouble:
        if isinstance(error, OverflowError | UnicodeError | sqlite3.DataError | sqlite3.InterfaceError):
            return Trouble.DATA
        if isinstance(error, sqlite3.IntegrityError):
            return Trouble.DATA
        if isinstance(error, FileNotFoundError | sqlite3.ProgrammingError):
            return Trouble.GONE if self._connection is None else Trouble.DATA
        if isinstance(error, sqlite3.Error):
            code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CANTOPEN) & 0xFF
            if code in _BUSY_CODES:
                return Trouble.BUSY
            if code in _GONE_CODES or self._connection is None:
                return Trouble.GONE
            if code == sqlite3.SQLITE_ERROR:
                return Trouble.SCHEMA
            if code in (sqlite3.SQLITE_TOOBIG, sqlite3.SQLITE_MISMATCH):
                return Trouble.DATA
        return Trouble.OTHER

    def _open_connection(self) -> sqlite3.Connection:
        if self._connection is None:
            raise sqlite3.OperationalError(f"{self._path} is not open")
        return self._connection
