"""Starting spans as the SDK's tracer does, in a fifth of the time: that was half of what a call cost the application.

`Tracer.start_span` (SDK 1.45) asks a sampler that always says yes, cleans attributes that are clean, three times over,
and makes three containers with a lock each for what few spans have. Where the outcome is known beforehand a span is
made here, field by field; everywhere else (another tracer, sampler or id generator, limits on attributes, an SDK whose
spans have fields that this file does not know) by the SDK.

A call that comes after a pause finds the processor's caches cold, and then costs what it touches, not what it computes:
few functions and few objects count for more than few instructions. So a span is made of what its caller gave, as it was
given. Its context, its attributes and the rest come into being when somebody asks for them, which for most spans is the
worker, in its own thread.
"""

import os
import threading
from collections.abc import Mapping
from random import getrandbits
from time import time_ns
from typing import Any

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk import trace as sdk
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import DEFAULT_ON
from opentelemetry.sdk.util import BoundedList
from opentelemetry.trace import SpanContext, SpanKind, TraceFlags
from opentelemetry.trace.propagation import _SPAN_KEY
from opentelemetry.trace.span import DEFAULT_TRACE_STATE
from opentelemetry.util.types import AttributeValue

from spanweir.instrumentation.freeze import Frozen
from spanweir.instrumentation.lazy import CLEAN, LazyAttributes, WhenAsked
from spanweir.instrumentation.policy import Policy

_OWN = frozenset({"_attributes", "_context", "_events", "_kind", "_links", "_lock", "_name", "_parent", "_start_time"})
_SHARED = frozenset(
    {
        "_end_time",
        "_instrumentation_info",
        "_instrumentation_scope",
        "_limits",
        "_record_end_metrics",
        "_record_exception",
        "_resource",
        "_sampler",
        "_set_status_on_exception",
        "_span_processor",
        "_status",
        "_trace_config",
    }
)
_FLAGS = tuple(TraceFlags(bits) for bits in range(4))
_TRACE_ID = (1 << 128) - 1


_new: Any = object.__new__
_All = sdk.SynchronousMultiSpanProcessor
"""A provider's own processor: it calls all others, one after the other, which is done here without it."""
_ending = threading.RLock()
"""Held for a few steps while a span of any thread ends, is queued, or its attributes are made. A signal handler may end
spans in the middle of that, in the same thread."""


def _new_lock() -> None:
    """Another thread of the parent may have held the lock at the moment of the fork."""
    global _ending
    _ending = threading.RLock()


def lock() -> Any:
    """What is held while `Follower.take` is called. A forked child has a new one."""
    return _ending


os.register_at_fork(after_in_child=_new_lock)


def _context(span: "QuickSpan") -> SpanContext:
    """From the random number that was drawn when the span started: the same one in a forked child, too."""
    parent, bits = span._parent, span._bits
    if parent is None:
        return _span_context(bits & _TRACE_ID or 1, bits >> 128 or 1, _FLAGS[3], DEFAULT_TRACE_STATE)
    return _span_context(parent.trace_id, bits or 1, _FLAGS[parent.trace_flags & 3], parent.trace_state)


def _span_context(trace_id: int, span_id: int, flags: TraceFlags, state: trace.TraceState) -> SpanContext:
    return tuple.__new__(SpanContext, (trace_id, span_id, False, flags, state, True))


def _attributes(span: "QuickSpan") -> LazyAttributes:
    with _ending:
        held = span._held
        if held is None:
            held = _new(LazyAttributes)
            held._dict = span._given.copy()
            held.maxlen = span._max_attributes
            if span._frozen is not None and span._policy is not None:
                held.hold(span._frozen, span._policy)
            span._held = held
        return held


class Follower(sdk.SpanProcessor):
    """A processor that knows spans of ours. If it is the only one it is told less of them."""

    watches: Mapping[int, object] = {}
    """Only while there is something here, it is told of a span that begins a trace."""

    def take(self, span: "QuickSpan", content_bytes: int) -> bool:
        """A span has ended. Called under the `lock` of all spans of ours: ending a span and queueing it takes it once.
        False: `on_end` is to be called, too."""
        return False


class QuickSpan(sdk._Span):
    """A span of the SDK's. What all spans of a tracer have in common are attributes of a subclass of this."""

    _attributes = WhenAsked(_attributes)
    _context = WhenAsked(_context)
    _events = WhenAsked(lambda span: BoundedList(span._limits.max_events))
    _links = WhenAsked(lambda span: BoundedList(span._limits.max_links))
    _lock = WhenAsked(lambda _: threading.Lock())

    _bits: int
    _given: dict[str, AttributeValue]
    """Attributes that others use as well: never changed."""
    _parent: SpanContext | None
    _held: LazyAttributes | None
    _starter: "Starter"
    _frozen: dict[str, Frozen] | None = None
    _policy: Policy | None = None
    _max_attributes: int | None

    def end(
        self, end_time: int | None = None, frozen: dict[str, Frozen] | None = None, policy: Policy | None = None
    ) -> None:
        """End it, with content that becomes attributes when they are read."""
        size = 0
        if frozen:
            for item in frozen.values():
                size += item.size
        starter = self._starter
        processors = starter.processors()
        with _ending:
            first = self._end_time is None
            if first:
                self._end_time = time_ns() if end_time is None else end_time
                if frozen:
                    self._frozen, self._policy = frozen, policy
                    if self._held is not None and policy is not None:
                        self._held.hold(frozen, policy)
                if processors is starter.alone and processors[0].take(self, size):
                    return
        if not first:
            super().end()  # says so in the log
            return
        for processor in processors:
            processor._on_ending(self)
        for processor in processors:
            processor.on_end(self)

    def _readable_span(self) -> sdk.ReadableSpan:
        return self  # it has ended: nothing changes it any more


