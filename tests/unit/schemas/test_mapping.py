"""Which of several sources wins, field by field (semconv guide 7.3), and what the engine does with bad tables."""

import json
from typing import Any

import pytest

from spanweir.schemas.convention import Convention, Fields, Many, Occurrence, Rule, rules
from spanweir.schemas.conventions import load
from spanweir.schemas.genai import GenAISpan, Message, Text
from spanweir.schemas.mapping import Mapper
from spanweir.schemas.messages import otel
from spanweir.schemas.mlflow import Renderer
from spanweir.schemas.notes import Notes
from spanweir.schemas.raw import Attributes, Event, RawLog, RawSpan, Resource, Scope
from spanweir.schemas.values import count, text


def raw(attributes: Attributes, **more: Any) -> RawSpan:
    return RawSpan(trace_id="1" * 32, span_id="2" * 16, attributes=attributes, **more)


def said(*texts: str) -> str:
    return json.dumps([{"role": "user", "parts": [{"type": "text", "content": one}]} for one in texts])


def convention(name: str, **more: Any) -> Convention:
    return Convention(name=name, marks=(f"{name}.",), **more)


def fields(attributes: Attributes, *conventions: Convention, **more: Any) -> GenAISpan:
    span = Mapper(conventions=conventions).map(raw(attributes, **more))
    assert span is not None
    return span


MESSAGE = {"0.message.role": "user", "0.message.content": "hello"}


@pytest.mark.parametrize(
    ("prefix", "whole", "odd"),
    [
        *(
            (prefix, MESSAGE, odd)
            for prefix in ("llm.input_messages.", "llm.output_messages.")
            for odd in (
                "99999999999999999999.message.content", f"{'9' * 600}.message.content", "-1.message.content",
                "00.message.content", "0.message.tool_calls.x.tool_call.function.name", "0.message.tool_calls.0.more",
                "0.message.tool_calls.99999999999999999999.tool_call.function.name",
                "0.message.contents.x.message_content.text", "0.message.contents.3.more", "0.message.contents",
                "0.message.content.more",
            )
        ),
        ("llm.tools.", {"0.tool.json_schema": '{"name":"t"}'}, "0.more"),
        ("llm.tools.", {"0.tool.name": "t"}, "0.tool.json_schema"),
        ("retrieval.documents.", {"0.document.content": "d"}, "99999999999999999999.document.content"),
        ("embedding.embeddings.", {"0.embedding.text": "t", "0.embedding.vector": [1.0]}, "0.embedding.more"),
        ("gen_ai.prompt.", {"0.role": "user", "0.content": "hello"}, "0.tool_calls.x.name"),
        ("gen_ai.prompt.", {"0.role": "user", "0.content": "hello"}, "99999999999999999999.content"),
        ("gen_ai.completion.", {"0.role": "assistant", "0.content": "hello"}, "1.role"),
    ],
)  # fmt: skip
def test_an_indexed_key_that_does_not_fit_is_read_or_kept(prefix: str, whole: Attributes, odd: str) -> None:
    attributes = {f"{prefix}{key}": value for key, value in whole.items()} | {f"{prefix}{odd}": "the odd leaf"}
    for kind in ("LLM", "RETRIEVER", "EMBEDDING"):
        span = raw({**attributes, "openinference.span.kind": kind}, resource=Resource(), scope=Scope())
        assert b"the odd leaf" in Renderer()._render(span, Mapper().map(span)).content


def model(name: str, rank: int) -> Convention:
    return convention(name, rank=rank, rules=rules({f"{name}.model": ("model.request", text)}))


def test_rank_comes_before_order_and_order_decides_among_equals() -> None:
    both: Attributes = {"a.model": "of a", "b.model": "of b"}
    assert fields(both, model("a", 3), model("b", 1)).model.request == "of b"  # type: ignore[union-attr]
    assert fields(both, model("a", 3), model("b", 3)).model.request == "of a"  # type: ignore[union-attr]


def test_a_value_that_cannot_be_read_leaves_the_field_to_the_next() -> None:
    tables = [convention(name, rules=rules({f"{name}.n": ("params.n", count)})) for name in "ab"]
    span = fields({"a.n": "many", "b.n": 3}, *tables)
    assert span.params is not None
    assert span.params.n == 3
    assert span.flags == ["unread:a.n"]


