"""Any arrival order, any batching, any replay of the same spans ends in the same rows."""

from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from spanweir.collector.assembly import Options, rows, whole
from spanweir.collector.assembly.state import Trace
from spanweir.collector.assembly.work import Work, rendered
from spanweir.collector.processors.api import Item
from spanweir.schemas.mapping import Mapper
from spanweir.schemas.mlflow import Renderer
from spanweir.schemas.raw import RawSpan
from tests.support.spans import TRACE, Bench, messages, span

OPS = ("", "chat", "invoke_agent", "execute_tool", "embeddings", "invoke_workflow")


@st.composite
def trees(draw: st.DrawFn) -> list[RawSpan]:
    """A trace of up to nine spans; a parent may be lost, be remote or come late; no span starts before its parent."""
    count = draw(st.integers(1, 9))
    spans: list[RawSpan] = []
    starts: list[int] = []
    for i in range(count):
        above = draw(st.integers(0, i - 1)) if i else 0
        parent = f"s{above}" if i else draw(st.sampled_from(["", "remote"]))
        start = (starts[above] if i else 0) + draw(st.integers(0, 20))
        starts.append(start)
        op = draw(st.sampled_from(OPS))
        more: dict[str, Any] = {}
        if draw(st.booleans()):
            more["tokens"] = (draw(st.integers(0, 50)), draw(st.integers(0, 50)))
        attributes: dict[str, Any] = {}
        if draw(st.booleans()):
            attributes["session.id"] = draw(st.sampled_from(["x", "y"]))
        if not op:
            attributes |= draw(st.sampled_from([{}, {"http.request.method": "POST"}]))
        if op in ("chat", "embeddings") and draw(st.booleans()):
            attributes["gen_ai.usage.cost"] = draw(st.sampled_from([0.1, 0.02, 0.003]))
        spans.append(
            span(
                f"s{i}", parent, op=op, start=start, end=start + draw(st.integers(1, 60)),
                asked=draw(st.sampled_from(["", "why", "how"])), said=draw(st.sampled_from(["", "so", "thus"])),
                attributes=attributes, status_code=draw(st.sampled_from([0, 0, 2])), **more,
            )
        )  # fmt: skip
    lost = draw(st.sets(st.integers(1, count), max_size=2)) if count > 2 else set()
    kept = [one for i, one in enumerate(spans) if i not in lost]
    return kept


def run(batches: list[list[RawSpan]], snapshot_after: int = -1) -> tuple[Any, Any]:
    bench = Bench(Options(idle_timeout=20))
    for i, batch in enumerate(batches):
        bench.send(*batch)
        if i == snapshot_after:
            fresh = Bench(Options(idle_timeout=20))
            fresh.assembler.restore(bench.assembler.snapshot(), fresh.now_s)
            fresh.rows, fresh.spans = bench.rows, bench.spans
            bench = fresh
    bench.wait(30)
    row = msgspec.to_builtins(bench.row)
    row["revision"] = 0
    spans = {
        key: (mapped.parent_id, mapped.name, mapped.start_ns, mapped.end_ns, mapped.content)
        for key, mapped in bench.spans.items()
    }
    return row, spans


@settings(max_examples=150, deadline=None)
@given(trees(), st.data())
def test_order_batching_and_replay_do_not_matter(spans: list[RawSpan], data: st.DataObject) -> None:
    expected = run([spans])
    order = data.draw(st.permutations(spans))
    cuts = sorted(data.draw(st.sets(st.integers(1, max(1, len(spans) - 1)), max_size=4)))
    batches = [order[a:b] for a, b in zip([0, *cuts], [*cuts, len(order)], strict=True) if order[a:b]]
    replayed = data.draw(st.integers(0, len(batches)))
    again = batches[:replayed] + batches
    row, stored = run(again, data.draw(st.integers(-1, len(again) - 1)))
    assert row == expected[0]
    assert stored == expected[1]


CONTENT = {"gen_ai.input.messages": messages("user", "why"), "gen_ai.output.messages": messages("assistant", "so")}


@st.composite
def talking(draw: st.DrawFn) -> list[RawSpan]:
    """Trees with a root that was asked and said something itself."""
    root, *others = draw(trees())
    root.parent_id, root.attributes = "", {**root.attributes, **CONTENT}
    return [root, *others]


@settings(max_examples=300, deadline=None)
@given(talking(), st.data())
def test_a_trace_that_comes_at_once_is_what_its_spans_make(spans: list[RawSpan], data: st.DataObject) -> None:
    order = data.draw(st.permutations(spans))
    mapper, renderer, options = Mapper(), Renderer(), Options()
    group = {raw.span_id: Item(raw, mapper.map(raw), experiment="e", tenant="t") for raw in order}
    shown = [rendered(item, renderer, True) for item in group.values()]
    parents = whole.parents_of(group)
    came_whole = all(not raw.parent_id or raw.parent_id in group for raw in order)
    assert (parents is not None) == came_whole
    if parents is None:
        return
    told = whole.told(TRACE, shown, parents, int(options.content_max))
    callers = {raw.parent_id for raw in order}
    usage = [one.summary for one in shown if one.summary.usage or one.summary.rollup or one.summary.cost]
    plain = all(one.kind in ("llm", "embedding") and one.usage and one.span_id not in callers for one in usage)
    assert (told is not None) == plain
    if told is None:
        return
    trace = Trace(TRACE)
    work = Work(trace, group, renderer, mapper.map, options, True)
    work.fold(shown)
    work.settle()
    trace.complete, trace.revision = True, 1
    assert told[0] == rows.row(trace)
    thawed = whole.thaw(told[1])
    assert rows.row(thawed) == rows.row(trace)
    assert thawed == trace


@settings(max_examples=150, deadline=None)
@given(talking(), st.data())
def test_spans_that_come_after_a_whole_trace_amend_it(spans: list[RawSpan], data: st.DataObject) -> None:
    first = data.draw(st.integers(1, len(spans)))
    rest = data.draw(st.permutations(spans[first:]))
    later = [[one] for one in rest]
    assert run([spans[:first], *later], data.draw(st.integers(-1, len(later)))) == run([[one] for one in spans])
