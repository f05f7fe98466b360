"""A museum of values that real senders have sent and naive mappers have stumbled over. Each must cost its own field at
most: the span is mapped, its other fields are right, and what was not understood is still there.
"""

import json
from typing import Any

import pytest

from spanweir.schemas.genai import GenAISpan, Text, ToolCall
from spanweir.schemas.mapping import Mapper
from spanweir.schemas.mlflow import Renderer
from spanweir.schemas.plan import MAX_PLANS
from spanweir.schemas.raw import Attributes, RawSpan
from spanweir.schemas.trace import MappedSpan

MAPPER, RENDERER = Mapper(), Renderer()
CHAT: Attributes = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "m", "gen_ai.usage.output_tokens": 2}


def mapped(attributes: Attributes, scope: str = "") -> tuple[GenAISpan, MappedSpan]:
    raw = RawSpan(trace_id="1" * 32, span_id="2" * 16, attributes={**CHAT, **attributes})
    span = MAPPER.map(raw)
    assert span is not None
    assert span.kind == "llm"
    assert span.model is not None
    assert span.model.request == "m"
    assert not [flag for flag in span.flags if flag.startswith(("failed", "mapping_failed"))]
    shown = RENDERER.render(raw, span)
    json.loads(shown.content)
    return span, shown


def test_messages_that_were_cut_off() -> None:
    """Gemini CLI cuts at 10,000 characters and adds a note, so the JSON does not parse."""
    whole = '{"role":"user","parts":[{"type":"text","content":"first"}]}'
    cut = f'[{whole},{{"role":"user","parts":[{{"type":"text","content":"seco'
    span, shown = mapped({"gen_ai.input.messages": cut + "...[TRUNCATED: original length 20000]"})
    assert [message.parts for message in span.input] == [[Text("first")], [Text("seco")]]
    assert span.content_state == {"input": "truncated"}
    assert "gen_ai.input.messages" in shown.attributes


def test_a_whole_value_is_preferred_to_a_stronger_one_that_was_cut() -> None:
    """OpenInference with its GenAI dual write: the standard attribute may be cut where the indexed ones are whole."""
    span, _ = mapped(
        {
            "gen_ai.input.messages": '[{"role":"user","parts":[{"type":"text","content":"What is the ca',
            "openinference.span.kind": "LLM",
            "llm.input_messages.0.message.role": "user",
            "llm.input_messages.0.message.content": "What is the capital of France?",
        }
    )
    assert span.input[0].parts == [Text("What is the capital of France?")]
    assert span.content_state is None


def test_a_python_repr() -> None:
    """LangSmith writes token details with `str()`."""
    span, _ = mapped({"gen_ai.tool.definitions": "[{'name': 'add', 'parameters': {'type': 'object', 'x': None}}]"})
    assert [tool.name for tool in span.tools] == ["add"]
    assert span.flags == ["literal:gen_ai.tool.definitions"]


@pytest.mark.parametrize("value", ["<REDACTED>", "__REDACTED__", "[Filtered]", "<elided>"])
def test_a_sentinel_is_no_content(value: str) -> None:
    span, shown = mapped({"gen_ai.input.messages": value})
    assert span.input == []
    assert span.content_state is not None
    assert span.content_state["input"] in ("redacted", "elided")
    assert json.loads(shown.attributes["gen_ai.input.messages"]) == value


@pytest.mark.parametrize("value", [-5, float("nan"), float("inf"), "many", [1], {"a": 1}, True and "yes"])
def test_a_count_that_is_none_is_dropped_and_kept_raw(value: Any) -> None:
    span, shown = mapped({"gen_ai.usage.input_tokens": value})
    assert span.usage is not None
    assert (span.usage.input, span.usage.output) == (None, 2)
    assert span.flags == ["unread:gen_ai.usage.input_tokens"]
    assert "gen_ai.usage.input_tokens" in shown.attributes


def test_numbers_as_text() -> None:
    """Spring AI: every attribute is a string."""
    given: Attributes = {"gen_ai.usage.input_tokens": "12", "gen_ai.request.temperature": "0.7"}
    span, _ = mapped({**given, "gen_ai.request.top_k": "5"})
    assert span.usage is not None
    assert span.params is not None
    assert (span.usage.input, span.params.temperature, span.params.top_k) == (12, 0.7, 5.0)


def test_a_key_that_is_scalar_and_prefix_at_once() -> None:
    """OpenRouter: `….input_tokens` and `….input_tokens.cached`; un-flattening into objects loses one of them."""
    span, _ = mapped(
        {
            "gen_ai.usage.input_tokens": 100,
            "gen_ai.usage.input_tokens.cached": 60,
            "gen_ai.usage.cache_creation.input_tokens": 10,
            "gen_ai.usage.cache_creation.input_tokens.ephemeral_5m": 10,
            "gen_ai.prompt.name": "weather",
            "gen_ai.prompt.variable.city": "Oslo",
        }
    )
    assert span.usage is not None
    assert span.prompt is not None
    usage = span.usage
    assert (usage.input, usage.cache_read, usage.cache_write, usage.cache_write_5m) == (100, 60, 10, 10)
    assert (span.prompt.name, span.prompt.variables) == ("weather", {"city": "Oslo"})


