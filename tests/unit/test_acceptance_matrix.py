"""The acceptance matrix of the mapping (semconv guide 7.6): dialects as they really arrive, one named test each.

What a whole convention maps is in `tests/golden`; here stands what goes wrong in naive mappers. Coding agents' rows are
in `tests/unit/agents/test_acceptance.py`.
"""

import base64
import json
from typing import Any

import pytest

from spanweir.collector.assembly.join import Joiner
from spanweir.collector.decode.otlp_proto import decode_traces
from spanweir.collector.processors.api import Item
from spanweir.collector.receivers._json import to_protobuf
from spanweir.schemas.genai import GenAISpan, Text, ToolCall, ToolResult
from spanweir.schemas.mapping import Mapper
from spanweir.schemas.mlflow import Renderer
from spanweir.schemas.raw import Attributes, Event, RawLog, RawSpan, Scope
from spanweir.schemas.trace import TraceRow
from spanweir.schemas.values import plain
from tests.support.spans import T0, Bench

TRACE = "7c0ffee07c0ffee07c0ffee07c0ffee0"


def raw(
    attributes: Attributes,
    *,
    name: str = "span",
    scope: str = "any",
    events: list[Event] | None = None,
    parent: str = "",
    span_id: str = "a" * 16,
) -> RawSpan:
    return RawSpan(
        trace_id=TRACE,
        span_id=span_id,
        parent_id=parent,
        name=name,
        start_ns=T0,
        end_ns=T0 + 1_000_000_000,
        attributes=attributes,
        events=events or [],
        scope=Scope(name=scope),
    )


def mapped(attributes: Attributes, **more: Any) -> GenAISpan:
    span = Mapper().map(raw(attributes, **more))
    assert span is not None
    return span


def said(span: GenAISpan) -> list[tuple[str, str]]:
    return [(m.role, p.content) for m in (*span.input, *span.output) for p in m.parts if isinstance(p, Text)]


def calls(span: GenAISpan) -> list[tuple[str, Any]]:
    return [
        (p.name, plain(p.arguments)) for m in (*span.input, *span.output) for p in m.parts if isinstance(p, ToolCall)
    ]


def slots(attributes: Attributes, **more: Any) -> dict[str, Any]:
    """MLflow's attributes of the span, decoded."""
    span = raw(attributes, **more)
    return {key: json.loads(value) for key, value in Renderer().render(span, Mapper().map(span)).attributes.items()}


def assembled(spans: list[RawSpan]) -> TraceRow:
    """The trace's row, when all is quiet."""
    bench = Bench()
    bench.send(*spans)
    bench.wait(3600)
    return bench.rows[TRACE]


def test_adk_with_openinference_four_dialects_on_one_span() -> None:
    span = mapped(
        {
            "gen_ai.operation.name": "generate_content",
            "gen_ai.system": "gcp.vertex.agent",
            "openinference.span.kind": "LLM",
            "llm.provider": "google",
            "llm.input_messages.0.message.role": "user",
            "llm.input_messages.0.message.content": "Hi",
            "llm.token_count.prompt": 3,
            "llm.token_count.completion": 2,
            "gen_ai.usage.input_tokens": 3,
            "gen_ai.usage.output_tokens": 2,
            "gcp.vertex.agent.llm_request": json.dumps(
                {"contents": [{"role": "user", "parts": [{"text": "Hi"}]}], "config": {"system_instruction": "Brief."}}
            ),
            "gcp.vertex.agent.llm_response": "{}",
        },
        scope="openinference.instrumentation.google_adk",
    )
    assert (span.kind, span.provider, span.framework) == ("llm", "gcp.gemini", "gcp.vertex.agent")
    assert said(span) == [("user", "Hi")]
    assert [p.content for p in span.system if isinstance(p, Text)] == ["Brief."]
    assert span.usage is not None
    assert (span.usage.input, span.usage.output) == (3, 2)


