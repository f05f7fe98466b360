"""Chat messages, in every shape that providers, SDKs and instrumentations write them.

`messages` takes a value of any shape, `otel` one that should have OpenTelemetry's (which is decoded straight into
`Message`). One function reads one shape of message; `SHAPES` recognises them. What a message cannot hold sets
`notes.lossy`.

Not here: parts of messages (`parts`), whole requests and responses of a provider's API (`content`).
"""

from collections.abc import Callable
from typing import Any

import msgspec

from spanweir.schemas.genai import Message, Other, Part, Reasoning, Refusal, Text, ToolCall, ToolResult
from spanweir.schemas.notes import Notes, Shape, arguments, id_of, name_of, rest
from spanweir.schemas.parts import part, parts, tool_call, tool_output
from spanweir.schemas.printed import printed
from spanweir.schemas.values import UNREADABLE, Broken, loads
from spanweir.schemas.vocabulary import STANDARD_ROLES, role

_OTEL = msgspec.json.Decoder(list[Message])
_OTEL_PARTS = msgspec.json.Decoder(list[Part])


def otel(value: Any, notes: Notes) -> list[Message] | None:
    """`gen_ai.input.messages` and the like: JSON text or a structured value, in OTel's shape or nearly so."""
    if value.__class__ is str:
        try:
            found = _OTEL.decode(value)
        except UNREADABLE:
            return messages(parse(value, notes), notes)
        for message in found:
            if message.role not in STANDARD_ROLES:
                message.role = role(message.role)
        return found
    if isinstance(value, list) and value and all(item.__class__ is str and item[:1] == "{" for item in value):
        value = [parse(item, notes) for item in value]  # one JSON text for each message
    return messages(value, notes)


def otel_parts(value: Any, notes: Notes) -> list[Part] | None:
    """`gen_ai.system_instructions`: a list of parts, or text."""
    if value.__class__ is str:
        try:
            return _OTEL_PARTS.decode(value) or None
        except UNREADABLE:
            value = parse(value, notes)
    if isinstance(value, dict) and "role" in value and "content" in value:  # a message (AI SDK 5 and later)
        value = [value]
    if isinstance(value, list) and value and all(isinstance(i, dict) and ("role" in i) for i in value):
        # Whole messages where parts belong (some frameworks).
        return [found for message in messages(value, notes) or [] for found in message.parts] or None
    if isinstance(value, dict) and "parts" in value:  # a Gemini Content
        value = value["parts"]
    return parts(value, notes) or None


def parse(value: Any, notes: Notes) -> Any:
    """JSON text as plain Python; text that is no JSON stays text. What is broken is flagged."""
    if value.__class__ is not str:
        return value
    if value == notes.text:
        return notes.decoded
    try:
        found = loads(value)
    except ValueError:
        return value
    if found.__class__ is Broken:
        notes.flags.append(found.how)
        if found.how == "truncated":
            notes.lossy = notes.truncated = True
        return found.value
    notes.text, notes.decoded = value, found
    return found


def messages(value: Any, notes: Notes, speaker: str = "user") -> list[Message] | None:
    """Messages of any shape: a list of them, one, or text that `speaker` said. None where there are none.

    Text is not parsed: use `parse` first where a key is known to hold JSON.
    """
    if value.__class__ is str:
        return [Message(speaker, [Text(value)])] if value else None
    if isinstance(value, dict):
        return message(value, notes, speaker)
    if not isinstance(value, list):
        return None
    if len(value) == 2 and isinstance(value[0], str) and isinstance(value[1], str) and value[0] in _PAIR_ROLES:
        return [Message(role(value[0]), [Text(value[1])])]  # LangChain's ("user", "text")
    found: list[Message] = []
    for item in value:
        if isinstance(item, dict):
            if len(item) == 2 and (said := item.get("content")).__class__ is str and said:
                who = item.get("role")
                if who.__class__ is str and who in _SPEAKING:
                    found.append(Message(who, [Text(said)]))
                    continue
            read = message(item, notes, speaker)
        elif isinstance(item, list):
            read = messages(item, notes, speaker)
        else:
            read = _said(item, notes, speaker) if item.__class__ is str and item else None
        if read is None:
            notes.lossy = notes.lossy or item not in (None, "", [], {})
        else:
            found += read
    return merge(found) or None


