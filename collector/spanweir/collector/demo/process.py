"""A collector as a child process on free ports, for `spanweir demo` and the end-to-end tests."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 30.0
LOG_TAIL_LINES = 15


class CollectorError(Exception):
    """The collector did not start, or ended; the message has the end of its log."""


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on just now."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [int(each.getsockname()[1]) for each in sockets]
    finally:
        for each in sockets:
            each.close()


class Collector:
    """`spanweir run` with a configuration text, its log in `directory/collector.log`."""

    def __init__(self, directory: Path, configuration: str, *, ports: Sequence[int], arguments: Sequence[str] = ()):
        self.directory = directory
        self.log = directory / "collector.log"
        self._ports = ports
        self._configuration = directory / "otel-config.yaml"
        self._configuration.write_text(configuration, encoding="utf-8")
        self._arguments = arguments
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Returns when it listens on every port. Raises CollectorError."""
        command = [sys.executable, "-m", "spanweir.collector", "run", "--config", self._configuration.name]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*command, *self._arguments],
                cwd=self.directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
            )
        deadline = time.monotonic() + START_TIMEOUT_S
        for port in self._ports:
            while not _listens(port):
                self.check()
                if time.monotonic() > deadline:
                    self.stop()
                    raise CollectorError(self._with_log(f"it does not listen on port {port}"))
                time.sleep(0.02)

    def check(self) -> None:
        """Raises CollectorError if it has ended."""
        assert self.process is not None, "check before start"
        status = self.process.poll()
        if status is not None:
            raise CollectorError(self._with_log(f"the collector ended with status {status}"))

    def stop(self) -> int:
        """Let it drain and end; its exit status. Raises CollectorError if it has to be killed."""
        assert self.process is not None, "stop before start"
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.kill()
            raise CollectorError(self._with_log("it did not end after SIGTERM")) from None

    def kill(self) -> None:
        """End it and its children at once."""
        if self.process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def log_tail(self) -> str:
        lines = self.log.read_text(errors="replace").splitlines() if self.log.exists() else []
        return "\n".join(lines[-LOG_TAIL_LINES:])

    def _with_log(self, what: str) -> str:
        return f"{what}; the end of {self.log}:\n{self.log_tail()}"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        if self.process is not None and self.process.poll() is None:
            try:
                self.stop()
            except CollectorError:
                if kind is None:
                    raise


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(0.2)
        return probe.connect_ex(("127.0.0.1", port)) == 0
