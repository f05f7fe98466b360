"""What the regrouping works on: items (spans and log records of one session), turns, and deterministic ids.

Not here: which record belongs to which turn and what it means (one module per agent), nor when spans go out (`Agents`).
"""

from collections.abc import Callable, Container, Iterable
from hashlib import blake2b
from typing import Protocol, TypeAlias

import msgspec

from spanweir.schemas.raw import Attributes, RawLog, RawSpan, Value


class Item(msgspec.Struct):
    """A span or a log record that waits for its turn."""

    key: str
    """Same record, same key: a record that is sent twice is one item."""
    start_ns: int
    end_ns: int
    span: RawSpan | None = None
    log: RawLog | None = None
    event: str = ""
    """Name of the log event, without the agent's prefix."""
    sequence: int = 0
    """Queue position it came from; 0 where unknown."""
    arrived_ns: int = 0
    size_bytes: int = 0
    counted: bool = False
    """It is known that it does not go out as a span."""

    @property
    def source(self) -> RawLog | RawSpan | None:
        return self.log if self.log is not None else self.span

    @property
    def attributes(self) -> Attributes:
        if self.span is not None:
            return self.span.attributes
        return self.log.attributes if self.log is not None else {}

    @property
    def trace_id(self) -> str:
        if self.span is not None:
            return self.span.trace_id
        return self.log.trace_id if self.log is not None else ""

    @property
    def span_id(self) -> str:
        if self.span is not None:
            return self.span.span_id
        return self.log.span_id if self.log is not None else ""


class Closed(msgspec.Struct):
    """What remains of a turn whose records were let go: enough to give late records their place."""

    key: str
    trace_id: str
    start_ns: int
    root: RawSpan | None = None


class Turn(msgspec.Struct):
    """One user turn: one trace."""

    key: str
    trace_id: str
    items: list[Item]
    """Sorted by time, then key."""
    session: str = ""
    root_id: str = ""
    """Span id of the root; derived from the trace id where the agent has no span for the turn."""
    final: bool = False
    """Nothing has arrived for a while: spans whose own record never came are made from what there is."""
    carried: RawSpan | None = None
    """The root as it went out before the turn's earlier records were let go."""
    notes: dict[str, str] = {}
    """What was said once for the whole session."""
    links: dict[str, str] = {}
    """`Group.links`."""


Key: TypeAlias = tuple[str, str, str, str]
"""Agent, `trace` or `session`, its id, tenant."""


class Group:
    """All open records of one session or trace of an agent, and what was made of them."""

    def __init__(self, agent: str) -> None:
        self.agent = agent
        self.route: object = None
        self.log_route: object = None
        self.keys: set[Key] = set()
        self.session = ""
        self.traces: set[str] = set()
        self.items: dict[str, Item] = {}
        self.internals: dict[str, Item] = {}
        """Internal spans, when they are to be kept."""
        self.links: dict[str, str] = {}
        """Span id to parent id of spans that were dropped as noise: the chain to the turn's root runs through them."""
        self.remote = False
        """A span of the trace had a parent outside of the agent."""
        self.notes: dict[str, str] = {}
        self.closed: dict[str, Closed] = {}
        self.emitted: dict[str, dict[str, tuple[str, bytes]]] = {}
        """Turn key to span id to trace id and digest of what went out."""
        self.stamps: dict[str, tuple[object, ...]] = {}
        self.dirty_ns = 0
        """When the first record arrived that is not out yet; 0 when all is out."""
        self.touched_ns = 0
        self.release_ns = 0
        """When to look for turns to let go next."""
        self.finished = False
        self.size_bytes = 0
        self.low = 0
        """The oldest queue position of a record; 0 for none."""

    def touch(self, now_ns: int) -> None:
        """Something came that may change what went out."""
        self.touched_ns = now_ns
        self.finished = False
        self.dirty_ns = self.dirty_ns or now_ns

    def take(self, other: "Group") -> None:
        """Take over what another group holds that turned out to be the same."""
        self.session = self.session or other.session
        self.keys |= other.keys
        self.route = self.route or other.route
        self.log_route = self.log_route or other.log_route
        self.traces |= other.traces
        self.items = {**other.items, **self.items}
        self.internals = {**other.internals, **self.internals}
        self.links.update(other.links)
        self.notes = {**other.notes, **self.notes}
        self.closed = {**other.closed, **self.closed}
        self.remote = self.remote or other.remote
        for turn, spans in other.emitted.items():
            self.emitted.setdefault(turn, {}).update(spans)
        self.stamps.clear()
        self.size_bytes += other.size_bytes
        self.dirty_ns = min((at for at in (self.dirty_ns, other.dirty_ns) if at), default=0)
        self.touched_ns = max(self.touched_ns, other.touched_ns)
        self.finished = self.finished and other.finished
        self.low = min((at for at in (self.low, other.low) if at), default=0)


