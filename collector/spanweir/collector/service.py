"""The service: this process receives, a child process delivers, and the queue is all that they share.

A child that dies is started again (`supervisor`); what it had not delivered is still in the queue. SIGTERM and SIGINT
stop receiving first, then let the child drain within `shutdown_timeout`. SIGHUP reads the configuration again: what is
the same in it goes on untouched, and the queue stays in any case, so nothing that was acknowledged is lost.
"""

import logging
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from queue import Empty, SimpleQueue
from types import FrameType

from spanweir.collector import allocator, telemetry
from spanweir.collector.building import receiver_of
from spanweir.collector.config import ConfigError, Configuration
from spanweir.collector.extensions.api import Context as ExtensionContext
from spanweir.collector.extensions.api import Extension, Health
from spanweir.collector.feeds import feeds, is_told_apart, signals_of_receivers
from spanweir.collector.handshake import CHECK
from spanweir.collector.observer import CountingObserver
from spanweir.collector.pages import Page, Pages
from spanweir.collector.queue.api import QueueFull, QueueUnavailable, Writer
from spanweir.collector.receivers.api import Receiver, ReceiverError
from spanweir.collector.supervisor import Child, delivery, pickled

_log = logging.getLogger(__name__)
_GRACE_S = 5.0
_ABANDON_S = 1.0
"""What receivers are given whose service did not start."""
_HAND_OVER_S = 5.0
"""What the old delivery process is given when the configuration changes: it need not drain the queue."""
_CHECK_S = 120.0
_PROBATION_S = 60.0
"""How long a reloaded configuration can still be taken back."""


class ServiceError(Exception):
    """The service cannot start or go on; the message says what to do."""


