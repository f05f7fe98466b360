"""Table care: checkpoints, compaction, retention, vacuum. On its own thread, and the heavy part in its own process.

    python -m spanweir.exporters.delta.care < config.json

does the heavy part once, for whoever keeps `maintenance_interval` at 0 and has a scheduler of their own. Rewriting
files takes hundreds of megabytes for a moment; in a process of its own they are given back. Compaction and merges of
the exporter may meet: then the log refuses one of the two, which starts again.
"""

import logging
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import msgspec

from spanweir.exporters.delta import Config, overflow
from spanweir.exporters.delta.errors import said
from spanweir.exporters.delta.overflow import Overflow
from spanweir.exporters.delta.table import Target
from spanweir.exporters.delta.targets import targets
from spanweir.schemas import inference_table
from spanweir.schemas.options import Duration, Size

_LOG: Final = logging.getLogger(__name__)
_TICK_S: Final = 5.0
_TIMEOUT_S: Final = 3600.0
_SETTLED_S: Final = 3600.0
_VACUUM_EVERY: Final = timedelta(hours=24)


class Care:
    """Looks after the tables of one exporter until `stop`."""

    def __init__(self, config: Config, tables: Mapping[str, Target]) -> None:
        self._config, self._tables = config, tables
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="delta-care", daemon=True)
        self._checkpointed = dict.fromkeys(tables, 0)
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        if (process := self._process) is not None:
            process.terminate()
        self._thread.join()

    def _run(self) -> None:
        interval = float(self._config.maintenance_interval)
        due = time.monotonic() + interval
        while not self._stop.wait(min(_TICK_S, interval)):
            try:
                self._checkpoint()
                if time.monotonic() >= due:
                    self._maintain()
                    due = time.monotonic() + interval
            except Exception:
                _LOG.warning("table care failed; it is tried again later", exc_info=True)

    def _checkpoint(self) -> None:
        """Without checkpoints, opening a table and every commit become slower with each commit."""
        for name, target in self._tables.items():
            commits = target.commits
            if commits - self._checkpointed[name] >= self._config.checkpoint_commits:
                target.checkpoint()
                self._checkpointed[name] = commits

    def _maintain(self) -> None:
        command = [sys.executable, "-m", __spec__.name if __spec__ else __name__]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE)
        self._process = process
        try:
            _, errors = process.communicate(encode(self._config), timeout=_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            _, errors = process.communicate()
        finally:
            self._process = None
        if process.returncode and not self._stop.is_set():
            _LOG.warning("table care ended with %s: %s", process.returncode, errors.decode(errors="replace")[-2000:])


def encode(config: Config) -> bytes:
    return msgspec.json.encode(config, enc_hook=str)


def decode(text: bytes) -> Config:
    return msgspec.json.decode(text, type=Config, dec_hook=_option)


def _option(kind: type, value: object) -> object:
    return Size.parse(value) if kind is Size else Duration.parse(value)


def maintain(config: Config, now: datetime | None = None) -> dict[str, dict[str, int]]:
    """Once: old rows out, small files together, unused files away. Returns counts by table."""
    now = now or datetime.now(UTC)
    return {name: _maintain_table(config, target, now) for name, target in targets(config, "spanweir/care").items()}


def _maintain_table(config: Config, target: Target, now: datetime) -> dict[str, int]:
    from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError

    done = {"deleted": 0, "compacted": 0, "vacuumed": 0}
    try:
        table = target.open_again()
    except TableNotFoundError:
        return done
    try:
        done["deleted"] = _retain(config, target, table, now)
        done["compacted"] = _compact(config, target)
    except CommitFailedError as error:
        _LOG.info("%s: another writer was first; compaction is tried again later: %s", target.uri, said(error))
    except DeltaError as error:
        _LOG.warning("%s: %s", target.uri, said(error))
    if _vacuum_due(table, now):
        table = target.open_again()
        done["vacuumed"] = len(
            table.vacuum(
                retention_hours=int(config.vacuum_retention // 3600),
                dry_run=False,
                enforce_retention_duration=False,
                # Also files of commits that never came to be; but not those that a writer is about to commit.
                full=float(config.vacuum_retention) >= _SETTLED_S,
            )
        )
    return done


def _retain(config: Config, target: Target, table: Any, now: datetime) -> int:
    """Delete whole days that are older than `retention`."""
    if not config.retention:
        return 0
    first_kept = (now - timedelta(seconds=float(config.retention))).date()
    column = target.spec.partition
    predicate = f"{column} < DATE '{first_kept}'" if column else f"{target.spec.time} < '{first_kept}T00:00:00Z'"
    if target.spec is inference_table.PAYLOAD:
        Overflow(overflow.directory(config), config.storage_options).expire(first_kept)
    return int(table.delete(predicate)["num_deleted_rows"] or 0)


def _compact(config: Config, target: Target) -> int:
    """Put small files of a day together, where there are enough of them; returns how many there were."""
    small = int(config.target_file_bytes) // 2
    column = target.spec.partition
    actions = target.table.get_add_actions(flatten=True)
    days = actions[f"partition.{column}"].to_pylist() if column else [None] * actions.num_rows
    files: dict[Any, list[tuple[str, int]]] = {}
    for path, size, day in zip(actions["path"].to_pylist(), actions["size_bytes"].to_pylist(), days, strict=True):
        if size < small:
            files.setdefault(day, []).append((path, size))
    compacted = 0
    for day, found in files.items():
        if len(found) < config.compact_files:
            continue
        for group in _groups(found, int(config.target_file_bytes)):
            compacted += target.compact({column: str(day)} if column else {}, group)
    return compacted


def _groups(files: list[tuple[str, int]], target_bytes: int) -> Iterator[list[str]]:
    """Files that together make one of about the target size. Two at least, oldest first as far as they are listed."""
    group: list[str] = []
    total = 0
    for path, size in files:
        group.append(path)
        total += size
        if total >= target_bytes:
            yield group
            group, total = [], 0
    if len(group) > 1:
        yield group


def _vacuum_due(table: Any, now: datetime) -> bool:
    """Once a day, whichever process does it: the log says when it was last done."""
    for entry in table.history(1000):
        if entry.get("operation") == "VACUUM END":
            return now - datetime.fromtimestamp(entry["timestamp"] / 1000, UTC) >= _VACUUM_EVERY
    return True


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, stream=sys.stderr)
    maintain(decode(sys.stdin.buffer.read()))
