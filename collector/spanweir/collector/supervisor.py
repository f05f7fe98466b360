"""The delivery process as the service sees it: started, kept running, ended in time."""

import contextlib
import logging
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from typing import Any

from spanweir.collector import allocator, telemetry
from spanweir.collector.config import Configuration
from spanweir.collector.handshake import CANNOT_GO_ON, DEADLINE, LENGTH, MISCONFIGURED

_log = logging.getLogger(__name__)
_PAUSE_S, _PAUSE_MAX_S, _HEALTHY_S = 0.2, 30.0, 60.0
_LEAST_S = 0.5
"""What the delivery is given to end, however little time is left."""
_COUNTERS_S = 2.0


def delivery(configuration: Configuration, sums: telemetry.Sums) -> "Child":
    """Not started."""
    return (InProcess if configuration.service.queue.type == "memory" else Child)(configuration, sums)


def pickled(configuration: Configuration) -> bytes:
    """As the child reads it."""
    data = pickle.dumps(configuration)
    return LENGTH.pack(len(data)) + data


class Child:
    """The delivery process, kept running."""

    def __init__(self, configuration: Configuration, sums: telemetry.Sums) -> None:
        self._sums = sums
        self.fatal = 0
        """Exit status for the service if starting again would not help."""
        self._configuration = pickled(configuration)
        self._process: subprocess.Popen[bytes] | None = None
        self._listener: threading.Thread | None = None
        self._stopping = threading.Event()
        self._spawning = threading.Lock()
        self._thread = threading.Thread(target=self._supervise, name="delivery-supervisor", daemon=True)
        self.restarts = 0

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process is not None else None

    def start(self) -> None:
        self._spawn()
        self._thread.start()

    def _spawn(self) -> None:
        reading, writing = os.pipe()
        # It inherits the mask of this thread: a signal waits until there is somebody to heed it. A terminal's Ctrl-C
        # comes to both processes, and would end a Python that only starts.
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGHUP, signal.SIGINT})
        try:
            process = subprocess.Popen(
                [sys.executable, "-m", "spanweir.collector.child", str(writing)],
                stdin=subprocess.PIPE,
                pass_fds=(writing,),
                env={**allocator.DELIVERY.environment(), **os.environ},
            )
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
            os.close(writing)
        self._process = process
        self._listener = threading.Thread(target=self._listen, args=(reading,), name="delivery-counters", daemon=True)
        self._listener.start()
        assert process.stdin is not None
        with contextlib.suppress(OSError):  # it died at once; the supervisor sees to it
            process.stdin.write(self._configuration)
            process.stdin.flush()

    def _listen(self, descriptor: int) -> None:
        """Take the child's counters until it ends."""
        with os.fdopen(descriptor, "rb") as frames:
            while len(header := frames.read(4)) == 4:
                size = int.from_bytes(header, "big")
                frame = frames.read(size)
                if len(frame) == size:
                    self._sums.update(telemetry.decode(frame))

    def _ended(self) -> None:
        """Keep its counters, once the last of them have come."""
        if self._listener is not None:
            self._listener.join(_COUNTERS_S)
        self._sums.restarted()

    def _supervise(self) -> None:
        pause = _PAUSE_S
        while True:
            process, started = self._process, time.monotonic()
            assert process is not None
            status = process.wait()
            if self._stopping.is_set():
                return
            if status in (CANNOT_GO_ON, MISCONFIGURED):
                self.fatal = 2 if status == MISCONFIGURED else 1
                return
            if time.monotonic() - started > _HEALTHY_S:
                pause = _PAUSE_S
            _log.error("the delivery process ended (status %d), starting it again in %.1f s", status, pause)
            self._ended()
            self.restarts += 1
            if self._stopping.wait(pause):
                return
            pause = min(pause * 2, _PAUSE_MAX_S)
            with self._spawning:
                if self._stopping.is_set():
                    return
                self._spawn()

    def abandon(self) -> None:
        """End it now: of a service that does not start. It may be importing still, and heed nothing for seconds."""
        with self._spawning:
            self._stopping.set()
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def stop(self, deadline_s: float) -> None:
        """Let it drain and close until `deadline_s` (monotonic), then end it."""
        with self._spawning:
            self._stopping.set()
        process = self._process
        if process is None:
            return
        assert process.stdin is not None
        try:
            with contextlib.suppress(OSError):  # it has ended already
                process.stdin.write(DEADLINE.pack(deadline_s))
                process.stdin.flush()
            process.wait(max(_LEAST_S, deadline_s - time.monotonic()))
        except subprocess.TimeoutExpired:
            _log.warning("the delivery process did not end in time; what is left stays queued")
            process.kill()
            process.wait()
        with contextlib.suppress(OSError):
            process.stdin.close()
        self._ended()


class InProcess(Child):
    """Delivery in a thread of this process, for the memory queue: nothing can be shared with another one."""

    def __init__(self, configuration: Configuration, sums: telemetry.Sums) -> None:
        super().__init__(configuration, sums)
        self._counters = telemetry.Counters()
        self._running = False
        self._in_process = configuration
        self._runner: Any = None

    @property
    def alive(self) -> bool:
        return self._running

    def start(self) -> None:
        from spanweir.collector.pipeline import Delivery, cursors

        reader = self._in_process.service.queue.config.open_reader(cursors(self._in_process))
        self._runner = Delivery(self._in_process, reader, self._counters).runner
        self._running = True
        self._thread = threading.Thread(target=self._deliver, args=(reader,), name="delivery", daemon=True)
        self._thread.start()

    def abandon(self) -> None:
        """`stop` ends it."""

    def _deliver(self, reader: Any) -> None:
        try:
            fatal = self._runner.run(lambda: self._sums.update(self._counters.values()))
            if fatal:
                _log.error("%s", fatal)
                self.fatal = 1
        finally:
            self._running = False
            reader.close()

    def stop(self, deadline_s: float) -> None:
        if self._runner is not None:
            left_s = max(0.0, deadline_s - time.monotonic())
            self._runner.stop(deadline_s - left_s / 4, deadline_s)
            self._thread.join(left_s + _LEAST_S)
            self._sums.restarted()
