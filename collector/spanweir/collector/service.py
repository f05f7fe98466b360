"""The service: this process receives, a child process delivers, and the queue is all that they share.

A child that dies is started again, with a growing pause; what it had not delivered is still in the queue. SIGTERM and
SIGINT stop receiving first, then let the child drain within `shutdown_timeout`.
"""

import contextlib
import logging
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from types import FrameType
from typing import Any

from spanweir.collector import allocator, telemetry
from spanweir.collector.child import CANNOT_GO_ON, MISCONFIGURED, measure_process
from spanweir.collector.config import Configuration
from spanweir.collector.extensions.api import Context as ExtensionContext
from spanweir.collector.extensions.api import Extension, Health
from spanweir.collector.observer import CountingObserver
from spanweir.collector.pages import Page, Pages
from spanweir.collector.pipeline import feeds, receivers
from spanweir.collector.queue.api import QueueFull, QueueUnavailable, Writer
from spanweir.collector.receivers.api import Receiver, ReceiverError

_log = logging.getLogger(__name__)
_PAUSE_S, _PAUSE_MAX_S, _HEALTHY_S = 0.2, 30.0, 60.0
_GRACE_S = 5.0
_KILL_S = 5.0


class ServiceError(Exception):
    """The service cannot start or go on; the message says what to do."""


class Service:
    """Started once, stopped once."""

    def __init__(self, configuration: Configuration) -> None:
        self.configuration = configuration
        self.counters = telemetry.Counters()
        self.child: Child | None = None
        self.endpoints: dict[str, Mapping[str, str]] = {}
        """What listens, by receiver id and transport, once started."""
        self.metrics_address = ""
        self._started_ns = time.time_ns()
        self._writer: Writer | None = None
        self._receivers: list[Receiver] = []
        self._extensions: list[Extension] = []
        self._pages: Pages | None = None
        self._listening = False

    def start(self) -> None:
        """Raises `ServiceError` or `ConfigError`; nothing runs then."""
        try:
            self._start()
        except ServiceError:
            self.stop(0.0)
            raise
        except (OSError, QueueUnavailable, QueueFull, ReceiverError, RuntimeError) as error:
            self.stop(0.0)
            raise ServiceError(str(error)) from error
        except Exception:
            self.stop(0.0)
            raise

    def _start(self) -> None:
        allocator.keep_little()
        configuration = self.configuration
        feeds(configuration)
        self._writer = configuration.service.queue.config.open_writer()
        self.child = Child(configuration) if configuration.service.queue.type != "memory" else InProcess(configuration)
        self.child.start()
        for name, component in configuration.used("extensions").items():
            extension = component.config.build(ExtensionContext(name=name, health=self.health))
            extension.start()
            self._extensions.append(extension)
        observer = CountingObserver(self.counters)
        built = receivers(configuration, self._writer, observer)
        for name, receiver in zip(configuration.used("receivers"), built, strict=True):
            receiver.start()
            self._receivers.append(receiver)
            self.endpoints[name] = receiver.endpoints
        endpoint = configuration.service.settings.telemetry.metrics.endpoint
        if endpoint:
            self._pages = Pages(endpoint, {"/metrics": self._metrics}, "service.telemetry.metrics.endpoint")
            self._pages.start()
            self.metrics_address = self._pages.address
        self._listening = True

    def health(self) -> Health:
        problems = []
        if not self._listening:
            problems.append("not receiving")
        if self.child is None or not self.child.alive:
            problems.append("the delivery process is not running")
        return Health(ready=self._listening, problems=tuple(problems), started_ns=self._started_ns)

    def values(self) -> telemetry.Values:
        """Counters of both processes."""
        measure_process(self.counters, "receiver")
        self.counters.set("otelcol_process_uptime", (time.time_ns() - self._started_ns) / 1e9)
        if self._writer is not None:
            self.counters.set("spanweir_queue_size_bytes", self._writer.size_bytes())
            capacity = getattr(self.configuration.service.queue.config, "max_bytes", 0)
            self.counters.set("otelcol_exporter_queue_capacity", capacity)
        self.counters.set("spanweir_delivery_restarts", self.child.restarts if self.child is not None else 0)
        child = self.child.sums.values() if self.child is not None else {}
        return telemetry.merge((self.counters.values(), child))

    def _metrics(self) -> Page:
        return Page(200, "text/plain; version=0.0.4; charset=utf-8", telemetry.exposition(self.values()).encode())

    @property
    def fatal(self) -> int:
        """The exit status if the delivery cannot go on, else 0."""
        return self.child.fatal if self.child is not None else 0

    def stop(self, timeout_s: float | None = None) -> None:
        """Stop receiving, let the child drain, close the queue."""
        if timeout_s is None:
            timeout_s = float(self.configuration.service.settings.shutdown_timeout)
        deadline = time.monotonic() + timeout_s
        self._listening = False
        for receiver in self._receivers:
            receiver.stop(min(_GRACE_S, timeout_s))
        if self._writer is not None:
            self._writer.close()
        if self.child is not None:
            self.child.stop(deadline)
        for extension in self._extensions:
            extension.stop()
        if self._pages is not None:
            self._pages.stop()


