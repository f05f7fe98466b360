"""MLflow's database in MySQL or MariaDB, through PyMySQL.

One multi-row upsert a table, cut where the server's `max_allowed_packet` asks for it.
"""

import ssl
from collections.abc import Sequence
from typing import Any, Final
from urllib.parse import parse_qs, unquote, urlsplit

import pymysql
from pymysql.constants import CR, ER

from spanweir.exporters.mlflow.database import Dialect, Trouble
from spanweir.exporters.mlflow.revisions import Table
from spanweir.exporters.mlflow.rows import Row

DIALECT: Final = Dialect(mark="%s", quote="`", upsert_by_key=False)
CONNECT_TIMEOUT_S: Final = 10
READ_TIMEOUT_S: Final = 120
STATEMENT_BYTES: Final = 4 * 1024 * 1024
"""A statement is cut at this size, or at half of what the server takes, if that is less."""

_RACES = {ER.DUP_ENTRY, ER.LOCK_DEADLOCK, ER.LOCK_WAIT_TIMEOUT}
_GONE = {
    CR.CR_CONNECTION_ERROR, CR.CR_CONN_HOST_ERROR, CR.CR_SERVER_GONE_ERROR, CR.CR_SERVER_LOST, ER.SERVER_SHUTDOWN,
    ER.CON_COUNT_ERROR, ER.OPTION_PREVENTS_STATEMENT, 1836, ER.DISK_FULL, ER.RECORD_FILE_FULL,
}  # fmt: skip
"""1836 is ER_READ_ONLY_MODE, which PyMySQL has no name for."""
_SCHEMA = {ER.NO_SUCH_TABLE, ER.BAD_FIELD_ERROR}


