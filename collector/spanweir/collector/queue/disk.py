"""The disk queue's configuration and its writing side: append-only segments with group commit.

Threads (or an event loop) submit records; one committer thread takes all that has gathered, writes it with one
`writev`, waits for one `fdatasync`, publishes the newest durable sequence number and then calls the submitters back.
While the disk works the next group gathers, so a slow disk makes larger groups, not a longer queue of syncs.

When the disk refuses (full, read-only, I/O error) the group fails as a whole with `QueueUnavailable`, the file is cut
back to its last good end and the next group tries again: nothing has to be restarted when there is room.

Bugs: room is given back by whole segments, so a queue can hold up to a segment more than its exporters still need.
"""

import errno
import fcntl
import logging
import os
import threading
import time
from collections.abc import Collection, Sequence
from typing import Literal, NamedTuple

import msgspec

from spanweir.collector.durable import OWNER_ONLY, fdatasync, sync_directory, write_all
from spanweir.collector.queue import segment
from spanweir.collector.queue.api import Done, QueueFull, QueueInUse, QueueUnavailable, Reader, Record, Writer
from spanweir.collector.queue.files import QueueFiles, StateFile
from spanweir.collector.queue.recovery import recover
from spanweir.schemas.options import GIB, KIB, MIB, Duration, Size

_log = logging.getLogger(__name__)
_GROUP_RECORDS = 500
"""Two buffers a record: `writev` takes 1024 at most (IOV_MAX)."""
_GROUP_BYTES = 64 * MIB
_PENDING_BYTES = 256 * MIB
_RECOUNT_S = 0.05


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Segments in a local directory: survives crashes of the process and of the machine."""

    directory: str = "./queue"
    """Where segments and cursors lie. One collector at a time can use it."""
    max_bytes: Size = Size(10 * GIB)
    """Bound of all segments together. Over it senders are told to try again (UNAVAILABLE, 503)."""
    segment_bytes: Size = Size(64 * MIB)
    """Size at which a new segment begins; never more than a quarter of max_bytes, because room is freed by segments."""
    fsync: Literal["batch", "off"] = "batch"
    """`batch` acknowledges after an fdatasync that requests share; `off` survives a crash of the process only."""
    retention: Duration = Duration(0)
    """How long segments are kept for replay after every exporter is done with them; given up while over half full."""

    def __post_init__(self) -> None:
        if not self.directory:
            raise ValueError("directory must name a directory")
        if self.max_bytes < MIB:
            raise ValueError(f"max_bytes must be at least 1MiB, not {self.max_bytes}")
        if self.segment_bytes < 4 * KIB:
            raise ValueError(f"segment_bytes must be at least 4KiB, not {self.segment_bytes}")

    def open_writer(self) -> Writer:
        return DiskWriter(self)

    def open_reader(self, cursors: Collection[str]) -> Reader:
        # The receiving process has no use for it.
        from spanweir.collector.queue.disk_reader import DiskReader

        return DiskReader(self, cursors)


class _Entry(NamedTuple):
    record: Record
    meta: bytes
    checksum: int
    bytes: int
    done: Done


class DiskWriter:
    """Raises `QueueInUse` if another writer has the directory, `QueueUnavailable` if it cannot be used."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._files = QueueFiles(config.directory)
        self._segment_bytes = min(config.segment_bytes, config.max_bytes // 4)
        self._fsync = config.fsync == "batch"
        self._lock = threading.Condition()
        self._pending: list[_Entry] = []
        self._pending_bytes = 0
        self._closed = False
        self._bytes = 0
        self._last = 0
        self._counted = 0.0
        self._file = -1
        self._file_bytes = 0
        """The good end of the current segment; what is behind it was never acknowledged."""
        try:
            self._lock_file = _lock_directory(self._files)
            try:
                self._recover()
            except BaseException:
                os.close(self._lock_file)
                raise
        except OSError as error:
            raise QueueUnavailable(f"queue directory {config.directory} cannot be used: {error.strerror}") from error
        self._thread = threading.Thread(target=self._run, name="queue-commit", daemon=True)
        self._thread.start()

    def append(self, record: Record) -> int:
        ready = threading.Lock()
        ready.acquire()
        outcome: list[int | Exception] = []

        def done(result: int | Exception) -> None:
            outcome.append(result)
            ready.release()

        self.submit(record, done)
        ready.acquire()
        result = outcome[0]
        if isinstance(result, Exception):
            raise result
        return result

    def submit(self, record: Record, done: Done) -> None:
        meta = segment.encode_meta(record.tenant, record.headers)
        if record.signal not in segment.SIGNALS:
            raise ValueError(f"no signal {record.signal!r}")
        size = segment.FRAME_HEADER_BYTES + len(meta) + len(record.body)
        entry = _Entry(record, meta, segment.payload_checksum(meta, record.body), size, done)
        with self._lock:
            if self._closed:
                raise QueueUnavailable("the collector is shutting down")
            if self._bytes + self._pending_bytes + size > self._config.max_bytes:
                self._recount()
                if self._bytes + self._pending_bytes + size > self._config.max_bytes:
                    raise QueueFull(f"the queue holds its {self._config.max_bytes}; exporters are behind")
            if self._pending and self._pending_bytes + size > _PENDING_BYTES:
                raise QueueUnavailable("the disk is slower than the senders")
            self._pending.append(entry)
            self._pending_bytes += size
            if len(self._pending) == 1:
                self._lock.notify()

    def last(self) -> int:
        return self._last

    def size_bytes(self) -> int:
        with self._lock:
            self._recount()
            return self._bytes

    def close(self) -> None:
        with self._lock:
            if self._closed:
                return
            self._closed = True
            self._lock.notify()
        self._thread.join()
        if self._file >= 0:
            os.close(self._file)
        self._state.close()
        os.close(self._lock_file)

    def _recount(self) -> None:
        """Segments are deleted by readers, so what is counted here can only be too much."""
        now = time.monotonic()
        if now - self._counted > _RECOUNT_S:
            self._counted = now
            self._bytes = self._files.size_bytes()

    def _run(self) -> None:
        while True:
            with self._lock:
                while not self._pending and not self._closed:
                    self._lock.wait()
                group = self._take()
            if not group:
                return
            result = self._commit(group)
            for number, entry in enumerate(group):
                try:
                    entry.done(result if isinstance(result, Exception) else result + number)
                except Exception:
                    # The record is durable, and the next senders' answers depend on this thread.
                    _log.exception("a submitter failed to take its answer")
            # Waiting for the next group must not keep the bodies of this one in memory.
            del group, entry

    def _take(self) -> list[_Entry]:
        count = size = 0
        for entry in self._pending[:_GROUP_RECORDS]:
            if count and size + entry.bytes > _GROUP_BYTES:
                break
            count += 1
            size += entry.bytes
        group, self._pending = self._pending[:count], self._pending[count:]
        self._pending_bytes -= size
        return group

    def _commit(self, group: list[_Entry]) -> int | Exception:
        """The first sequence number of the group, or why none of it is durable."""
        first = self._last + 1
        try:
            if self._file < 0 or self._file_bytes >= self._segment_bytes:
                self._roll()
            buffers: list[bytes] = []
            for sequence, (record, meta, checksum, _, _) in enumerate(group, first):
                body = record.body
                head = segment.frame_header(sequence, record.signal, record.received_ns, meta, body, checksum)
                buffers += (head + meta, body)
            written = _write(self._file, buffers, self._file_bytes, sync=self._fsync)
            self._state.publish(first + len(group) - 1)
        except OSError as error:
            self._undo(error)
            return QueueUnavailable(f"the queue cannot be written: {error.strerror}")
        self._last = first + len(group) - 1
        self._file_bytes += written
        with self._lock:
            self._bytes += written
        return first

    def _undo(self, error: OSError) -> None:
        """Cut off what was not acknowledged. After an I/O error the file's pages cannot be trusted: begin another."""
        _log.error("queue %s cannot be written: %s; senders are told to try again", self._config.directory, error)
        if self._file < 0:
            return
        try:
            os.ftruncate(self._file, self._file_bytes)
        except OSError as second:
            _log.error("queue %s cannot be cut back either: %s", self._config.directory, second)
        else:
            if error.errno != errno.EIO:
                return
        os.close(self._file)
        self._file = -1

    def _roll(self) -> None:
        """Begin a new segment. Raises OSError; the old one is then still the current one."""
        first = self._last + 1
        path = self._files.path(first)
        header = segment.file_header(first, time.time_ns())
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, OWNER_ONLY)
        try:
            write_all(descriptor, header)
            if self._fsync:
                fdatasync(descriptor)
                sync_directory(self._files.directory)
        except OSError:
            os.close(descriptor)
            path.unlink(missing_ok=True)
            raise
        if self._file >= 0:
            os.close(self._file)
        self._file, self._file_bytes = descriptor, len(header)
        with self._lock:
            self._bytes += len(header)

    def _recover(self) -> None:
        self._state = StateFile(self._files.state, write=True)
        found = recover(self._files, self._state.durable())
        self._last = found.last
        self._bytes = self._files.size_bytes()
        if found.resume is None:
            self._roll()
        else:
            self._file = os.open(self._files.path(found.resume), os.O_RDWR)
            os.ftruncate(self._file, found.good_end)
            os.fsync(self._file)
            self._file_bytes = found.good_end
        self._state.publish(self._last)


