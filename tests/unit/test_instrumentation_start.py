"""Spans that are started without the SDK's detour are the SDK's spans in every field."""

import copy
import os
import random
import threading
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk import trace as sdk
from opentelemetry.sdk.trace import SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ParentBased, TraceIdRatioBased
from opentelemetry.sdk.util import BoundedList
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, TraceFlags, TraceState

from spanweir.instrumentation.freeze import freeze
from spanweir.instrumentation.policy import Policy
from spanweir.instrumentation.start import Follower, Starter

ATTRIBUTES: dict[str, Any] = {"gen_ai.operation.name": "chat", "n": 1, "yes": True, "half": 0.5}
STATE = TraceState([("vendor", "value")])


def parent(flags: int, *, remote: bool = True) -> Context:
    context = SpanContext(7, 8, remote, TraceFlags(flags), STATE)
    return trace.set_span_in_context(NonRecordingSpan(context), Context())


class Numbered(RandomIdGenerator):
    def generate_span_id(self) -> int:
        return 5


def provider(**options: Any) -> TracerProvider:
    return TracerProvider(shutdown_on_exit=False, **options)


def both(context: Context, monkeypatch: pytest.MonkeyPatch) -> tuple[trace.Span, trace.Span]:
    """The span that is made here, and the one the SDK makes from the same random numbers."""
    tracer = provider().get_tracer("scope", "1", "https://example.org/schema")
    starter = Starter(tracer)
    starter.start("first", Context(), SpanKind.CLIENT, {})
    monkeypatch.setattr(starter, "_tracer", Watched(tracer))
    random.seed(7)
    ours = starter.start("name", context, SpanKind.CLIENT, ATTRIBUTES, 1_000)
    random.seed(7)
    theirs = tracer.start_span("name", context, SpanKind.CLIENT, ATTRIBUTES, start_time=1_000, record_exception=False)
    return ours, theirs


class Watched:
    """A tracer whose own way of starting spans must not be gone."""

    def __init__(self, tracer: trace.Tracer) -> None:
        self._tracer = tracer

    def __getattr__(self, name: str) -> Any:
        assert name != "start_span"
        return getattr(self._tracer, name)


def fields(span: object, names: Iterable[str]) -> dict[str, Any]:
    return {name: plain(getattr(span, name)) for name in names}


def plain(value: Any) -> Any:
    """Everything of a field that can be compared."""
    if isinstance(value, (str, int, float, bool, type(None), SpanContext, trace.Status)):
        return getattr(value, "__dict__", value) if isinstance(value, trace.Status) else value
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, BoundedList):
        return list(value), value.dropped, value._dq.maxlen
    return type(value), id(value) if "lock" not in type(value).__name__ else None


