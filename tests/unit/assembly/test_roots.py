"""Who is the root, what it shows, and when a trace is done."""

import json

from spanweir.collector.assembly import Options
from spanweir.exporters.api import KnownSpan, KnownTrace
from spanweir.schemas.raw import Resource
from spanweir.schemas.trace import TokenUsage, TraceRow
from tests.support.spans import TRACE, Bench, attribute, identity, span

SERVER = {"http.request.method": "POST", "url.path": "/"}


def test_a_whole_trace_in_one_request() -> None:
    bench = Bench()
    emission = bench.send(
        span("llm", "agent", op="chat", start=5, end=50, asked="What is 2+2?", said="4", tokens=(10, 1)),
        span("agent", op="invoke_agent", end=100, asked="What is 2+2?", said="It is 4."),
    )
    row = bench.row
    assert len(emission.spans) == 2
    assert (row.state, row.complete, row.revision, row.span_count) == ("OK", True, 1, 2)
    assert row.root_span_id == identity("agent")
    assert (row.request_preview, row.response_preview) == ("What is 2+2?", "It is 4.")
    assert row.usage == TokenUsage(input_tokens=10, output_tokens=1, total_tokens=11)
    assert row.end_ns is not None
    assert row.end_ns - row.start_ns == 100_000_000


def test_children_first_show_a_running_trace() -> None:
    bench = Bench()
    bench.send(span("llm", "agent", op="chat", asked="q", said="a", tokens=(1, 1)))
    assert (bench.row.state, bench.row.complete, bench.row.end_ns) == ("IN_PROGRESS", False, None)
    assert bench.row.request_preview == "q"
    bench.send(span("agent", op="invoke_agent", end=90, asked="Q", said="A"))
    assert (bench.row.state, bench.row.complete, bench.row.request_preview) == ("OK", True, "Q")


def test_a_web_frameworks_root_is_given_question_and_answer() -> None:
    bench = Bench()
    bench.send(
        span("POST /", end=200, name="POST /", kind=2, attributes=SERVER),
        span("agent", "POST /", op="invoke_agent", start=1, end=190, asked="Why?", said="Because.",
             attributes={"gen_ai.agent.name": "explainer"}),
        span("llm", "agent", op="chat", start=5, end=50, asked="Why? And be brief.", said="Hm."),
    )  # fmt: skip
    root = bench.stored("POST /")
    assert attribute(root, "mlflow.spanInputs") == {"messages": [{"role": "user", "content": "Why?"}]}
    assert attribute(root, "mlflow.spanOutputs") == {"messages": [{"role": "assistant", "content": "Because."}]}
    assert bench.row.request == root.attributes["mlflow.spanInputs"].encode()
    assert (bench.row.request_preview, bench.row.response_preview) == ("Why?", "Because.")
    assert bench.row.name == "explainer", "never `POST /` when an agent has a name"


def test_a_queues_root_leaves_the_name_to_the_agent() -> None:
    bench = Bench()
    bench.send(
        span("publish", end=200, name="autogen publish weather.(7b53)-T", kind=4,
             attributes={"recipient_agent_type": "weather"}),
        span("agent", "publish", op="invoke_agent", start=1, end=190, attributes={"gen_ai.agent.name": "weather"}),
    )  # fmt: skip
    assert bench.row.name == "weather"


def test_the_root_is_written_again_when_its_answer_comes_later() -> None:
    bench = Bench()
    bench.send(span("root", end=200, name="POST /chat", kind=2))
    assert attribute(bench.stored("root"), "mlflow.spanOutputs") is None
    emission = bench.send(span("llm", "root", op="chat", start=5, end=50, asked="Why?", said="So."))
    assert {mapped.name for mapped in emission.spans} == {"POST /chat", "llm"}
    assert attribute(bench.stored("root"), "mlflow.spanOutputs")["messages"][0]["content"] == "So."
    assert bench.row.revision == 2


def test_the_answer_is_that_of_the_agent_that_ended_last_and_the_question_of_the_first() -> None:
    bench = Bench()
    bench.send(
        span("root", end=900, name="GET /x", kind=2),
        span("first", "root", op="invoke_agent", start=10, end=100, asked="one", said="uno"),
        span("last", "root", op="invoke_agent", start=110, end=800, asked="two", said="due"),
        span("sub", "last", op="invoke_agent", start=120, end=700, asked="three", said="tre"),
        span("llm", "sub", op="chat", start=130, end=790, asked="four", said="quattro"),
    )
    assert (bench.row.request_preview, bench.row.response_preview) == ("one", "due")


