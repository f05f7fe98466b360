"""What the exporter must remember across restarts: contents of traces that are not complete, and which are written.

A SQLite database in the exporter's state directory. `pending` holds rendered spans until their trace is complete (the
payload row needs them all); `written` holds the ids of traces that have a payload row, or may have one: an id is noted
*before* the row is committed, so that after a crash at any moment the row is merged rather than appended again.
"""

import threading
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Final, TypeAlias

import msgspec

from spanweir.exporters.delta.memory import opened
from spanweir.exporters.delta.payload import Content, Contents, Facts

_VERSION: Final = 1
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS pending (
  trace_id BLOB NOT NULL, span_id BLOB NOT NULL, start_ns INTEGER NOT NULL, noted INTEGER NOT NULL,
  content BLOB NOT NULL, facts BLOB, PRIMARY KEY (trace_id, span_id)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS written (
  trace_id BLOB PRIMARY KEY, first_ns INTEGER NOT NULL, last_ns INTEGER NOT NULL, noted INTEGER NOT NULL) WITHOUT ROWID;
"""
_CHUNK: Final = 500
Times: TypeAlias = tuple[int, int]
"""First and last, nanoseconds since 1970."""
_encode: Final = msgspec.msgpack.Encoder().encode
_decode_facts: Final = msgspec.msgpack.Decoder(Facts).decode


class Spool:
    """Thread-safe."""

    def __init__(self, directory: str) -> None:
        self._lock = threading.Lock()
        self._db = opened(Path(directory, "spool.db"), _VERSION, _SCHEMA)
        self._note()

    def _note(self) -> None:
        """Where all traces come whole nothing is pending, and need not be looked for."""
        self._empty = not self._db.execute("SELECT EXISTS (SELECT 1 FROM pending)").fetchone()[0]

    def close(self) -> None:
        with self._lock:
            self._db.close()

    def written(self, trace_ids: Iterable[str]) -> dict[str, Times]:
        """Those of the traces that have, or may have, a payload row; and the earliest and the latest start it had."""
        found = self._select("trace_id, first_ns, last_ns", "written", trace_ids)
        return {trace.hex(): (first, last) for trace, first, last in found}

    def pending(self, trace_ids: Iterable[str]) -> dict[str, Contents]:
        """Contents by trace and span id."""
        result: dict[str, Contents] = {}
        if self._empty:
            return result
        columns = "trace_id, span_id, start_ns, content, facts"
        for trace, span, start, content, facts in self._select(columns, "pending", trace_ids):
            known = _decode_facts(facts) if facts else None
            result.setdefault(trace.hex(), {})[span.hex()] = Content(start, content, known)
        return result

    def pending_keys(self, trace_ids: Iterable[str]) -> set[str]:
        """Trace id + span id of the spans that are there."""
        if self._empty:
            return set()
        return {trace.hex() + span.hex() for trace, span in self._select("trace_id, span_id", "pending", trace_ids)}

    def _select(self, columns: str, table: str, trace_ids: Iterable[str]) -> list[tuple[Any, ...]]:
        ids, rows = iter(trace_ids), []
        with self._lock:
            while chunk := [bytes.fromhex(trace) for trace in islice(ids, _CHUNK)]:
                marks = ",".join("?" * len(chunk))
                rows += self._db.execute(f"SELECT {columns} FROM {table} WHERE trace_id IN ({marks})", chunk).fetchall()
        return rows

    def commit(
        self, incomplete: Mapping[str, Contents], complete: Mapping[str, int], forget: Sequence[str], today: int
    ) -> None:
        """Durably drop contents of `forget`, add those of incomplete traces, note complete ones (with their start)."""
        rows = [
            (bytes.fromhex(trace), bytes.fromhex(span), c.start_ns, today, c.content, c.facts and _encode(c.facts))
            for trace, contents in incomplete.items()
            for span, c in contents.items()
        ]
        if not (rows or complete or (forget and not self._empty)):
            return
        with self._lock:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                if not self._empty:
                    self._db.executemany(
                        "DELETE FROM pending WHERE trace_id=?", [(bytes.fromhex(trace),) for trace in forget]
                    )
                self._db.executemany("INSERT OR REPLACE INTO pending VALUES (?,?,?,?,?,?)", rows)
                self._db.executemany(
                    "INSERT INTO written VALUES (?,?,?,?) ON CONFLICT (trace_id) DO UPDATE SET noted=excluded.noted,"
                    " first_ns=min(first_ns, excluded.first_ns), last_ns=max(last_ns, excluded.last_ns)",
                    [(bytes.fromhex(trace), start, start, today) for trace, start in complete.items()],
                )
                self._db.execute("COMMIT")
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._note()

    def drop(self, spans: Iterable[tuple[str, str]]) -> None:
        """Forget contents of single spans, by trace and span id."""
        with self._lock:
            self._db.executemany(
                "DELETE FROM pending WHERE trace_id=? AND span_id=?",
                [(bytes.fromhex(trace), bytes.fromhex(span)) for trace, span in spans],
            )
            self._note()

    def expire(self, before_day: int) -> int:
        """Forget what was noted before a day; returns how many spans of traces that never became complete that were."""
        with self._lock:
            self._db.execute("DELETE FROM written WHERE noted<?", (before_day,))
            lost = self._db.execute("DELETE FROM pending WHERE noted<?", (before_day,)).rowcount
            self._note()
            return lost
