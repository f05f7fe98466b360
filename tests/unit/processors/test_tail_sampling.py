"""Which traces are kept, when they are decided, and what waits."""

from typing import Any

import pytest

from spanweir.collector.processors.tail_sampling import (
    Config,
    Cost,
    Latency,
    NumericAttribute,
    Policy,
    Probabilistic,
    SpanCount,
    StringAttribute,
    Tokens,
)
from spanweir.schemas.genai import Costs, Evaluation
from spanweir.schemas.raw import Event, RawSpan
from tests.support.processing import Bench
from tests.support.spans import span

OP = "gen_ai.operation.name"


def kept(policy: Policy | None, *spans: Any, edit: Any = None) -> bool:
    bench = Bench(Config(policies=(policy,) if policy else ()))
    items = bench(*spans)
    assert items == [], "nothing goes on before it is decided"
    if edit:
        edit(bench)
    tick = bench.processor.tick  # type: ignore[attr-defined]
    assert tick(0.5) == []
    out = tick(2.0)
    assert len(out) in (0, len(spans))
    assert len(bench.dropped) == len(spans) - len(out)
    return bool(out)


PLAIN = (span("root", op="invoke_agent", end=100), span("llm", "root", op="chat", start=10, end=60, tokens=(90, 10)))


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        (None, True),
        (Policy(type="always_sample"), True),
        (Policy(type="status_code"), False),
        (Policy(type="latency", latency=Latency(threshold_ms=100)), True),
        (Policy(type="latency", latency=Latency(threshold_ms=101)), False),
        (Policy(type="latency", latency=Latency(upper_threshold_ms=99)), False),
        (Policy(type="tokens", tokens=Tokens(min_tokens=100)), True),
        (Policy(type="tokens", tokens=Tokens(min_tokens=101)), False),
        (Policy(type="span_count", span_count=SpanCount(min_spans=2)), True),
        (Policy(type="span_count", span_count=SpanCount(min_spans=3)), False),
        (Policy(type="probabilistic", probabilistic=Probabilistic(sampling_percentage=0)), False),
        (Policy(type="probabilistic", probabilistic=Probabilistic(sampling_percentage=100)), True),
        (
            Policy(
                type="string_attribute", string_attribute=StringAttribute(key="gen_ai.operation.name", values=("chat",))
            ),
            True,
        ),
        (Policy(type="string_attribute", string_attribute=StringAttribute(key="x", values=("chat",))), False),
        (
            Policy(
                type="numeric_attribute",
                numeric_attribute=NumericAttribute(key="gen_ai.usage.input_tokens", min_value=90),
            ),
            True,
        ),
        (Policy(type="cost", cost=Cost(min_cost=0.01)), False),
        (Policy(type="feedback"), False),
    ],
)
def test_policies(policy: Policy | None, expected: bool) -> None:
    assert kept(policy, *PLAIN) is expected


def test_an_error_anywhere_is_kept() -> None:
    assert kept(Policy(type="status_code"), PLAIN[0], span("tool", "root", op="execute_tool", status_code=2))


def test_cost_and_feedback_of_the_mapped_spans() -> None:
    def edit(bench: Bench) -> None:
        waiting = bench.processor._waiting  # type: ignore[attr-defined]
        (trace,) = waiting.values()
        for item in trace.items.values():
            item.span.cost = Costs(total=0.02)
            item.span.evaluations = [Evaluation(name="good")]

    assert kept(Policy(type="cost", cost=Cost(min_cost=0.04)), *PLAIN, edit=edit)
    assert kept(Policy(type="feedback"), *PLAIN, edit=edit)


def test_a_trace_that_is_not_complete_waits_longer() -> None:
    bench = Bench(Config(decision_wait=30))
    bench(span("llm", "lost", op="chat"))
    tick = bench.processor.tick  # type: ignore[attr-defined]
    assert tick(29.0) == []
    assert len(tick(31.0)) == 1


def test_late_spans_follow_the_decision() -> None:
    for policy, expected in ((Policy(type="status_code"), 0), (Policy(), 1)):
        bench = Bench(Config(policies=(policy,)))
        bench(*PLAIN)
        bench.processor.tick(5.0)  # type: ignore[attr-defined]
        assert len(bench(span("late", "root", op="chat"))) == expected


def test_memory_is_bounded_and_nothing_is_lost() -> None:
    bench = Bench(Config(max_bytes=50_000))
    out = [item for i in range(200) for item in bench(span("a", "lost", op="chat", trace=f"{i:032x}"))]
    assert bench.processor._bytes <= 50_000  # type: ignore[attr-defined]
    out += bench.processor.tick(100.0)  # type: ignore[attr-defined]
    assert len(out) == 200


def test_content_counts_wherever_it_stands() -> None:
    """Prompts may stand in nested values and in span events; a hundred of 10 KB do not fit into 500 KB."""
    text = "x" * 10_000
    nested = {"messages": [{"content": text}]}
    for given in ({"attributes": nested}, {"events": [Event(name="gen_ai.user.message", attributes=nested)]}):
        bench = Bench(Config(max_bytes=500_000))
        out = [item for i in range(100) for item in bench(_with(span("a", "lost", trace=f"{i:032x}"), **given))]
        assert len(out) > 50


def _with(raw: RawSpan, attributes: Any = None, events: Any = ()) -> RawSpan:
    raw.attributes = {**raw.attributes, **(attributes or {})}
    raw.events = list(events)
    return raw


def test_it_says_from_where_to_read_again() -> None:
    bench = Bench(Config())
    low = bench.processor.low  # type: ignore[attr-defined]
    assert low() == 0
    bench(span("a", trace="1" * 32), sequence=7)
    bench(span("a", trace="2" * 32), sequence=9)
    assert low() == 7
    bench.processor.tick(5.0)  # type: ignore[attr-defined]
    assert low() == 0
