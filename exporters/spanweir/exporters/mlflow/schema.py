"""Which revision a database is at, and making MLflow's schema in an empty one.

MLflow's own migrations make the schema, in a process of their own: importing MLflow costs 300 MB and seconds, and its
tables are its business.
"""

import contextlib
import fcntl
import json
import os
import re
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from spanweir.exporters.mlflow.database import Database
from spanweir.exporters.mlflow.revisions import REVISIONS, TOO_OLD, Layout

CREATE_TIMEOUT_S: Final = 300.0
SETTLE_S: Final = 5.0
"""A migration that has not moved for so long is over."""

_RAISED = re.compile(r"[\w.]+(?:Error|Exception|Exit|Interrupt|Violation)\b")
"""The line of a traceback that names what was raised."""
_OURS = frozenset(("experiments", "trace_info", "trace_tags", "spans"))


class SchemaError(Exception):
    """The database cannot be written, and why; waiting does not help."""


class BeingCreated(Exception):  # noqa: N818 - not an error: the other one finishes
    """Another program, such as MLflow's own server, makes the schema at this moment; it is there soon."""


class UnknownRevision(Exception):  # noqa: N818 - not an error: there is another way to write
    """An MLflow database at a revision that is not in the table of `revisions`."""

    def __init__(self, place: str, revision: str) -> None:
        known = ", ".join(release for _, release in REVISIONS.values() if release)
        super().__init__(f"{place} is at MLflow schema revision {revision}, which this version does not know ({known})")
        self.revision = revision


def is_empty(database: Database) -> bool:
    return not any(not name.startswith(("alembic_", "sqlite_")) for name in database.tables())


def layout_of(database: Database) -> tuple[str, Layout]:
    """Revision and layout. Raises SchemaError or UnknownRevision."""
    place = database.place
    tables = database.tables()
    if "alembic_version" not in tables:
        some = ", ".join(sorted(tables)[:3])
        raise SchemaError(f"{place} is not an MLflow database: it has tables ({some}) and no alembic_version")
    revisions = [row[0] for row in database.select("SELECT version_num FROM alembic_version")]
    if len(revisions) != 1 or not tables >= _OURS:
        raise SchemaError(f"{place} is not a complete MLflow database (revision {revisions}); run: mlflow db upgrade")
    revision = revisions[0]
    if revision in REVISIONS:
        return revision, REVISIONS[revision][0]
    if revision in TOO_OLD:
        raise SchemaError(
            f"{place} is at schema revision {revision}, older than MLflow 3.10; back it up and run: mlflow db upgrade"
        )
    raise UnknownRevision(place, revision)


def settled_layout(database: Database) -> tuple[str, Layout]:
    """As `layout_of`, but a database that somebody is just creating or upgrading is waited for."""
    before: object = None
    while True:
        try:
            return layout_of(database)
        except (SchemaError, UnknownRevision):
            tables = database.tables()
            revisions = (
                database.select("SELECT version_num FROM alembic_version") if "alembic_version" in tables else ()
            )
            if "experiments" not in tables or before == (tables, revisions):
                raise
            before = (tables, revisions)
            time.sleep(SETTLE_S)


def create_file(path: Path, artifact_root: str) -> None:
    """As `create`, for a SQLite file: all of the schema or nothing, also if this process is killed meanwhile.

    MLflow's migrations take seconds and are no transaction. They run on a file beside it, which is then copied into the
    empty one in one transaction. Processes that find the same empty file take turns.
    """
    new = path.with_name(f".{path.name}.new")
    with open(path.with_name(f".{path.name}.lock"), "wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with contextlib.closing(sqlite3.connect(path, timeout=60)) as target:
            if target.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
                return  # another process was first
            try:
                _remove(new)
                create(f"sqlite:///{new}", artifact_root)
                with contextlib.closing(sqlite3.connect(new)) as source:
                    # A file in write-ahead mode keeps its pages as they are.
                    source.execute(f"PRAGMA page_size = {target.execute('PRAGMA page_size').fetchone()[0]}")
                    source.execute("VACUUM")
                    source.backup(target)
            finally:
                _remove(new)


def _remove(path: Path) -> None:
    for name in (path.name, f"{path.name}-journal", f"{path.name}-wal", f"{path.name}-shm"):
        path.with_name(name).unlink(missing_ok=True)


def create_on_server(connect: Callable[[], Database], uri: str, artifact_root: str) -> None:
    """As `create`, on a database server, where nothing keeps another program from doing the same.

    `connect` gives a connection that is not open. Raises BeingCreated if another program was first.
    """
    try:
        create(uri, artifact_root)
    except SchemaError as error:
        database = connect()
        database.open(read_only=True)
        try:
            if "experiments" in database.tables():
                raise BeingCreated("another program is making MLflow's schema there") from error
        finally:
            database.close()
        raise


def with_driver(uri: str) -> str:
    """The URI as SQLAlchemy is to have it: with the driver that spanweir installs, where it names none."""
    for scheme, driver in (("postgresql", "psycopg"), ("mysql", "pymysql")):
        if uri.startswith(f"{scheme}://"):
            return f"{scheme}+{driver}{uri[len(scheme) :]}"
    return uri


def create(uri: str, artifact_root: str) -> None:
    """Make MLflow's newest schema and its Default experiment. Raises SchemaError if MLflow says no."""
    program = [sys.executable, "-m", "spanweir.exporters.mlflow.create_schema"]
    given = json.dumps({"uri": uri, "artifact_root": artifact_root})
    environment = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}
    try:
        result = subprocess.run(
            program, input=given, capture_output=True, text=True, timeout=CREATE_TIMEOUT_S, env=environment, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise SchemaError(f"MLflow did not create its schema within {CREATE_TIMEOUT_S:.0f} s") from error
    if result.returncode == 0:
        return
    if "No module named 'mlflow'" in result.stderr:
        raise SchemaError(
            "the database is empty and MLflow, which creates its own schema, is not installed; "
            "run: pip install 'spanweir[mlflow]', or create it elsewhere with: mlflow db upgrade <uri>"
        )
    raise SchemaError(f"MLflow could not create its schema: {_reason(result.stderr)}")


def _reason(traceback: str) -> str:
    """The last line that tells anything: below its errors SQLAlchemy writes the statement, and where to read more."""
    lines = [line for line in traceback.strip().splitlines() if line and not line.startswith(("(Background", "[SQL:"))]
    errors = [line for line in lines if _RAISED.match(line)]
    return (errors or lines or ["no message"])[-1]