def test_pydantic_ai_format_1_events() -> None:
    events = [
        {"event.name": "gen_ai.user.message", "role": "user", "content": "Weather?"},
        {
            "event.name": "gen_ai.choice",
            "index": 0,
            "message": {
                "role": "assistant",
                "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "w", "arguments": '{"c":1}'}}],
            },
        },
    ]
    span = mapped({"gen_ai.operation.name": "chat", "events": json.dumps(events)}, scope="pydantic-ai")
    assert said(span) == [("user", "Weather?")]
    assert calls(span) == [("w", {"c": 1})]


def test_pydantic_ai_all_messages_of_format_3_on() -> None:
    history = [
        {"role": "user", "parts": [{"type": "text", "content": "Weather?"}]},
        {"role": "assistant", "parts": [{"type": "thinking", "content": "hm"}, {"type": "text", "content": "Snow."}]},
    ]
    span = mapped(
        {"gen_ai.operation.name": "invoke_agent", "pydantic_ai.all_messages": json.dumps(history)}, scope="pydantic-ai"
    )
    assert said(span) == [("user", "Weather?"), ("assistant", "Snow.")]
    assert [m.role for m in span.output] == ["assistant"]


def test_koog_calls_under_role_tool() -> None:
    call = [{"id": "c1", "type": "function", "function": {"name": "w", "arguments": '{"city":"Oslo"}'}}]
    span = mapped(
        {
            "gen_ai.operation.name": "chat",
            "gen_ai.prompt.0.role": "tool",
            "gen_ai.prompt.0.content": json.dumps(call),
            "gen_ai.prompt.1.role": "tool",
            "gen_ai.prompt.1.tool_call_id": "c1",
            "gen_ai.prompt.1.content": "snow",
        },
        scope="ai.koog",
    )
    assert [m.role for m in span.input] == ["assistant", "tool"]
    assert calls(span) == [("w", {"city": "Oslo"})]


@pytest.mark.parametrize(
    ("version", "call"),
    [
        ("3", {"toolCallId": "c1", "toolName": "w", "args": {"city": "Oslo"}}),
        ("4", {"type": "tool-call", "toolCallId": "c1", "toolName": "w", "args": '{"city":"Oslo"}'}),
        ("5", {"toolCallId": "c1", "toolName": "w", "input": {"city": "Oslo"}}),
        ("6", {"toolCallId": "c1", "toolName": "w", "input": '{"city":"Oslo"}'}),
    ],
)
def test_ai_sdk_tool_call_with_an_object_or_json_text(version: str, call: dict[str, Any]) -> None:
    key = "ai.result.toolCalls" if version == "3" else "ai.response.toolCalls"
    span = mapped({"ai.operationId": "ai.generateText.doGenerate", key: json.dumps([call])}, scope="my-app")
    assert span.kind == "llm"
    assert calls(span) == [("w", {"city": "Oslo"})]


def test_ai_sdk_7_agent_and_step_repeat_the_chat_below() -> None:
    counts: Attributes = {"gen_ai.usage.input_tokens": 20, "gen_ai.usage.output_tokens": 6}
    spans = [
        raw({"gen_ai.operation.name": "invoke_agent", **counts}, span_id="1" * 16, scope="gen_ai"),
        raw({"gen_ai.operation.name": "agent_step", **counts}, span_id="2" * 16, parent="1" * 16, scope="gen_ai"),
        raw({"gen_ai.operation.name": "chat", **counts}, span_id="3" * 16, parent="2" * 16, scope="gen_ai"),
    ]
    row = assembled(spans)
    assert row.usage is not None
    assert (row.usage.input_tokens, row.usage.output_tokens) == (20, 6)


