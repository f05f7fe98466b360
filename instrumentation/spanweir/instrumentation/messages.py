"""Whatever an application has for messages -> the message form of the newest GenAI conventions. Pure, off the caller.

Read: plain strings, the conventions' own form, OpenAI Chat Completions and Responses, Anthropic Messages, Gemini,
LangChain's and LlamaIndex's messages, and lists that mix them. Anything else becomes one part of type `json` with the
value, so nothing is lost. Source of the form: semantic-conventions-genai `docs/gen-ai/non-normative/models.py`.
"""

import base64
import binascii
import hashlib
import json
from typing import Any

from spanweir.instrumentation.encode import breathing, dumps

Json = dict[str, Any]


def to_messages(value: Any, role: str) -> list[Json]:
    """Messages `[{role, parts: [...]}]`; `role` is that of a bare string, `user` or `assistant`."""
    if value is None:
        return []
    if isinstance(value, dict):
        if isinstance(value.get("messages"), list):
            return to_messages(value["messages"], role)
        if isinstance(value.get("choices"), list):
            return [_choice(choice) for choice in value["choices"]]
        if isinstance(value.get("candidates"), list):
            return [_candidate(candidate) for candidate in value["candidates"]]
        if value.get("object") == "response" and isinstance(value.get("output"), list):
            return [{"role": "assistant", "parts": [part for item in value["output"] for part in _output_item(item)]}]
        if _is_message(value):
            return [_message(value, role)]
        return [{"role": role, "parts": [_value(value)]}]
    if isinstance(value, list) and value and all(isinstance(item, dict) and "choices" in item for item in value):
        return _merged(value)
    if isinstance(value, list) and value and all(_is_message(item) for item in value):
        return [_message(item, role) for item in breathing(value)]
    return [{"role": role, "parts": [_value(value)]}]


def to_system(value: Any) -> list[Json]:
    """System instructions: bare parts without a role."""
    if isinstance(value, list):
        return [_part(item) for item in value]
    return [_text(value)]


def to_tools(value: Any) -> list[Json]:
    """Tool definitions `[{type, name, description, parameters}]` from the OpenAI, Anthropic or conventions' form."""
    definitions = []
    for tool in value if isinstance(value, list) else [value]:
        if not isinstance(tool, dict):
            definitions.append({"type": "function", "name": str(tool)})
            continue
        body = tool["function"] if isinstance(tool.get("function"), dict) else tool
        definition = {"type": tool.get("type", "function"), **body}
        if "input_schema" in definition:
            definition["parameters"] = definition.pop("input_schema")
        definitions.append(definition)
    return definitions


def to_documents(value: Any) -> list[Json]:
    """Documents `[{id, score, content, metadata, ...}]` from strings, dicts, LangChain and LlamaIndex documents."""
    documents = value if isinstance(value, list) else [value]
    return [_document(item, index) for index, item in enumerate(breathing(documents))]


def _document(value: Any, index: int) -> Json:
    score = None
    if isinstance(value, list) and len(value) == 2 and isinstance(value[1], (int, float)):
        value, score = value
    if not isinstance(value, dict):
        document: Json = {"id": str(index), "content": value}
    else:
        document = dict(value)
        node = document.pop("node", None)
        if isinstance(node, dict):
            document = {**node, **document}
        for theirs, ours in (("page_content", "content"), ("text", "content"), ("id_", "id"), ("doc_id", "id")):
            if theirs in document:
                document.setdefault(ours, document.pop(theirs))
        document = {key: item for key, item in document.items() if item is not None and item != {} and item != []}
    if score is not None:
        document["score"] = score
    return document


_LANGCHAIN_ROLES = {"human": "user", "ai": "assistant", "system": "system", "tool": "tool"}


def _is_message(item: Any) -> bool:
    if isinstance(item, str):
        return True
    if not isinstance(item, dict):
        return False
    return "role" in item or "parts" in item or (item.get("type") in _LANGCHAIN_ROLES and "content" in item)


