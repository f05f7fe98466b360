"""The native twin of what the spans of a whole trace say together tells what Python tells."""

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spanweir.collector.assembly import whole
from spanweir.collector.assembly.state import Whole
from spanweir.collector.assembly.totals import pay_into
from spanweir.collector.assembly.work import Rendered, rendered
from spanweir.collector.processors.api import Item
from spanweir.schemas.genai import Agent, Error, Evaluation, GenAISpan, Graph, Response, TraceIO, Usage
from spanweir.schemas.mlflow import Renderer
from spanweir.schemas.raw import RawSpan, Scope
from spanweir.schemas.trace import Cost

_native = pytest.importorskip("spanweir.collector.assembly._native", reason="no C compiler where this was installed")

TEXT = st.sampled_from(["", "a", "b", "é"])
MAYBE = st.none() | TEXT
COUNT = st.none() | st.integers(0, 50)
USAGE = st.builds(
    Usage, input=COUNT, output=COUNT, total=COUNT, cache_read=COUNT, cache_write=COUNT, cache_write_1h=COUNT,
    scope=st.sampled_from(["own"] * 6 + ["rollup", "estimated"]), running=st.sampled_from([""] * 6 + ["more"]),
)  # fmt: skip
ORDINARY: dict[str, st.SearchStrategy[Any]] = {
    "kind": st.sampled_from(["llm", "llm", "embedding", "tool", "agent", "workflow", "other"]),
    "usage": st.none() | USAGE,
    "response": st.none() | st.builds(Response, id=MAYBE),
    "agent": st.none() | st.builds(Agent, name=MAYBE),
    "graph": st.none() | st.builds(Graph, workflow=MAYBE),
    "session_id": MAYBE,
    "conversation_id": MAYBE,
    "user_id": MAYBE,
    "metadata": st.none() | st.just({"k": "v"}),
    "tags": st.just([]),
}
RARE: dict[str, st.SearchStrategy[Any]] = {
    "tags": st.just(["t"]),
    "trace_tags": st.just({"t": "1"}),
    "evaluations": st.just([Evaluation("good")]),
    "error": st.builds(Error, failed=st.booleans(), message=MAYBE),
    "io": st.builds(TraceIO, trace_name=MAYBE, trace_input=MAYBE, trace_output=MAYBE),
}
ROUTES: list[dict[str, Any]] = [{}, {"experiment": "e"}, {"tenant": "t", "experiment": "f"}, {"run_id": "r"}]


@st.composite
def groups(draw: st.DrawFn, rare: bool) -> dict[str, Item]:
    """Spans of one trace, most of them with their parents, and one route or several."""
    count = draw(st.integers(1, 6))
    route = draw(st.sampled_from(ROUTES))
    group: dict[str, Item] = {}
    for i in draw(st.permutations(range(count))):
        above = draw(st.integers(0, i - 1)) if i else 0
        start = draw(st.sampled_from([0, 5, 6, 1 << 62, 1 << 63]) if rare else st.integers(5, 8))
        raw = RawSpan(
            trace_id="ab" * 16, span_id=f"s{i}",
            parent_id=f"s{above}" if i and not (rare and draw(st.integers(0, 9)) == 0) else "",
            name=draw(TEXT), start_ns=start, end_ns=start + draw(st.integers(0 if rare else 1, 9)),
            status_code=draw(st.sampled_from([0, 1, 2, 3])), scope=Scope(name=draw(TEXT)),
        )  # fmt: skip
        fields = draw(st.fixed_dictionaries(ORDINARY))
        if rare and draw(st.booleans()):
            name = draw(st.sampled_from(sorted(RARE)))
            fields[name] = draw(RARE[name])
        if not i:
            fields["metadata"] = fields["metadata"] if rare else None
        span = None if draw(st.integers(0, 5)) == 0 else GenAISpan(**fields)
        given = draw(st.sampled_from(ROUTES)) if rare and draw(st.booleans()) else route
        group[raw.span_id] = Item(raw, span, **given)
    return group


def shown_of(group: dict[str, Item], cost: Cost | None) -> list[Rendered]:
    shown = [rendered(item, Renderer(), True) for item in group.values()]
    for one in shown:
        if one.item.span is not None and one.item.span.kind == "llm":
            one.mapped.cost = cost
    return shown


def left(sums: Any, group: dict[str, Item], cost: Cost | None) -> Any:
    """What is said, and what the trace was told, where it is told all of it."""
    told = Whole("ab" * 16)
    shown = shown_of(group, cost)
    found = sums(told, shown, {item.raw.parent_id for item in group.values() if item.raw.parent_id})
    return found and (found[0].mapped.span_id, found[1:], msgspec.to_builtins(told))


COST = st.none() | st.builds(Cost, input_cost=st.floats(0, 1), output_cost=st.floats(0, 1), total_cost=st.floats(0, 2))


@given(st.booleans().flatmap(lambda rare: groups(rare)), COST)
@settings(max_examples=600, deadline=None)
def test_both_tell_the_same(group: dict[str, Item], cost: Cost | None) -> None:
    assert whole.parents_of(group) == whole._parents_in_python(group)
    if whole.parents_of(group) is not None:
        assert left(whole._sums_natively, group, cost) == left(whole._sums_in_python, group, cost)


@given(groups(False), COST)
@settings(max_examples=200, deadline=None)
def test_what_is_ordinary_is_not_left_to_python(group: dict[str, Item], cost: Cost | None) -> None:
    if any(item.run_id for item in group.values()):
        return
    parents = whole.parents_of(group)
    assert parents is not None
    python = left(whole._sums_in_python, group, cost)
    usages = [item.span.usage for item in group.values() if item.span is not None and item.span.usage is not None]
    if python is not None and all(usage.scope == "own" and not usage.running for usage in usages):
        found = _native.sums(shown_of(group, cost), parents, whole.CALLS, whole.dollars_of, pay_into)
        assert found is not None


def test_what_is_not_asked_for_is_refused() -> None:
    shown = shown_of({"s": Item(RawSpan(trace_id="ab" * 16, span_id="s", end_ns=1))}, None)
    with pytest.raises(TypeError):
        _native.sums(tuple(shown), set(), whole.CALLS, whole.dollars_of, pay_into)
    with pytest.raises(TypeError):
        _native.sums(shown, set())
    with pytest.raises(TypeError):
        _native.parents_of([])
    with pytest.raises(TypeError):
        _native.parents_of({"s": 1})


def test_what_adding_up_raises_is_raised() -> None:
    span = GenAISpan(kind="llm", usage=Usage(input=1))
    shown = shown_of({"s": Item(RawSpan(trace_id="ab" * 16, span_id="s", end_ns=1), span)}, Cost())

    def refuse(*given: Any) -> Any:
        raise RuntimeError("odd")

    with pytest.raises(RuntimeError, match="odd"):
        _native.sums(shown, set(), whole.CALLS, refuse, pay_into)
    with pytest.raises(RuntimeError, match="odd"):
        _native.sums(shown, set(), whole.CALLS, whole.dollars_of, refuse)
