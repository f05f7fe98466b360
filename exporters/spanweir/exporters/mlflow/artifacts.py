"""Files to an experiment's artifact location.

A local directory is written here. Everything else (`s3://`, `mlflow-artifacts:`, ...) is handed to MLflow's own
artifact repositories, in a process of its own that is started with the first file.
"""

import logging
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

import msgspec

from spanweir.exporters.mlflow.attachments import Unsaved
from spanweir.exporters.mlflow.messages import end, receive, send

PAUSE_S: Final = 60.0
"""How long nothing is tried after a failure: values stay in their spans meanwhile, and spans do not wait."""

_log = logging.getLogger(__name__)


class Upload(msgspec.Struct):
    """A file for the process that speaks to artifact stores."""

    location: str
    """The trace's artifact location."""
    name: str
    data: bytes


class Uploaded(msgspec.Struct):
    """Its answer; `error` is empty when the file is stored."""

    error: str = ""


def local_path(location: str) -> Path | None:
    """The directory of `/path` or `file:///path`; None for a store elsewhere."""
    parts = urlsplit(location)
    if parts.scheme == "file":
        return Path(unquote(parts.path))
    return None if parts.scheme else Path(location)


class Artifacts:
    """Writes files into artifact locations: local ones by itself, others by a process that has MLflow's clients."""

    def __init__(self, tracking_uri: str) -> None:
        """`tracking_uri` is the server that resolves `mlflow-artifacts:` locations, if there is one."""
        self._tracking_uri = tracking_uri
        self._process: subprocess.Popen[bytes] | None = None
        self._paused_until = 0.0

    def close(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            end(process)

    def reaches(self, location: str) -> bool:
        """Whether it makes sense to try: what only a tracking server can reach needs one."""
        return bool(location) and (not location.startswith("mlflow-artifacts:") or bool(self._tracking_uri))

    def save(self, location: str, name: str, data: bytes) -> None:
        """Durably `<location>/attachments/<name>`. Raises Unsaved."""
        if time.monotonic() < self._paused_until:
            raise Unsaved
        directory = local_path(location)
        try:
            if directory is not None:
                _write(directory / "attachments", name, data)
            else:
                self._upload(location, name, data)
        except OSError as error:
            self._paused_until = time.monotonic() + PAUSE_S
            _log.warning("attachments stay in their spans for %.0f s: %s: %s", PAUSE_S, location, error)
            raise Unsaved from error

    def _upload(self, location: str, name: str, data: bytes) -> None:
        """Raises OSError."""
        process = self._started()
        assert process.stdin is not None, "started without pipes"
        assert process.stdout is not None, "started without pipes"
        send(process.stdin, Upload(location, name, data))
        body = receive(process.stdout)
        if body is None:
            process.kill()
            process.wait()
            self._process = None
            raise OSError("the process that uploads artifacts ended")
        if error := msgspec.msgpack.decode(body, type=Uploaded).error:
            raise OSError(error)

    def _started(self) -> "subprocess.Popen[bytes]":
        if self._process is None or self._process.poll() is not None:
            environment = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_LOGGING_LEVEL": "WARNING"}
            if self._tracking_uri:
                environment["MLFLOW_TRACKING_URI"] = self._tracking_uri
            command = [sys.executable, "-m", "spanweir.exporters.mlflow.artifacts_worker"]
            self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)
        return self._process


def _write(directory: Path, name: str, data: bytes) -> None:
    path = directory / name
    if path.exists() and path.stat().st_size == len(data):
        return
    directory.mkdir(parents=True, exist_ok=True)
    unfinished = directory / f".{name}.part"
    with unfinished.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(path)