def test_indices_with_gaps_out_of_order_and_huge() -> None:
    span, stored = mapped(
        {
            "openinference.span.kind": "LLM",
            "llm.input_messages.1000000.message.content": "last",
            "llm.input_messages.1000000.message.role": "user",
            "llm.input_messages.7.message.role": "assistant",
            "llm.input_messages.7.message.content": "first",
            "llm.input_messages.99999999999999999999999999.message.content": "beyond any index",
            "llm.input_messages.x.message.content": "no index",
        }
    )
    assert [(m.role, m.parts) for m in span.input] == [
        ("assistant", [Text("first")]), ("user", [Text("last")]), ("user", [Text("beyond any index")]),
    ]  # fmt: skip
    assert b"no index" in stored.content


def test_text_that_looks_like_something_else_stays_text() -> None:
    for said in ("123", "null", "true", '{"a": 1}', '"quoted"', "[]", "NaN"):
        messages = json.dumps([{"role": "user", "parts": [{"type": "text", "content": said}]}])
        span, _ = mapped({"gen_ai.input.messages": messages})
        assert span.input[0].parts == [Text(said)]


def test_big_numbers_and_the_order_of_arguments_survive() -> None:
    arguments = json.loads('{"z": 1234567890123456789012, "a": 1.0, "b": 1}')
    part = {"type": "tool_call", "id": "c", "name": "f", "arguments": arguments}
    span, shown = mapped({"gen_ai.output.messages": json.dumps([{"role": "assistant", "parts": [part]}])})
    assert isinstance(span.output[0].parts[0], ToolCall)
    choice = json.loads(shown.attributes["mlflow.spanOutputs"])["choices"][0]
    text = choice["message"]["tool_calls"][0]["function"]["arguments"]
    assert text == '{"z":1234567890123456789012,"a":1.0,"b":1}'


def test_half_a_surrogate_pair_in_escaped_json() -> None:
    """JavaScript cuts strings between the halves of an emoji; JSON allows it, UTF-8 does not."""
    part = '{"type":"text","content":"ok \\ud83d"}'
    span, shown = mapped({"gen_ai.input.messages": f'[{{"role":"user","parts":[{part}]}}]'})
    assert len(span.input) == 1
    assert "mlflow.spanInputs" in shown.attributes


def test_keys_of_any_characters() -> None:
    """Agno once sent a key with an expression that was never evaluated."""
    odd = {"agno{key_suffix}.tools": "[]", "": "empty", "a\0b": 1, "gen_ai.": "x", "ключ": True, "." * 300: None}
    _, shown = mapped(odd)
    assert odd.keys() <= shown.attributes.keys()


def test_an_attribute_of_twenty_megabytes() -> None:
    words = "lorem ipsum " * (20_000_000 // 12)
    messages = json.dumps([{"role": "user", "parts": [{"type": "text", "content": words}]}])
    span, shown = mapped({"gen_ai.input.messages": messages})
    assert span.input[0].parts == [Text(words)]
    assert "gen_ai.input.messages" not in shown.attributes
    _, shown = mapped({"gen_ai.input.messages": messages[:-5]})
    assert words in shown.content.decode()


@pytest.mark.parametrize(
    "given",
    ["[" * 500_000 + "]" * 500_000, "[" * 500_000 + "1," * 250_000, '{"a":' * 200_000, "[" + "[TRUNCATED" * 200_000],
    ids=["nested", "cut", "objects", "marks"],
)
def test_a_megabyte_of_what_begins_and_does_not_end(given: str) -> None:
    """Each cost minutes to hours while the work grew with the square of the length; the test's own time limit would
    tell."""
    _, shown = mapped({"gen_ai.input.messages": given, "traceloop.entity.output": given})
    told = json.dumps(given)[1:-1]
    for slot in ("mlflow.spanInputs", "mlflow.spanOutputs"):
        assert told in shown.attributes[slot]


def test_a_hundred_thousand_attributes_fill_no_cache() -> None:
    mapper = Mapper()
    many: Attributes = {f"custom.{number}.x{number}": number for number in range(100_000)}
    raw = RawSpan(trace_id="1" * 32, span_id="2" * 16, attributes={**CHAT, **many})
    span = mapper.map(raw)
    assert span is not None
    assert span.kind == "llm"
    assert len(RENDERER.render(raw, span).attributes) > 100_000
    assert len(mapper.planner._plans) == len(mapper.planner._shapes) == 0


def test_ever_new_keys_keep_the_caches_bounded() -> None:
    mapper = Mapper()
    for number in range(MAX_PLANS + 500):
        mapper.map(RawSpan(trace_id="1" * 32, span_id="2" * 16, attributes={**CHAT, f"request-{number}x": 1}))
    assert len(mapper.planner._plans) <= MAX_PLANS
    assert len(mapper.planner._shapes) <= MAX_PLANS


def test_half_of_a_surrogate_pair_in_any_text() -> None:
    """OTLP/JSON may hold `\\ud800`, which is no Unicode text: MLflow shows it escaped, beside what is whole."""
    raw = RawSpan(
        trace_id="1" * 32, span_id="2" * 16, name="a \ud800", attributes={"half": "\ud800", "whole": "é"},
        status_code=2, status_message="\ud800", trace_state="a=\ud800",
    )  # fmt: skip
    content = json.loads(RENDERER.render(raw, None).content)
    assert content["name"] == content["status"]["message"].join(["a ", ""]) == "a \ud800"
    assert content["attributes"]["whole"] == '"é"'
    assert json.loads(content["attributes"]["half"]) == "\ud800"