def _write(descriptor: int, buffers: Sequence[bytes | memoryview], offset: int, *, sync: bool) -> int:
    """All of `buffers` at `offset`, on the disk if `sync`. Returns how many bytes. Raises OSError."""
    total = sum(map(len, buffers))
    written = _write_some(descriptor, buffers, offset, sync=sync)
    while written < total:
        # A disk that fills up takes a part first and says why it takes no more the next time.
        rest = memoryview(b"".join(buffers))[written:]
        written += _write_some(descriptor, [rest], offset + written, sync=sync)
    return total


def _write_some(descriptor: int, buffers: Sequence[bytes | memoryview], offset: int, *, sync: bool) -> int:
    # On Linux one call writes and syncs: every call less is a hand-over of the interpreter lock less.
    flag = getattr(os, "RWF_DSYNC", 0) if sync else 0
    if flag:
        try:
            return os.pwritev(descriptor, buffers, offset, flag)
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS):
                raise
    written = os.pwritev(descriptor, buffers, offset)
    if sync:
        fdatasync(descriptor)
    return written


def _lock_directory(files: QueueFiles) -> int:
    if not files.directory.exists():
        files.directory.mkdir(parents=True, exist_ok=True)
        sync_directory(files.directory.parent)
    descriptor = os.open(files.lock, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, b"%d\n" % os.getpid(), 0)
    except BlockingIOError as error:
        owner = os.pread(descriptor, 20, 0).decode(errors="replace").strip() or "unknown"
        os.close(descriptor)
        raise QueueInUse(
            f"queue directory {files.directory} is in use by process {owner}; stop it, or give this collector"
            " a directory of its own (service.queue.directory)"
        ) from error
    except OSError:
        os.close(descriptor)
        raise
    return descriptor