def content(name: str, rank: int) -> Convention:
    return convention(name, rank=rank, rules=rules({f"{name}.in": ("input", otel)}, content=True))


def test_what_two_say_alike_is_stored_once() -> None:
    span = fields({"a.in": said("x"), "b.in": said("x")}, content("a", 1), content("b", 2))
    assert span.consumed == {"input": ("a.in", "b.in")}


def test_what_lost_stays_in_the_raw_attributes() -> None:
    span = fields({"a.in": said("x"), "b.in": said("y")}, content("a", 1), content("b", 2))
    assert span.input == [Message("user", [Text("x")])]
    assert span.consumed == {"input": ("a.in",)}


def test_among_equals_more_messages_are_preferred() -> None:
    span = fields({"a.in": said("x"), "b.in": said("x", "y")}, content("a", 1), content("b", 1))
    assert len(span.input) == 2
    assert span.consumed == {"input": ("b.in",)}


def test_a_stronger_source_is_not_given_up_for_a_longer_list() -> None:
    span = fields({"a.in": said("x"), "b.in": said("x", "y")}, content("a", 1), content("b", 2))
    assert len(span.input) == 1


def test_tokens_come_from_one_convention_as_a_set() -> None:
    """One may include the cache in its input where the other does not."""
    tables = [
        convention(name, usage={f"{name}.in": "input", f"{name}.out": "output", f"{name}.cache": "cache_read"})
        for name in "ab"
    ]
    span = fields({"a.in": 100, "a.out": 5, "b.in": 20, "b.out": 5, "b.cache": 80}, *tables)
    assert span.usage is not None
    assert (span.usage.input, span.usage.cache_read) == (100, None)


def test_details_of_another_set_are_taken_where_both_count_alike() -> None:
    tables = [
        convention(name, usage={f"{name}.in": "input", f"{name}.out": "output", f"{name}.cache": "cache_read"})
        for name in "ab"
    ]
    span = fields({"a.in": 100, "a.out": 5, "b.in": 100, "b.out": 5, "b.cache": 80}, *tables)
    assert span.usage is not None
    assert (span.usage.input, span.usage.cache_read) == (100, 80)


def test_a_set_without_input_and_output_is_no_set() -> None:
    tables = [convention(name, usage={f"{name}.in": "input", f"{name}.cache": "cache_read"}) for name in "ab"]
    span = fields({"a.cache": 7, "b.in": 100}, *tables)
    assert span.usage is not None
    assert (span.usage.input, span.usage.cache_read) == (100, 7)


def test_a_framework_is_no_provider_while_a_provider_is_named() -> None:
    tables = [convention(name, rules=rules({f"{name}.p": ("provider", text)})) for name in "ab"]
    span = fields({"a.p": "langchain", "b.p": "AWS"}, *tables)
    assert (span.framework, span.provider, span.provider_raw) == ("langchain", "aws.bedrock", "AWS")


def test_dictionaries_and_tags_are_joined() -> None:
    tables = [
        convention(name, many=(Many((f"{name}.meta.",), "metadata", _meta, content=False),)) for name in ("a", "b")
    ]
    span = fields({"a.meta.x": 1, "b.meta.x": 2, "b.meta.y": 3}, *tables)
    assert span.metadata == {"x": 1, "y": 3}


def _meta(attributes: Attributes, keys: Any, notes: Notes) -> dict[str, Any]:
    return {key.rpartition(".")[2]: attributes[key] for key in keys}


# ------------------------------------------------------------------------------------------------ events, logs, context


def _event_input(occurrences: list[Occurrence], notes: Notes) -> Fields:
    return {"input": [Message("user", [Text(str(one.body or one.attributes["said"]))]) for one in occurrences]}


def test_events_fill_what_attributes_leave_open_and_do_not_override_them() -> None:
    table = convention("a", rank=1, events=("asked",), read_events=_event_input, rules=content("a", 1).rules)
    first, second = (
        Event(name="asked", attributes={"said": "one"}),
        Event(name="asked", time_ns=2, attributes={"said": "two"}),
    )
    events = [second, first]
    assert [m.parts for m in fields({}, table, events=events).input] == [[Text("one")], [Text("two")]]
    assert [m.parts for m in fields({"a.in": said("x")}, table, events=events).input] == [[Text("x")]]


