"""What a processor is: it takes the spans of a few requests and gives them back, changed, fewer, or routed.

Processors run between mapping and trace assembly, in one thread, in the order of the pipeline. A span that is not given
back is gone: the processor says so with `Context.drop`, so that its children move up to its parent, or with
`Context.discard` where its whole trace goes.

A processor whose class has `before_mapping = True` runs before `genai`: it changes raw spans, and what they mean
follows from that. One with `rewrites = True` changes content that must not leave unchanged: exporters that forward
requests then get requests made anew from the processed spans. One with a method `process_logs` is given the log
records as well, one with `process_metric_attributes` the attributes of metrics.
"""

from collections.abc import Callable, Sequence
from typing import Literal, Protocol, runtime_checkable

import msgspec

from spanweir.schemas.genai import GenAISpan
from spanweir.schemas.raw import Attributes, RawLog, RawSpan

NO_HEADERS: dict[str, str] = {}


class Item(msgspec.Struct, gc=False):
    """A span on its way: raw, canonical, and where its request is routed."""

    raw: RawSpan
    span: GenAISpan | None = None
    logs: Sequence[RawLog] = ()
    """Log records that were joined to it."""
    headers: dict[str, str] = NO_HEADERS
    tenant: str = ""
    experiment: str = ""
    """Experiment name or id; the first span of a trace that has one decides for the whole trace."""
    run_id: str | None = None
    sequence: int = 0
    """Of the queue record that brought it, or of an earlier one."""


class Context(msgspec.Struct, kw_only=True):
    """What a processor is given besides its config when it is built."""

    name: str
    """Its id in the configuration, `type/name`."""
    state_directory: str
    """A directory of its own that survives restarts; it need not exist yet."""
    count: Callable[[str, int], None]
    """Moves one of the collector's counters, with the processor's name as its label."""
    drop: Callable[[RawSpan, str], None]
    """Says that a span was taken out of its trace, and why (a word)."""
    discard: Callable[[RawSpan, str], None]
    """Says that a span goes with its whole trace, and why (a word)."""


class Processor(Protocol):
    """Called by one thread at a time. Must not raise for odd input: one span never costs its neighbours."""

    def process(self, items: list[Item], /) -> list[Item]: ...


@runtime_checkable
class LogProcessor(Protocol):
    """A processor that changes log records too. Called before they are joined to spans."""

    def process_logs(self, logs: Sequence[RawLog], /) -> list[RawLog]: ...


Place = Literal["resource", "scope", "metric", "point", "exemplar"]
"""Where attributes of metrics stand."""


@runtime_checkable
class MetricProcessor(Protocol):
    """A processor that changes the attributes of metrics too, where a metrics pipeline names it."""

    def process_metric_attributes(self, attributes: Attributes, place: Place, /) -> Attributes:
        """What to write instead; the same object where nothing changes."""
        ...


@runtime_checkable
class HoldingProcessor(Protocol):
    """A processor that holds spans back. They stay in the queue until it has given them on."""

    def tick(self, now_s: float, /) -> list[Item]:
        """Spans that go on now; called about twice a second with a monotonic clock."""
        ...

    def low(self) -> int:
        """The lowest queue position of a span that is held; 0 if none is."""
        ...


class ProcessorConfig(Protocol):
    """The frozen `Config` struct of a processor module."""

    def build(self, context: Context, /) -> Processor:
        """Raises ValueError for options that do not go together."""
        ...
