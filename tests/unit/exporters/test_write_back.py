"""Writing a SQLite file to the disk while it is made: the right file, without its locks being lost."""

import os
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from spanweir.exporters.mlflow.writeback import INTERVAL_S, WriteBack, descriptor_of, kernel_call

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Linux alone can begin to write a file")


def connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("CREATE TABLE IF NOT EXISTS texts (text)")
    return connection


def test_it_finds_the_descriptor_that_sqlite_has(tmp_path: Path) -> None:
    connect(tmp_path / "other.db")
    connection = connect(tmp_path / "one.db")
    inode = os.stat(tmp_path / "one.db").st_ino
    descriptor = descriptor_of(inode)
    assert descriptor is not None
    assert os.readlink(f"/proc/self/fd/{descriptor}") == str(tmp_path / "one.db")
    connection.close()
    assert descriptor_of(inode) is None


def test_the_kernel_takes_the_call(tmp_path: Path) -> None:
    begin_writing = kernel_call()
    assert begin_writing is not None
    with (tmp_path / "file").open("wb", buffering=0) as file:
        file.write(b"x" * 100_000)
        assert begin_writing(file.fileno()) == 0
    assert begin_writing(-1) == -1


def test_a_transaction_keeps_its_lock_against_other_processes(tmp_path: Path) -> None:
    path = tmp_path / "one.db"
    connection = connect(path)
    write_back = WriteBack()
    connection.execute("BEGIN IMMEDIATE")
    connection.execute("INSERT INTO texts VALUES (?)", ("x" * 10_000_000,))
    write_back.start(os.stat(path).st_ino)
    time.sleep(5 * INTERVAL_S)
    write_back.stop()
    program = f"import sqlite3; sqlite3.connect({str(path)!r}, timeout=0).execute('BEGIN IMMEDIATE')"
    other = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert "database is locked" in other.stderr
    connection.execute("COMMIT")
    assert connection.execute("SELECT SUM(LENGTH(text)) FROM texts").fetchone() == (10_000_000,)


def test_its_thread_runs_from_start_to_stop(tmp_path: Path) -> None:
    path = tmp_path / "one.db"
    connection = connect(path)
    write_back = WriteBack()
    write_back.stop()
    for _ in range(3):
        write_back.start(os.stat(path).st_ino)
        write_back.start(os.stat(path).st_ino)
        assert [thread.name for thread in threading.enumerate()].count("write-back") == 1
        write_back.stop()
        assert "write-back" not in [thread.name for thread in threading.enumerate()]
    inode = os.stat(path).st_ino
    connection.close()
    write_back.start(inode)
    assert "write-back" not in [thread.name for thread in threading.enumerate()], "nobody has the file open"