def test_opencode_cache_writes_are_part_of_the_input() -> None:
    span = mapped(
        {
            "ai.operationId": "ai.streamText.doStream",
            "ai.usage.inputTokens": 12632,
            "ai.usage.inputTokenDetails.noCacheTokens": 3,
            "ai.usage.inputTokenDetails.cacheReadTokens": 0,
            "ai.usage.inputTokenDetails.cacheWriteTokens": 12629,
            "ai.usage.outputTokens": 5,
            "gen_ai.usage.input_tokens": 12632,
            "gen_ai.usage.output_tokens": 5,
        },
        scope="opencode",
    )
    assert span.usage is not None
    assert (span.usage.input, span.usage.cache_write) == (12632, 12629)


def test_langsmith_whole_json_prompt() -> None:
    prompt = {"messages": [[{"lc": 1, "id": ["langchain", "schema", "HumanMessage"], "kwargs": {"content": "Hi"}}]]}
    span = mapped({"langsmith.span.kind": "llm", "gen_ai.prompt": json.dumps(prompt)}, scope="langsmith")
    assert said(span) == [("user", "Hi")]


def test_indexed_prompt_is_no_whole_prompt() -> None:
    span = mapped({"llm.request.type": "chat", "gen_ai.prompt.0.role": "user", "gen_ai.prompt.0.content": "Hi"})
    assert said(span) == [("user", "Hi")]


def test_prompt_name_is_no_prompt() -> None:
    span = mapped({"gen_ai.operation.name": "chat", "gen_ai.prompt.name": "desk", "gen_ai.prompt.version": "3"})
    assert span.prompt is not None
    assert (span.prompt.name, span.prompt.version) == ("desk", "3")
    assert span.input == []


def test_mlflow_single_and_double_encoding() -> None:
    once = slots({"mlflow.spanType": '"LLM"', "mlflow.spanOutputs": '"Hello"'}, scope="mlflow.tracing.provider")
    twice = slots({"mlflow.spanType": '"\\"LLM\\""', "mlflow.spanOutputs": '"\\"Hello\\""'}, scope="mlflow")
    assert once["mlflow.spanType"] == twice["mlflow.spanType"] == "LLM"
    assert once["mlflow.spanOutputs"] == "Hello"


def test_langfuse_5_quoted_metadata_and_instants() -> None:
    span = mapped(
        {
            "langfuse.observation.type": "generation",
            "langfuse.observation.metadata.user_id": '"marta"',
            "langfuse.observation.completion_start_time": '"2026-11-18T19:06:40.250000Z"',
        },
        scope="langfuse-sdk",
    )
    assert span.user_id == "marta"
    assert span.timing is not None
    assert span.timing.completion_start_ns is not None
    assert span.metadata == {"user_id": "marta"}


def test_strands_milliseconds_and_events() -> None:
    span = mapped(
        {"gen_ai.operation.name": "chat", "gen_ai.system": "strands-agents", "gen_ai.server.time_to_first_token": 784},
        scope="strands.telemetry.tracer",
        events=[
            Event(name="gen_ai.user.message", time_ns=1, attributes={"content": '[{"text": "Hi"}]'}),
            Event(
                name="gen_ai.choice",
                time_ns=2,
                attributes={"message": '[{"text": "Hello"}]', "finish_reason": "end_turn"},
            ),
        ],
    )
    assert span.timing is not None
    assert span.timing.ttft_ns == 784_000_000
    assert said(span) == [("user", "Hi"), ("assistant", "Hello")]
    assert span.framework == "strands-agents"


def test_adot_log_body_that_arrives_after_the_span() -> None:
    span = raw({"gen_ai.operation.name": "chat", "gen_ai.system": "strands-agents"}, scope="strands.telemetry.tracer")
    log = RawLog(
        trace_id=TRACE,
        span_id=span.span_id,
        time_ns=T0,
        attributes={"event.name": "strands.telemetry.tracer"},
        body={
            "input": {"messages": [{"role": "user", "content": {"content": '[{"text": "Hi"}]'}}]},
            "output": {"messages": [{"role": "assistant", "content": {"message": '[{"text": "Hello"}]'}}]},
        },
        scope=Scope(name="strands.telemetry.tracer"),
    )
    joiner = Joiner()
    (first,) = joiner.join([span], [], 0.0).spans
    joiner.note([Item(span, Mapper().map(span))], 0.0)
    joined = joiner.join([], [log], 1.0)
    assert first[0] is span
    ((again, logs),) = joined.spans
    found = Mapper().map(again, logs)
    assert found is not None
    assert said(found) == [("user", "Hi"), ("assistant", "Hello")]