class Service:
    """Started once, reloaded any number of times, stopped once. For one thread."""

    def __init__(self, configuration: Configuration) -> None:
        self.configuration = configuration
        self.counters = telemetry.Counters()
        self.child: Child | None = None
        self.metrics_address = ""
        self._sums = telemetry.Sums()
        self._observer = CountingObserver(self.counters)
        self._started_ns = time.time_ns()
        self._writer: Writer | None = None
        self._receivers: dict[str, tuple[object, Receiver]] = {}
        """By id: what it was made of, and itself. So for extensions."""
        self._extensions: dict[str, tuple[object, Extension]] = {}
        self._pages: Pages | None = None
        self._pages_endpoint = ""
        self._delivered: object = None
        """What the child was made of."""
        self._restarts = 0
        self._previous: Configuration | None = None
        self._reloaded_at = 0.0
        self._listening = self._broken = False

    @property
    def endpoints(self) -> dict[str, Mapping[str, str]]:
        """What listens, by receiver id and transport, once started."""
        return {name: receiver.endpoints for name, (_, receiver) in self._receivers.items()}

    def start(self) -> None:
        """Raises `ServiceError` or `ConfigError`; nothing runs then."""
        try:
            allocator.keep_little()
            feeds(self.configuration)
            self._writer = self.configuration.service.queue.config.open_writer()
            self._deliver()
            self._surround()
            self._receive()
            self._publish()
        except Exception as error:
            if self.child is not None:
                self.child.abandon()
            self.stop(_ABANDON_S)
            if isinstance(error, _CANNOT):
                raise ServiceError(str(error)) from error
            raise

    def reload(self, configuration: Configuration) -> None:
        """Go over to `configuration`. Raises `ServiceError` or `ConfigError`; then the one before is in force."""
        old, self._previous = self.configuration, None
        if _made_of(configuration, "queue") != _made_of(old, "queue"):
            raise ServiceError("service.queue cannot change while the collector runs; restart it to change the queue")
        _check(configuration)
        try:
            self._take(configuration)
        except Exception as error:
            self._take_back(old)
            if isinstance(error, _CANNOT):
                raise ServiceError(str(error)) from error
            raise
        self._previous, self._reloaded_at = old, time.monotonic()

    def go_back(self) -> bool:
        """To the configuration before the last reload, if the delivery cannot go on with this one; whether it did."""
        previous, self._previous = self._previous, None
        if previous is None or time.monotonic() - self._reloaded_at > _PROBATION_S:
            return False
        self._take_back(previous)
        return True

    def _take_back(self, configuration: Configuration) -> None:
        try:
            self._take(configuration)
        except Exception:
            _log.exception("the configuration from before cannot be taken up again either")
            self._broken = True

    def _take(self, configuration: Configuration) -> None:
        self.configuration = configuration
        logging.getLogger().setLevel(configuration.service.settings.telemetry.logs.level.upper())
        self._receive()
        self._surround()
        self._publish()
        self._deliver(min(_HAND_OVER_S, float(configuration.service.settings.shutdown_timeout)))

    def _receive(self) -> None:
        """Stop the receivers that are no longer wanted as they are, and start those that are not there."""
        assert self._writer is not None
        signals = signals_of_receivers(self.configuration)
        told_apart = is_told_apart(self.configuration)
        used = self.configuration.used("receivers")
        wanted = {name: (one.type, one.config, signals[name], told_apart) for name, one in used.items()}
        for name, (made_of, receiver) in list(self._receivers.items()):
            if wanted.get(name) != made_of:
                del self._receivers[name]
                receiver.stop(_GRACE_S)
        for name, component in used.items():
            if name not in self._receivers:
                receiver = receiver_of(component, self._writer, signals[name], self._observer, told_apart=told_apart)
                receiver.start()
                self._receivers[name] = (wanted[name], receiver)
                for transport, address in receiver.endpoints.items():
                    _log.info("%s: %s on %s", name, transport, address)
        self._listening = True

    def _surround(self) -> None:
        """The same for extensions."""
        used = self.configuration.used("extensions")
        wanted = {name: (component.type, component.config) for name, component in used.items()}
        for name, (made_of, extension) in list(self._extensions.items()):
            if wanted.get(name) != made_of:
                del self._extensions[name]
                extension.stop()
        for name, component in used.items():
            if name not in self._extensions:
                extension = component.config.build(ExtensionContext(name=name, health=self.health))
                extension.start()
                self._extensions[name] = (wanted[name], extension)

    def _publish(self) -> None:
        """The page of metrics. After the receivers: whoever sees it at the start may send."""
        endpoint = self.configuration.service.settings.telemetry.metrics.endpoint
        if endpoint == self._pages_endpoint:
            return
        if self._pages is not None:
            self._pages.stop()
        self._pages, self._pages_endpoint, self.metrics_address = None, "", ""
        if endpoint:
            pages = Pages(endpoint, {"/metrics": self._metrics}, "service.telemetry.metrics.endpoint")
            pages.start()
            self._pages, self._pages_endpoint, self.metrics_address = pages, endpoint, pages.address

    def _deliver(self, hand_over_s: float = 0.0) -> None:
        """Have a delivery process of this configuration; a former one is given `hand_over_s` to end."""
        wanted = _made_of(self.configuration, "delivery")
        if self.child is not None:
            if wanted == self._delivered and not self.child.fatal:
                return
            self.child.stop(time.monotonic() + hand_over_s)
            self._restarts += self.child.restarts
        self.child, self._delivered = delivery(self.configuration, self._sums), wanted
        self.child.start()

    def health(self) -> Health:
        problems = []
        if not self._listening:
            problems.append("not receiving")
        if self.child is None or not self.child.alive:
            problems.append("the delivery process is not running")
        return Health(ready=self._listening, problems=tuple(problems), started_ns=self._started_ns)

    def values(self) -> telemetry.Values:
        """Counters of both processes."""
        telemetry.measure_process(self.counters, "receiver")
        self.counters.set("otelcol_process_uptime", (time.time_ns() - self._started_ns) / 1e9)
        if self._writer is not None:
            self.counters.set("spanweir_queue_size_bytes", self._writer.size_bytes())
            capacity = getattr(self.configuration.service.queue.config, "max_bytes", 0)
            self.counters.set("otelcol_exporter_queue_capacity", capacity)
        restarts = self._restarts + (self.child.restarts if self.child is not None else 0)
        self.counters.set("spanweir_delivery_restarts", restarts)
        return telemetry.merge((self.counters.values(), self._sums.values()))

    def _metrics(self) -> Page:
        return Page(200, "text/plain; version=0.0.4; charset=utf-8", telemetry.exposition(self.values()).encode())

    @property
    def fatal(self) -> int:
        """The exit status if the service cannot go on, else 0."""
        return 1 if self._broken else self.child.fatal if self.child is not None else 0

    def stop(self, timeout_s: float | None = None) -> None:
        """Stop receiving, let the child drain, close the queue; in `timeout_s`, by default `shutdown_timeout`."""
        if timeout_s is None:
            timeout_s = float(self.configuration.service.settings.shutdown_timeout)
        deadline = time.monotonic() + timeout_s
        self._listening = False
        for _, receiver in self._receivers.values():
            receiver.stop(min(_GRACE_S, max(0.0, deadline - time.monotonic()) / 2))
        if self._writer is not None:
            self._writer.close()
        if self.child is not None:
            self.child.stop(deadline)
        for _, extension in self._extensions.values():
            extension.stop()
        if self._pages is not None:
            self._pages.stop()


