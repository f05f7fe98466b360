"""Parts of messages, in every shape that providers, SDKs and instrumentations write them.

`part` recognises a shape by its `type` (or `part_kind`, `block_type`) or, where it has none, by the key that names what
it holds. A shape without a function becomes `Other`, whole. What a canonical part cannot hold sets `notes.lossy`, and
the engine then keeps the attribute it came from.

Not here: messages (`messages`), lists of tools and documents (`content`).
"""

from collections.abc import Callable
from typing import Any

from spanweir.schemas import media
from spanweir.schemas.genai import (
    Compaction,
    Other,
    Part,
    Reasoning,
    Refusal,
    ServerToolCall,
    ServerToolResult,
    Text,
    ToolCall,
    ToolResult,
)
from spanweir.schemas.notes import Notes, Shape, arguments, first, id_of, name_of, rest
from spanweir.schemas.values import dumps

# ------------------------------------------------------------------------------------------------ text and reasoning

_TEXT = frozenset({"type", "text", "content", "block_type", "part_kind", "kind"})


def _text(item: Shape, notes: Notes) -> Part:
    rest(item, _TEXT, notes)
    value = first(item, "text", "content")
    if isinstance(value, dict) and isinstance(value.get("value"), str):  # OpenAI Assistants: {"text": {"value"}}
        return Text(value["value"])
    return Text(value if isinstance(value, str) else "" if value is None else dumps(value))


def _transcript(item: Shape, notes: Notes) -> Part:
    """LiveKit's speech: what was understood of it."""
    said = item.get("transcript")
    rest(item, frozenset({"type", "transcript"}), notes)
    return Text(said) if isinstance(said, str) and said else Other("audio_content", dict(item))


_REASONING = frozenset((
    "type", "content", "text", "thinking", "reasoning", "signature", "data", "encrypted_content", "summary",
    "thought", "thoughtSignature", "thought_signature", "part_kind", "block_type", "reasoningText", "redactedContent",
    "reasoning_content", "status", "index",
))  # fmt: skip


def _reasoning(item: Shape, notes: Notes) -> Part:
    rest(item, _REASONING, notes)
    value = first(item, "thinking", "content", "text", "reasoning", "reasoning_content", "reasoningText", "summary")
    signature = first(item, "signature", "thoughtSignature", "thought_signature")
    if isinstance(value, dict):  # Bedrock reasoningText {text, signature}
        signature = signature or value.get("signature")
        value = value.get("text")
    if isinstance(value, list):  # OpenAI Responses summary / content [{type, text}]
        value = "\n".join(t for x in value if (t := x.get("text") if isinstance(x, dict) else str(x)))
    redacted = first(item, "redacted", "data", "encrypted_content", "redactedContent")
    return Reasoning(
        value if isinstance(value, str) else "" if value is None else dumps(value),
        id_of(item, "id"),
        signature if isinstance(signature, str) else None,
        redacted if isinstance(redacted, str) else None,
    )


def _bedrock_reasoning(item: Shape, notes: Notes) -> Part:
    value = item["reasoningContent"]
    return _reasoning(value, notes) if isinstance(value, dict) else Reasoning(str(value))


_REFUSAL = frozenset({"type", "refusal", "content", "text"})
_COMPACTION = frozenset({"type", "id", "content"})


def _refusal(item: Shape, notes: Notes) -> Part:
    rest(item, _REFUSAL, notes)
    return Refusal(name_of(item, "refusal", "content", "text"))


def _compaction(item: Shape, notes: Notes) -> Part:
    rest(item, _COMPACTION, notes)
    content = item.get("content")
    return Compaction(id_of(item, "id"), content if isinstance(content, str) or content is None else dumps(content))


# ------------------------------------------------------------------------------------------------ tools

_CALL = frozenset((
    "type", "id", "name", "arguments", "function", "input", "args", "toolCallId", "toolName", "tool_call_id",
    "call_id", "tool_name", "part_kind", "block_type", "index", "status", "tool_kwargs", "ref", "toolUseId",
))  # fmt: skip


def tool_call(item: Shape, notes: Notes) -> Part:
    """A call in OTel's, OpenAI's, Anthropic's, the AI SDK's, Bedrock's, Gemini's, LangChain's or Genkit's shape."""
    rest(item, _CALL, notes)
    function = item.get("function")
    named: Shape = function if isinstance(function, dict) else item
    call_id = id_of(item, "id", "call_id", "tool_call_id", "toolCallId", "toolUseId", "ref")
    if call_id is None or item.get("call_id"):  # OpenAI Responses: `id` is the item's, `call_id` the call's
        call_id = id_of(item, "call_id") or call_id
    value = first(named, "arguments", "input", "args", "tool_kwargs", "parameters")
    name = name_of(named, "name", "toolName", "tool_name") or (function if isinstance(function, str) else "")
    return ToolCall(name, call_id, arguments(value))