class Rules(Protocol):
    """One agent: which records are its own, which turn they belong to, which spans a turn is."""

    name: str

    def span(self, span: RawSpan, group: Group | None) -> bool:
        """Whether the span is worth holding; the rest is internal noise. `group` may note links of noise."""
        ...

    def keys(self, trace_id: str, attributes: Attributes) -> tuple[str, str]:
        """Trace id and session by which records of this agent find each other; either may be empty."""
        ...

    def event(self, log: RawLog) -> str:
        """Name of the event without prefix; empty for records that say nothing about a turn."""
        ...

    def turns(self, group: Group) -> list[Turn]: ...

    def render(self, turn: Turn) -> list[RawSpan]: ...


# ------------------------------------------------------------------------------------------------ ids


def trace_hash(*parts: str) -> str:
    """32 hex digits that depend on nothing but `parts`, so that a replay gives the same rows."""
    return blake2b("\x1f".join(parts).encode(), digest_size=16).hexdigest()


def span_hash(*parts: str) -> str:
    """16 hex digits; see `trace_hash`."""
    return blake2b("\x1f".join(parts).encode(), digest_size=8).hexdigest()


def above(at: str, parents: dict[str, str], wanted: Container[str]) -> str:
    """The nearest of `wanted` on the way up from span id `at`, itself included; empty when the chain ends before."""
    for _ in range(128):
        if at in wanted:
            return at
        if not (at := parents.get(at, "")):
            break
    return ""


def split(
    items: list[Item], tops: list[tuple[int, str]], parents: dict[str, str], told: Callable[[Item], str]
) -> dict[str, list[Item]]:
    """Items by the turn they belong to, for turns that share a trace; `tops` are start and span id, in time order.

    A record belongs to the turn above its span; else to that which `told` names; else to the last that began before.
    """
    found: dict[str, list[Item]] = {top: [] for _, top in tops}
    for item in items:
        top = above(item.span_id, parents, found) or told(item)
        if top not in found:
            top = next((t for start, t in reversed(tops) if start <= item.start_ns), tops[0][1])
        found[top].append(item)
    return {top: own for top, own in found.items() if own}


def later(items: list[Item]) -> set[str]:
    """Span ids of turns below a parent that is not the agent's, of which their process counts an earlier one: known
    without the earlier turn's records."""
    return {
        item.span_id
        for item in items
        if item.span is not None and item.span.parent_id
        if (int_of(item.attributes.get("interaction.sequence")) or 0) > 1
    }


# ------------------------------------------------------------------------------------------------ values


def text_of(value: Value) -> str:
    """The value as text; empty for anything that is not a plain value."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool) or value is None or isinstance(value, (list, dict, bytes)):
        return ""
    return str(value)


def first_text(attributes: Attributes, *keys: str) -> str:
    for key in keys:
        if text := text_of(attributes.get(key)):
            return text
    return ""


def int_of(value: Value) -> int | None:
    """A count: int, integral float or digits in a string (Rust and Node agents send many numbers as strings)."""
    if isinstance(value, bool) or value is None:
        return None
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None
    return int(number) if number == number and 0 <= number < 1e15 else None


def float_of(value: Value) -> float | None:
    if isinstance(value, bool) or value is None:
        return None
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None
    return number if number == number and abs(number) != float("inf") else None


def true_of(value: Value) -> bool | None:
    """`True`, `"true"` and the like; `None` where it says neither."""
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in ("true", "false"):
        return value.lower() == "true"
    return None


def milliseconds(value: Value) -> int:
    """Milliseconds (int, double or digits) as nanoseconds; 0 where there are none."""
    number = float_of(value)
    return int(number * 1e6) if number is not None and 0 < number < 1e12 else 0


def in_order(items: Iterable[Item]) -> list[Item]:
    return sorted(items, key=lambda item: (item.start_ns, item.key))


def log_time(log: RawLog) -> int:
    return log.time_ns or log.observed_ns