@pytest.mark.parametrize("context", [Context(), parent(1), parent(3), parent(1, remote=False)])
def test_every_field_is_the_sdks(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = both(context, monkeypatch)
    assert isinstance(ours, sdk._Span)
    assert isinstance(theirs, sdk._Span)
    had = vars(theirs).keys() - {"_record_end_metrics"}  # what the SDK calls where there are no metrics does nothing
    assert fields(ours, had) == fields(theirs, had)
    held = vars(theirs._attributes)
    assert fields(ours._attributes, held) == fields(theirs._attributes, held)
    ours.end(2_000)
    theirs.end(2_000)
    assert encode_spans([ours._readable_span()]) == encode_spans([theirs._readable_span()])
    assert encode_spans([copy.copy(ours._readable_span())]) == encode_spans([theirs._readable_span()])


def test_spans_share_nothing_that_changes() -> None:
    exporter = InMemorySpanExporter()
    kept = provider()
    kept.add_span_processor(SimpleSpanProcessor(exporter))
    starter = Starter(kept.get_tracer("scope"))
    spans = [starter.start(name, Context(), SpanKind.INTERNAL, ATTRIBUTES) for name in ("a", "b", "c")]
    spans[1].set_attribute("more", [1, 2])
    spans[1].add_event("event")
    spans[1].set_status(trace.StatusCode.ERROR, "bad")
    spans[1].add_link(SpanContext(1, 2, False))
    for span in spans:
        span.end()
    _, b, c = exporter.get_finished_spans()
    assert dict(b.attributes or {}) == {**ATTRIBUTES, "more": (1, 2)}
    assert (len(b.events), len(b.links), b.status.description) == (1, 1, "bad")
    assert dict(c.attributes or {}) == ATTRIBUTES
    assert (len(c.events), len(c.links), c.status.status_code) == (0, 0, trace.StatusCode.UNSET)
    assert b.context is not None
    assert c.context is not None
    assert b.context.trace_id != c.context.trace_id


def test_what_a_span_makes_when_asked_is_one_for_all_threads() -> None:
    starter = Starter(provider().get_tracer("scope"))
    starter.start("first", Context(), SpanKind.INTERNAL, {})
    spans: list[Any] = [starter.start("a", Context(), SpanKind.INTERNAL, {}) for _ in range(50)]
    barrier = threading.Barrier(4)

    def work() -> None:
        for span in spans:
            barrier.wait(10)
            assert span.events is not None
            span.add_event("event")

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert {len(span.events) for span in spans} == {4}


def test_ids_that_nobody_asked_for_are_the_same_for_all_who_ask_and_in_a_forked_child() -> None:
    starter = Starter(provider().get_tracer("scope"))
    starter.start("first", Context(), SpanKind.INTERNAL, {})
    root: Any = starter.start("a", Context(), SpanKind.INTERNAL, {})
    child: Any = starter.start("b", trace.set_span_in_context(root, Context()), SpanKind.INTERNAL, {})
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: child.get_span_context(), range(64)))
    assert {id(context) for context in found} == {id(child.get_span_context())}
    assert child.parent == root.get_span_context()
    assert child.get_span_context().trace_id == root.get_span_context().trace_id
    asked_by_the_child = starter.start("c", Context(), SpanKind.INTERNAL, {})
    reading, writing = os.pipe()
    if not (pid := os.fork()):
        os.write(writing, repr(tuple(asked_by_the_child.get_span_context())).encode())
        os._exit(0)
    os.waitpid(pid, 0)
    assert os.read(reading, 10_000).decode() == repr(tuple(asked_by_the_child.get_span_context()))


