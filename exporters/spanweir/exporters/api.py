"""What an exporter is. Queueing, batching, retries, bisection and dead letters are the collector's, not yours.

Exporters are synchronous context managers, each called from one thread of its own: SQL drivers and delta-rs block,
and an event loop around them would only add hops (DESIGN proposed async; measured on this load it bought nothing).
"""

from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Protocol, Self, runtime_checkable

import msgspec

from spanweir.schemas.raw import RawLog
from spanweir.schemas.trace import Cost, MappedSpan, TokenUsage, TraceRow


class Permanent(Exception):  # noqa: N818 - named as the collector's error taxonomy names it
    """Sending this batch again cannot succeed. The delivery bisects it and sets aside what is at fault.

    An exporter that knows what is at fault names it, with the reason: whole traces in `rejected`, by trace id (32 hex
    digits); single spans of traces in `rejected_spans`, by trace and span id; in `rejected_rows` traces of which the
    spans are stored and only the row is not. Then everything else of the batch *has been written durably*, and the
    delivery sets aside exactly what is named, without bisecting. Nothing is to be named twice.
    Raised while an exporter is entered, it means that the destination can never be written as it is configured.
    """

    def __init__(
        self,
        reason: str,
        *,
        rejected: Mapping[str, str] | None = None,
        rejected_spans: Mapping[tuple[str, str], str] | None = None,
        rejected_rows: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(reason)
        self.rejected: Mapping[str, str] = rejected or {}
        self.rejected_spans: Mapping[tuple[str, str], str] = rejected_spans or {}
        self.rejected_rows: Mapping[str, str] = rejected_rows or {}

    @property
    def names_what(self) -> bool:
        """Whether it says what is at fault, and the rest is written."""
        return bool(self.rejected or self.rejected_spans or self.rejected_rows)


class Retry(Exception):  # noqa: N818
    """Try again, no earlier than `after_s` seconds from now. Any other exception is treated the same."""

    def __init__(self, reason: str, *, after_s: float = 0.0) -> None:
        super().__init__(reason)
        self.after_s = after_s


class Lost(Exception):  # noqa: N818
    """What a `Flushing` exporter accepted after `durable` is gone, and the batch that it is called with is not written.

    The delivery makes all of it again from its queue, at once: an exporter that has to fear the same failure accepts no
    more than it makes durable then, and says `Retry` of the batch in its hands.
    """


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """One OTLP request exactly as it was received, for exporters that forward or archive it."""

    signal: str
    """`traces`, `logs` or `metrics`."""
    body: bytes
    """Serialized protobuf `Export*ServiceRequest`."""
    headers: dict[str, str] = {}
    tenant: str = ""
    received_ns: int = 0


class Batch(msgspec.Struct, kw_only=True):
    """What came out of the queue between two positions, mapped and assembled.

    `first` and `last` are the sequence numbers of the queue records that the batch is made of (inclusive). Batches of
    one exporter come in order and never overlap, except that after a crash some may come again: same `first`, or a
    `first` at or below a `last` that was already written. An exporter must then leave the same rows.
    `spans` may repeat a span that went out before (amended by a late log record, a lifted root): upsert by
    (trace_id, span_id). Within one batch a span and a trace occur once. `traces` holds one row per touched trace,
    absolute values.

    A batch that the clock made (traces finalised after their idle time) covers no record: its `first` is `last + 1`.
    It carries news all the same, so never skip it because `last` was written before.
    """

    first: int
    last: int
    spans: list[MappedSpan] = []
    traces: list[TraceRow] = []
    logs: list[RawLog] = []
    requests: list[Request] = []
    """Filled only for exporters whose `wants` names `REQUESTS` (and always for metrics)."""
    retracted: list[tuple[str, str]] = []
    """Trace and span ids that earlier batches held and that no longer stand: delete them if they are there (a coding
    agent's span that later records showed to be part of another). A trace without spans goes with its last one."""


class Exporter(Protocol):
    """Entered once, then `export` is called by one thread at a time, then exited once.

    Returning from `export` means that the destination has the whole batch durably.
    """

    def __enter__(self) -> Self: ...
    def export(self, batch: Batch) -> None:
        """Write the batch. Raises `Permanent` or `Retry`; whatever else is raised counts as `Retry`."""
        ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None: ...


MAPPED = "mapped"
"""`Batch.spans`, `traces` and `logs`."""
REQUESTS = "requests"
"""`Batch.requests`, of every signal of the pipeline."""
CANONICAL = "canonical"
"""`MappedSpan.canonical` of the spans; it is None where no exporter of the lane names this."""


@runtime_checkable
class Wanting(Protocol):
    """An exporter that says what of a batch it reads, so that the delivery need not make the rest.

    One that does not say reads `MAPPED`.
    """

    @property
    def wants(self) -> frozenset[str]: ...


def wants(exporter: object) -> frozenset[str]:
    """What `exporter` reads of a batch: `MAPPED`, `REQUESTS`, `CANONICAL`."""
    return exporter.wants if isinstance(exporter, Wanting) else frozenset({MAPPED})


@runtime_checkable
class Flushing(Protocol):
    """An exporter that holds data back (sized commits) or has work to do while nothing arrives.

    `export` of such an exporter may return before the data is durable; `durable` is the last sequence number that is.
    The delivery moves its cursor to `durable`, and calls `idle` while nothing arrives: a few times a second while
    something is not durable, else about once. `export` and `idle` may raise `Lost`.
    """

    @property
    def durable(self) -> int: ...
    def idle(self) -> None: ...


@runtime_checkable
class Settling(Flushing, Protocol):
    """A `Flushing` exporter that waits for its destination where nobody waits for it.

    `settle` is called after each `export`, when the next batch is already in the making. It may raise what `idle` may.
    """

    def settle(self) -> None: ...


class KnownSpan(msgspec.Struct, kw_only=True):
    """A stored span, without what assembly does not need."""

    span_id: str
    parent_id: str | None
    name: str
    type: str
    status: str
    start_ns: int
    end_ns: int | None
    usage: TokenUsage | None = None
    """The span's own `mlflow.chat.tokenUsage`."""
    cost: Cost | None = None


class KnownTrace(msgspec.Struct, kw_only=True):
    """What a destination has stored of a trace. `spans` may be left empty above `KNOWN_SPANS_MAX` spans."""

    row: TraceRow
    spans: list[KnownSpan] = []


KNOWN_SPANS_MAX = 20_000


@runtime_checkable
class Hydrating(Protocol):
    """An exporter that can tell what it has stored.

    Asked, from the delivery's own thread (not the exporter's), when a span arrives for a trace that assembly does not
    know and that did not begin just now: its state was evicted, or lost with a disk. Unknown ids are left out.
    """

    def known(self, trace_ids: Sequence[str], /) -> dict[str, KnownTrace]:
        """Stored traces by trace id (32 hex digits). Raises whatever the destination raises; then nothing is known."""
        ...


class Context(msgspec.Struct, kw_only=True):
    """What an exporter is given besides its config when it is built."""

    name: str
    """Its id in the configuration, `type/name`."""
    state_directory: str
    """A directory of its own that survives restarts (created by the collector)."""
    instance: str = "0"
    """Stable identity of this queue, for idempotent writers (Delta transaction app ids)."""
    left_out: Callable[[str, str, int], None] = lambda table, reason, n: None
    """To be told of `n` items that a table goes without, and why: what `export` took and could not be written later."""
    count: Callable[..., None] = lambda metric, n, **labels: None
    """`count(metric, n, **labels)` adds to one of the collector's own metrics. Thread-safe."""


class ExporterConfig(Protocol):
    """The frozen `Config` struct of an exporter module."""

    def build(self, context: Context, /) -> Exporter:
        """Not entered yet. Raises ValueError for options that do not go together; opens nothing."""
        ...