_CANNOT = (OSError, QueueUnavailable, QueueFull, ReceiverError, RuntimeError)


def _made_of(configuration: Configuration, part: str) -> object:
    """What the `queue`, or the `delivery`, depends on: two that are equal need no change."""
    queue = configuration.service.queue
    if part == "queue":
        return queue.type, queue.config
    components = [
        (kind, name, component.type, component.config)
        for kind in ("processors", "exporters")
        for name, component in configuration.used(kind).items()
    ]
    return components, configuration.service.pipelines, configuration.service.settings


def _check(configuration: Configuration) -> None:
    """Build everything, in another process: what exporters import is not for this one. Raises ConfigError."""
    command = [sys.executable, "-m", "spanweir.collector.child", CHECK]
    try:
        checked = subprocess.run(command, input=pickled(configuration), capture_output=True, timeout=_CHECK_S)
    except subprocess.TimeoutExpired as error:
        raise ServiceError(f"the configuration could not be checked within {_CHECK_S:.0f} s") from error
    if checked.returncode:
        raise ConfigError(*checked.stderr.decode(errors="replace").strip().splitlines())


def run(
    configuration: Configuration,
    on_ready: Callable[[Service], None] | None = None,
    load: Callable[[], Configuration] | None = None,
) -> int:
    """Run until SIGTERM or SIGINT. Returns the exit status. To be called in the main thread.

    `load` reads the configuration again, for SIGHUP. Raises `ServiceError` or `ConfigError` if it cannot start.
    """
    signals: SimpleQueue[int] = SimpleQueue()

    def on_signal(number: int, frame: FrameType | None) -> None:
        signals.put(number)

    for number in (signal.SIGTERM, signal.SIGINT, *((signal.SIGHUP,) if load else ())):
        signal.signal(number, on_signal)
    service = Service(configuration)
    service.start()
    if on_ready is not None:
        on_ready(service)
    status = 0
    while not status:
        try:
            number = signals.get(timeout=0.5)
        except Empty:
            status = _fatal(service)
            continue
        # A reload takes a second and more, so signals wait here: one reload is as good as many, and an end goes first.
        while number == signal.SIGHUP and not signals.empty():
            number = signals.get()
        if number != signal.SIGHUP or load is None:
            break
        _reload(service, load)
    service.stop()
    return status


def _fatal(service: Service) -> int:
    """The exit status if it can go on neither with this configuration nor with the one before."""
    if not (status := service.fatal):
        return 0
    _log.error("the delivery cannot go on with this configuration")
    if not service.go_back():
        return status
    _log.error("the configuration from before the reload is in force again")
    return 0


def _reload(service: Service, load: Callable[[], Configuration]) -> None:
    _log.info("SIGHUP: the configuration is read again")
    try:
        service.reload(load())
    except (ConfigError, ServiceError) as error:
        for problem in error.problems if isinstance(error, ConfigError) else [str(error)]:
            _log.error("%s", problem)
        _log.error("not reloaded: the collector goes on with the configuration it has")
    except Exception:
        _log.exception("not reloaded: the collector goes on with the configuration it has")
    else:
        _log.info("reloaded")
