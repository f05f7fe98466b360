"""What a receiver is: it puts requests into the queue, and answers senders when the queue has them durably.

Counting and naming of metrics are the composition root's: it gives each receiver an `Observer`.
"""

from collections.abc import Mapping
from typing import Protocol

import msgspec

from spanweir.collector.queue.api import Writer


class Observer(Protocol):
    """Told what became of the items (spans, log records, metric data points) of each request. Thread-safe, quick.

    `transport` is `grpc` or `http`; `tenant` is empty without authentication. A request is told once, except that the
    invalid items among good ones are told as `rejected` beside the `accepted` rest.
    """

    def accepted(self, signal: str, transport: str, tenant: str, items: int, size_bytes: int) -> None:
        """Durable in the queue; `size_bytes` of decompressed protobuf."""
        ...

    def dropped(self, signal: str, transport: str, tenant: str, items: int) -> None:
        """Acknowledged, and not queued: no pipeline takes this signal."""
        ...

    def rejected(self, signal: str, transport: str, tenant: str, items: int, reason: str) -> None:
        """Refused for ever: `invalid_id`, `undecodable`, `too_large`, `unauthenticated`, `internal`.

        0 items where the request could not be read.
        """
        ...

    def refused(self, signal: str, transport: str, tenant: str, items: int, reason: str) -> None:
        """The sender was told to come again: `queue_full`, `queue_unavailable`, `no_room`, `shutting_down` or
        `tenant_limit`."""
        ...


class Unobserved:
    """An `Observer` that nobody looks at."""

    def accepted(self, signal: str, transport: str, tenant: str, items: int, size_bytes: int) -> None: ...
    def dropped(self, signal: str, transport: str, tenant: str, items: int) -> None: ...
    def rejected(self, signal: str, transport: str, tenant: str, items: int, reason: str) -> None: ...
    def refused(self, signal: str, transport: str, tenant: str, items: int, reason: str) -> None: ...


class Context(msgspec.Struct, frozen=True, kw_only=True):
    """What a receiver is given besides its config when it is built."""

    name: str
    """Its id in the configuration, `type/name`."""
    writer: Writer
    signals: frozenset[str] = frozenset(("traces", "logs", "metrics"))
    """Signals for which some pipeline names this receiver. The others are acknowledged, counted and dropped."""
    observer: Observer = Unobserved()
    headers: dict[str, str] = {}
    """Put into every record, over what senders give."""


class ReceiverError(Exception):
    """The receiver cannot start; the message names the option and what to do."""


class Receiver(Protocol):
    """Started once, stopped once."""

    def start(self) -> None:
        """Listen. Raises `ReceiverError`; nothing is listening then."""
        ...

    @property
    def endpoints(self) -> Mapping[str, str]:
        """What listens where once started, by transport: `{"grpc": "127.0.0.1:4317"}`, port 0 resolved."""
        ...

    def stop(self, grace_s: float) -> None:
        """Refuse what is new (UNAVAILABLE, 503), wait up to `grace_s` for answers under way, stop listening."""
        ...


class ReceiverConfig(Protocol):
    """The frozen `Config` struct of a receiver module."""

    def build(self, context: Context, /) -> Receiver:
        """Not started yet. Raises ValueError for options that do not go together."""
        ...