def test_log_records_come_after_events() -> None:
    table = convention("a", events=("asked",), read_events=_event_input)
    mapper = Mapper(conventions=[table])
    logs = [RawLog(attributes={"event.name": "asked"}, body="from the log")]
    span = mapper.map(raw({}), logs)
    assert span is not None
    assert span.input[0].parts == [Text("from the log")]
    span = mapper.map(raw({}, events=[Event(name="asked", attributes={"said": "from the event"})]), logs)
    assert span is not None
    assert span.input[0].parts == [Text("from the event")]


def test_session_and_user_of_the_resource_are_the_last_resort() -> None:
    resource = Resource(attributes={"session.id": "s", "user.id": "u"})
    span = Mapper().map(raw({"session.id": "own"}, resource=resource))
    assert span is not None
    assert (span.session_id, span.user_id) == ("own", "u")


def test_a_span_about_something_else_is_nothing() -> None:
    assert Mapper().map(raw({"http.request.method": "GET", "url.path": "/"}, scope=Scope(name="http"))) is None


# ------------------------------------------------------------------------------------------------ bad tables


def test_a_reader_that_fails_costs_its_field_only() -> None:
    def broken(value: Any, notes: Notes) -> Any:
        raise RuntimeError("no")

    table = convention(
        "a", rules=(Rule("a.in", "input", broken, content=True), *rules({"a.model": ("model.request", text)}))
    )
    span = fields({"a.in": "x", "a.model": "m"}, table)
    assert span.model is not None
    assert span.flags == ["failed:RuntimeError:a.in"]
    assert span.consumed is None


def test_a_field_that_does_not_exist_is_told_when_the_tables_are_read() -> None:
    with pytest.raises(ValueError, match=r"model\.reqest"):
        Mapper(conventions=[convention("a", rules=rules({"a.model": ("model.reqest", text)}))])


def test_a_convention_that_does_not_exist_is_told_with_those_that_do() -> None:
    with pytest.raises(ValueError, match=r"no convention 'otel'; there are mlflow, .*otel_genai"):
        load(["otel"])


def test_the_order_can_be_chosen() -> None:
    attributes: Attributes = {"gen_ai.request.model": "m", "openinference.span.kind": "LLM"}
    span = Mapper(["openinference"]).map(raw(attributes))
    assert span is not None
    assert (span.conventions, span.model) == (("openinference",), None)


@pytest.mark.parametrize(
    ("attributes", "kind", "expected"),
    [
        ({"gen_ai.request.model": "m"}, 1, "llm"),
        ({"gen_ai.request.model": "m", "http.request.method": "POST"}, 3, "llm"),
        ({"gen_ai.request.model": "m", "http.request.method": "POST", "http.route": "/chat"}, 2, "other"),
        ({"gen_ai.request.model": "m", "http.route": "/chat", "gen_ai.usage.input_tokens": 3}, 2, "llm"),
        ({"gen_ai.tool.name": "f"}, 1, "tool"),
        ({"gen_ai.tool.call.id": "c", "gen_ai.operation.name": "chat"}, 1, "tool"),
        ({"mcp.method.name": "tools/call"}, 3, "tool"),
        ({"mcp.method.name": "initialize"}, 3, "mcp"),
        ({"gen_ai.operation.name": "chat", "openinference.span.kind": "CHAIN"}, 1, "llm"),
        ({"gen_ai.operation.name": "run_it", "openinference.span.kind": "CHAIN"}, 1, "chain"),
        ({"gen_ai.operation.name": "invoke_agent", "mlflow.spanType": '"CHAIN"'}, 1, "chain"),
        ({"gen_ai.retrieval.query.text": "q"}, 3, "retrieval"),
    ],
)
def test_what_kind_of_span_it_is(attributes: Attributes, kind: int, expected: str) -> None:
    span = Mapper().map(raw(attributes, kind=kind))
    assert span is not None
    assert span.kind == expected


def test_counts_that_are_no_tokens_are_kept_by_their_own_names() -> None:
    span = Mapper().map(
        raw({"gen_ai.operation.name": "chat", "gen_ai.usage.seconds": 2.5, "gen_ai.usage.input_tokens": 3})
    )
    assert span is not None
    assert span.usage is not None
    assert (span.usage.input, span.usage.other) == (3, {"seconds": 2.5})
