"""The delivery process: `python -m spanweir.collector.child FD`, started by `spanweir.collector.service`.

The configuration comes on standard input, pickled behind its length, then perhaps a deadline to end by; counters go
back on file descriptor FD. The end of standard input means that the parent is gone: then this process ends too, so
that the next one finds the queue free. The parent starts it with SIGTERM blocked: one that comes early waits.
"""

import contextlib
import fcntl
import logging
import os
import pickle
import signal
import sys
import threading
import time
from pathlib import Path
from typing import BinaryIO

from spanweir.collector import telemetry
from spanweir.collector.config import ConfigError, Configuration
from spanweir.collector.delivery.runner import CLOSE_S, Runner
from spanweir.collector.handshake import CANNOT_GO_ON, CHECK, DEADLINE, LENGTH, MISCONFIGURED
from spanweir.collector.masking import log_to_stderr, mask
from spanweir.collector.pipeline import Delivery, build_check, cursors, state_directory

_LOCK_WAIT_S = 30.0
_ORPHAN_GRACE_S = 3.0
_log = logging.getLogger("spanweir.collector.child")


class Stopping:
    """When to end: asked for by a signal or by the parent, perhaps before there is anything to stop."""

    def __init__(self) -> None:
        self._runner: Runner | None = None
        self._deadline_s: float | None = None

    def __call__(self, deadline_s: float) -> None:
        """Drain and end by `deadline_s` (monotonic). The last one counts."""
        self._deadline_s = deadline_s
        self._pass_on()

    def attach(self, runner: Runner) -> None:
        self._runner = runner
        self._pass_on()

    @property
    def asked(self) -> bool:
        return self._deadline_s is not None

    def _pass_on(self) -> None:
        if self._runner is not None and self._deadline_s is not None:
            left_s = max(0.0, self._deadline_s - time.monotonic())
            closing_s = min(CLOSE_S, left_s / 4)
            self._runner.stop(self._deadline_s - closing_s, self._deadline_s - closing_s / 4)


def main(arguments: list[str]) -> int:
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # a terminal sends them to both; the parent decides
    configuration: Configuration = pickle.loads(_read(*LENGTH.unpack(_read(LENGTH.size))))
    if arguments == [CHECK]:
        return check(configuration)
    timeout = float(configuration.service.settings.shutdown_timeout)
    stopping = Stopping()
    signal.signal(signal.SIGTERM, lambda *_: stopping(time.monotonic() + timeout))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM, signal.SIGHUP, signal.SIGINT})
    threading.Thread(target=_heed_parent, args=(stopping,), daemon=True).start()
    log_to_stderr(configuration.service.settings.telemetry.logs.level)
    with os.fdopen(int(arguments[0]), "wb", buffering=0) as report:
        return deliver(configuration, report, stopping)


def check(configuration: Configuration) -> int:
    """Build everything and start nothing; problems on standard error."""
    try:
        build_check(configuration)
    except ConfigError as error:
        print(*map(mask, error.problems), sep="\n", file=sys.stderr)
        return MISCONFIGURED
    return 0


def deliver(configuration: Configuration, report: BinaryIO, stopping: Stopping) -> int:
    """Deliver until `stopping` says when to end."""
    lock = _lock(state_directory(configuration), stopping)
    if lock is None:
        return 0
    counters = telemetry.Counters()
    reader = configuration.service.queue.config.open_reader(cursors(configuration))
    try:
        try:
            runner = Delivery(configuration, reader, counters).runner
        except ConfigError as error:
            print(mask(str(error)), file=sys.stderr)
            return MISCONFIGURED
        stopping.attach(runner)
        fatal = runner.run(_Reporter(counters, report).report)
    finally:
        reader.close()
        os.close(lock)
    status = CANNOT_GO_ON if fatal else 0
    if fatal:
        print(mask(f"spanweir: {fatal}"), file=sys.stderr)
    if runner.hanging:
        # The interpreter would wait for threads that do not end.
        sys.stderr.flush()
        os._exit(status)
    return status


class _Reporter:
    def __init__(self, counters: telemetry.Counters, report: BinaryIO) -> None:
        self._counters = counters
        self._report = report

    def report(self) -> None:
        telemetry.measure_process(self._counters, "delivery")
        frame = telemetry.encode(self._counters.values())
        with contextlib.suppress(OSError):  # the parent is gone; the watcher stops us
            self._report.write(len(frame).to_bytes(4, "big") + frame)


def _read(size: int) -> bytes:
    """Less at the end. Not by `sys.stdin`: a thread that waits in its lock would not let the interpreter end."""
    data = b""
    while len(data) < size and (more := os.read(sys.stdin.fileno(), size - len(data))):
        data += more
    return data


def _heed_parent(stopping: Stopping) -> None:
    while len(order := _read(DEADLINE.size)) == DEADLINE.size:
        stopping(*DEADLINE.unpack(order))
    stopping(time.monotonic() + _ORPHAN_GRACE_S)
    # An exporter may hang in a call that does not end.
    time.sleep(2 * _ORPHAN_GRACE_S)
    os._exit(1)


def _lock(directory: Path, stopping: Stopping) -> int | None:
    """One delivery process at a time; a former one may still be about to end. None: asked to end before it did."""
    directory.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(directory / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    deadline = time.monotonic() + _LOCK_WAIT_S
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return descriptor
        except BlockingIOError:
            if stopping.asked:
                os.close(descriptor)
                return None
            if time.monotonic() >= deadline:
                raise
            time.sleep(0.05)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
