"""What the SQL store needs of a database, and the statements that all of them share.

Statements are written with `?` marks and unquoted names; a `Dialect` makes them a database's own.
"""

from collections.abc import Sequence
from enum import Enum, auto
from typing import Any, Protocol

import msgspec

from spanweir.exporters.mlflow.revisions import Table
from spanweir.exporters.mlflow.rows import Row

IN_LIMIT = 500
"""Values in one IN list: below every database's limit, and few distinct statements to prepare."""


class Trouble(Enum):
    """What an error of the driver means."""

    GONE = auto()
    """Not reachable, or refused the connection: open it again later."""
    BUSY = auto()
    """Locked, full or read-only for now: the connection is fine, try later."""
    RACE = auto()
    """Another writer came first, or a deadlock was broken: try at once."""
    DATA = auto()
    """A value that this database does not take."""
    SCHEMA = auto()
    """A table or column is not there: somebody migrates, or it is not MLflow's."""
    OTHER = auto()


class Database(Protocol):
    """One connection to MLflow's database, used by one thread."""

    @property
    def place(self) -> str:
        """Where it is, without credentials, for messages."""
        ...

    def open(self, *, read_only: bool = False, create: bool = False) -> None:
        """`create`: make the database itself if it is not there and that is a matter of a file."""
        ...

    def close(self) -> None: ...
    def begin(self, content_bytes: int = 0) -> None:
        """`content_bytes`: about how much is to be written. A transaction that was left open goes on."""
        ...

    def may_stay_open(self, content_bytes: int) -> float | None:
        """For how many seconds a transaction may wait for more, after a batch of so much content. 0: only until the
        next batch is in the making; None: commit it at once."""
        ...

    def commit(self) -> None: ...
    def rollback(self) -> None:
        """Never raises."""
        ...

    def tables(self) -> set[str]: ...
    def select(self, statement: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]: ...
    def execute(self, statement: str, values: Sequence[object] = ()) -> None: ...
    def execute_many(self, statement: str, rows: Sequence[Row]) -> None: ...
    def insert_id(self, statement: str, values: Sequence[object], column: str) -> int:
        """Execute an INSERT and return the value that the database gave to `column`."""
        ...

    def write(self, table: Table, rows: Sequence[Row], fresh: set[str] | None = None) -> None:
        """Insert or overwrite rows by key. Rows whose trace (first column) is in `fresh` are known to be new."""
        ...

    @property
    def null(self) -> float | None:
        """What stands for NULL in rows to write."""
        ...

    @property
    def idle_is_in_the_way(self) -> bool:
        """Whether others can do less while this connection is open, though nobody uses it."""
        ...

    @property
    def lock(self) -> str:
        """What to append to a SELECT so that its rows stay as they are until the commit."""
        ...

    def trouble(self, error: BaseException) -> Trouble: ...


class Dialect(msgspec.Struct, frozen=True, kw_only=True):
    """How a database writes what standard SQL has no one word for."""

    mark: str
    quote: str
    upsert_by_key: bool = True
    """`ON CONFLICT (key) DO UPDATE`, else MySQL's `ON DUPLICATE KEY UPDATE`."""

    def name(self, name: str) -> str:
        return f"{self.quote}{name}{self.quote}"

    def statement(self, statement: str) -> str:
        return statement if self.mark == "?" else statement.replace("%", "%%").replace("?", self.mark)

    def insert(self, table: Table, value: str | None = None) -> str:
        """`INSERT INTO ... VALUES (...)`; `value` stands for a text column that is given as bytes."""
        marks = ", ".join(value or self.mark if name == table.text_from_bytes else self.mark for name in table.columns)
        return f"{self.into(table)} VALUES ({marks})"

    def into(self, table: Table) -> str:
        return f"INSERT INTO {table.name} ({', '.join(map(self.name, table.columns))})"

    def on_conflict(self, table: Table) -> str:
        """What makes an INSERT an upsert."""
        if self.upsert_by_key:
            head = f" ON CONFLICT ({', '.join(map(self.name, table.key))}) DO "
            if table.only_insert or not table.updated:
                return head + "NOTHING"
            return f"{head}UPDATE SET {self._assignments(table)}{self._guard(table)}"
        if table.only_insert or not table.updated:
            key = self.name(table.key[0])
            return f" ON DUPLICATE KEY UPDATE {key} = {key}"
        return f" ON DUPLICATE KEY UPDATE {self._assignments(table)}"

    def _assignments(self, table: Table) -> str:
        # MySQL assigns from left to right and sees what it has just assigned: the guard's column goes last.
        names = sorted(table.updated, key=lambda name: name == table.newer_by)
        parts = [f"{self.name(name)} = {self._new(table, name)}" for name in names]
        if table.counter:
            parts.append(f"{self.name(table.counter)} = {table.name}.{self.name(table.counter)} + 1")
        return ", ".join(parts)

    def _new(self, table: Table, name: str) -> str:
        if self.upsert_by_key:
            return f"excluded.{self.name(name)}"
        if table.newer_by is None:
            return f"VALUES({self.name(name)})"
        newer = self.name(table.newer_by)
        return f"IF(VALUES({newer}) >= {newer}, VALUES({self.name(name)}), {self.name(name)})"

    def _guard(self, table: Table) -> str:
        if table.newer_by is None:
            return ""
        return f" WHERE excluded.{self.name(table.newer_by)} >= {table.name}.{self.name(table.newer_by)}"


def marks(values: Sequence[object]) -> str:
    return ", ".join("?" * len(values))


def select_in(database: Database, statement: str, values: Sequence[object], suffix: str = "") -> list[tuple[Any, ...]]:
    """`statement` ends before the list, as in `... WHERE request_id IN`; long lists are asked for in parts."""
    found: list[tuple[Any, ...]] = []
    for start in range(0, len(values), IN_LIMIT):
        part = values[start : start + IN_LIMIT]
        found += database.select(f"{statement} ({marks(part)}){suffix}", part)
    return found
