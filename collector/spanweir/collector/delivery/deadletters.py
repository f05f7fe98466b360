"""What a destination refuses for ever: one folder for each exporter, one JSON file for each item, with the reason.

Beside the JSON stand spans, log records and requests as OTLP protobuf (`.otlp`) that can be sent again.
"""

import itertools
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from spanweir.collector.durable import create_file
from spanweir.collector.masking import mask
from spanweir.exporters.api import Batch
from spanweir.exporters.encode import logs_request, spans_request

FILES_MAX = 10_000
"""Above it only the counters know: a destination that refuses everything must not fill the disk."""


class Origin(msgspec.Struct, frozen=True, kw_only=True):
    """What decides where a request goes, besides its content."""

    tenant: str = ""
    headers: dict[str, str] = {}


class DeadLetter(msgspec.Struct, kw_only=True):
    """The JSON of one file."""

    exporter: str
    reason: str
    set_aside: str
    """RFC 3339, UTC."""
    first: int
    last: int
    trace_ids: list[str] = []
    spans: list[msgspec.Raw] = []
    rows: list[dict[str, Any]] = []
    logs: int = 0
    requests: list[str] = []
    """Signals of raw requests."""
    origins: list[Origin] = []
    """Of these, where the letter is not older than spanweir's knowledge of them."""


class DeadLetters:
    """The folder of one exporter. For one thread."""

    def __init__(self, directory: Path, exporter: str) -> None:
        self._directory = directory
        self._exporter = exporter
        self._numbers = itertools.count()

    def put(self, batch: Batch, reason: str) -> Path | None:
        """Write the batch down, durably: the cursor moves past it next. None if the folder is full. Raises OSError."""
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        if len(os.listdir(self._directory)) >= 2 * FILES_MAX:
            return None
        now = time.time()
        stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime(now))
        path = self._directory / f"{stamp}-{os.getpid()}-{next(self._numbers)}.json"
        letter = DeadLetter(
            exporter=self._exporter,
            reason=mask(reason),
            set_aside=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now)),
            first=batch.first,
            last=batch.last,
            trace_ids=sorted({s.trace_id for s in batch.spans} | {t.trace_id for t in batch.traces}),
            spans=[msgspec.Raw(s.content) for s in batch.spans],
            rows=[msgspec.to_builtins(row, builtin_types=(bytes,)) for row in batch.traces],
            logs=len(batch.logs),
            requests=[request.signal for request in batch.requests],
            origins=[Origin(tenant=request.tenant, headers=request.headers) for request in batch.requests],
        )
        for row in letter.rows:
            for key in ("request", "response"):
                row[key] = row[key].decode("utf-8", "replace") if row.get(key) else None
        files = [(path.with_suffix(f".{name}.otlp"), body) for name, body in _bodies(batch)]
        files.append((path, msgspec.json.format(msgspec.json.encode(letter))))
        try:
            for file, content in files:  # what is listed is whole
                create_file(file, content)
        except OSError:
            for file, _ in files:
                file.unlink(missing_ok=True)
            raise
        return path


def _bodies(batch: Batch) -> Iterator[tuple[str, bytes]]:
    if batch.spans:
        yield "traces", spans_request((span.raw, span.raw.attributes) for span in batch.spans)
    if batch.logs:
        yield "logs", logs_request(batch.logs)
    for i, request in enumerate(batch.requests):
        yield f"{request.signal}-{i}", request.body


def listed(directory: Path) -> Iterator[tuple[Path, DeadLetter]]:
    """What was set aside, oldest first. Files that are no dead letters are passed over."""
    for path in sorted(directory.glob("*.json")):
        try:
            yield path, msgspec.json.decode(path.read_bytes(), type=DeadLetter)
        except (OSError, msgspec.MsgspecError):
            continue
