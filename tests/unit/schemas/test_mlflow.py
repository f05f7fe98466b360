"""MLflow's form of a span, read back by MLflow itself where it has a reader."""

import json
from typing import Any

import pytest

from spanweir.schemas.genai import (
    Blob,
    Costs,
    Doc,
    Error,
    File,
    GenAISpan,
    Message,
    Model,
    Other,
    Reasoning,
    Refusal,
    Response,
    ServerToolCall,
    ServerToolResult,
    Text,
    Tool,
    ToolCall,
    ToolDef,
    ToolResult,
    TraceIO,
    Uri,
    Usage,
)
from spanweir.schemas.mlflow import TYPES, Renderer
from spanweir.schemas.raw import Event, Link, RawSpan, Resource, Scope
from spanweir.schemas.summary import summarise
from spanweir.schemas.trace import MappedSpan, TokenUsage

TRACE, SPAN = "0123456789abcdef0123456789abcdef", "0123456789abcdef"


def raw(**more: Any) -> RawSpan:
    return RawSpan(trace_id=TRACE, span_id=SPAN, name="chat m", start_ns=1, end_ns=2, **more)


def rendered(span: GenAISpan | None, **more: Any) -> tuple[MappedSpan, dict[str, Any]]:
    mapped = Renderer().render(raw(**more), span)
    return mapped, {key: json.loads(value) for key, value in mapped.attributes.items()}


def inputs(*messages: Message) -> Any:
    return rendered(GenAISpan(kind="llm", input=list(messages)))[1]["mlflow.spanInputs"]["messages"]


def test_mlflow_reads_what_was_written() -> None:
    from mlflow.entities import Span

    span = GenAISpan(kind="llm", input=[Message("user", [Text("Grüezi")])], model=Model("m"))
    mapped, _ = rendered(
        span,
        parent_id="f" * 16,
        kind=3,
        status_code=2,
        status_message="no",
        events=[Event(name="e", time_ns=1, attributes={"list": [1], "bytes": b"\xff", "text": "é"})],
        links=[Link(trace_id="a" * 32, span_id="b" * 16, attributes={"k": "v"})],
        attributes={"custom": "é", "n": 1, "f": 1.5, "yes": True, "none": None, "list": [1, "a"], "bytes": b"\xff"},
        resource=Resource(attributes={"service.name": "app"}, schema_url="s"),
        scope=Scope(name="lib", version="1"),
        trace_state="a=b",
        flags=257,
    )
    read = Span.from_dict(json.loads(mapped.content))
    assert (read.trace_id, read.span_id, read.parent_id) == (f"tr-{TRACE}", SPAN, "f" * 16)
    assert (read.name, read.span_type, read.start_time_ns, read.end_time_ns) == ("chat m", "CHAT_MODEL", 1, 2)
    assert (read.status.status_code.value, read.status.description) == ("ERROR", "no")
    assert read.inputs == {"messages": [{"role": "user", "content": "Grüezi"}], "model": "m"}
    assert [event.name for event in read.events] == ["e", "exception"]
    assert read.attributes["list"] == [1, "a"]
    assert read.attributes["yes"] is True
    assert read.attributes["bytes"] == "/w=="
    content = json.loads(mapped.content)
    assert content["resource"] == {"schema_url": "s", "attributes": {"service.name": "app"}}
    assert content["scope"] == {"name": "lib", "version": "1"}
    assert (content["trace_state"], content["flags"]) == ("a=b", 257)
    assert "Grüezi".encode() in mapped.content


@pytest.mark.parametrize(("kind", "shown"), TYPES.items())
def test_types(kind: str, shown: str) -> None:
    assert rendered(GenAISpan(kind=kind))[0].type == shown


def test_a_completion_is_no_chat_and_a_senders_own_type_stays() -> None:
    assert rendered(GenAISpan(kind="llm", op="text_completion"))[0].type == "LLM"
    assert rendered(GenAISpan(kind="llm", mlflow_type="MY_TYPE"))[0].type == "MY_TYPE"
    assert rendered(None)[0].type == "UNKNOWN"