def test_livekit_chain_of_three_deltas() -> None:
    mapper = Mapper()

    def turn(number: int, role: str, words: str, base: int | None) -> GenAISpan:
        items = {"items": [{"type": "message", "role": role, "content": [words]}]}
        attributes: Attributes = {"lk.pii.chat_ctx": json.dumps(items), "gen_ai.request.model": "gpt-4o"}
        if base is not None:
            attributes |= {"lk.input.delta": True, "lk.input.base_span_id": str(base) * 16}
        span = mapper.map(raw(attributes, name="llm_node", scope="livekit-agents", span_id=str(number) * 16))
        assert span is not None
        return span

    turn(1, "user", "one", None)
    turn(2, "assistant", "two", 1)
    assert said(turn(3, "user", "three", 2)) == [("user", "one"), ("assistant", "two"), ("user", "three")]
    alone = turn(4, "user", "four", 9)
    assert alone.content_state == {"input": "partial"}


def test_spring_ai_all_strings() -> None:
    span = mapped(
        {
            "gen_ai.operation.name": "chat",
            "gen_ai.request.temperature": "0.7",
            "gen_ai.usage.input_tokens": "12",
            "gen_ai.usage.output_tokens": "4",
            "gen_ai.response.finish_reasons": '["STOP"]',
        },
        scope="org.springframework.boot",
    )
    assert span.usage is not None
    assert span.params is not None
    assert span.response is not None
    assert (span.usage.input, span.usage.output, span.params.temperature) == (12, 4, 0.7)
    assert span.response.finish_reasons == ["STOP"]


def test_genkit_colon_keys() -> None:
    answer = {
        "message": {"role": "model", "content": [{"text": "Snow."}]},
        "usage": {"inputTokens": 9, "outputTokens": 2},
    }
    span = mapped(
        {
            "genkit:metadata:subtype": "model",
            "genkit:name": "googleai/gemini-2.5-flash",
            "genkit:input": json.dumps({"messages": [{"role": "user", "content": [{"text": "Weather?"}]}]}),
            "genkit:output": json.dumps(answer),
        },
        scope="genkit-tracer",
    )
    assert said(span) == [("user", "Weather?"), ("assistant", "Snow.")]
    assert span.usage is not None
    assert span.model is not None
    assert (span.usage.input, span.usage.output, span.model.request) == (9, 2, "gemini-2.5-flash")


def test_mastra_finish_reasons_as_json_text() -> None:
    span = mapped(
        {
            "mastra.span.type": "model_generation",
            "gen_ai.response.finish_reasons": '["stop"]',
            "gen_ai.usage.input_tokens": "720",
        },
        scope="@mastra/otel-exporter",
    )
    assert span.response is not None
    assert span.usage is not None
    assert (span.response.finish_reasons, span.usage.input) == (["stop"], 720)


def test_vllm_span_without_a_model_is_not_counted_beside_its_client() -> None:
    spans = [
        raw(
            {"gen_ai.operation.name": "chat", "gen_ai.usage.input_tokens": 9, "gen_ai.usage.output_tokens": 3},
            span_id="1" * 16,
        ),
        raw(
            {
                "gen_ai.latency.e2e": 0.4,
                "gen_ai.latency.time_to_first_token": 0.05,
                "gen_ai.usage.prompt_tokens": 9,
                "gen_ai.usage.completion_tokens": 3,
            },
            span_id="2" * 16,
            parent="1" * 16,
            scope="vllm.llm_engine",
        ),
    ]
    assert mapped(spans[1].attributes, parent="1" * 16).kind == "llm"
    row = assembled(spans)
    assert row.usage is not None
    assert (row.usage.input_tokens, row.usage.output_tokens) == (9, 3)


