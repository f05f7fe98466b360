"""Anthropic Messages API bodies, as Claude Code logs them, read into a call's messages.

Bodies are cut at about 60 kB: one that does not parse leaves the call as it was.
"""

from typing import Any

import orjson

from spanweir.schemas.agents.facts import Call

_REDACTED = "<REDACTED>"


def _load(body: str) -> dict[str, Any]:
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        return {}
    return value if isinstance(value, dict) else {}


def anthropic_request(call: Call, body: str) -> None:
    """Set input messages, system instructions, tool definitions and parameters from a request body."""
    request = _load(body)
    messages = request.get("messages")
    if isinstance(messages, list):
        call.input = orjson.dumps([_message(m) for m in messages if isinstance(m, dict)]).decode()
        call.whole = True
    if system := request.get("system"):
        blocks = [{"type": "text", "text": system}] if isinstance(system, str) else system
        call.extra["gen_ai.system_instructions"] = orjson.dumps(_parts(blocks)).decode()
    tools = request.get("tools")
    if isinstance(tools, list) and tools:
        call.extra["gen_ai.tool.definitions"] = orjson.dumps([_tool(t) for t in tools if isinstance(t, dict)]).decode()
    for key in ("max_tokens", "temperature", "top_p", "top_k"):
        if isinstance(request.get(key), (int, float)):
            call.extra[f"gen_ai.request.{key}"] = request[key]


def anthropic_response(call: Call, body: str) -> None:
    """Set output message, response id, model and finish reason from a response body."""
    response = _load(body)
    content = response.get("content")
    if isinstance(response.get("stop_reason"), str):
        call.finish = [response["stop_reason"]]
    if isinstance(content, list):
        made: dict[str, Any] = {"role": "assistant", "parts": _parts(content)}
        if call.finish:
            made["finish_reason"] = call.finish[0]
        call.output = orjson.dumps([made]).decode()
        call.text = "\n".join(p["content"] for p in made["parts"] if p["type"] == "text") or call.text
    call.response_id = str(response.get("id") or call.response_id)
    call.response_model = str(response.get("model") or call.response_model)


def tool_result(body: str, call_id: str) -> str:
    """The result of tool call `call_id` in a request body; empty where it is not."""
    if call_id not in body:
        return ""
    for message in _load(body).get("messages") or ():
        content = message.get("content") if isinstance(message, dict) else None
        for block in content if isinstance(content, list) else ():
            if isinstance(block, dict) and block.get("tool_use_id") == call_id:
                response = _part(block)["response"]
                return response if isinstance(response, str) else orjson.dumps(response).decode()
    return ""


def _message(message: dict[str, Any]) -> dict[str, Any]:
    content = message.get("content")
    blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
    return {"role": message.get("role", "user"), "parts": _parts(blocks)}


def _parts(blocks: Any) -> list[dict[str, Any]]:
    return [_part(b) for b in blocks if isinstance(b, dict)] if isinstance(blocks, list) else []


def _part(block: dict[str, Any]) -> dict[str, Any]:
    kind = block.get("type")
    if kind == "text":
        return {"type": "text", "content": block.get("text", "")}
    if kind == "thinking":
        thinking = block.get("thinking", "")
        return {"type": "reasoning", "content": "" if thinking == _REDACTED else thinking}
    if kind == "tool_use":
        made = {"type": "tool_call", "id": block.get("id"), "name": block.get("name"), "arguments": block.get("input")}
        return made
    if kind == "tool_result":
        response = block.get("content")
        if isinstance(response, list) and all(isinstance(c, dict) and c.get("type") == "text" for c in response):
            response = "\n".join(c.get("text", "") for c in response)
        return {"type": "tool_call_response", "id": block.get("tool_use_id"), "response": response}
    source = block.get("source")
    if kind in ("image", "document") and isinstance(source, dict) and source.get("type") == "base64":
        mime = source.get("media_type")
        return {"type": "blob", "modality": kind, "mime_type": mime, "content": source.get("data", "")}
    if kind in ("image", "document") and isinstance(source, dict) and source.get("type") == "url":
        return {"type": "uri", "modality": kind, "uri": source.get("url", "")}
    return block


def _tool(tool: dict[str, Any]) -> dict[str, Any]:
    made = {"type": "function", "name": tool.get("name", ""), "description": tool.get("description")}
    made["parameters"] = tool.get("input_schema")
    return {key: value for key, value in made.items() if value is not None}
