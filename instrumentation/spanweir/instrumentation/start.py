"""Starting spans as the SDK's tracer does, in a fifth of the time: that was half of what a call cost the application.

`Tracer.start_span` (SDK 1.45) asks a sampler that always says yes, cleans attributes that are clean, three times over,
and makes three containers with a lock each for what few spans have. Where the outcome is known beforehand a span is
made here, field by field; everywhere else (another tracer, sampler or id generator, limits on attributes, an SDK whose
spans have fields that this file does not know) by the SDK.

A call that comes after a pause finds the processor's caches cold, and then costs what it touches, not what it computes:
few functions and few objects count for more than few instructions.
"""

import threading
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

from spanweir.instrumentation.lazy import CLEAN, LazyAttributes, WhenAsked

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


class QuickSpan(sdk._Span):
    """A span of the SDK's. What all spans of a tracer have in common are attributes of a subclass of this."""

    _events = WhenAsked(lambda span: BoundedList(span._limits.max_events))
    _links = WhenAsked(lambda span: BoundedList(span._limits.max_links))

    def _readable_span(self) -> sdk.ReadableSpan:
        return self  # it has ended: nothing changes it any more


class Starter:
    """Starts the spans of one tracer. They do not record exceptions by themselves: `Span` does."""

    def __init__(self, tracer: trace.Tracer) -> None:
        self._tracer: Any = tracer
        self._span: type[QuickSpan] | None = None
        self._quick = _predictable(tracer)
        self._max_attributes: int | None = None

    def start(
        self,
        name: str,
        context: Context,
        kind: SpanKind,
        attributes: dict[str, AttributeValue],
        start_time_ns: int | None = None,
        *,
        clean: bool | None = None,
    ) -> trace.Span:
        """What `Tracer.start_span(name, context, kind, attributes, start_time=…, record_exception=False)` gives.

        `clean`: whether the attributes' values are such as the SDK keeps as they are; None: they are looked at.
        """
        tracer = self._tracer
        if clean is None:
            clean = CLEAN.issuperset(map(type, attributes.values()))
        if not clean or self._span is None or tracer.sampler is not DEFAULT_ON or not tracer._tracer_config.is_enabled:
            return self._started_by_sdk(name, context, kind, attributes, start_time_ns)
        above: Any = context.get(_SPAN_KEY)
        parent: SpanContext | None = None if above is None else above.get_span_context()
        if parent is None or not parent.is_valid:
            parent = None
            bits = getrandbits(192)
            ids = (bits & _TRACE_ID or 1, bits >> 128 or 1)
            own = tuple.__new__(SpanContext, (*ids, False, _FLAGS[3], DEFAULT_TRACE_STATE, True))
        elif parent.trace_flags & TraceFlags.SAMPLED:
            ids, flags = (parent.trace_id, getrandbits(64) or 1), _FLAGS[parent.trace_flags & 3]
            own = tuple.__new__(SpanContext, (*ids, False, flags, parent.trace_state, True))
        else:
            return self._started_by_sdk(name, context, kind, attributes, start_time_ns)
        held = object.__new__(LazyAttributes)
        held._dict = attributes.copy()
        held.maxlen = self._max_attributes
        span: Any = object.__new__(self._span)
        span._attributes = held
        span._context = own
        span._kind = kind
        span._lock = threading.Lock()
        span._name = name
        span._parent = parent
        span._resource = tracer.resource
        span._start_time = time_ns() if start_time_ns is None else start_time_ns
        tracer.span_processor.on_start(span, parent_context=context)
        return span  # type: ignore[no-any-return]

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
        if self._quick and self._span is None and span.is_recording():
            self._learn(span)
        return span

    def _learn(self, span: trace.Span) -> None:
        """Take from the SDK's first span what all have in common, if its fields are the ones known here."""
        fields = getattr(span, "__dict__", {})
        own = span.get_span_context()
        self._quick = (
            type(span) is sdk._Span
            and fields.keys() == _OWN | _SHARED
            and tuple(own) == (own.trace_id, own.span_id, False, own.trace_flags, own.trace_state, own.is_valid)
        )
        if self._quick:
            blank = sdk.ReadableSpan("", resource=self._tracer.resource)  # what processors may have changed already
            shared = {key: fields[key] for key in _SHARED}
            shared |= {"_status": blank._status, "_end_time": None, "_record_end_metrics": None}
            self._max_attributes = fields["_limits"].max_span_attributes
            self._span = type(QuickSpan.__name__, (QuickSpan,), shared)


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
