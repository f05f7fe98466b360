"""Every shape of message is recognised by its shape alone."""

from typing import Any

import pytest

from spanweir.schemas.genai import (
    Blob,
    File,
    Message,
    Other,
    Reasoning,
    Refusal,
    Text,
    ToolCall,
    ToolResult,
    Uri,
)
from spanweir.schemas.messages import messages, otel, otel_parts
from spanweir.schemas.notes import Notes

HI = [Message("user", [Text("Hi")])]
CALL = ToolCall("add", "c1", {"a": 1})

SAME: dict[str, Any] = {
    "text": "Hi",
    "OTel": [{"role": "user", "parts": [{"type": "text", "content": "Hi"}]}],
    "OpenAI": [{"role": "user", "content": "Hi"}],
    "OpenAI parts": [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}],
    "OpenAI Responses": [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Hi"}]}],
    "Bedrock": [{"role": "user", "content": [{"text": "Hi"}]}],
    "Gemini": [{"role": "user", "parts": [{"text": "Hi"}]}],
    "Gemini content": {"role": "user", "parts": [{"text": "Hi"}]},
    "LangChain dict": [{"type": "human", "content": "Hi", "additional_kwargs": {}}],
    "LangChain data": [{"type": "human", "data": {"content": "Hi"}}],
    "LangChain dump": [
        [{"lc": 1, "type": "constructor", "id": ["langchain", "HumanMessage"], "kwargs": {"content": "Hi"}}]
    ],
    "LangChain pair": [["user", "Hi"]],
    "pydantic-ai dump": [{"kind": "request", "parts": [{"part_kind": "user-prompt", "content": "Hi"}]}],
    "LlamaIndex": [{"role": "user", "blocks": [{"block_type": "text", "text": "Hi"}]}],
    "Haystack": [{"role": "user", "content": [{"text": "Hi"}]}],
}


@pytest.mark.parametrize("shape", SAME)
def test_one_message_in_many_shapes(shape: str) -> None:
    notes = Notes()
    assert messages(SAME[shape], notes) == HI
    assert not notes.lossy


CALLS: dict[str, Any] = {
    "OTel": {"role": "assistant", "parts": [{"type": "tool_call", "id": "c1", "name": "add", "arguments": {"a": 1}}]},
    "OpenAI": {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}}],
    },
    "OpenAI Responses": {"type": "function_call", "call_id": "c1", "name": "add", "arguments": '{"a": 1}'},
    "Anthropic": {"role": "assistant", "content": [{"type": "tool_use", "id": "c1", "name": "add", "input": {"a": 1}}]},
    "Bedrock": {"role": "assistant", "content": [{"toolUse": {"toolUseId": "c1", "name": "add", "input": {"a": 1}}}]},
    "Gemini": {"role": "model", "parts": [{"functionCall": {"id": "c1", "name": "add", "args": {"a": 1}}}]},
    "AI SDK 4": {
        "role": "assistant",
        "content": [{"type": "tool-call", "toolCallId": "c1", "toolName": "add", "args": {"a": 1}}],
    },
    "AI SDK 6": {
        "role": "assistant",
        "content": [{"type": "tool-call", "toolCallId": "c1", "toolName": "add", "input": '{"a": 1}'}],
    },
    "LangChain": {"type": "ai", "content": "", "tool_calls": [{"id": "c1", "name": "add", "args": {"a": 1}}]},
    "pydantic-ai": {
        "kind": "response",
        "parts": [{"part_kind": "tool-call", "tool_call_id": "c1", "tool_name": "add", "args": '{"a": 1}'}],
    },
    "Genkit": {"role": "model", "content": [{"toolRequest": {"ref": "c1", "name": "add", "input": {"a": 1}}}]},
    "Koog": {
        "role": "tool",
        "content": '[{"function": {"name": "add", "arguments": "{\\"a\\": 1}"}, "id": "c1", "type": "function"}]',
    },
    "both forms": {
        "role": "assistant",
        "content": [{"type": "tool_use", "id": "c1", "name": "add", "input": {"a": 1}}],
        "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}}],
    },
}


@pytest.mark.parametrize("shape", CALLS)
def test_one_call_in_many_shapes(shape: str) -> None:
    assert messages([CALLS[shape]], Notes()) == [Message("assistant", [CALL])]