class Child:
    """The delivery process, kept running."""

    def __init__(self, configuration: Configuration) -> None:
        self.sums = telemetry.Sums()
        self.fatal = 0
        """Exit status for the service if starting again would not help."""
        self._configuration = pickle.dumps(configuration)
        self._process: subprocess.Popen[bytes] | None = None
        self._stopping = threading.Event()
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
        try:
            process = subprocess.Popen(
                [sys.executable, "-m", "spanweir.collector.child", str(writing)],
                stdin=subprocess.PIPE,
                pass_fds=(writing,),
                env={**allocator.ENVIRONMENT, **os.environ},
            )
        finally:
            os.close(writing)
        self._process = process
        threading.Thread(target=self._listen, args=(reading,), name="delivery-counters", daemon=True).start()
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
                    self.sums.update(telemetry.decode(frame))

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
            self.sums.restarted()
            self.restarts += 1
            if self._stopping.wait(pause):
                return
            pause = min(pause * 2, _PAUSE_MAX_S)
            self._spawn()

    def stop(self, deadline_s: float) -> None:
        """Let it drain until `deadline_s` (monotonic), then end it."""
        self._stopping.set()
        process = self._process
        if process is None:
            return
        try:
            process.terminate()
            process.wait(max(0.0, deadline_s - time.monotonic()) + _KILL_S)
        except subprocess.TimeoutExpired:
            _log.warning("the delivery process did not end in time; what is left stays queued")
            process.kill()
            process.wait()
        if process.stdin is not None:
            with contextlib.suppress(OSError):
                process.stdin.close()


class InProcess(Child):
    """Delivery in a thread of this process, for the memory queue: nothing can be shared with another one."""

    def __init__(self, configuration: Configuration) -> None:
        super().__init__(configuration)
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

    def _deliver(self, reader: Any) -> None:
        try:
            fatal = self._runner.run(lambda: self.sums.update(self._counters.values()))
            if fatal:
                _log.error("%s", fatal)
                self.fatal = 1
        finally:
            self._running = False
            reader.close()

    def stop(self, deadline_s: float) -> None:
        if self._runner is not None:
            self._runner.stop(deadline_s)
            self._thread.join(max(0.0, deadline_s - time.monotonic()) + _KILL_S)


def run(configuration: Configuration, on_ready: Callable[[Service], None] | None = None) -> int:
    """Run until SIGTERM or SIGINT. Returns the exit status. To be called in the main thread.

    Raises `ServiceError` or `ConfigError` if the service cannot start.
    """
    stop = threading.Event()

    def on_signal(number: int, frame: FrameType | None) -> None:
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, on_signal)
    service = Service(configuration)
    service.start()
    for name, endpoints in service.endpoints.items():
        for transport, address in endpoints.items():
            _log.info("%s: %s on %s", name, transport, address)
    if on_ready is not None:
        on_ready(service)
    while not stop.wait(0.5):
        if service.fatal:
            service.stop()
            return service.fatal
    service.stop()
    return 0
