"""Whatever an application has for messages becomes the conventions' form."""

from typing import Any

import pytest

from spanweir.instrumentation.messages import to_documents, to_messages, to_system, to_tools


def text(role: str, content: str) -> dict[str, Any]:
    return {"role": role, "parts": [{"type": "text", "content": content}]}


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("hi", [text("user", "hi")]),
        (
            [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}],
            [text("system", "s"), text("user", "u")],
        ),
        ({"messages": [{"role": "user", "content": "u"}]}, [text("user", "u")]),
        (
            {"question": "q", "k": 3},
            [{"role": "user", "parts": [{"type": "json", "content": {"question": "q", "k": 3}}]}],
        ),
        ([1, 2], [{"role": "user", "parts": [{"type": "json", "content": [1, 2]}]}]),
        (["a", "b"], [text("user", "a"), text("user", "b")]),
        ([text("user", "kept")], [text("user", "kept")]),
        (None, []),
        (
            [{"role": "tool", "tool_call_id": "c1", "content": "21"}],
            [{"role": "tool", "parts": [{"type": "tool_call_response", "id": "c1", "response": "21"}]}],
        ),
        (
            [{"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t1", "content": "ok"}]}],
            [{"role": "user", "parts": [{"type": "tool_call_response", "id": "t1", "response": "ok"}]}],
        ),
        (
            [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://example.org/a.png"}}]}],
            [{"role": "user", "parts": [{"type": "uri", "modality": "image", "uri": "https://example.org/a.png"}]}],
        ),
    ],
)
def test_input(value: Any, expected: list[dict[str, Any]]) -> None:
    assert to_messages(value, "user") == expected


def test_langchain_messages() -> None:
    call = {"name": "add", "args": {"a": 1}, "id": "c1", "type": "tool_call"}
    messages = [
        {"type": "human", "content": "hi", "additional_kwargs": {}},
        {"type": "ai", "content": "", "tool_calls": [call]},
        {"type": "tool", "content": "2", "tool_call_id": "c1"},
    ]
    assert to_messages(messages, "user") == [
        text("user", "hi"),
        {"role": "assistant", "parts": [{"type": "tool_call", "id": "c1", "name": "add", "arguments": {"a": 1}}]},
        {"role": "tool", "parts": [{"type": "tool_call_response", "id": "c1", "response": "2"}]},
    ]


def test_llama_index_messages() -> None:
    message = {"role": "user", "blocks": [{"block_type": "text", "text": "hi"}], "additional_kwargs": {}}
    assert to_messages([message], "user") == [text("user", "hi")]


def test_gemini_contents_and_responses() -> None:
    contents = [
        {"role": "user", "parts": [{"text": "hi"}]},
        {"role": "model", "parts": [{"function_call": {"id": "1", "name": "add", "args": {"a": 1}}}]},
        {"role": "user", "parts": [{"function_response": {"id": "1", "name": "add", "response": {"sum": 2}}}]},
    ]
    assert [message["parts"][0] for message in to_messages(contents, "user")] == [
        {"type": "text", "content": "hi"},
        {"type": "tool_call", "id": "1", "name": "add", "arguments": {"a": 1}},
        {"type": "tool_call_response", "id": "1", "response": {"sum": 2}},
    ]
    response = {"candidates": [{"content": contents[0], "finish_reason": "STOP"}], "usage_metadata": {}}
    assert to_messages(response, "assistant") == [{**text("assistant", "hi"), "finish_reason": "STOP"}]


def test_an_openai_response() -> None:
    output = [
        {"type": "reasoning", "summary": [{"type": "summary_text", "text": "hm"}]},
        {"type": "function_call", "id": "fc", "call_id": "c1", "name": "add", "arguments": '{"a":1}'},
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "yes"}]},
    ]
    assert to_messages({"object": "response", "output": output}, "assistant")[0]["parts"] == [
        {"type": "reasoning", "content": "hm"},
        {"type": "tool_call", "id": "c1", "name": "add", "arguments": {"a": 1}},
        {"type": "text", "content": "yes"},
    ]