RESULTS: dict[str, Any] = {
    "OTel": {"role": "tool", "parts": [{"type": "tool_call_response", "id": "c1", "response": "2"}]},
    "OTel before 1.38": {"role": "tool", "parts": [{"type": "tool_call_response", "id": "c1", "result": "2"}]},
    "OpenAI": {"role": "tool", "tool_call_id": "c1", "content": "2"},
    "OpenAI parts": {"role": "tool", "tool_call_id": "c1", "content": [{"type": "text", "text": "2"}]},
    "OpenAI Responses": {"type": "function_call_output", "call_id": "c1", "output": "2"},
    "LangChain": {"type": "tool", "tool_call_id": "c1", "content": "2"},
}


@pytest.mark.parametrize("shape", RESULTS)
def test_one_result_in_many_shapes(shape: str) -> None:
    assert messages([RESULTS[shape]], Notes()) == [Message("tool", [ToolResult("2", "c1")])]


def test_a_result_in_a_user_message_keeps_its_role() -> None:
    item = {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c1", "content": "2", "is_error": True}]}
    assert messages([item], Notes()) == [Message("user", [ToolResult("2", "c1", None, True)])]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}, Blob("AA==", "image/png", "image")),
        (
            {"type": "image_url", "image_url": {"url": "https://x.test/a.png"}},
            Uri("https://x.test/a.png", None, "image"),
        ),
        ({"type": "input_image", "image_url": "https://x.test/a.png"}, Uri("https://x.test/a.png", None, "image")),
        (
            {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AA=="}},
            Blob("AA==", "image/png", "image"),
        ),
        ({"image": {"format": "png", "source": {"bytes": "AA=="}}}, Blob("AA==", "image/png", "image")),
        ({"inlineData": {"mimeType": "image/png", "data": "AA=="}}, Blob("AA==", "image/png", "image")),
        ({"type": "input_audio", "input_audio": {"data": "AA==", "format": "wav"}}, Blob("AA==", "audio/wav", "audio")),
        ({"type": "input_file", "file_id": "f1"}, File("f1", None, None)),
        ({"type": "thinking", "thinking": "Hm.", "signature": "s"}, Reasoning("Hm.", None, "s")),
        ({"type": "redacted_thinking", "data": "xx"}, Reasoning("", None, None, "xx")),
        ({"reasoningContent": {"reasoningText": {"text": "Hm.", "signature": "s"}}}, Reasoning("Hm.", None, "s")),
        ({"text": "Hm.", "thought": True}, Reasoning("Hm.")),
        ({"type": "refusal", "refusal": "No."}, Refusal("No.")),
        ({"type": "citation", "cites": 1}, Other("citation", {"type": "citation", "cites": 1})),
    ],
)
def test_parts(given: dict[str, Any], expected: Any) -> None:
    found = messages([{"role": "user", "content": [given]}], Notes())
    assert found == [Message("user", [expected])]


def test_an_unknown_member_is_noted() -> None:
    notes = Notes()
    assert (
        messages([{"role": "user", "content": [{"type": "text", "text": "Hi", "cache_control": {"x": 1}}]}], notes)
        == HI
    )
    assert notes.lossy


def test_text_is_never_taken_for_json() -> None:
    for said in ("123", "null", "true", '{"a": 1}', "[1]"):
        assert messages(said, Notes()) == [Message("user", [Text(said)])]


@pytest.mark.parametrize(
    "given",
    [
        '[{"role":"user","parts":[{"type":"text","content":"Hi"}],"name":null}]',
        [{"role": "user", "parts": [{"type": "text", "content": "Hi"}], "name": None}],
        ['{"role":"user","parts":[{"type":"text","content":"Hi"}]}'],
        '[{"role":"user","content":"Hi"}]',
        '{"role":"user","parts":[{"text":"Hi"}]}',
        "Hi",
    ],
)
def test_otel_messages_as_text_structured_or_in_another_shape(given: Any) -> None:
    assert otel(given, Notes()) == HI


def test_otel_messages_that_were_cut() -> None:
    notes = Notes()
    found = otel(
        '[{"role":"user","parts":[{"type":"text","content":"Hi"}]},{"role":"assistant","parts":[{"type":"te', notes
    )
    assert found is not None
    assert found[0] == HI[0]
    assert notes.truncated
    assert notes.lossy


def test_system_instructions_as_parts_text_or_messages() -> None:
    for given in (
        '[{"type":"text","content":"Be kind."}]',
        "Be kind.",
        '"Be kind."',
        '[{"role":"system","content":"Be kind."}]',
    ):
        assert otel_parts(given, Notes()) == [Text("Be kind.")]