def _said(item: str, notes: Notes, speaker: str) -> list[Message]:
    """A message that is only text: what `speaker` said, or a message object that was printed."""
    found = printed(item) if item[-1] in ")'\"]}" else None
    read = message(found, notes, speaker) if isinstance(found, dict) and len(found) > 1 else None
    if read is None:
        return [Message(speaker, [Text(item)])]
    notes.lossy = True
    return read


_PAIR_ROLES = frozenset({"user", "human", "ai", "assistant", "system", "tool", "developer", "placeholder"})


def merge(found: list[Message]) -> list[Message]:
    """OpenAI Responses items and the like: calls and reasoning of one turn that stand alone join one message."""
    if _LOOSE not in [item.id for item in found]:
        return found
    merged: list[Message] = []
    for item in found:
        last = merged[-1] if merged else None
        if last is not None and last.id == _LOOSE and item.id == _LOOSE and last.role == item.role:
            last.parts += item.parts
        else:
            merged.append(item)
    for item in merged:
        if item.id == _LOOSE:
            item.id = None
    return merged


_LOOSE = "\0loose"
"""Marks a message made of a part that stood alone in a list of messages."""


# ------------------------------------------------------------------------------------------------ shapes

_CHAT = frozenset(
    {"role", "content", "parts", "name", "tool_calls", "tool_call_id", "function_call", "refusal", "finish_reason"}
    | {"reasoning_content", "reasoning", "id", "index", "type", "status", "object", "toolCalls"}
    | {"stop_reason", "finishReason", "blocks", "text"}
)
_NONE: Shape = {}


_PLAIN = frozenset({"role", "content", "parts", "name", "finish_reason"})
_SPEAKING = frozenset({"system", "developer", "user", "assistant"})
"""Roles of whoever says nothing but a text, most of the time."""


def _is_plain(item: Shape) -> bool:
    """Whether there is nothing to be read but what `_PLAIN` names; providers' SDKs dump members that are not set."""
    if item.keys() <= _PLAIN:
        return True
    return not [key for key, value in item.items() if value is not None and key not in _PLAIN and value != []]


def chat(item: Shape, notes: Notes) -> list[Message] | None:
    """`{role, content | parts | blocks, tool_calls…}`: OTel, OpenAI, Anthropic, Bedrock, Gemini, AI SDK, LlamaIndex…"""
    speaker = role(str(item["role"]))
    content = item.get("content")
    if speaker != "tool" and _is_plain(item):
        found = parts(item.get("parts") if content is None else content, notes)
        if len(item) == 2:
            return [Message(speaker, found)]
        return [Message(speaker, found, id_of(item, "name"), id_of(item, "finish_reason"))]
    rest(item, _CHAT, notes)
    if content is None:
        content = item.get("parts")
        if content is None:
            content = item.get("blocks", item.get("text"))  # blocks: LlamaIndex; text: Dify
    elif item.get("text"):
        notes.lossy = True
    result_of = item.get("tool_call_id") or item.get("toolCallId")
    if speaker == "tool" and (result_of is not None or not _has_results(content)):
        calls = _koog_calls(content)
        if calls is not None:
            return [Message("assistant", [tool_call(call, notes) for call in calls])]
        result = ToolResult(tool_output(content), id_of(item, "tool_call_id", "toolCallId", "id"), id_of(item, "name"))
        return [Message(speaker, [result])]
    found = parts(content, notes)
    more = item.get("additional_kwargs")  # LangChain's place for what its message has no field for
    more = more if isinstance(more, dict) else _NONE
    thought = (
        item.get("reasoning_content") or item.get("reasoning") or item.get("thinking") or more.get("reasoning_content")
    )
    if isinstance(thought, str) and not any(isinstance(p, Reasoning) for p in found):
        found.insert(0, Reasoning(thought))
    if isinstance(item.get("refusal"), str) and item["refusal"]:
        found.append(Refusal(item["refusal"]))
    _append_calls(found, item, notes)
    if more and not item.get("tool_calls"):  # the Langfuse SDK 3.0 to 3.2 writes LangChain's calls nowhere else
        _append_calls(found, more, notes)
    return [
        Message(
            speaker,
            found,
            id_of(item, "name"),
            id_of(item, "finish_reason", "stop_reason", "finishReason") or _meta_reason(item.get("meta")),
            id_of(item, "id"),
            item["index"] if isinstance(item.get("index"), int) else None,
        )
    ]


