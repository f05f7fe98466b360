"""Databases in an exporter's state directory, for what it must remember across restarts: opening one.

What stands in them is their owners' (`spool`, `seen`).
"""

import sqlite3
from pathlib import Path


def opened(path: Path, version: int, schema: str) -> sqlite3.Connection:
    """The SQLite database at `path`, made if it is not there. What is committed outlives a power cut.

    `schema` are statements that do nothing where its tables stand already. Raises ValueError if the database is of
    another version, sqlite3.Error, OSError.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    db.execute("PRAGMA journal_mode=WAL")
    db.execute("PRAGMA synchronous=FULL")
    found = db.execute("PRAGMA user_version").fetchone()[0]
    if found not in (0, version):
        db.close()
        raise ValueError(f"{path} is of version {found}; this spanweir knows {version}")
    db.executescript(schema)
    db.execute(f"PRAGMA user_version={version}")
    return db