def test_parts_of_messages() -> None:
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": '{"a":"ü"}'}}
    assert inputs(
        Message("developer", [Text("Be kind.")]),
        Message("user", [Text("Look:"), Blob("AA==", "image/png"), Uri("https://x.test/a", None, "image")]),
        Message("assistant", [Reasoning("Hm.", None, "sig"), Text("ok"), ToolCall("f", "c", {"a": "ü"})]),
        Message("tool", [ToolResult({"x": 1}, "c", "f", True), ToolResult("two", "d")]),
        Message("user", [ToolResult("three", "e"), Text("and?")]),
        Message("assistant", [Refusal("No.")]),
    ) == [
        {"role": "system", "sent_role": "developer", "content": "Be kind."},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "Look:"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}},
                {"type": "image_url", "image_url": {"url": "https://x.test/a"}},
            ],
        },
        {
            "role": "assistant",
            "content": "ok",
            "tool_calls": [call],
            "reasoning": "Hm.",
            "reasoning_details": [{"signature": "sig", "data": None, "id": None}],
        },
        {"role": "tool", "content": '{"x":1}', "tool_call_id": "c", "name": "f", "is_error": True},
        {"role": "tool", "content": "two", "tool_call_id": "d"},
        {"role": "tool", "content": "three", "tool_call_id": "e"},
        {"role": "user", "content": "and?"},
        {"role": "assistant", "content": None, "refusal": "No."},
    ]


def test_what_the_ui_has_no_part_for_becomes_text() -> None:
    """One part of an unknown type makes MLflow's UI show the whole list as raw JSON."""
    shown = inputs(
        Message("user", [File("f1"), Blob("AA==", "application/pdf"), Uri("https://x.test/d", "text/html")]),
        Message("assistant", [Other("citation", {"type": "citation", "n": 1})]),
        Message("assistant", [ServerToolCall("search", "s", {"q": 1}), ServerToolResult("s", {"hits": 2})]),
    )
    kinds = {part["type"] for message in shown if isinstance(message["content"], list) for part in message["content"]}
    assert kinds <= {"text", "image_url", "input_audio"}
    assert shown[2]["tool_calls"][0]["function"] == {"name": "search", "arguments": '{"q":1}'}
    assert shown[3] == {"role": "tool", "content": '{"hits":2}', "tool_call_id": "s"}


def test_choices_take_their_reasons_from_the_message_or_the_response() -> None:
    span = GenAISpan(
        kind="llm",
        output=[Message("assistant", [Text("a")], finish_reason="end_turn"), Message("assistant", [Text("b")])],
        response=Response("id", finish_reasons=["stop", "max_tokens"]),
        model=Model("m", "m-2026"),
    )
    said = rendered(span)[1]["mlflow.spanOutputs"]
    assert (said["id"], said["model"]) == ("id", "m-2026")
    assert [(c["index"], c["finish_reason"], c.get("native_finish_reason")) for c in said["choices"]] == [
        (0, "stop", "end_turn"),
        (1, "length", "max_tokens"),
    ]


def test_tools_are_nested_whatever_they_are() -> None:
    """MLflow's UI shows all tools of a call or none."""
    span = GenAISpan(
        kind="llm", tools=[ToolDef("f", "function", "does", {"type": "object"}, True), ToolDef("g", "extension")]
    )
    assert rendered(span)[1]["mlflow.chat.tools"] == [
        {
            "type": "function",
            "function": {"name": "f", "description": "does", "parameters": {"type": "object"}, "strict": True},
        },
        {"type": "function", "function": {"name": "g"}},
    ]


def test_documents() -> None:
    docs = [Doc("a", "1", "t", "https://x.test", 0.5, {"page": 3}), Doc("b", score=0.25, metadata={"score": 9})]
    assert rendered(GenAISpan(kind="retrieval", documents=docs))[1]["mlflow.spanOutputs"] == [
        {
            "page_content": "a",
            "metadata": {"page": 3, "doc_uri": "https://x.test", "title": "t", "score": 0.5},
            "id": "1",
        },
        {"page_content": "b", "metadata": {"score": 9}},
    ]


