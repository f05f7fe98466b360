"""Which spans are written, remembered across restarts: a span that is sent again must not stand in the table twice.

A SQLite database in the exporter's state directory. A span is noted *before* its row is committed, so that after a
crash at any moment the row is merged rather than appended again. Of a trace that comes in many requests only spans that
were there before are merged.
"""

from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path
from typing import Final

from spanweir.exporters.delta.memory import opened

_VERSION: Final = 1
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS seen (
  trace_id BLOB NOT NULL, part INTEGER NOT NULL, noted INTEGER NOT NULL, span_ids BLOB NOT NULL,
  PRIMARY KEY (trace_id, part)) WITHOUT ROWID;
"""
_CHUNK: Final = 500
_TRACE_DIGITS, _SPAN_BYTES = 32, 8


class Seen:
    """Keys are trace id + span id, in hex. Used by one thread at a time."""

    def __init__(self, directory: str) -> None:
        self._db = opened(Path(directory, "seen.db"), _VERSION, _SCHEMA)
        self._part = self._db.execute("SELECT coalesce(max(part), 0) FROM seen").fetchone()[0]

    def close(self) -> None:
        self._db.close()

    def of(self, trace_ids: Iterable[str]) -> set[str]:
        """Keys of the spans of these traces that are written, or may be."""
        found: set[str] = set()
        ids = iter(trace_ids)
        while chunk := [bytes.fromhex(trace) for trace in islice(ids, _CHUNK)]:
            marks = ",".join("?" * len(chunk))
            for trace, spans in self._db.execute(
                f"SELECT trace_id, span_ids FROM seen WHERE trace_id IN ({marks})", chunk
            ):
                of_trace = trace.hex()
                found.update(
                    of_trace + spans[place : place + _SPAN_BYTES].hex() for place in range(0, len(spans), _SPAN_BYTES)
                )
        return found

    def note(self, keys: Sequence[str], today: int) -> None:
        """Durably remember spans, as of a day."""
        if not keys:
            return
        of_traces: dict[str, list[str]] = {}
        for key in keys:
            of_traces.setdefault(key[:_TRACE_DIGITS], []).append(key[_TRACE_DIGITS:])
        self._part += 1
        rows = [
            (bytes.fromhex(trace), self._part, today, bytes.fromhex("".join(spans)))
            for trace, spans in of_traces.items()
        ]
        self._db.execute("BEGIN IMMEDIATE")
        try:
            self._db.executemany("INSERT INTO seen VALUES (?,?,?,?)", rows)
            self._db.execute("COMMIT")
        except BaseException:
            self._db.execute("ROLLBACK")
            raise

    def expire(self, before_day: int) -> None:
        """Forget what was noted before a day."""
        self._db.execute("DELETE FROM seen WHERE noted<?", (before_day,))
