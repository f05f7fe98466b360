"""MLflow's database in PostgreSQL, through psycopg 3.

Rows of new traces are copied straight into the tables, which is the cheapest way in that PostgreSQL has. Rows of
traces that exist go to a temporary table and from there, in one statement, over what is there. A trace that another
process creates meanwhile breaks the copy; the transaction is then done again, and finds it existing.
"""

from collections.abc import Sequence
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

import psycopg
from psycopg import conninfo, errors

from spanweir.exporters.mlflow.copying import ENCODERS, Encode, encoded
from spanweir.exporters.mlflow.database import Dialect, Trouble
from spanweir.exporters.mlflow.revisions import Table
from spanweir.exporters.mlflow.rows import Row

DIALECT: Final = Dialect(mark="%s", quote='"')
CONNECT_TIMEOUT_S: Final = 10
FEW_ROWS: Final = 20
"""Up to here a plain upsert is cheaper than a copy through a temporary table."""

_OPTIONS: Final[dict[str, str | int]] = {
    "connect_timeout": CONNECT_TIMEOUT_S,
    "application_name": "spanweir",
    # A server that went away without a word is noticed within a minute, not after the kernel's two hours.
    "keepalives_idle": 20,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 60_000,
}


def plain_uri(uri: str) -> str:
    """The URI without SQLAlchemy's driver name: `postgresql+psycopg2://` is `postgresql://` to libpq."""
    parts = urlsplit(uri)
    return urlunsplit(parts._replace(scheme=parts.scheme.partition("+")[0]))