def _value(value: Any) -> Json:
    """What is no message, the arguments of a function for one: a part of the generic kind, with the value as it is."""
    return _text(value) if isinstance(value, str) else {"type": "json", "content": value}


def _text(value: Any) -> Json:
    return {"type": "text", "content": value if isinstance(value, str) else dumps(value).decode()}


def _choice(choice: Any) -> Json:
    if not isinstance(choice, dict):
        return {"role": "assistant", "parts": [_text(choice)]}
    message = choice.get("message")
    result = _message(message, "assistant") if isinstance(message, dict) else _message(choice, "assistant")
    if choice.get("finish_reason"):
        result["finish_reason"] = choice["finish_reason"]
    return result


def _candidate(candidate: Any) -> Json:
    """Of a Gemini response."""
    found = candidate if isinstance(candidate, dict) else {"content": candidate}
    result = _message(found.get("content"), "assistant")
    result["role"] = "assistant"
    if found.get("finish_reason"):
        result["finish_reason"] = found["finish_reason"]
    return result


def _output_item(item: Any) -> list[Json]:
    """Of an OpenAI response (Responses API)."""
    if not isinstance(item, dict):
        return [_text(item)]
    if item.get("type") == "message":
        return [_part(part) for part in item.get("content") or ()]
    if item.get("type") == "function_call":
        return [{**_tool_call(item), "id": item.get("call_id") or item.get("id")}]
    if item.get("type") == "reasoning":
        return [{"type": "reasoning", "content": part.get("text", "")} for part in item.get("summary") or ()]
    return [item]


def _merged(chunks: list[Json]) -> list[Json]:
    return [_message(message, "assistant") for message in merged_chunks(chunks)]


def merged_chunks(chunks: list[Json]) -> list[Json]:
    """The messages, in OpenAI's form, that the chunks of a chat stream add up to."""
    whole: dict[int, Json] = {}
    for chunk in chunks:
        for choice in chunk["choices"] or ():
            message = whole.setdefault(choice.get("index") or 0, {"role": "assistant", "content": "", "tool_calls": []})
            delta = choice.get("delta") or {}
            for key in ("content", "reasoning_content", "refusal"):
                if isinstance(delta.get(key), str):
                    message[key] = (message.get(key) or "") + delta[key]
            for call in delta.get("tool_calls") or ():
                _merge_call(message["tool_calls"], call)
            if choice.get("finish_reason"):
                message["finish_reason"] = choice["finish_reason"]
    return [{k: v for k, v in message.items() if v != []} for _, message in sorted(whole.items())]


def _merge_call(calls: list[Json], delta: Json) -> None:
    index = delta.get("index")
    at = index if isinstance(index, int) and index >= 0 else len(calls)
    while len(calls) <= min(at, 256):
        calls.append({"id": None, "function": {"name": None, "arguments": ""}})
    call, function = calls[min(at, 256)], delta.get("function") or {}
    call["id"] = call["id"] or delta.get("id")
    call["function"]["name"] = call["function"]["name"] or function.get("name")
    call["function"]["arguments"] += function.get("arguments") or ""


def _message(message: Any, role: str) -> Json:
    if not isinstance(message, dict):
        return {"role": role, "parts": [_text(message)]}
    if isinstance(message.get("parts"), list):
        return {"role": role, **message, "parts": [_part(part) for part in message["parts"]]}
    result: Json = {"role": message.get("role") or _LANGCHAIN_ROLES.get(str(message.get("type"))) or role}
    if message.get("name"):
        result["name"] = message["name"]
    content = message.get("content", message.get("blocks"))
    if result["role"] == "tool" and "tool_call_id" in message:
        parts: list[Json] = [{"type": "tool_call_response", "id": message["tool_call_id"], "response": content}]
    elif isinstance(content, list):
        parts = [_part(part) for part in content]
    else:
        parts = [] if content is None or content == "" else [_text(content)]
    for key in ("reasoning_content", "reasoning"):
        if isinstance(message.get(key), str) and message[key]:
            parts.insert(0, {"type": "reasoning", "content": message[key]})
            break
    if message.get("refusal"):
        parts.append({"type": "refusal", "content": message["refusal"]})
    parts += [_tool_call(call) for call in message.get("tool_calls") or ()]
    result["parts"] = parts
    if message.get("finish_reason"):
        result["finish_reason"] = message["finish_reason"]
    return result