def test_a_root_that_has_content_of_its_own_keeps_it() -> None:
    bench = Bench()
    bench.send(
        span("llm", "root", op="chat", asked="inner", said="inner"),
        span("root", op="invoke_agent", end=50, asked="outer", said="outer"),
    )
    assert (bench.row.request_preview, bench.row.response_preview) == ("outer", "outer")
    assert len(bench.roots()) == 1


def test_inputs_that_show_nothing_are_no_question() -> None:
    bench = Bench()
    state = {"openinference.span.kind": "CHAIN", "input.value": '{"draft": ""}', "input.mime_type": "application/json"}
    bench.send(
        span("root", end=50, name="graph", attributes=state),
        span("llm", "root", op="chat", start=1, asked="Write a tagline", said="See every span."),
    )
    assert bench.row.request_preview == "Write a tagline"
    assert attribute(bench.stored("root"), "mlflow.spanInputs") == {"draft": ""}, "what the root said itself stays"


def test_an_inner_agent_whose_inputs_show_nothing_asks_no_question() -> None:
    bench = Bench()
    bench.send(
        span("root", op="invoke_agent", end=50, name="graph"),
        span("graph", "root", op="invoke_agent", end=50, attributes={"input.value": '{"draft": ""}'}),
        span("llm", "graph", op="chat", start=1, asked="Write a tagline", said="See every span."),
    )
    assert bench.row.request_preview == "Write a tagline"


def test_a_session_of_the_application_comes_before_a_thread_of_the_framework() -> None:
    bench = Bench()
    bench.send(
        span("root", op="invoke_agent", end=50, attributes={"gen_ai.conversation.id": "thread-1"}),
        span("llm", "root", op="chat", start=1, attributes={"session.id": "sess-1"}),
        span("more", "root", op="chat", start=2, attributes={"session.id": "sess-2"}),
    )
    assert bench.row.session_id == "sess-1"


def test_an_orphan_is_adopted_after_the_idle_time() -> None:
    bench = Bench(Options(idle_timeout=20))
    bench.send(span("llm", "agent", op="chat", start=5, asked="q", said="a"))
    bench.send(span("agent", "remote", op="invoke_agent", end=90))
    bench.wait(19)
    assert bench.row.state == "IN_PROGRESS"
    bench.wait(2)
    assert (bench.row.state, bench.row.complete, bench.row.root_span_id) == ("OK", True, identity("agent"))
    assert bench.roots() == ["agent"]
    assert bench.row.tags["spanweir.root"] == "adopted"
    assert attribute(bench.stored("agent"), "mlflow.spanInputs")["messages"][0]["content"] == "q"


def test_a_root_that_turns_out_to_have_a_remote_parent_stands_in_for_it() -> None:
    bench = Bench(Options(idle_timeout=20))
    bench.send(span("agent", op="invoke_agent", end=90, asked="q", said="a"), span("llm", "agent", op="chat", start=5))
    assert bench.row.root_span_id == identity("agent")
    bench.send(span("agent", "remote", op="invoke_agent", end=90, asked="q", said="a"))
    bench.wait(21)
    assert (bench.row.state, bench.row.span_count, bench.roots()) == ("OK", 2, ["agent"])
    assert (bench.row.root_span_id, bench.row.request_preview) == (identity("agent"), "q")


def test_several_orphans_get_a_root_under_the_missing_parents_id() -> None:
    bench = Bench(Options(idle_timeout=20))
    bench.send(
        span("one", "lost", op="chat", start=5, asked="q", said="a", tokens=(3, 1)),
        span("two", "lost", op="chat", start=30, asked="q2", said="a2", tokens=(4, 1)),
    )
    bench.wait(21)
    root = bench.stored("lost")
    assert bench.row.root_span_id == identity("lost")
    assert root.parent_id is None
    assert attribute(root, "mlflow.spanOutputs")["messages"][0]["content"] == "a2"
    assert (bench.row.state, bench.row.span_count, bench.row.usage.total_tokens) == ("OK", 3, 9)


