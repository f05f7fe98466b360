"""Tokens and cost of a trace: each call once."""

import gc
import itertools
import time
from collections.abc import Sequence

from spanweir.schemas.raw import RawSpan, Scope
from spanweir.schemas.trace import TokenUsage
from tests.support.spans import Bench, span


def total(*spans: RawSpan) -> tuple[int, int] | None:
    """Input and output tokens, the same in whatever order the spans come."""
    found = set()
    orders: Sequence[Sequence[RawSpan]] = (
        list(itertools.permutations(spans)) if len(spans) < 5 else [spans, spans[::-1]]
    )
    for order in orders:
        for one_by_one in (False, True):
            bench = Bench()
            for group in [[s] for s in order] if one_by_one else [list(order)]:
                bench.send(*group)
            usage = bench.row.usage
            found.add(None if usage is None else (usage.input_tokens, usage.output_tokens))
    assert len(found) == 1, found
    return found.pop()


def test_calls_add_up_and_an_agents_sum_is_not_counted_again() -> None:
    assert total(
        span("agent", op="invoke_agent", tokens=(30, 3)),
        span("one", "agent", op="chat", start=1, tokens=(10, 1)),
        span("two", "agent", op="chat", start=2, tokens=(20, 2)),
    ) == (30, 3)


def test_an_agents_sum_counts_where_its_calls_report_nothing() -> None:
    assert total(span("agent", op="invoke_agent", tokens=(30, 3)), span("one", "agent", op="chat", start=1)) == (30, 3)


def test_of_nested_sums_the_outermost_counts() -> None:
    assert total(
        span("outer", op="invoke_agent", tokens=(30, 3)), span("inner", "outer", op="invoke_agent", tokens=(10, 1))
    ) == (30, 3)


def test_a_sum_beside_calls_of_another_branch_counts() -> None:
    assert total(
        span("root", op="invoke_agent"),
        span("a", "root", op="invoke_agent", start=1, tokens=(5, 5)),
        span("b", "root", op="invoke_agent", start=2, tokens=(7, 7)),
        span("llm", "b", op="chat", start=3, tokens=(7, 7)),
    ) == (12, 12)


def test_a_wrapper_and_its_client_are_one_call() -> None:
    assert total(span("wrapper", op="chat", tokens=(10, 1)), span("client", "wrapper", op="chat", tokens=(10, 1))) == (
        10,
        1,
    )


def test_client_and_server_are_one_call_across_http() -> None:
    assert total(
        span("client", op="chat", tokens=(10, 1)),
        span("http", "client", name="POST", kind=3),
        span("server", "http", op="chat", tokens=(10, 1)),
    ) == (10, 1)


def test_a_call_through_a_tool_is_another_call() -> None:
    assert total(
        span("outer", op="chat", tokens=(10, 1)),
        span("tool", "outer", op="execute_tool"),
        span("inner", "tool", op="chat", tokens=(4, 1)),
    ) == (14, 2)


def test_two_instrumentations_side_by_side_are_one_call() -> None:
    response = {"gen_ai.response.id": "r1"}
    one, two = Scope(name="one"), Scope(name="two")
    root = span("root", op="invoke_agent", end=100)
    outer = span("outer", "root", op="chat", start=1, end=50, tokens=(10, 1), attributes=response, scope=one)
    inner = span("inner", "root", op="chat", start=2, end=40, tokens=(10, 1), attributes=response, scope=two)
    later = span("later", "root", op="chat", start=60, end=70, tokens=(10, 1), attributes=response, scope=two)
    assert total(root, outer, inner) == (10, 1)
    assert total(root, outer, later) == (20, 2), "a response id that is used again is no proof"


def _answered(name: str, parent: str, start: int, end: int, response: str) -> RawSpan:
    more = {"gen_ai.response.id": response} if response else {}
    return span(name, parent, op="chat", start=start, end=end, tokens=(10, 1), attributes=more)


def test_a_call_below_one_that_had_ended_is_another_call() -> None:
    """OpenLLMetry's LangChain 0.51 does not leave the span of a call outside a chain."""
    first = _answered("first", "", 0, 10, "r1")
    tool = span("tool", "first", op="execute_tool", start=11, end=19)
    second, third = _answered("second", "first", 20, 30, "r2"), _answered("third", "second", 40, 50, "r3")
    assert total(first, tool, second, third) == (30, 3)
    client, server = _answered("client", "third", 41, 49, "r4"), _answered("server", "client", 42, 48, "r4")
    assert total(first, second, third, client) == (30, 3), "the client's call is within the third"
    assert total(first, second, third, client, server) == (30, 3)