def _meta_reason(meta: Any) -> str | None:
    """Why a message of Haystack ended."""
    return id_of(meta, "finish_reason") if isinstance(meta, dict) else None


_RESULT_KEYS = frozenset({"toolResult", "toolResponse", "tool_call_result", "functionResponse", "function_response"})


def _has_results(content: Any) -> bool:
    """Whether a tool message's content is made of tool parts rather than being the result itself."""
    return isinstance(content, list) and any(
        isinstance(item, dict)
        and (str(item.get("type", "")).startswith(("tool", "function")) or not _RESULT_KEYS.isdisjoint(item))
        for item in content
    )


def _koog_calls(content: Any) -> list[Shape] | None:
    """Koog writes an assistant's calls as role `tool` with a list of OpenAI tool calls for content."""
    if isinstance(content, str) and content[:2] == "[{" and '"function"' in content:
        try:
            content = loads(content)
        except ValueError:
            return None
    if isinstance(content, list) and content and all(isinstance(c, dict) and "function" in c for c in content):
        return content
    return None


def _append_calls(found: list[Part], item: Shape, notes: Notes) -> None:
    """Add `tool_calls` (OpenAI), unless the parts already have them: some senders write both (semconv guide 7.3.vi)."""
    calls = item.get("tool_calls") or item.get("toolCalls")
    if isinstance(calls, list):
        ids = {p.id for p in found if isinstance(p, ToolCall) and p.id}
        same = [(p.name, p.arguments) for p in found if isinstance(p, ToolCall)]
        for call in calls:
            if isinstance(call, dict):
                read = tool_call(call, notes)
                if (
                    isinstance(read, ToolCall)
                    and read.id not in ids
                    and (read.id or (read.name, read.arguments) not in same)
                ):
                    found.append(read)
    call = item.get("function_call")
    if isinstance(call, dict) and call.get("name"):
        found.append(ToolCall(name_of(call, "name"), None, arguments(call.get("arguments"))))


_LANGCHAIN_TYPES = frozenset((
    "human", "ai", "system", "tool", "function", "chat", "AIMessageChunk", "HumanMessage", "AIMessage",
    "SystemMessage", "ToolMessage", "HumanMessageChunk", "SystemMessageChunk", "ToolMessageChunk", "FunctionMessage",
    "ChatMessage",
))  # fmt: skip
_LANGCHAIN = frozenset({"type", "content", "name", "id", "tool_calls", "tool_call_id", "status", "role", "lc"})


def langchain(item: Shape, notes: Notes) -> list[Message] | None:
    """A LangChain message: `{type: "human", content…}`, `{type, data}`, or a constructor dump `{lc, id, kwargs}`."""
    data, speaker = item, str(item.get("type", ""))
    if "kwargs" in item and isinstance(item.get("kwargs"), dict):
        data = item["kwargs"]
        names = item.get("id")
        speaker = names[-1] if isinstance(names, list) and names else str(data.get("type", ""))
    elif isinstance(item.get("data"), dict):
        data = item["data"]
    rest(data, _LANGCHAIN, notes)
    more = data.get("additional_kwargs")
    more = more if isinstance(more, dict) else {}
    speaker = role(str(data.get("role") or speaker))
    if speaker == "tool":
        error = True if data.get("status") == "error" else None
        result = ToolResult(tool_output(data.get("content")), id_of(data, "tool_call_id"), id_of(data, "name"), error)
        return [Message(speaker, [result])]
    found = parts(data.get("content"), notes)
    thought = more.get("reasoning_content")
    if isinstance(thought, str) and thought and not any(isinstance(p, Reasoning) for p in found):
        found.insert(0, Reasoning(thought))
    _append_calls(found, data, notes)
    if not any(isinstance(p, ToolCall) for p in found):
        _append_calls(found, more, notes)
    meta = data.get("response_metadata")
    reason = id_of(meta, "finish_reason", "stop_reason", "done_reason", "status") if isinstance(meta, dict) else None
    return [Message(speaker, found, id_of(data, "name"), reason, id_of(data, "id"))]


def responses_item(item: Shape, notes: Notes, speaker: str) -> list[Message] | None:
    """An item of OpenAI's Responses API that is not a message: a call, its output, reasoning, a bare text."""
    found = part(item, notes)
    if found is None or isinstance(found, Other):
        return None
    who = "tool" if isinstance(found, ToolResult) else "assistant"
    if isinstance(found, Text):
        who = {"input_text": "user", "output_text": "assistant"}.get(str(item["type"]), speaker)
    return [Message(who, [found], id=_LOOSE)]