class Starter:
    """Starts the spans of one tracer. They do not record exceptions by themselves: `Span` does."""

    def __init__(self, tracer: trace.Tracer) -> None:
        self._tracer: Any = tracer
        self.quick: type[QuickSpan] | None = None
        """What spans are that are made here; None before the first."""
        self._predictable = _predictable(tracer)
        self._resource: Any = None
        self.alone: tuple[Follower] | None = None
        """The processors, where there is but one and that a follower."""

    def start(
        self,
        name: str,
        context: Context,
        kind: SpanKind,
        attributes: dict[str, AttributeValue],
        start_time_ns: int | None = None,
        clean: bool | None = None,
    ) -> trace.Span:
        """What `Tracer.start_span(name, context, kind, attributes, start_time=…, record_exception=False)` gives.

        `clean`: whether the attributes' values are such as the SDK keeps as they are; None: they are looked at.
        """
        tracer = self._tracer
        if clean is None:
            clean = CLEAN.issuperset(map(type, attributes.values()))
        if not clean or self.quick is None or tracer.sampler is not DEFAULT_ON or not tracer._tracer_config.is_enabled:
            return self._started_by_sdk(name, context, kind, attributes, start_time_ns)
        if tracer.resource is not self._resource:  # in a forked child (SDK 1.45)
            self._resource = tracer.resource
            self.quick = type(QuickSpan.__name__, (self.quick,), {"_resource": self._resource})
        above: Any = context.get(_SPAN_KEY)
        parent: SpanContext | None = None
        if above is not None:
            parent = above.get_span_context()
            if parent is None or not parent.is_valid:
                parent = None
            elif not parent.trace_flags & TraceFlags.SAMPLED:
                return self._started_by_sdk(name, context, kind, attributes, start_time_ns)
        span: Any = _new(self.quick)
        span._name = name
        span._kind = kind
        span._parent = parent
        span._given = attributes
        span._bits = getrandbits(192 if parent is None else 64)
        span._start_time = time_ns() if start_time_ns is None else start_time_ns
        span._end_time = span._held = None
        span._starter = self
        processors = self.processors()
        if parent is not None or processors is not self.alone or processors[0].watches:
            self._tell(processors, span, context)
        return span  # type: ignore[no-any-return]

    def processors(self) -> tuple[Any, ...]:
        """What is told of spans, one after the other."""
        processor = self._tracer.span_processor
        return processor._span_processors if type(processor) is _All else (processor,)

    def _tell(self, processors: tuple[Any, ...], span: sdk.Span, context: Context) -> None:
        if processors is not self.alone and len(processors) == 1 and isinstance(processors[0], Follower):
            self.alone = processors
        for processor in processors:
            processor.on_start(span, parent_context=context)

    def _started_by_sdk(
        self,
        name: str,
        context: Context,
        kind: SpanKind,
        attributes: dict[str, AttributeValue],
        start_time_ns: int | None,
    ) -> trace.Span:
        span: trace.Span = self._tracer.start_span(
            name, context, kind, attributes, start_time=start_time_ns, record_exception=False
        )
        if self._predictable and self.quick is None and span.is_recording():
            self._learn(span)
        return span

    def _learn(self, span: trace.Span) -> None:
        """Take from the SDK's first span what all have in common, if its fields are the ones known here."""
        fields = getattr(span, "__dict__", {})
        own = span.get_span_context()
        self._predictable = (
            type(span) is sdk._Span
            and fields.keys() == _OWN | _SHARED
            and tuple(own) == (own.trace_id, own.span_id, False, own.trace_flags, own.trace_state, own.is_valid)
        )
        if self._predictable:
            blank = sdk.ReadableSpan("", resource=self._tracer.resource)  # what processors may have changed already
            shared = {key: fields[key] for key in _SHARED}
            shared |= {"_status": blank._status, "_record_end_metrics": None}
            shared["_max_attributes"] = fields["_limits"].max_span_attributes
            self._resource = shared["_resource"]
            self.quick = type(QuickSpan.__name__, (QuickSpan,), shared)


def _predictable(tracer: Any) -> bool:
    if type(tracer) is not sdk.Tracer:
        return False
    limits = tracer._span_limits
    room = limits.max_span_attributes is None or limits.max_span_attributes >= 64
    metrics = type(getattr(tracer, "_tracer_metrics", None)).__name__
    return (
        type(tracer.id_generator) is RandomIdGenerator
        and getattr(tracer.id_generator, "is_trace_id_random", bool)()
        and hasattr(tracer, "_tracer_config")
        and metrics == "NoOpTracerMetrics"
        and limits.max_span_attribute_length is None
        and room
    )