def test_orchestrate_tools_repeats_and_pretty_json_is_read() -> None:
    counts: Attributes = {"gen_ai.usage.input_tokens": 9, "gen_ai.usage.output_tokens": 3}
    given = json.dumps([{"role": "user", "parts": [{"type": "text", "content": "Hi"}]}], indent=2)
    scope = "Experimental.Microsoft.Extensions.AI"
    spans = [
        raw(
            {"gen_ai.operation.name": "orchestrate_tools", **counts},
            name="orchestrate_tools",
            span_id="1" * 16,
            scope=scope,
        ),
        raw(
            {"gen_ai.operation.name": "chat", "gen_ai.input.messages": given, **counts},
            span_id="2" * 16,
            parent="1" * 16,
            scope=scope,
        ),
    ]
    assert said(mapped(spans[1].attributes)) == [("user", "Hi")]
    row = assembled(spans)
    assert row.usage is not None
    assert row.usage.input_tokens == 9


def test_openrouter_triple_copy_and_connection_test() -> None:
    asked = json.dumps({"messages": [{"role": "user", "content": "Hi"}]})
    attributes: Attributes = {
        "gen_ai.operation.name": "chat",
        "gen_ai.prompt": asked,
        "trace.input": asked,
        "span.input": asked,
        "gen_ai.completion": json.dumps({"completion": "Hello", "reasoning": "greet"}),
        "gen_ai.usage.input_tokens": 20,
        "gen_ai.usage.input_tokens.cached": 8,
        "gen_ai.usage.output_tokens": 6,
        "gen_ai.usage.output_tokens.reasoning": 2,
        "gen_ai.usage.total_cost": 0.003,
    }
    span = mapped(attributes, scope="openrouter")
    assert said(span) == [("user", "Hi"), ("assistant", "Hello")]
    assert span.usage is not None
    assert span.cost is not None
    assert (span.usage.cache_read, span.usage.reasoning, span.cost.total) == (8, 2, 0.003)
    test = mapped({"gen_ai.usage.input_tokens": 1}, name="openrouter-connection-test", scope="openrouter")
    assert (test.kind, test.usage) == ("other", None)


def test_anthropic_null_names_and_tool_results_from_the_user() -> None:
    given = [
        {"role": "user", "name": None, "parts": [{"type": "tool_call_response", "id": "t1", "response": "snow"}]},
    ]
    span = mapped({"gen_ai.operation.name": "chat", "gen_ai.input.messages": json.dumps(given)})
    part = span.input[0].parts[0]
    assert (span.input[0].role, span.input[0].name) == ("user", None)
    assert isinstance(part, ToolResult)
    assert plain(part.response) == "snow"


def test_otlp_json_with_base64_ids_and_enum_names() -> None:
    identity = base64.b64encode(bytes(range(1, 17))).decode()
    request = {
        "resourceSpans": [
            {
                "scopeSpans": [
                    {
                        "spans": [
                            {
                                "traceId": identity,
                                "spanId": base64.b64encode(bytes(range(1, 9))).decode(),
                                "name": "chat",
                                "kind": "SPAN_KIND_CLIENT",
                                "startTimeUnixNano": 1,
                                "endTimeUnixNano": "2",
                                "status": {"code": "STATUS_CODE_ERROR"},
                            }
                        ]
                    }
                ]
            }
        ]
    }
    (span,) = decode_traces(to_protobuf("traces", json.dumps(request).encode()).body)
    assert span.trace_id == bytes(range(1, 17)).hex()
    assert (span.kind, span.status_code) == (3, 2)


def test_a_key_that_was_never_interpolated() -> None:
    span = mapped({"openinference.span.kind": "AGENT", "agno{key_suffix}.tools": '["weather"]'})
    assert [tool.name for tool in span.tools] == ["weather"]