def test_the_real_root_wins_when_it_comes_late() -> None:
    bench = Bench(Options(idle_timeout=20))
    bench.send(span("agent", "root", op="invoke_agent", start=10, end=90, asked="q", said="a"))
    bench.wait(21)
    assert bench.roots() == ["agent"]
    bench.send(span("root", end=100, name="handle", attributes={"session.id": "s1"}))
    assert bench.roots() == ["handle"]
    assert bench.stored("agent").parent_id == identity("root")
    assert (bench.row.root_span_id, bench.row.session_id, bench.row.revision) == (identity("root"), "s1", 2)
    assert "spanweir.root" not in bench.row.tags


def test_a_lost_span_in_the_middle_is_filled_in_below_the_root() -> None:
    bench = Bench(Options(idle_timeout=20))
    bench.send(span("root", op="invoke_agent", end=90, asked="q", said="a"), span("llm", "lost", op="chat", start=5))
    assert (bench.row.state, bench.row.complete) == ("OK", False)
    bench.wait(21)
    assert bench.row.complete
    assert bench.stored("lost").parent_id == identity("root")
    assert bench.roots() == ["root"]
    bench.send(span("lost", "root", op="invoke_agent", start=2, end=80, name="found"))
    assert bench.stored("lost").name == "found"
    assert bench.row.span_count == 3


def test_a_root_without_an_end_is_ended_and_is_an_error() -> None:
    bench = Bench(Options(idle_timeout=20))
    bench.send(span("root", op="invoke_agent", end=0), span("llm", "root", op="chat", start=5, end=70, said="a"))
    assert (bench.row.state, bench.stored("root").end_ns) == ("IN_PROGRESS", None)
    bench.wait(21)
    assert (bench.row.state, bench.row.tags["spanweir.root"]) == ("ERROR", "unfinished")
    assert bench.stored("root").end_ns == bench.stored("llm").end_ns
    assert "no_end" in bench.stored("root").raw.issues


def test_a_running_span_is_replaced_by_the_ended_one() -> None:
    bench = Bench()
    bench.send(span("root", op="invoke_agent", end=0, asked="q"))
    bench.send(span("root", op="invoke_agent", end=70, asked="q", said="a"))
    assert (bench.row.state, bench.row.complete, bench.row.response_preview) == ("OK", True, "a")


def test_states() -> None:
    for root, child, state in ((2, 0, "ERROR"), (0, 2, "OK"), (1, 2, "OK"), (0, 0, "OK")):
        bench = Bench()
        bench.send(
            span("root", op="invoke_agent", status_code=root),
            span("tool", "root", op="execute_tool", status_code=child),
        )
        assert bench.row.state == state, (root, child)


def test_names() -> None:
    bench = Bench()
    bench.send(span("root", name="my_pipeline"), span("a", "root", op="invoke_agent", start=1))
    assert bench.row.name == "my_pipeline", "a name that somebody chose stays"
    bench = Bench()
    bench.send(span("root", name="GET /health", kind=2))
    assert bench.row.name == "GET /health", "a route is better than nothing"


def test_the_roots_resource_and_the_senders_trace_tags_are_tags() -> None:
    bench = Bench()
    resource = Resource(attributes={"service.name": "shop", "telemetry.sdk.name": "x", "process.pid": 7})
    bench.send(span("root", op="invoke_agent", resource=resource, attributes={"mlflow.traceTag.team": "blue"}))
    assert bench.row.tags == {"service.name": "shop", "team": "blue"}


def test_late_spans_amend_a_complete_trace() -> None:
    bench = Bench()
    bench.send(span("root", op="invoke_agent", asked="q", said="a"))
    first = bench.row
    bench.wait(3600)
    bench.send(span("llm", "root", op="chat", start=5, tokens=(7, 3)))
    assert (first.usage, bench.row.usage.total_tokens, bench.row.revision) == (None, 10, 2)
    assert bench.row.request_preview == "q", "what the trace's row said before is still known"


def test_a_repeated_span_changes_nothing() -> None:
    bench = Bench()
    spans = [span("root", op="invoke_agent", asked="q", said="a"), span("llm", "root", op="chat", tokens=(7, 3))]
    bench.send(*spans)
    before = bench.row
    bench.send(*spans)
    assert bench.row == before


