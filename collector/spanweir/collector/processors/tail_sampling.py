"""Keeps or discards whole traces when they are complete: errors, latency, tokens, cost, feedback, attributes, ratio.

A trace is decided when its root has ended and no parent is missing, or when nothing came for `decision_wait`; made for
agents that run for minutes, so time since the last span counts, not since the first. Any policy that says yes keeps the
trace; without policies all are kept. Spans that come later follow the decision. Keys are as in the OpenTelemetry
Collector's `tail_sampling` processor where it has them.

Spans wait in memory, and in the queue: no exporter's cursor passes a span that waits, so a crash loses none. Over
`max_bytes` the trace that waits longest is decided by what is known of it.
"""

import re
from collections import OrderedDict
from collections.abc import Callable, Iterable
from hashlib import blake2b
from typing import Literal

import msgspec

from spanweir.collector.processors.api import Context, Item
from spanweir.schemas.mlflow import status_of
from spanweir.schemas.options import Duration, Size
from spanweir.schemas.raw import RawSpan
from spanweir.schemas.sizes import content_bytes

_MS = 1_000_000
_SPAN_OVERHEAD_BYTES = 2000
_COPIES = 3
"""Content stands in the raw span, in the canonical one, and in what is parsed of it."""
_STATUS = {0: "UNSET", 1: "OK", 2: "ERROR"}