_RESULT = frozenset((
    "type", "id", "name", "response", "result", "output", "content", "tool_use_id", "toolCallId", "toolName",
    "call_id", "tool_call_id", "tool_name", "is_error", "isError", "status", "toolUseId", "part_kind", "ref", "role",
))  # fmt: skip


def tool_result(item: Shape, notes: Notes) -> Part:
    rest(item, _RESULT, notes)
    value = first(item, "response", "result", "output", "content")
    error = first(item, "is_error", "isError")
    if error is None and item.get("status") == "error":
        error = True
    if isinstance(error, str):
        error = error.lower() == "true"
    elif error is not None and not isinstance(error, bool):
        error = None
    return ToolResult(
        tool_output(value),
        id_of(item, "tool_use_id", "toolCallId", "tool_call_id", "call_id", "toolUseId", "id", "ref"),
        id_of(item, "name", "toolName", "tool_name"),
        error or None,
    )


def tool_output(value: Any) -> Any:
    """A result without its wrapping: the AI SDK's `{type, value}`, blocks of nothing but text as text."""
    if isinstance(value, dict):
        if set(value) <= {"type", "value"} and "value" in value:
            return value["value"]
        if set(value) == {"type", "text"}:
            return value["text"]
        if set(value) == {"text"} or set(value) == {"json"}:
            return next(iter(value.values()))
    if isinstance(value, list) and value:
        texts = [_only_text(block) for block in value]
        if all(text is not None for text in texts):
            return texts[0] if len(texts) == 1 else "\n".join(t if isinstance(t, str) else dumps(t) for t in texts)
    return value


def _only_text(block: Any) -> Any:
    if not isinstance(block, dict):
        return None
    kind = block.get("type")
    if kind in (None, "text", "output_text", "input_text") and isinstance(block.get("text"), str):
        return block["text"]
    if kind is None and "json" in block and len(block) == 1:
        return block["json"]
    return None


def _server_call(item: Shape, notes: Notes) -> Part:
    call = item.get("server_tool_call")
    if call is None:
        call = {key: value for key, value in item.items() if key not in ("id", "name")}
    else:
        rest(item, _SERVER_CALL, notes)
    return ServerToolCall(name_of(item, "name") or name_of(item, "type"), id_of(item, "id"), call)


_SERVER_CALL = frozenset({"type", "id", "name", "server_tool_call"})
_SERVER_RESULT = frozenset({"type", "id", "server_tool_call_response"})


def _server_result(item: Shape, notes: Notes) -> Part:
    result = item.get("server_tool_call_response")
    if result is None:
        result = {key: value for key, value in item.items() if key not in ("id", "tool_use_id")}
    else:
        rest(item, _SERVER_RESULT, notes)
    return ServerToolResult(id_of(item, "id", "tool_use_id"), result)


# ------------------------------------------------------------------------------------------------ recognition

Reader = Callable[[Shape, Notes], Part]

BY_TYPE: dict[str, Reader] = {
    "text": _text, "input_text": _text, "output_text": _text, "user-prompt": _text, "system-prompt": _text,
    "instruction": _text, "summary_text": _reasoning, "reasoning_text": _reasoning,
    "reasoning": _reasoning, "thinking": _reasoning, "redacted_thinking": _reasoning, "thought": _reasoning,
    "tool_call": tool_call, "tool_use": tool_call, "tool-call": tool_call, "toolCall": tool_call,
    "toolUse": tool_call,
    "function_call": tool_call, "function": tool_call, "functionCall": tool_call, "tool_calls": tool_call,
    "tool_call_response": tool_result, "tool_result": tool_result, "tool-result": tool_result,
    "toolResult": tool_result, "function_call_output": tool_result, "tool-return": tool_result,
    "function_result": tool_result, "tool_response": tool_result, "tool-error": tool_result,
    "server_tool_call": _server_call, "server_tool_use": _server_call, "mcp_tool_use": _server_call,
    "server_tool_call_response": _server_result, "web_search_tool_result": _server_result,
    "mcp_tool_result": _server_result, "code_execution_tool_result": _server_result,
    "web_fetch_tool_result": _server_result, "bash_code_execution_tool_result": _server_result,
    "text_editor_code_execution_tool_result": _server_result,
    "image": media.image, "image_url": media.image, "input_image": media.image, "image-url": media.image,
    "image_content": media.image, "audio_content": _transcript,
    "audio": media.audio, "input_audio": media.audio, "audio-url": media.audio, "audio_url": media.audio,
    "video": media.video, "video_url": media.video, "video-url": media.video,
    "document": media.document, "document-url": media.document, "input_file": media.file, "file": media.file,
    "blob": media.blob, "uri": media.blob, "binary": media.blob, "media": media.blob,
    "refusal": _refusal, "compaction": _compaction,
}  # fmt: skip


