"""Have the kernel write a large transaction to the disk while SQLite still makes it.

SQLite hands pages to the kernel and waits for the disk at the end: 13 ms of work for a trace of 10 MB, then 7 to 25 ms
of waiting, one after the other. Here a thread tells the kernel to begin with what it has. It takes a free core: with
the disk and both cores overloaded by others, a trace took as long as without or up to a tenth longer.

It decides nothing about durability or order. SQLite counts on the kernel writing whatever it was given at any moment
(the kernel does so by itself, after seconds): a page is handed over only once that is harmless, in a rollback journal's
case after the journal is on the disk, and what must be durable SQLite still waits for with `fdatasync`.
"""

import ctypes
import os
import sys
import threading
from collections.abc import Callable
from typing import Final

INTERVAL_S: Final = 0.002
"""2 to 3 MB of pages are made in that time. Each look costs 50 us of CPU."""
_SYNC_FILE_RANGE_WRITE: Final = 2


class WriteBack:
    """Begins to write a SQLite database's file, from `start` to `stop`. Does nothing but on Linux."""

    def __init__(self) -> None:
        self._begin_writing = kernel_call()
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self, inode: int) -> None:
        """`inode`: of the database, which this process has open."""
        self.stop()
        descriptor = descriptor_of(inode)
        if self._begin_writing is None or descriptor is None:
            return
        self._stopped = threading.Event()
        thread = threading.Thread(
            target=_write, args=(self._begin_writing, descriptor, self._stopped), name="write-back", daemon=True
        )
        try:
            thread.start()
        except RuntimeError:  # no more threads: the commit waits for the disk a little longer
            return
        self._thread = thread

    def stop(self) -> None:
        if self._thread is not None:
            self._stopped.set()
            self._thread.join()
            self._thread = None


def descriptor_of(inode: int) -> int | None:
    """One that SQLite has of the file.

    One of our own would have to be closed some time, and closing it gives up the locks of every connection that this
    process has to the file ("How To Corrupt An SQLite Database File", 2.2).
    """
    try:
        names = os.listdir("/proc/self/fd")
    except OSError:
        return None
    for name in names:
        try:
            if os.stat(int(name)).st_ino == inode:
                return int(name)
        except OSError:  # closed meanwhile
            continue
    return None


def _write(begin_writing: Callable[[int], object], descriptor: int, stopped: threading.Event) -> None:
    """Should the descriptor be closed and its number become another file's, that one is written a little sooner."""
    while not stopped.wait(INTERVAL_S):
        begin_writing(descriptor)


def kernel_call() -> Callable[[int], int] | None:
    """What begins to write a file, without waiting for it, given its descriptor; 0 is success. None: there is none."""
    if sys.platform != "linux":
        return None
    try:
        call: Callable[..., int] = ctypes.CDLL(None).sync_file_range
    except (OSError, AttributeError):
        return None
    # Offset and length are 64 bits wide; a plain int would be passed as 32.
    whole = ctypes.c_int64(0)
    return lambda descriptor: call(descriptor, whole, whole, _SYNC_FILE_RANGE_WRITE)
