"""Looking into a disk queue, for `spanweir queue ls`, `cat` and `replay`: without a writer or beside a running one.

Nothing here changes the queue except `replay`, which needs the collector stopped: a running one has its cursors in
memory. States have names:

    segment   writing    the newest; records are still added to it
              waiting    at least one exporter has not passed it
              done       every exporter has passed it; kept for replay until retention or room ends it
              corrupt    set aside with damage, in corrupt/ (its good records were delivered from where it was)
    cursor    current    everything delivered
              behind     records are waiting for it
              retired    of an exporter that is configured no longer; holds nothing back
"""

import base64
import fcntl
import os
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from spanweir.collector.queue import disk, segment
from spanweir.collector.queue.api import QueueInUse, QueueUnavailable, Record
from spanweir.collector.queue.cursors import Cursors
from spanweir.collector.queue.files import QueueFiles, StateFile, last_of
from spanweir.schemas.options import Size


class SegmentInfo(msgspec.Struct, frozen=True, kw_only=True):
    """One segment, as `spanweir queue ls` shows it."""

    name: str
    state: str
    first: int
    """The first sequence number."""
    bytes: int
    changed: str
    """When it was last written, UTC."""


class CursorInfo(msgspec.Struct, frozen=True, kw_only=True):
    """One cursor, as `spanweir queue ls` shows it."""

    name: str
    state: str
    sequence: int
    behind: int
    """Records that wait for this exporter."""


class Overview(msgspec.Struct, frozen=True, kw_only=True):
    """A whole queue directory, as `spanweir queue ls` shows it."""

    directory: str
    writer: int | None
    """Process id of the running collector."""
    last: int
    """The newest durable sequence number."""
    bytes: int
    max_bytes: int
    segments: list[SegmentInfo]
    cursors: list[CursorInfo]


def overview(config: disk.Config) -> Overview:
    """What is in the queue. Raises `QueueUnavailable` if there is none."""
    files = _files(config)
    firsts = files.segments()
    last = _last(files, firsts)
    active, retired = _cursors(files)
    passed = min(active.values(), default=0)
    segments = [_segment(files, firsts, index, passed) for index in range(len(firsts))]
    if files.corrupt.is_dir():
        segments += [_corrupt(path) for path in sorted(files.corrupt.iterdir())]
    cursors = [
        CursorInfo(name=name, sequence=at, behind=last - at, state="current" if at >= last else "behind")
        for name, at in active.items()
    ] + [CursorInfo(name=name, sequence=at, behind=max(last - at, 0), state="retired") for name, at in retired.items()]
    return Overview(
        directory=config.directory,
        writer=_owner(files),
        last=last,
        bytes=files.size_bytes(),
        max_bytes=int(config.max_bytes),
        segments=segments,
        cursors=cursors,
    )


def table(view: Overview) -> str:
    """`overview` for people."""
    writer = f"in use by process {view.writer}" if view.writer else "not in use"
    lines = [
        f"queue {view.directory}: {writer}; newest record {view.last}; {_size(view.bytes)} of {_size(view.max_bytes)}",
        "",
        *_columns(
            ("CURSOR", "STATE", "AT", "BEHIND"),
            [(one.name, one.state, str(one.sequence), str(one.behind)) for one in view.cursors],
        ),
        "",
        *_columns(
            ("SEGMENT", "STATE", "FIRST", "SIZE", "CHANGED"),
            [(one.name, one.state, str(one.first), _size(one.bytes), one.changed) for one in view.segments],
        ),
    ]
    return "\n".join(lines)


def records(config: disk.Config, *, after: int = 0) -> Iterator[Record]:
    """All records that are there and verify, oldest first. Raises `QueueUnavailable` if there is no queue."""
    files = _files(config)
    for first in files.segments():
        with files.path(first).open("rb") as file:
            descriptor = file.fileno()

            def read(offset: int, size: int, descriptor: int = descriptor) -> bytes:
                return os.pread(descriptor, size, offset)

            end = os.fstat(descriptor).st_size
            for found in segment.walk(read, segment.FILE_HEADER_BYTES, end, after=after):
                if found.record is not None:
                    after = found.record.sequence
                    yield found.record


def line(record: Record) -> str:
    """One record for people: what, when, from whom, and what is in it."""
    received = datetime.fromtimestamp(record.received_ns / 1e9, UTC).isoformat(timespec="milliseconds")
    sender = f" tenant={record.tenant}" if record.tenant else ""
    headers = "".join(f" {name}={value}" for name, value in sorted(record.headers.items()))
    return f"{record.sequence} {received} {record.signal} {len(record.body)} bytes{sender}{headers} {_names(record)}"