def test_a_call_below_one_that_had_ended_is_the_same_where_nothing_tells_them_apart() -> None:
    """The clocks of two hosts may differ by more than a call takes."""
    assert total(_answered("client", "", 0, 10, "r1"), _answered("server", "client", 20, 30, "r1")) == (10, 1)
    assert total(_answered("client", "", 0, 10, "r1"), _answered("server", "client", 20, 30, "")) == (10, 1)


def test_embeddings_count() -> None:
    usage = {"gen_ai.operation.name": "embeddings", "gen_ai.usage.input_tokens": 8}
    assert total(span("root", op="invoke_agent"), span("emb", "root", start=1, attributes=usage)) == (8, 0)


def test_cache_tokens_are_kept_apart() -> None:
    bench = Bench()
    cached = {"gen_ai.usage.cache_read.input_tokens": 6}
    bench.send(
        span("root", op="invoke_agent"),
        span("a", "root", op="chat", start=1, tokens=(10, 1), attributes=cached),
        span("b", "root", op="chat", start=2, tokens=(10, 1)),
    )
    assert bench.row.usage == TokenUsage(input_tokens=20, output_tokens=2, total_tokens=22, cache_read_input_tokens=6)


def test_a_span_that_is_amended_is_counted_once() -> None:
    bench = Bench()
    bench.send(span("root", op="invoke_agent"), span("llm", "root", op="chat", start=1, tokens=(10, 1)))
    bench.send(span("llm", "root", op="chat", start=1, tokens=(12, 2)))
    usage = bench.row.usage
    assert usage is not None
    assert (usage.input_tokens, usage.output_tokens) == (12, 2)


def test_a_parent_cycle_ends() -> None:
    bench = Bench()
    bench.send(span("a", "b", op="invoke_agent", tokens=(1, 1)), span("b", "a", op="invoke_agent", tokens=(2, 2)))
    bench.send(span("c", "c", op="chat", tokens=(4, 4)))
    assert bench.row.usage is not None


def test_a_long_trace_costs_linear_time() -> None:
    """Thousands of spans one by one, also where each is a sum below the last: no step may look at all of them."""

    def cost(spans: int) -> float:
        bench = Bench()
        bench.send(span("root", op="invoke_agent"))
        parents = ["root", *(f"{i:x}" for i in range(spans))]
        items = [span(f"{i:x}", parents[i], op="invoke_agent", start=i, tokens=(1, 0)) for i in range(spans)]
        gc.disable()  # a full collection costs what the whole test process holds
        try:
            began = time.process_time()
            for item in items:
                bench.send(item)
            taken = time.process_time() - began
        finally:
            gc.enable()
        assert bench.row.span_count == spans + 1
        return taken

    cost(100)
    assert cost(3000) < 3.5 * cost(1500) + 0.5


def loop(*calls: tuple[str, str, tuple[int, int], str], version: str = "3.5.6") -> list[RawSpan]:
    """Calls as Spring AI reports them: (name, parent, tokens, finish reason), one after another."""
    return [
        span(
            name, parent, op="chat", start=20 * n, tokens=tokens,
            scope=Scope(name="org.springframework.boot", version=version),
            attributes={"gen_ai.response.finish_reasons": f'["{finish}"]'},
        )
        for n, (name, parent, tokens, finish) in enumerate(calls)
    ]  # fmt: skip


def test_calls_of_a_tool_loop_that_report_the_sum_so_far_count_once() -> None:
    sums = [("a", "r", (74, 36), "TOOL_CALLS"), ("b", "r", (402, 58), "TOOL_CALLS"), ("c", "r", (860, 90), "STOP")]
    assert total(span("r"), *loop(*sums)) == (860, 90)
    assert total(*loop(*sums), *[span("http", "c", op="chat", start=41, end=45, tokens=(458, 32))]) == (458, 32)


def test_two_tool_loops_below_one_span_count_apart() -> None:
    assert total(
        *loop(
            ("a", "r", (74, 36), "TOOL_CALLS"), ("b", "r", (402, 58), "STOP"),
            ("c", "r", (80, 30), "TOOL_CALLS"), ("d", "r", (410, 70), "STOP"),
        )
    ) == (812, 128)  # fmt: skip


def test_calls_of_a_loop_that_the_application_runs_count_each() -> None:
    own = [("a", "r", (300, 36), "TOOL_CALLS"), ("b", "r", (402, 58), "TOOL_CALLS"), ("c", "r", (500, 90), "STOP")]
    assert total(*loop(*own)) == (1202, 184)


def test_spring_ai_2_reports_the_tokens_of_each_call() -> None:
    own = [("a", "r", (74, 36), "TOOL_CALLS"), ("b", "r", (402, 58), "STOP")]
    assert total(*loop(*own, version="4.0.0")) == (476, 94)