class Postgresql:
    """A `Database`."""

    def __init__(self, uri: str, *, password: str = "") -> None:
        self._uri = plain_uri(uri)
        self._password = password
        self._connection: psycopg.Connection[tuple[Any, ...]] | None = None
        self._staged: set[str] = set()
        self._encoders: dict[str, Sequence[Encode] | None] = {}

    @property
    def place(self) -> str:
        parts = urlsplit(self._uri)
        port = f":{parts.port}" if parts.port else ""
        return f"postgresql://{parts.hostname or ''}{port}{parts.path}"

    lock = " FOR UPDATE OF i"
    idle_is_in_the_way = False
    null = None

    def open(self, *, read_only: bool = False, create: bool = False) -> None:
        self.close()
        password = {"password": self._password} if self._password else {}
        given = conninfo.make_conninfo(self._uri, **_OPTIONS, **password)
        connection = psycopg.connect(given, autocommit=True, prepare_threshold=3)
        connection.read_only = read_only
        self._connection = connection
        try:
            # Halves what the server spends on storing contents. It applies to what this connection writes.
            connection.execute("SET default_toast_compression = 'lz4'")
        except psycopg.Error:
            # Older than PostgreSQL 14, or built without lz4.
            return

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        self._staged.clear()
        self._encoders.clear()

    def begin(self, content_bytes: int = 0) -> None:
        self.execute("BEGIN")

    def may_stay_open(self, content_bytes: int) -> float | None:
        return None

    def commit(self) -> None:
        self.execute("COMMIT")

    def rollback(self) -> None:
        if self._connection is not None:
            try:
                self._connection.execute("ROLLBACK")
            except psycopg.Error:
                self.close()

    def tables(self) -> set[str]:
        return {
            row[0]
            for row in self.select("SELECT tablename FROM pg_tables WHERE schemaname = ANY(current_schemas(false))")
        }

    def select(self, statement: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        return self._run(statement, values).fetchall()

    def execute(self, statement: str, values: Sequence[object] = ()) -> None:
        self._run(statement, values)

    def execute_many(self, statement: str, rows: Sequence[Row]) -> None:
        self._run_many(DIALECT.statement(statement), rows)

    def _run_many(self, statement: str, rows: Sequence[Row]) -> None:
        with self._open_connection().cursor() as cursor:
            cursor.executemany(statement.encode(), rows)

    def insert_id(self, statement: str, values: Sequence[object], column: str) -> int:
        row = self._run(f"{statement} RETURNING {column}", values).fetchone()
        assert row is not None, "INSERT ... RETURNING gave no row"
        return int(row[0])

    def write(self, table: Table, rows: Sequence[Row], fresh: set[str] | None = None) -> None:
        new = [row for row in rows if row[0] in fresh] if fresh else []
        if new:
            self._copy(table, table.name, new)
        if len(new) == len(rows):
            return
        known = [row for row in rows if row[0] not in fresh] if fresh else rows
        if len(known) <= FEW_ROWS:
            known = [_as_text(table, row) for row in known]
            self._run_many(DIALECT.insert(table) + DIALECT.on_conflict(table), known)
        else:
            self._copy_over(table, known)

    def _copy_over(self, table: Table, rows: Sequence[Row]) -> None:
        staging = f"spanweir_{table.name}"
        if staging not in self._staged:
            columns = ", ".join(map(DIALECT.name, table.columns))
            self.execute(
                f"CREATE TEMPORARY TABLE IF NOT EXISTS {staging} ON COMMIT DELETE ROWS"
                f" AS SELECT {columns} FROM {table.name} WITH NO DATA"
            )
            self._staged.add(staging)
        self._copy(table, staging, rows)
        columns = ", ".join(map(DIALECT.name, table.columns))
        order = ", ".join(map(DIALECT.name, table.key))
        self.execute(
            f"{DIALECT.into(table)} SELECT {columns} FROM {staging} ORDER BY {order}{DIALECT.on_conflict(table)}"
        )

    def _copy(self, table: Table, into: str, rows: Sequence[Row]) -> None:
        columns = ", ".join(map(DIALECT.name, table.columns))
        statement = f"COPY {into} ({columns}) FROM STDIN"
        encoders = self._encoders_of(table)
        with self._open_connection().cursor() as cursor:
            if encoders is None:
                with cursor.copy(statement.encode()) as copy:
                    for row in rows:
                        copy.write_row(_as_text(table, row))
                return
            with cursor.copy(f"{statement} (FORMAT BINARY)".encode()) as copy:
                for part in encoded(rows, encoders):
                    copy.write(part)

    def _encoders_of(self, table: Table) -> Sequence[Encode] | None:
        """What makes each column's values binary; None for a table that is copied as text.

        That is one of short values, which psycopg is quicker with, or with a type of somebody's own.
        """
        if table.text_from_bytes is None:
            return None
        if table.name not in self._encoders:
            statement = (
                "SELECT attname, atttypid::bigint FROM pg_attribute"
                f" WHERE attrelid = '{table.name}'::regclass AND attnum > 0 AND NOT attisdropped"
            )
            types = dict(self.select(statement))
            found = [ENCODERS.get(types[name]) for name in table.columns]
            self._encoders[table.name] = None if None in found else [one for one in found if one is not None]
        return self._encoders[table.name]

    def trouble(self, error: BaseException) -> Trouble:
        if self._connection is None or self._connection.closed or self._connection.broken:
            return Trouble.GONE
        if isinstance(error, errors.UniqueViolation | errors.DeadlockDetected | errors.SerializationFailure):
            return Trouble.RACE
        if isinstance(error, errors.DataError | errors.IntegrityError | UnicodeError | OverflowError | ValueError):
            return Trouble.DATA
        if isinstance(error, errors.UndefinedTable | errors.UndefinedColumn):
            return Trouble.SCHEMA
        if isinstance(error, errors.ReadOnlySqlTransaction | errors.DiskFull | errors.LockNotAvailable):
            # A standby after a failover says read-only: another connection may reach the new primary.
            return Trouble.GONE
        if isinstance(error, errors.OperationalError):
            return Trouble.GONE
        return Trouble.OTHER

    def _run(self, statement: str, values: Sequence[object]) -> psycopg.Cursor[tuple[Any, ...]]:
        text = DIALECT.statement(statement) if values else statement
        return self._open_connection().execute(text.encode(), values or None)

    def _open_connection(self) -> psycopg.Connection[tuple[Any, ...]]:
        if self._connection is None:
            raise psycopg.OperationalError(f"{self.place} is not open")
        return self._connection


def _as_text(table: Table, row: Row) -> Row:
    if table.text_from_bytes is None:
        return row
    at = table.columns.index(table.text_from_bytes)
    return (*row[:at], row[at].decode(), *row[at + 1 :])