def test_a_completion_with_tool_calls() -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}}
    message = {"role": "assistant", "content": None, "tool_calls": [call]}
    response = {"choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}]}
    assert to_messages(response, "assistant") == [
        {
            "role": "assistant",
            "parts": [{"type": "tool_call", "id": "c1", "name": "add", "arguments": {"a": 1}}],
            "finish_reason": "tool_calls",
        }
    ]


def test_an_anthropic_answer_with_thinking() -> None:
    content = [
        {"type": "thinking", "thinking": "hm", "signature": "x"},
        {"type": "text", "text": "yes"},
        {"type": "tool_use", "id": "t1", "name": "add", "input": {"a": 1}},
    ]
    assert to_messages({"role": "assistant", "content": content}, "assistant")[0]["parts"] == [
        {"type": "reasoning", "content": "hm"},
        {"type": "text", "content": "yes"},
        {"type": "tool_call", "id": "t1", "name": "add", "arguments": {"a": 1}},
    ]


def test_the_chunks_of_a_stream_add_up() -> None:
    def chunk(**delta: Any) -> dict[str, Any]:
        return {"choices": [{"index": 0, "delta": delta}]}

    call = {"index": 0, "id": "c1", "function": {"name": "add", "arguments": ""}}
    chunks = [
        chunk(role="assistant", content=""),
        chunk(content="Hel"),
        chunk(content="lo"),
        chunk(tool_calls=[call]),
        chunk(tool_calls=[{"index": 0, "function": {"arguments": '{"a":'}}]),
        chunk(tool_calls=[{"index": 0, "function": {"arguments": " 1}"}}]),
        {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
        {"choices": [], "usage": {"prompt_tokens": 1}},
    ]
    assert to_messages(chunks, "assistant") == [
        {
            "role": "assistant",
            "parts": [
                {"type": "text", "content": "Hello"},
                {"type": "tool_call", "id": "c1", "name": "add", "arguments": {"a": 1}},
            ],
            "finish_reason": "stop",
        }
    ]


def test_binary_parts_are_references() -> None:
    part = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}
    recorded = to_messages([{"role": "user", "content": [part]}], "user")[0]["parts"][0]
    assert recorded.pop("sha256")
    assert recorded == {"type": "blob", "modality": "image", "mime_type": "image/png", "size": 8}
    source = {"type": "base64", "media_type": "application/pdf", "data": "JVBERi0="}
    recorded = to_messages([{"role": "user", "content": [{"type": "document", "source": source}]}], "user")[0]["parts"][
        0
    ]
    assert (recorded["modality"], recorded["mime_type"], recorded["size"]) == ("document", "application/pdf", 5)
    assert "content" not in recorded


def test_system_and_tools() -> None:
    assert to_system("be brief") == [{"type": "text", "content": "be brief"}]
    openai = {"type": "function", "function": {"name": "add", "description": "d", "parameters": {"type": "object"}}}
    anthropic = {"name": "add", "description": "d", "input_schema": {"type": "object"}}
    expected = {"type": "function", "name": "add", "description": "d", "parameters": {"type": "object"}}
    assert to_tools([openai, anthropic]) == [expected, expected]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (["a"], [{"id": "0", "content": "a"}]),
        ([{"page_content": "a", "metadata": {"uri": "x"}}], [{"content": "a", "metadata": {"uri": "x"}}]),
        ([[{"id": "1", "page_content": "a"}, 0.5]], [{"id": "1", "content": "a", "score": 0.5}]),
        ([{"node": {"id_": "n", "text": "a"}, "score": 0.4}], [{"id": "n", "content": "a", "score": 0.4}]),
    ],
)
def test_documents(value: Any, expected: list[dict[str, Any]]) -> None:
    assert to_documents(value) == expected
