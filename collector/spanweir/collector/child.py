"""The delivery process: `python -m spanweir.collector.child FD`, started by `spanweir.collector.service`.

The configuration comes pickled on standard input, counters go back on file descriptor FD, and the end of standard
input means that the parent is gone: then this process ends too, so that the next one finds the queue free.
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
from spanweir.collector.pipeline import Delivery, cursors, state_directory

CANNOT_GO_ON, MISCONFIGURED = 70, 78
"""Exit statuses (EX_SOFTWARE, EX_CONFIG): starting again would not help."""
_LOCK_WAIT_S = 30.0
_REPORT_S = 1.0
_ORPHAN_GRACE_S = 3.0
_log = logging.getLogger("spanweir.collector.child")


def main(arguments: list[str]) -> int:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to both; the parent decides
    configuration: Configuration = pickle.load(sys.stdin.buffer)
    logging.basicConfig(
        level=configuration.service.settings.telemetry.logs.level.upper(),
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    with os.fdopen(int(arguments[0]), "wb", buffering=0) as report:
        return deliver(configuration, report)


def deliver(configuration: Configuration, report: BinaryIO) -> int:
    """Deliver until SIGTERM, or until the parent is gone."""
    lock = _lock(state_directory(configuration))
    counters = telemetry.Counters()
    reader = configuration.service.queue.config.open_reader(cursors(configuration))
    try:
        try:
            runner = Delivery(configuration, reader, counters).runner
        except ConfigError as error:
            print(error, file=sys.stderr)
            return MISCONFIGURED
        timeout = float(configuration.service.settings.shutdown_timeout)
        signal.signal(signal.SIGTERM, lambda *_: runner.stop(time.monotonic() + timeout))
        threading.Thread(
            target=_watch_parent, args=(lambda: runner.stop(time.monotonic() + _ORPHAN_GRACE_S),), daemon=True
        ).start()
        reporter = _Reporter(counters, report)
        fatal = runner.run(reporter.report)
    finally:
        reader.close()
        os.close(lock)
    if fatal:
        print(f"spanweir: {fatal}", file=sys.stderr)
        return CANNOT_GO_ON
    return 0


class _Reporter:
    def __init__(self, counters: telemetry.Counters, report: BinaryIO) -> None:
        self._counters = counters
        self._report = report

    def report(self) -> None:
        measure_process(self._counters, "delivery")
        frame = telemetry.encode(self._counters.values())
        with contextlib.suppress(OSError):  # the parent is gone; the watcher stops us
            self._report.write(len(frame).to_bytes(4, "big") + frame)


def measure_process(counters: telemetry.Counters, process: str) -> None:
    """CPU and memory of this process."""
    times = os.times()
    counters.set("otelcol_process_cpu_seconds", times.user + times.system, process=process)
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except (OSError, IndexError, ValueError):
        return
    counters.set("otelcol_process_memory_rss", pages * os.sysconf("SC_PAGE_SIZE"), process=process)


def _watch_parent(stop: object) -> None:
    assert callable(stop)
    while os.read(sys.stdin.fileno(), 4096):
        pass
    stop()
    # An exporter may hang in a call that does not end.
    time.sleep(2 * _ORPHAN_GRACE_S)
    os._exit(1)


def _lock(directory: Path) -> int:
    """One delivery process at a time; a former one may still be about to end."""
    directory.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(directory / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    deadline = time.monotonic() + _LOCK_WAIT_S
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return descriptor
        except BlockingIOError:
            if time.monotonic() >= deadline:
                raise
            time.sleep(0.05)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