def _tool_call(call: Any) -> Json:
    if not isinstance(call, dict):
        return _text(call)
    function = call["function"] if isinstance(call.get("function"), dict) else call
    return {
        "type": "tool_call",
        "id": call.get("id"),
        "name": function.get("name"),
        "arguments": parsed(function.get("arguments", function.get("args", function.get("input")))),
    }


def parsed(value: Any) -> Any:
    """JSON text as the value it stands for; everything else as it is."""
    if isinstance(value, str) and value[:1] in "{[":
        try:
            return json.loads(value)
        except ValueError:
            return value
    return value


def _part(part: Any) -> Json:
    if not isinstance(part, dict):
        return _text(part)
    kind = part.get("type") or part.get("block_type")
    for key, done in (("function_call", _tool_call), ("function_response", _function_response)):
        if kind is None and isinstance(part.get(key), dict):
            return done(part[key])
    if kind in ("text", "input_text", "output_text") or (kind is None and isinstance(part.get("text"), str)):
        return {"type": "text", "content": part.get("content", part.get("text"))}
    if kind == "image_url":
        image = part.get("image_url")
        return _uri(image.get("url") if isinstance(image, dict) else image, "image")
    if kind in ("input_image", "input_audio", "input_file", "image", "document", "audio", "blob"):
        return _media(part, kind)
    if kind == "thinking":
        return {"type": "reasoning", "content": part.get("thinking", "")}
    if kind == "tool_use":
        return _tool_call(part)
    if kind == "tool_result":
        return {"type": "tool_call_response", "id": part.get("tool_use_id"), "response": part.get("content")}
    if kind is None:
        return _text(part)
    return part


def _function_response(response: Json) -> Json:
    return {"type": "tool_call_response", "id": response.get("id"), "response": response.get("response")}


def _media(part: Json, kind: str) -> Json:
    modality = part.get("modality") or kind.removeprefix("input_").replace("file", "document")
    source = part.get("source") if isinstance(part.get("source"), dict) else part.get(kind)
    source = source if isinstance(source, dict) else part
    mime_type = source.get("media_type") or source.get("mime_type") or part.get("mime_type")
    address = source.get("url") or source.get("image_url") or source.get("uri")
    if isinstance(address, str):
        return _uri(address, modality)
    if source.get("file_id"):
        return {"type": "file", "modality": modality, "file_id": source["file_id"]}
    data = source.get("data") or source.get("content") or source.get("file_data")
    return _blob(data, modality, mime_type)


def _uri(address: Any, modality: str) -> Json:
    if isinstance(address, str) and address.startswith("data:"):
        head, _, data = address[5:].partition(",")
        return _blob(data, modality, head.partition(";")[0] or None)
    return {"type": "uri", "modality": modality, "uri": address}


def _blob(data: Any, modality: str, mime_type: Any) -> Json:
    """Binary content by reference: what it was, how large, and its SHA-256; the bytes stay with the application."""
    part: Json = {"type": "blob", "modality": modality}
    if mime_type:
        part["mime_type"] = mime_type
    raw = data if isinstance(data, bytes) else b""
    if isinstance(data, str):
        try:
            raw = base64.b64decode(data, validate=False)
        except (binascii.Error, ValueError):
            raw = data.encode("utf-8", "replace")
    return {**part, "size": len(raw), "sha256": hashlib.sha256(raw).hexdigest()} if raw else part
