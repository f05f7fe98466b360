"""OTLP JSON lines: one `Export*ServiceRequest` a line, as the OpenTelemetry Collector's file exporter writes them.

A batch that comes again after a crash replaces what was written of it, so that a line stands once. After a rotation
the state file belongs to the new file, and the old one is not touched again.
"""

import os
import time
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

import msgspec

from spanweir.exporters import _otlp
from spanweir.exporters.api import Batch, Context, Request


class Rotation(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    max_megabytes: int = 100
    """A file that has grown beyond this is renamed and a new one begun; 0 never rotates."""
    max_days: int = 0
    """Rotated files older than this are deleted; 0 keeps them."""
    max_backups: int = 100
    """How many rotated files are kept; 0 keeps all."""

    def __post_init__(self) -> None:
        if min(self.max_megabytes, self.max_days, self.max_backups) < 0:
            raise ValueError("rotation: numbers must be zero or more")


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    path: str = "spanweir.jsonl"
    """File to append to; its directory is created."""
    rotation: Rotation = Rotation()
    """When a new file is begun. Rotated files are named `<stem>-<UTC time><suffix>`."""
    fsync: bool = True
    """Wait for the disk before a batch counts as delivered."""
    normalize: bool = False
    """Write spans in the newest OpenTelemetry GenAI conventions instead of as they came."""

    def __post_init__(self) -> None:
        if not Path(self.path).name:
            raise ValueError(f"path must name a file, not {self.path!r}")

    def build(self, context: Context) -> "File":
        return File(self, Path(context.state_directory))


class _Position(msgspec.Struct):
    """Where the newest batch stands in the file."""

    first: int
    start: int
    end: int


class File:
    """An `Exporter`."""

    def __init__(self, config: Config, state_directory: Path) -> None:
        self._config = config
        self._path = Path(config.path)
        self._state = state_directory / "position.json"
        self._position = _Position(first=-1, start=0, end=0)
        self._file: BinaryIO | None = None
        self.wants = _otlp.WANTS[config.normalize]

    def __enter__(self) -> Self:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._state.parent.mkdir(parents=True, exist_ok=True)
        self._file = self._path.open("ab")
        size = self._file.tell()
        try:
            self._position = msgspec.json.decode(self._state.read_bytes(), type=_Position)
        except (OSError, msgspec.DecodeError):
            self._position = _Position(first=-1, start=size, end=size)
        if self._position.end > size:  # somebody else has cut or replaced the file
            self._position = _Position(first=-1, start=size, end=size)
        self._file.truncate(self._position.end)
        return self

    def export(self, batch: Batch) -> None:
        file = self._file
        assert file is not None, "export before start"
        covers_records = batch.first <= batch.last
        start = self._position.end
        if covers_records and batch.first == self._position.first:
            start = self._position.start
            file.truncate(start)
        elif self._config.rotation.max_megabytes and start > self._config.rotation.max_megabytes * 1_000_000:
            file = self._rotate(file)
            start = 0
        lines = [json_line(item.request) for item in _otlp.outgoing(batch, self._config.normalize)]
        file.write(b"".join(lines))
        file.flush()
        if self._config.fsync:
            os.fsync(file.fileno())
        end = start + sum(map(len, lines))
        self._position = _Position(first=batch.first if covers_records else -1, start=start, end=end)
        self._save()

    def _save(self) -> None:
        temporary = self._state.with_suffix(".new")
        temporary.write_bytes(msgspec.json.encode(self._position))
        os.replace(temporary, self._state)

    def _rotate(self, file: BinaryIO) -> BinaryIO:
        file.close()
        stamp = time.strftime("%Y-%m-%dT%H-%M-%S", time.gmtime()) + f".{time.time_ns() // 1000 % 1_000_000:06d}"
        self._path.rename(self._path.with_name(f"{self._path.stem}-{stamp}{self._path.suffix}"))
        rotated = sorted(self._path.parent.glob(f"{self._path.stem}-*{self._path.suffix}"))
        limits = self._config.rotation
        keep = rotated[-limits.max_backups :] if limits.max_backups else rotated
        oldest = time.time() - limits.max_days * 86400 if limits.max_days else 0.0
        for path in rotated:
            if path not in keep or path.stat().st_mtime < oldest:
                path.unlink(missing_ok=True)
        self._file = self._path.open("ab")
        return self._file

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


def json_line(request: Request) -> bytes:
    """OTLP JSON (proto3 JSON with hex ids and numeric enums; OTLP 1.7, "JSON Protobuf Encoding") and a newline."""
    from google.protobuf.json_format import MessageToDict

    service = _otlp.SERVICES[request.signal]
    message = getattr(service.messages(), f"Export{service.name}ServiceRequest").FromString(request.body)
    document: dict[str, Any] = MessageToDict(message, use_integers_for_enums=True)
    _hex_ids(document)
    return msgspec.json.encode(document) + b"\n"


_IDS = frozenset({"traceId", "spanId", "parentSpanId"})


def _hex_ids(value: Any) -> None:
    """Ids to hex, in place: proto3 JSON has them in base64. Attributes and bodies are not entered."""
    from base64 import b64decode

    stack = [value]
    while stack:
        item = stack.pop()
        if isinstance(item, list):
            stack.extend(item)
        elif isinstance(item, dict):
            for key, inner in item.items():
                if key in _IDS:
                    item[key] = b64decode(inner).hex()
                elif isinstance(inner, dict | list) and key not in ("attributes", "body"):
                    stack.append(inner)