class Mysql:
    """A `Database`."""

    def __init__(self, uri: str, *, password: str = "") -> None:
        self._parts = urlsplit(uri)
        self._password = password or unquote(self._parts.password or "")
        self._connection: pymysql.connections.Connection[Any] | None = None
        self._limit = STATEMENT_BYTES

    @property
    def place(self) -> str:
        port = f":{self._parts.port}" if self._parts.port else ""
        return f"mysql://{self._parts.hostname or ''}{port}{self._parts.path}"

    lock = " FOR UPDATE"
    idle_is_in_the_way = False
    null = None

    def open(self, *, read_only: bool = False, create: bool = False) -> None:
        self.close()
        asked = {key: values[-1] for key, values in parse_qs(self._parts.query).items()}
        socket = asked.get("unix_socket")
        connection = pymysql.connect(
            host=self._parts.hostname or "localhost",
            port=self._parts.port or 3306,
            user=unquote(self._parts.username or ""),
            password=self._password,
            database=unquote(self._parts.path.lstrip("/")),
            unix_socket=socket,
            charset="utf8mb4",
            autocommit=True,
            connect_timeout=CONNECT_TIMEOUT_S,
            read_timeout=READ_TIMEOUT_S,
            write_timeout=READ_TIMEOUT_S,
            ssl=_tls(asked),
        )
        self._connection = connection
        # Gap locks of the default level make two writers of new traces deadlock.
        self.execute("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED")
        # `literal` relies on backslash escapes.
        self.execute("SET SESSION sql_mode = REPLACE(@@SESSION.sql_mode, 'NO_BACKSLASH_ESCAPES', '')")
        if read_only:
            self.execute("SET SESSION TRANSACTION READ ONLY")
        packet = int(self.select("SELECT @@max_allowed_packet")[0][0])
        self._limit = min(STATEMENT_BYTES, packet // 2)

    def close(self) -> None:
        if self._connection is not None:
            if self._connection.open:
                self._connection.close()
            self._connection = None

    def begin(self, content_bytes: int = 0) -> None:
        self._open_connection().begin()

    def may_stay_open(self, content_bytes: int) -> float | None:
        return None

    def commit(self) -> None:
        self._open_connection().commit()

    def rollback(self) -> None:
        if self._connection is not None:
            try:
                self._connection.rollback()
            except (pymysql.Error, OSError):
                self.close()

    def tables(self) -> set[str]:
        return {row[0] for row in self.select("SHOW TABLES")}

    def select(self, statement: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        with self._open_connection().cursor() as cursor:
            cursor.execute(_own(statement), tuple(values) or None)
            return list(cursor.fetchall())

    def execute(self, statement: str, values: Sequence[object] = ()) -> None:
        with self._open_connection().cursor() as cursor:
            cursor.execute(_own(statement), tuple(values) or None)

    def execute_many(self, statement: str, rows: Sequence[Row]) -> None:
        with self._open_connection().cursor() as cursor:
            for row in rows:
                cursor.execute(_own(statement), row)

    def insert_id(self, statement: str, values: Sequence[object], column: str) -> int:
        with self._open_connection().cursor() as cursor:
            cursor.execute(_own(statement), tuple(values))
            return int(cursor.lastrowid)

    def write(self, table: Table, rows: Sequence[Row], fresh: set[str] | None = None) -> None:
        if not rows:
            return
        head = f"{DIALECT.into(table)} VALUES ".encode()
        tail = DIALECT.on_conflict(table).encode()
        part: list[bytes] = []
        size = 0
        with self._open_connection().cursor() as cursor:
            for row in rows:
                encoded = b"(" + b",".join(map(literal, row)) + b")"
                if part and size + len(encoded) > self._limit:
                    cursor.execute(head + b",".join(part) + tail)
                    part, size = [], 0
                part.append(encoded)
                size += len(encoded)
            cursor.execute(head + b",".join(part) + tail)

    def trouble(self, error: BaseException) -> Trouble:
        code = error.args[0] if isinstance(error, pymysql.Error) and error.args else None
        if code in _RACES:
            return Trouble.RACE
        if code in _SCHEMA:
            return Trouble.SCHEMA
        if code in _GONE or isinstance(error, OSError) or self._connection is None or not self._connection.open:
            return Trouble.GONE
        if isinstance(error, pymysql.DataError | pymysql.IntegrityError | UnicodeError | OverflowError):
            return Trouble.DATA
        if code in (ER.TRUNCATED_WRONG_VALUE_FOR_FIELD, ER.NET_PACKET_TOO_LARGE):
            return Trouble.DATA
        return Trouble.GONE if isinstance(error, pymysql.OperationalError | pymysql.InterfaceError) else Trouble.OTHER

    def _open_connection(self) -> "pymysql.connections.Connection[Any]":
        if self._connection is None:
            raise pymysql.OperationalError(CR.CR_SERVER_GONE_ERROR, f"{self.place} is not open")
        return self._connection


def literal(value: object) -> bytes:
    """A value in the text of a statement. Raises TypeError for one of a type that no row of ours has.

    PyMySQL's own escaping took four times what the rest of writing takes: contents are UTF-8 already, and in a session
    with backslash escapes and a character set in which no quote hides, only the backslash and the quote need one.
    """
    if value is None:
        return b"NULL"
    if isinstance(value, str):
        value = value.encode()
    if isinstance(value, bytes):
        return b"'" + value.replace(b"\\", b"\\\\").replace(b"'", b"\\'") + b"'"
    if isinstance(value, bool):
        return b"1" if value else b"0"
    if isinstance(value, int | float):
        return repr(value).encode()
    raise TypeError(f"no SQL literal for {type(value).__name__}")


def _own(statement: str) -> str:
    """`key` is a word of MySQL's own."""
    return DIALECT.statement(statement.replace(".key", ".`key`"))


def _tls(asked: dict[str, str]) -> ssl.SSLContext | None:
    """`?ssl_ca=/path` as MLflow's own connection strings have it; `?ssl=true` trusts the system's authorities."""
    if "ssl_ca" in asked:
        return ssl.create_default_context(cafile=asked["ssl_ca"])
    return ssl.create_default_context() if asked.get("ssl") in ("true", "1") else None