class Told(Follower):
    """A processor of ours that says what it is told."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, str]] = []

    def on_start(self, span: sdk.Span, parent_context: Context | None = None) -> None:
        self.heard.append(("start", span.name))

    def on_end(self, span: sdk.ReadableSpan) -> None:
        self.heard.append(("end", span.name))

    def take(self, span: Any, content_bytes: int) -> bool:
        self.heard.append(("take", span.name))
        return not span.name.startswith("refused")


def test_a_follower_is_told_less_while_it_is_alone() -> None:
    kept, first, second = provider(), Told(), Told()
    kept.add_span_processor(first)
    starter = Starter(kept.get_tracer("scope"))
    for name in ("by the sdk", "learns", "alone"):
        starter.start(name, Context(), SpanKind.INTERNAL, {}).end()
    assert first.heard[2:] == [("start", "learns"), ("take", "learns"), ("take", "alone")]
    first.heard.clear()
    starter.start("refused", Context(), SpanKind.INTERNAL, {}).end()
    first.watches = {1: "a stream"}
    root = starter.start("root", Context(), SpanKind.INTERNAL, {})
    first.watches = {}
    child = starter.start("child", trace.set_span_in_context(root, Context()), SpanKind.INTERNAL, {})
    kept.add_span_processor(second)
    child.end()
    root.end()
    root.end()
    starter.start("later", Context(), SpanKind.INTERNAL, {}).end()
    both = [("end", "child"), ("end", "root"), ("start", "later"), ("end", "later")]
    assert first.heard == [("take", "refused"), ("end", "refused"), ("start", "root"), ("start", "child"), *both]
    assert second.heard == both


def test_attributes_that_were_asked_for_before_the_end_get_the_content_too() -> None:
    starter = Starter(provider().get_tracer("scope"))
    starter.start("first", Context(), SpanKind.INTERNAL, {})
    span: Any = starter.start("a", Context(), SpanKind.INTERNAL, ATTRIBUTES)
    attributes = span.attributes
    span.set_attribute("more", 2)
    span.end(None, {"said": freeze("hello", "text")}, Policy())
    assert dict(span.attributes) == dict(attributes) == {**ATTRIBUTES, "more": 2, "said": "hello"}
    assert span.attributes["more"] == 2
    never_asked: Any = starter.start("b", Context(), SpanKind.INTERNAL, ATTRIBUTES)
    never_asked.end(None, {"said": freeze("hello", "text")}, Policy())
    never_asked.set_attribute("late", 1)
    assert dict(never_asked.attributes) == {**ATTRIBUTES, "said": "hello"}


def test_a_parent_that_is_not_sampled_is_followed() -> None:
    starter = Starter(provider().get_tracer("scope"))
    assert starter.start("a", Context(), SpanKind.INTERNAL, {}).is_recording()
    assert not starter.start("b", parent(0), SpanKind.INTERNAL, {}).is_recording()
    assert starter.start("c", parent(1), SpanKind.INTERNAL, {}).get_span_context().trace_id == 7


@pytest.mark.parametrize("sampler", [ALWAYS_OFF, ParentBased(ALWAYS_OFF), TraceIdRatioBased(0.0)])
def test_the_sampler_of_the_application_decides(sampler: Any) -> None:
    starter = Starter(provider(sampler=sampler).get_tracer("scope"))
    for _ in range(3):
        assert not starter.start("a", Context(), SpanKind.INTERNAL, ATTRIBUTES).is_recording()


def test_a_sampler_that_is_replaced_later_decides() -> None:
    tracer: Any = provider().get_tracer("scope")
    starter = Starter(tracer)
    assert starter.start("a", Context(), SpanKind.INTERNAL, {}).is_recording()
    tracer.sampler = ALWAYS_OFF
    assert not starter.start("b", Context(), SpanKind.INTERNAL, {}).is_recording()


def test_limits_and_ids_of_the_application() -> None:
    limited = provider(span_limits=SpanLimits(max_span_attribute_length=3, max_span_attributes=2))
    starter = Starter(limited.get_tracer("scope"))
    for _ in range(3):
        span: Any = starter.start("a", Context(), SpanKind.INTERNAL, {"k": "long", "l": "longer", "m": "x"})
        assert dict(span.attributes) == {"l": "lon", "m": "x"}
    starter = Starter(provider(id_generator=Numbered()).get_tracer("scope"))
    for _ in range(3):
        assert starter.start("a", Context(), SpanKind.INTERNAL, {}).get_span_context().span_id == 5


def test_attributes_that_need_cleaning_are_cleaned() -> None:
    starter = Starter(provider().get_tracer("scope"))
    for _ in range(3):
        span: Any = starter.start("a", Context(), SpanKind.INTERNAL, {"stop": ["a", "b"]})
        assert dict(span.attributes) == {"stop": ("a", "b")}


def test_a_processor_that_changes_the_first_span_changes_no_other() -> None:
    class Marking(sdk.SpanProcessor):
        def on_start(self, span: sdk.Span, parent_context: Context | None = None) -> None:
            if span.name == "first":
                span.set_status(trace.StatusCode.ERROR, "marked")

    marked = provider()
    marked.add_span_processor(Marking())
    starter = Starter(marked.get_tracer("scope"))
    assert starter.start("first", Context(), SpanKind.INTERNAL, {}).status.description == "marked"  # type: ignore[attr-defined]
    assert starter.start("second", Context(), SpanKind.INTERNAL, {}).status.is_unset  # type: ignore[attr-defined]


def test_without_a_provider_nothing_is_recorded() -> None:
    starter = Starter(trace.NoOpTracerProvider().get_tracer("scope"))
    for _ in range(3):
        assert not starter.start("a", Context(), SpanKind.INTERNAL, ATTRIBUTES).is_recording()