def pydantic(item: Shape, notes: Notes) -> list[Message] | None:
    """A pydantic-ai message dump: `{kind: "request" | "response", parts: [{part_kind…}]}`."""
    found: list[Message] = []
    for piece in item.get("parts") or ():
        if not isinstance(piece, dict):
            continue
        kind = str(piece.get("part_kind") or piece.get("kind") or "")
        speaker = {"system-prompt": "system", "tool-return": "tool", "retry-prompt": "user"}.get(kind)
        speaker = speaker or ("assistant" if item.get("kind") == "response" else "user")
        content = piece.get("content")
        read = parts(content, notes) if kind in ("user-prompt", "system-prompt", "text", "retry-prompt") else None
        if read is None:
            one = part(piece, notes)
            read = [one] if one is not None else []
        if found and found[-1].role == speaker and speaker != "tool":
            found[-1].parts += read
        else:
            found.append(Message(speaker, read))
    return found or None


def _wrapped(key: str) -> Callable[[Shape, Notes], list[Message] | None]:
    def read(item: Shape, notes: Notes) -> list[Message] | None:
        inner = item[key]
        found = message(inner, notes, "assistant") if isinstance(inner, dict) else None
        reason = id_of(item, "finish_reason", "finishReason", "stop_reason")
        if found and reason:
            found[-1].finish_reason = reason
        if found and isinstance(item.get("index"), int):
            found[-1].index = item["index"]
        return found

    return read


_choice, _candidate = _wrapped("message"), _wrapped("content")
_DOCUMENT = frozenset({"page_content", "metadata", "score"})


def message(item: Shape, notes: Notes, speaker: str = "user") -> list[Message] | None:
    """One message (a few shapes hold several) in any shape; None for a shape that is no message."""
    given = item.get("type")
    kind = given if isinstance(given, str) else None
    if (
        "role" in item
        and isinstance(item["role"], str)
        and item["role"]
        and not (kind in _LANGCHAIN_TYPES and "content" in item)
    ):
        return chat(item, notes)
    if "lc" in item or (isinstance(item.get("kwargs"), dict) and isinstance(item.get("id"), list)):
        return langchain(item, notes) if isinstance(item.get("kwargs"), dict) else None
    if kind in _LANGCHAIN_TYPES and ("content" in item or isinstance(item.get("data"), dict)):
        return langchain(item, notes)
    if item.get("kind") in ("request", "response") and isinstance(item.get("parts"), list):
        return pydantic(item, notes)
    if isinstance(item.get("message"), dict):
        return _choice(item, notes)
    if kind:
        return responses_item(item, notes, speaker)
    if isinstance(item.get("content"), dict) and ("parts" in item["content"] or "role" in item["content"]):
        content = item["content"]  # a Gemini candidate
        return _candidate(item if "role" in content else {**item, "content": {"role": "model", **content}}, notes)
    if "parts" in item and isinstance(item["parts"], (list, str)):
        return chat({"role": speaker, **item}, notes)
    if ("content" in item or "tool_calls" in item or "blocks" in item) and _DOCUMENT.isdisjoint(item):
        return chat({"role": speaker, **item}, notes)
    if "text" in item and isinstance(item["text"], str) and set(item) <= {"text", "finish_reason", "index", "logprobs"}:
        found_text: list[Part] = [Text(item["text"])]
        return [Message(speaker, found_text, finish_reason=id_of(item, "finish_reason"))]
    return None


def join_turn(before: list[Message], more: list[Message]) -> list[Message]:
    """One model turn that came in several records: one message, unless indices say that these are other choices."""
    if len(before) == len(more) == 1 and before[0].index is None and more[0].index is None:
        first, last = before[0], more[0]
        reason = last.finish_reason or first.finish_reason
        return [Message(first.role, first.parts + last.parts, first.name or last.name, reason, first.id or last.id)]
    return before + more


def text_of(message: Message, separator: str = "\n") -> str:
    """The text a reader would see of a message, without reasoning, calls and results."""
    return separator.join(
        part.content for part in message.parts if (part.__class__ is Text or part.__class__ is Refusal) and part.content
    )