def test_an_error_of_attributes_only_becomes_an_exception_event() -> None:
    span = GenAISpan(kind="llm", error=Error("RateLimitError"))
    mapped, _ = rendered(span, status_code=2, status_message="slow down")
    assert json.loads(mapped.content)["events"] == [
        {
            "name": "exception",
            "time_unix_nano": 2,
            "attributes": {"exception.type": "RateLimitError", "exception.message": "slow down"},
        }
    ]
    assert json.loads(rendered(span)[0].content)["events"] == []


def test_a_failure_that_no_status_tells() -> None:
    span = GenAISpan(kind="llm", error=Error(message="too many requests", failed=True))
    mapped, _ = rendered(span, status_code=1)
    content = json.loads(mapped.content)
    assert mapped.status == "ERROR"
    assert content["status"] == {"code": "STATUS_CODE_ERROR", "message": "too many requests"}
    assert content["events"][0]["attributes"]["exception.message"] == "too many requests"
    summary = summarise(raw(status_code=1), span, mapped)
    assert (summary.error, summary.status_message) == (True, "too many requests")


def test_tokens_and_cost() -> None:
    usage = Usage(input=10, output=4, cache_read=6, cache_write=0, cache_write_1h=2, reasoning=3)
    span = GenAISpan(kind="llm", usage=usage, cost=Costs(total=0.5), provider="aws.bedrock", model=Model("m"))
    mapped, shown = rendered(span)
    assert shown["mlflow.chat.tokenUsage"] == {
        "input_tokens": 10,
        "output_tokens": 4,
        "total_tokens": 14,
        "cache_read_input_tokens": 6,
        "cache_creation_input_tokens": 0,
        "cache_creation_input_tokens_above_1hr": 2,
    }
    assert shown["mlflow.llm.cost"] == {"input_cost": 0.0, "output_cost": 0.0, "total_cost": 0.5}
    assert (shown["mlflow.llm.provider"], mapped.provider, mapped.model) == ("bedrock", "bedrock", "m")


def test_a_sum_over_spans_below_is_no_span_usage_but_is_told_to_the_trace() -> None:
    span = GenAISpan(kind="agent", usage=Usage(input=10, output=4, scope="rollup"))
    mapped, shown = rendered(span)
    assert "mlflow.chat.tokenUsage" not in shown
    summary = summarise(raw(), span, mapped)
    assert summary.usage is None
    assert summary.rollup == TokenUsage(input_tokens=10, output_tokens=4, total_tokens=14)


def test_originals_go_when_all_they_say_is_shown() -> None:
    given = {"a.in": "text", "a.out": "text", "other": "x"}
    span = GenAISpan(
        kind="tool",
        tool=Tool("f", arguments={"a": 1}),
        consumed={"tool.arguments": ("a.in",), "output": ("a.out",)},
    )
    shown = rendered(span, attributes=given)[1]
    assert "a.in" not in shown
    assert shown["a.out"] == "text", "consumed by a field that a tool span does not show"
    assert shown["other"] == "x"
    kept = Renderer(keep_originals=True).render(raw(attributes=given), span)
    assert "a.in" in kept.attributes


def test_a_whole_input_is_kept_where_messages_are_shown_instead() -> None:
    span = GenAISpan(
        kind="llm",
        input=[Message("user", [Text("Hi")])],
        io=TraceIO(input={"messages": ["Hi"], "extra": 1}),
        consumed={"input": ("m",), "io.input": ("input.value",)},
    )
    shown = rendered(span, attributes={"m": "..", "input.value": "whole"})[1]
    assert shown["input.value"] == "whole"
    assert "m" not in shown


@pytest.mark.parametrize("code", [-1, 3, 99])
def test_codes_of_the_future(code: int) -> None:
    mapped, _ = rendered(GenAISpan(kind="llm"), status_code=code, kind=code + 100)
    assert mapped.status == "UNSET"
    assert json.loads(mapped.content)["kind"] == "SPAN_KIND_UNSPECIFIED"


def test_ids_that_are_no_ids() -> None:
    mapped = Renderer().render(RawSpan(trace_id="xyz", span_id="", name="n"), None)
    json.loads(mapped.content)