def _nested(key: str, reader: Reader) -> Reader:
    def read(item: Shape, notes: Notes) -> Part:
        inner = item[key]
        if not isinstance(inner, dict):
            return Other(key, dict(item))
        if len(item) > 1:
            rest(item, frozenset({key, "type"}), notes)
        return reader(inner, notes)

    return read


def _gemini_text(item: Shape, notes: Notes) -> Part:
    return _reasoning(item, notes) if item.get("thought") is True else _text(item, notes)


def _haystack_result(item: Shape, notes: Notes) -> Part:
    inner = item["tool_call_result"]
    origin = inner.get("origin") or {}
    return ToolResult(
        tool_output(inner.get("result")), id_of(origin, "id"), id_of(origin, "tool_name"), inner.get("error") or None
    )


BY_KEY: dict[str, Reader] = {
    "functionCall": _nested("functionCall", tool_call), "function_call": _nested("function_call", tool_call),
    "functionResponse": _nested("functionResponse", tool_result),
    "function_response": _nested("function_response", tool_result),
    "inlineData": _nested("inlineData", media.blob), "inline_data": _nested("inline_data", media.blob),
    "fileData": _nested("fileData", media.blob), "file_data": _nested("file_data", media.blob),
    "toolUse": _nested("toolUse", tool_call), "toolResult": _nested("toolResult", tool_result),
    "reasoningContent": _bedrock_reasoning, "toolRequest": _nested("toolRequest", tool_call),
    "toolResponse": _nested("toolResponse", tool_result), "media": _nested("media", media.blob),
    "tool_call": _nested("tool_call", tool_call), "tool_call_result": _nested("tool_call_result", _haystack_result),
    "image": _nested("image", media.image), "video": _nested("video", media.video),
    "audio": _nested("audio", media.audio),
    "document": _nested("document", media.document), "text": _gemini_text, "reasoning": _reasoning,
    "image_url": media.image, "thought": _reasoning, "thinking": _reasoning,
}  # fmt: skip
BY_KEY["tool_call_result"] = _haystack_result


def part(item: Any, notes: Notes) -> Part | None:
    """One part in any shape; None for nothing."""
    if item.__class__ is str:
        return Text(item)
    if not isinstance(item, dict):
        return None if item is None else Other("value", item)
    kind = item.get("type") or item.get("part_kind") or item.get("block_type")
    if kind == "text" and len(item) == 2 and isinstance(said := first(item, "text", "content"), str):
        return Text(said)
    if isinstance(kind, str):
        reader = BY_TYPE.get(kind)
        if reader is not None:
            return _thought(reader, item, notes)
        if kind in _MARKS:
            notes.lossy = True
            return None
        return Other(kind, dict(item))
    for key in item:
        reader = BY_KEY.get(key)
        if reader is not None and item[key] is not None:
            return reader(item, notes)
    kind = item.get("kind")  # pydantic-ai's own dump of pictures and documents
    if isinstance(kind, str) and (reader := BY_TYPE.get(kind)) is not None:
        return reader(item, notes)
    if item.keys() == {"cachePoint"} or kind in _MARKS:
        notes.lossy = True
        return None
    return Other("", dict(item)) if item else None


# Where a prompt's cached part ends (LiveKit, Bedrock, pydantic-ai): nothing that a reader was told.
_MARKS = frozenset({"cache_breakpoint", "cache_point", "cachePoint", "cache-point"})


def _thought(reader: Reader, item: Shape, notes: Notes) -> Part:
    # pydantic-ai native dumps have `args` as JSON text; Gemini marks thoughts on text parts.
    return _reasoning(item, notes) if reader is _text and item.get("thought") is True else reader(item, notes)


def parts(value: Any, notes: Notes) -> list[Part]:
    """The parts of a `content` or `parts` value: text, one part, or a list of either."""
    if value.__class__ is str:
        return [Text(value)] if value else []
    if isinstance(value, dict):
        value = [value]
    if not isinstance(value, list):
        return [] if value is None else [Text(dumps(value))]
    found: list[Part] = []
    for item in value:
        if item.__class__ is dict and len(item) == 2 and item.get("type") == "text":
            said = item.get("content")
            if said.__class__ is str:
                found.append(Text(said))
                continue
            if isinstance(said, list):  # blocks in place of text (Strands 1.12, with the newest attributes opted in)
                found += parts(said, notes)
                continue
        if (read := part(item, notes)) is not None:
            found.append(read)
    return found