def test_an_evicted_trace_is_read_back_from_a_destination() -> None:
    row = TraceRow(
        trace_id=TRACE, root_span_id=identity("root"), state="OK", complete=True, request_preview="q",
        experiment="7", session_id="s", start_ns=1, end_ns=2, name="stored",
    )  # fmt: skip
    stored = [
        KnownSpan(span_id=identity("root"), parent_id=None, name="root", type="AGENT", status="OK",
                  start_ns=1, end_ns=2),
        KnownSpan(span_id=identity("llm"), parent_id=identity("root"), name="llm", type="CHAT_MODEL", status="OK",
                  start_ns=1, end_ns=2, usage=TokenUsage(input_tokens=5, output_tokens=5, total_tokens=10)),
    ]  # fmt: skip
    bench = Bench(known={TRACE: KnownTrace(row=row, spans=stored)})
    bench.send(span("late", "root", op="chat", asked="x", said="y", tokens=(1, 1)))
    assert bench.row.usage.total_tokens == 12
    assert (bench.row.state, bench.row.experiment, bench.row.session_id) == ("OK", "7", "s")
    assert (bench.row.name, bench.row.request_preview, bench.row.span_count) == ("stored", "q", 3)


def test_a_trace_that_begins_now_is_not_asked_for() -> None:
    bench = Bench(known={})
    bench.send(span("root", op="invoke_agent"))
    assert bench.asked == []


def test_state_survives_a_snapshot() -> None:
    one, two = Bench(), Bench()
    one.send(span("llm", "agent", op="chat", asked="q", said="a", tokens=(7, 3)))
    two.assembler.restore(one.assembler.snapshot(), two.now_s)
    two.send(span("agent", end=50, name="POST /", kind=2))
    assert (two.row.usage.total_tokens, two.row.request_preview, two.row.span_count) == (10, "q", 2)


def test_a_removed_parents_children_move_up() -> None:
    bench = Bench()
    http = span("http", "root", name="GET", kind=3)
    bench.send(span("root", op="invoke_agent", asked="q"), span("llm", "http", op="chat", start=2), dropped=[http])
    assert bench.stored("llm").parent_id == identity("root")
    assert bench.row.complete


def test_a_removed_root_leaves_its_only_child_as_root() -> None:
    bench = Bench()
    bench.send(span("agent", "http", op="invoke_agent", start=2, asked="q", said="a"))
    bench.send(dropped=[span("http", name="POST /", kind=2)])
    assert bench.roots() == ["agent"]


def test_a_parent_is_kept_bare_where_children_cannot_be_written_again() -> None:
    bench = Bench()
    bench.send(span("one", "http", op="chat", start=2), span("two", "http", op="chat", start=3))
    bench.send(span("root", op="invoke_agent", asked="q"), dropped=[span("http", "root", attributes=SERVER)])
    kept = bench.stored("http")
    assert kept.parent_id == identity("root")
    assert "url.path" not in kept.attributes
    assert bench.counted["spanweir_filter_kept_parents"] == 1


def test_a_retracted_span_is_taken_out_of_the_sums() -> None:
    bench = Bench()
    bench.send(span("root", op="invoke_agent", asked="q"), span("llm", "root", op="chat", start=2, tokens=(5, 5)))
    bench.send(retracted=[(TRACE, identity("llm"))])
    assert (bench.row.usage, bench.row.span_count) == (None, 1)


def test_large_content_is_not_kept() -> None:
    bench = Bench(Options(content_max=1000))
    bench.send(span("root", op="invoke_agent", asked="q" * 5000, said="a"))
    assert bench.row.request is not None
    assert len(bench.row.request) > 5000
    bench.send(span("llm", "root", op="chat", start=2, asked="other"))
    assert bench.row.request is None
    assert json.dumps(bench.row.request_preview).startswith('"qqq'), "the preview stands"


def test_traces_over_the_bound_are_finalised() -> None:
    bench = Bench(Options(open_max=2))
    for i in range(5):
        bench.send(span("a", "lost", op="chat", trace=f"{i:032x}"))
    assert bench.assembler.sizes[0] == 2
    assert bench.counted["spanweir_assembly_finalised_for_room"] == 3
    assert [row.complete for row in bench.rows.values()] == [True, True, True, False, False]
