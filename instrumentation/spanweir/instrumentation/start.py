"""Starting spans as the SDK's tracer does, in a third of the time: that was half of what a call cost the application.

`Tracer.start_span` (SDK 1.45) asks a sampler that always says yes and cleans attributes that are clean, three times
over. Where the outcome is known beforehand a span is made here, field by field; everywhere else (another tracer,
sampler or id generator, limits on attributes, an SDK whose spans have fields that this file does not know) by the SDK.
"""

import threading
from time import time_ns
from typing import Any

from opentelemetry import trace
from opentelemetry.attributes import BoundedAttributes
from opentelemetry.context import Context
from opentelemetry.sdk import trace as sdk
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import DEFAULT_ON
from opentelemetry.sdk.util import BoundedList
from opentelemetry.trace import SpanContext, SpanKind, TraceFlags
from opentelemetry.trace.propagation import _SPAN_KEY
from opentelemetry.util.types import AttributeValue

CLEAN = frozenset({str, int, float, bool})
"""Types of attribute values that the SDK keeps as they are."""
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


class Starter:
    """Starts the spans of one tracer. They do not record exceptions by themselves: `Span` does."""

    def __init__(self, tracer: trace.Tracer) -> None:
        self._tracer: Any = tracer
        self._shared: dict[str, Any] | None = None
        self._quick = _predictable(tracer)

    def start(
        self,
        name: str,
        context: Context,
        kind: SpanKind,
        attributes: dict[str, AttributeValue],
        start_time_ns: int | None = None,
    ) -> trace.Span:
        """What `Tracer.start_span(name, context, kind, attributes, start_time=…, record_exception=False)` gives."""
        if self._shared is not None and CLEAN.issuperset(map(type, attributes.values())):
            tracer = self._tracer
            current = context.get(_SPAN_KEY)
            parent = None if current is None else current.get_span_context()  # type: ignore[attr-defined]
            known = tracer.sampler is DEFAULT_ON and tracer._tracer_config.is_enabled
            if parent is not None and not parent.is_valid:
                parent = None
            if known and (parent is None or parent.trace_flags & TraceFlags.SAMPLED):
                return self._made(name, context, kind, attributes, start_time_ns, parent)
        span: trace.Span = self._tracer.start_span(
            name, context, kind, attributes, start_time=start_time_ns, record_exception=False
        )
        if self._quick and self._shared is None and span.is_recording():
            self._learn(span)
        return span

    def _made(
        self,
        name: str,
        context: Context,
        kind: SpanKind,
        attributes: dict[str, AttributeValue],
        start_time_ns: int | None,
        parent: SpanContext | None,
    ) -> trace.Span:
        tracer = self._tracer
        ids, limits = tracer.id_generator, tracer._span_limits
        held = BoundedAttributes(limits.max_span_attributes, immutable=False)
        held._dict = {**attributes}
        if parent is None:
            own = SpanContext(ids.generate_trace_id(), ids.generate_span_id(), False, _FLAGS[3])
        else:
            flags = _FLAGS[parent.trace_flags & 3]
            own = SpanContext(parent.trace_id, ids.generate_span_id(), False, flags, parent.trace_state)
        span: trace.Span = object.__new__(sdk._Span)
        span.__dict__ = {
            **(self._shared or {}),
            "_attributes": held,
            "_context": own,
            "_events": BoundedList(limits.max_events),
            "_kind": kind,
            "_links": BoundedList(limits.max_links),
            "_lock": threading.Lock(),
            "_name": name,
            "_parent": parent,
            "_resource": tracer.resource,
            "_start_time": time_ns() if start_time_ns is None else start_time_ns,
        }
        tracer.span_processor.on_start(span, parent_context=context)
        return span

    def _learn(self, span: trace.Span) -> None:
        """Take from the SDK's first span what all have in common, if its fields are the ones known here."""
        fields = getattr(span, "__dict__", {})
        self._quick = type(span) is sdk._Span and fields.keys() == _OWN | _SHARED
        if self._quick:
            blank = sdk.ReadableSpan("", resource=self._tracer.resource)  # what processors may have changed already
            self._shared = {key: fields[key] for key in _SHARED} | {"_status": blank._status, "_end_time": None}


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
