"""MLflow's database in a SQLite file.

Foreign keys stay unchecked on this connection (SQLite's default): checking them took two thirds of an insert, and the
parents are written in the same transaction. Write-ahead log, because MLflow's UI reads while this writes. Pages stay at
SQLite's 4 KiB: 16 KiB saves 5 us a span and costs a third more room, as long contents then leave half of a page empty.
"""

import os
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote

from spanweir.exporters.mlflow.database import Dialect, Trouble
from spanweir.exporters.mlflow.revisions import Table
from spanweir.exporters.mlflow.rows import Row

DIALECT: Final = Dialect(mark="?", quote='"')

CACHE_KIB: Final = 32 * 1024
CHECKPOINT_BYTES: Final = 64 * 1024 * 1024
"""The write-ahead log is copied back at this size. SQLite's own 4 MB wrote hot index pages back over and over."""
BUSY_S: Final = 20.0

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


class Sqlite:
    """A `Database`."""

    def __init__(self, path: str, *, synchronous: str = "FULL", busy_s: float = BUSY_S) -> None:
        self._path = Path(path)
        self._synchronous = synchronous
        self._busy_s = busy_s
        self._connection: sqlite3.Connection | None = None
        self._inode = 0
        self._statements: dict[str, str] = {}

    @property
    def place(self) -> str:
        return str(self._path)

    lock = ""

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
        page_bytes = connection.execute("PRAGMA page_size").fetchone()[0]
        connection.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
        connection.execute("PRAGMA temp_store = MEMORY")
        if not read_only:
            self._use_write_ahead_log(connection)
            connection.execute(f"PRAGMA synchronous = {self._synchronous}")
            connection.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_BYTES // page_bytes}")
            connection.execute(f"PRAGMA journal_size_limit = {CHECKPOINT_BYTES}")
        self._inode = os.stat(self._path).st_ino

    @staticmethod
    def _use_write_ahead_log(connection: sqlite3.Connection) -> None:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError:
            # Another process holds the file, or its file system has no shared memory. The rollback journal is slower
            # and as safe.
            return

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def begin(self) -> None:
        """Raises sqlite3.OperationalError, also if the file was deleted or replaced since it was opened."""
        try:
            if os.stat(self._path).st_ino != self._inode:
                raise FileNotFoundError
        except FileNotFoundError:
            # SQLite would go on writing into the deleted file.
            self.close()
            raise sqlite3.OperationalError(f"{self._path} was deleted or replaced") from None
        self._open_connection().execute("BEGIN IMMEDIATE")

    def commit(self) -> None:
        self._open_connection().execute("COMMIT")

    def rollback(self) -> None:
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
        statement = self._statements.get(table.name)
        if statement is None:
            # Bytes bound and cast cost a copy; decoded to str they would cost two and a check.
            statement = DIALECT.insert(table, "CAST(? AS TEXT)") + DIALECT.on_conflict(table)
            self._statements[table.name] = statement
        self._open_connection().executemany(statement, rows)

    def forget_statements(self) -> None:
        self._statements.clear()

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