def document(record: Record) -> dict[str, Any]:
    """One record for programs: its envelope, and the request as OTLP/JSON under `request`."""
    from google.protobuf import json_format

    request: Any
    try:
        request = json_format.MessageToDict(_parse(record), use_integers_for_enums=True)
        _hexadecimal(request)
    except ValueError as error:
        request = {"error": str(error)}
    return {
        "sequence": record.sequence,
        "signal": record.signal,
        "tenant": record.tenant,
        "headers": record.headers,
        "receivedUnixNano": str(record.received_ns),
        "request": request,
    }


def replay(config: disk.Config, cursor: str, *, to: int = 0) -> int:
    """Set a cursor back (or forward) so that the record after sequence `to` is its next; returns where it was.

    Exporters leave the same rows when they get the same records again. Raises KeyError for a cursor that does not
    exist, `QueueInUse` while a collector runs, ValueError for a `to` beyond the newest record.
    """
    files = _files(config)
    owner = _owner(files)
    if owner is not None:
        raise QueueInUse(f"queue directory {config.directory} is in use by process {owner}; stop the collector first")
    last = _last(files, files.segments())
    if not 0 <= to <= last:
        raise ValueError(f"there is no position {to}; the newest record is {last}")
    cursors = Cursors(files.directory)
    old = cursors.load()[cursor]
    cursors.put(cursor, to)
    return old


def _files(config: disk.Config) -> QueueFiles:
    files = QueueFiles(config.directory)
    if not files.lock.exists():
        raise QueueUnavailable(f"there is no queue in {config.directory}")
    return files


def _owner(files: QueueFiles) -> int | None:
    """The process that has the queue. Asks the lock and not the number in it, which stays after a crash."""
    with files.lock.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            text = file.read(20).strip()
            return int(text) if text.isdigit() else 0
        return None


def _last(files: QueueFiles, firsts: list[int]) -> int:
    try:
        state = StateFile(files.state)
    except FileNotFoundError:
        return last_of(files, firsts)
    durable = state.durable()
    state.close()
    return last_of(files, firsts) if durable is None else durable


def _cursors(files: QueueFiles) -> tuple[dict[str, int], dict[str, int]]:
    cursors = Cursors(files.directory)
    return cursors.load(), cursors.retired()


def _segment(files: QueueFiles, firsts: list[int], index: int, passed: int) -> SegmentInfo:
    newest = index == len(firsts) - 1
    state = "writing" if newest else "done" if firsts[index + 1] - 1 <= passed else "waiting"
    return _info(files.path(firsts[index]), state, firsts[index])


def _corrupt(path: Path) -> SegmentInfo:
    return _info(path, "corrupt", segment.first_of(path.name) or 0)


def _info(path: Path, state: str, first: int) -> SegmentInfo:
    try:
        stat = path.stat()
        size, changed = stat.st_size, stat.st_mtime
    except FileNotFoundError:
        size, changed = 0, time.time()
    when = datetime.fromtimestamp(changed, UTC).isoformat(sep=" ", timespec="seconds").removesuffix("+00:00")
    return SegmentInfo(name=path.name, state=state, first=first, bytes=size, changed=when)


def _parse(record: Record) -> Any:
    from google.protobuf.message import DecodeError
    from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
    from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    kinds: dict[str, Any] = {
        "traces": ExportTraceServiceRequest,
        "logs": ExportLogsServiceRequest,
        "metrics": ExportMetricsServiceRequest,
    }
    try:
        return kinds[record.signal].FromString(record.body)
    except DecodeError as error:
        raise ValueError(f"not readable as protobuf: {error}") from None


def _names(record: Record) -> str:
    try:
        request = _parse(record)
    except ValueError as error:
        return str(error)
    names: list[str] = []
    for resource in request.ListFields()[0][1] if request.ListFields() else ():
        for scope in resource.scope_spans if record.signal == "traces" else ():
            names += [span.name for span in scope.spans]
        for scope in resource.scope_logs if record.signal == "logs" else ():
            names += [log.event_name or log.severity_text or "log" for log in scope.log_records]
        for scope in resource.scope_metrics if record.signal == "metrics" else ():
            names += [metric.name for metric in scope.metrics]
    shown = ", ".join(names[:5])
    return f"[{shown}, and {len(names) - 5} more]" if len(names) > 5 else f"[{shown}]"


def _hexadecimal(value: Any) -> None:
    """OTLP/JSON has ids in hexadecimal where protobuf's own mapping has base64."""
    if isinstance(value, list):
        for item in value:
            _hexadecimal(item)
    elif isinstance(value, dict):
        for key, item in value.items():
            if key in ("traceId", "spanId", "parentSpanId") and isinstance(item, str):
                value[key] = base64.b64decode(item).hex()
            else:
                _hexadecimal(item)


def _size(count: int) -> str:
    for unit, factor in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if count >= factor:
            return str(Size(count)) if count % factor == 0 else f"{count / factor:.1f}{unit}"
    return f"{count}B"


def _columns(titles: tuple[str, ...], rows: list[tuple[str, ...]]) -> list[str]:
    table = [titles, *rows]
    widths = [max(len(row[index]) for row in table) for index in range(len(titles))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in table]