class Latency(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    threshold_ms: int = 0
    """Keep traces that took at least this long."""
    upper_threshold_ms: int = 0
    """And at most this long; 0 for no bound."""


class StatusCode(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    status_codes: tuple[Literal["ERROR", "OK", "UNSET"], ...] = ("ERROR",)
    """Keep traces with a span of one of these."""


class Probabilistic(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    sampling_percentage: float = 100.0
    """Share of traces that are kept, 0 to 100, chosen by trace id."""
    hash_salt: str = ""
    """Collectors in a row that shall choose independently need different salts."""


class StringAttribute(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    key: str = ""
    """Span or resource attribute."""
    values: tuple[str, ...] = ()
    """Keep traces with a span that has one of these."""
    enabled_regex_matching: bool = False
    """The values are regular expressions that match from the beginning."""


class NumericAttribute(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    key: str = ""
    """Span attribute."""
    min_value: float = float("-inf")
    """Keep traces with a span that has at least this."""
    max_value: float = float("inf")
    """And at most this."""


class SpanCount(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    min_spans: int = 0
    """Keep traces of at least so many spans."""


class Tokens(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    min_tokens: int = 0
    """Keep traces whose model calls used at least so many tokens in all."""


class Cost(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    min_cost: float = 0.0
    """Keep traces whose model calls cost at least so many dollars."""


Type = Literal[
    "always_sample", "latency", "status_code", "probabilistic", "string_attribute", "numeric_attribute", "span_count",
    "tokens", "cost", "feedback",
]  # fmt: skip


class Policy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One reason to keep a trace. The options of its type stand under the type's name."""

    name: str = ""
    """For messages."""
    type: Type = "always_sample"
    """`feedback` keeps traces that were evaluated or annotated; `always_sample` all."""
    latency: Latency = Latency()
    """For type latency."""
    status_code: StatusCode = StatusCode()
    """For type status_code."""
    probabilistic: Probabilistic = Probabilistic()
    """For type probabilistic."""
    string_attribute: StringAttribute = StringAttribute()
    """For type string_attribute."""
    numeric_attribute: NumericAttribute = NumericAttribute()
    """For type numeric_attribute."""
    span_count: SpanCount = SpanCount()
    """For type span_count."""
    tokens: Tokens = Tokens()
    """For type tokens."""
    cost: Cost = Cost()
    """For type cost."""

    def __post_init__(self) -> None:
        if self.type in ("string_attribute", "numeric_attribute") and not getattr(self, self.type).key:
            raise ValueError(f"policy {self.name!r} needs {self.type}.key")


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    decision_wait: Duration = Duration(30)
    """A trace that is not complete is decided when nothing came for this long."""
    settle: Duration = Duration(1)
    """A complete trace is decided after this long, for spans that are on their way."""
    num_traces: int = 50_000
    """Decisions that are remembered for late spans."""
    max_bytes: Size = Size(64 * 1024 * 1024)
    """Memory for spans that wait."""
    policies: tuple[Policy, ...] = ()
    """A trace is kept if any of them says so."""

    def build(self, context: Context) -> "TailSampling":
        return TailSampling(self, context)


class _Trace(msgspec.Struct):
    items: dict[str, Item] = {}
    touched_s: float = 0.0
    sequence: int = 0
    size_bytes: int = 0
    looked: bool = False
    """`complete` is up to date."""
    complete: bool = False


class TailSampling:
    """A `HoldingProcessor`."""

    rewrites = True

    def __init__(self, config: Config, context: Context) -> None:
        self._config = config
        self._discard = context.discard
        self._tests = [_test(policy) for policy in config.policies]
        self._waiting: OrderedDict[str, _Trace] = OrderedDict()
        self._decided: OrderedDict[str, bool] = OrderedDict()
        self._bytes = 0
        self._now_s = 0.0

    def process(self, items: list[Item]) -> list[Item]:
        out: list[Item] = []
        for item in items:
            raw = item.raw
            decided = self._decided.get(raw.trace_id)
            if decided is None:
                self._hold(item)
            elif decided:
                out.append(item)
            else:
                self._discard(raw, "sampled")
        while self._bytes > self._config.max_bytes and self._waiting:
            out += self._decide(next(iter(self._waiting)))
        return out

    def tick(self, now_s: float) -> list[Item]:
        """The spans of traces that are decided now and kept."""
        self._now_s = now_s
        due = [trace_id for trace_id, trace in self._waiting.items() if self._is_due(trace, now_s)]
        return [item for trace_id in due for item in self._decide(trace_id)]

    def _is_due(self, trace: _Trace, now_s: float) -> bool:
        silent = now_s - trace.touched_s
        if silent < self._config.settle:
            return False
        if silent >= self._config.decision_wait:
            return True
        if not trace.looked:
            trace.looked = True
            trace.complete = _complete([item.raw for item in trace.items.values()])
        return trace.complete

    def low(self) -> int:
        """The lowest queue position of a span that waits; 0 if none does."""
        # In the order in which they came: the first has the lowest.
        return next((trace.sequence for trace in self._waiting.values() if trace.sequence), 0)

    def _hold(self, item: Item) -> None:
        raw = item.raw
        trace = self._waiting.get(raw.trace_id)
        if trace is None:
            trace = self._waiting[raw.trace_id] = _Trace(sequence=item.sequence)
        trace.touched_s = self._now_s
        trace.sequence = min(trace.sequence or item.sequence, item.sequence or trace.sequence)
        if raw.span_id not in trace.items:
            size = _SPAN_OVERHEAD_BYTES + _COPIES * content_bytes(raw)
            trace.size_bytes += size
            self._bytes += size
        trace.items[raw.span_id] = item
        trace.looked = False

    def _decide(self, trace_id: str) -> list[Item]:
        trace = self._waiting.pop(trace_id)
        self._bytes -= trace.size_bytes
        items = list(trace.items.values())
        keep = not self._tests or any(test(trace_id, items) for test in self._tests)
        self._decided[trace_id] = keep
        if len(self._decided) > self._config.num_traces:
            self._decided.popitem(last=False)
        if keep:
            return items
        for item in items:
            self._discard(item.raw, "sampled")
        return []


def _complete(raws: list[RawSpan]) -> bool:
    known = {raw.span_id for raw in raws}
    return any(not raw.parent_id and raw.end_ns for raw in raws) and all(
        not raw.parent_id or raw.parent_id in known for raw in raws
    )


Test = Callable[[str, Iterable[Item]], bool]


def _test(policy: Policy) -> Test:
    tests: dict[str, Callable[[], Test]] = {
        "always_sample": lambda: lambda trace_id, items: True,
        "latency": lambda: _latency(policy.latency),
        "status_code": lambda: _any(
            lambda item: _STATUS.get(status_of(item.raw, item.span)) in policy.status_code.status_codes
        ),
        "probabilistic": lambda: _ratio(policy.probabilistic),
        "string_attribute": lambda: _any(_string(policy.string_attribute)),
        "numeric_attribute": lambda: _any(_number(policy.numeric_attribute)),
        "span_count": lambda: lambda trace_id, items: len(list(items)) >= policy.span_count.min_spans,
        "tokens": lambda: lambda trace_id, items: sum(map(_tokens, items)) >= policy.tokens.min_tokens,
        "cost": lambda: lambda trace_id, items: sum(map(_dollars, items)) >= policy.cost.min_cost,
        "feedback": lambda: _any(lambda item: item.span is not None and bool(item.span.evaluations)),
    }
    return tests[policy.type]()


def _any(true_of: Callable[[Item], bool]) -> Test:
    return lambda trace_id, items: any(true_of(item) for item in items)


def _latency(option: Latency) -> Test:
    def test(trace_id: str, items: Iterable[Item]) -> bool:
        raws = [item.raw for item in items]
        took = max(raw.end_ns for raw in raws) - min(raw.start_ns for raw in raws)
        upper = option.upper_threshold_ms * _MS
        return took >= option.threshold_ms * _MS and (not upper or took <= upper)

    return test


def _ratio(option: Probabilistic) -> Test:
    limit = round(option.sampling_percentage / 100 * (1 << 32))
    salt = option.hash_salt.encode()[:64]

    def test(trace_id: str, items: Iterable[Item]) -> bool:
        return int.from_bytes(blake2b(trace_id.encode(), digest_size=4, key=salt).digest(), "big") < limit

    return test


def _string(option: StringAttribute) -> Callable[[Item], bool]:
    patterns = [re.compile(v if option.enabled_regex_matching else re.escape(v) + r"\Z") for v in option.values]

    def true_of(item: Item) -> bool:
        value = item.raw.attributes.get(option.key, item.raw.resource.attributes.get(option.key))
        return isinstance(value, str) and any(pattern.match(value) for pattern in patterns)

    return true_of


def _number(option: NumericAttribute) -> Callable[[Item], bool]:
    def true_of(item: Item) -> bool:
        value = item.raw.attributes.get(option.key)
        return (
            isinstance(value, int | float)
            and not isinstance(value, bool)
            and option.min_value <= value <= option.max_value
        )

    return true_of


def _tokens(item: Item) -> int:
    usage = item.span.usage if item.span is not None else None
    if usage is None or usage.scope != "own":
        return 0
    return (usage.input or 0) + (usage.output or 0)


def _dollars(item: Item) -> float:
    cost = item.span.cost if item.span is not None else None
    return (cost.total or 0.0) if cost is not None else 0.0
