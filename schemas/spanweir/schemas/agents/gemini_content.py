"""Gemini contents (`parts` of text, functionCall, functionResponse) as OTel GenAI messages.

Also takes what Gemini CLI and Qwen Code log: plain strings, chunks of a stream (`candidates`), messages that are in
OTel form already, and text that was cut (`...[TRUNCATED: original length N]`), of which is kept what can be read.
"""

import re
from typing import Any

import orjson

from spanweir.schemas.agents.compose import dumps, unwrapped
from spanweir.schemas.agents.facts import Call, ToolRun
from spanweir.schemas.values import salvage

_CUT = re.compile(r"\.\.\.\[TRUNCATED: original length \d+\]\s*$")


def to_messages(text: str, role: str) -> str:
    """JSON text of OTel messages; empty for no content. Chunks of one role in a row are one message."""
    if not text:
        return ""
    made: list[dict[str, Any]] = []
    for content in _contents(_parse(text)):
        said = _role(content.get("role"), role)
        parts = [part for raw in content.get("parts") or () if (part := _part(raw))]
        if role == "assistant" and made:
            _append(made[-1]["parts"], parts)
            if content.get("finish_reason"):
                made[-1]["finish_reason"] = content["finish_reason"]
            continue
        message: dict[str, Any] = {"role": "assistant" if role == "assistant" else said, "parts": []}
        if role == "assistant":
            _append(message["parts"], parts)
        else:
            message["parts"] = parts
        if content.get("finish_reason"):
            message["finish_reason"] = content["finish_reason"]
        made.append(message)
    made = [message for message in made if message["parts"]]
    return dumps(made) if made else ""


def output_text(messages: str) -> str:
    """All answered text of messages in OTel form."""
    return "".join(part["content"] for message in _list(messages) for part in _texts(message))


def user_text(messages: str) -> str:
    """The last text that a user wrote."""
    for message in reversed(_list(messages)):
        texts = [part["content"] for part in _texts(message)]
        if message.get("role") == "user" and texts:
            return str(texts[-1])
    return ""


def add_results(calls: list[Call], runs: list[ToolRun]) -> None:
    """What a tool returned, from the requests after it, which repeat the conversation: where nothing else tells it.

    Log records of tool runs may have no id: name and arguments tell which asked-for call each is. Calls asked for may
    have none either: their responses follow in the same order.
    """
    missing = [run for run in runs if not run.result and not run.error]
    for call in reversed(calls):
        if not missing and all(run.call_id for run in runs):
            return
        nameless: list[dict[str, Any]] = []
        for part in _parts(call.input):
            call_id, told = str(part.get("id", "")), part.get("response")
            if part.get("type") == "tool_call":
                if call_id:
                    _name(runs, part, call_id)
                else:
                    nameless.append(part)
            elif part.get("type") == "tool_call_response" and call_id and told is not None:
                if nameless:
                    _name(runs, nameless.pop(0), call_id)
                run = next((r for r in missing if r.call_id == call_id), None)
                if run is not None:
                    run.result = unwrapped(told if isinstance(told, str) else dumps(told))
                    missing.remove(run)


def _name(runs: list[ToolRun], asked: dict[str, Any], call_id: str) -> None:
    """Give the id to the first run of that call that has none."""
    if all(run.call_id != call_id for run in runs):
        for run in runs:
            if not run.call_id and run.name == asked.get("name") and _json(run.arguments) == asked.get("arguments"):
                run.call_id = call_id
                return


def _json(text: str) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return None


def tool_definitions(text: str) -> str:
    """`functionDeclarations` as OTel tool definitions."""
    made = []
    for tool in _list(text):
        for declared in tool.get("functionDeclarations") or ():
            if isinstance(declared, dict) and "name" in declared:
                schema = declared.get("parametersJsonSchema", declared.get("parameters"))
                made.append(
                    {
                        "type": "function",
                        "name": declared["name"],
                        "description": declared.get("description"),
                        "parameters": schema,
                    }
                )
    return dumps(made) if made else ""


def _list(text: str) -> list[dict[str, Any]]:
    value = _parse(text) if text else None
    return [entry for entry in value if isinstance(entry, dict)] if isinstance(value, list) else []


def _parts(messages: str) -> list[dict[str, Any]]:
    return [part for message in _list(messages) for part in message.get("parts") or () if isinstance(part, dict)]


def _texts(message: dict[str, Any]) -> list[dict[str, Any]]:
    parts = message.get("parts") or ()
    return [p for p in parts if isinstance(p, dict) and p.get("type") == "text" and isinstance(p.get("content"), str)]


def _parse(text: str) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        pass
    cut = _CUT.search(text)
    rest = text[: cut.start()] if cut else text
    found = salvage(rest) if text.lstrip()[:1] == "[" else None
    if found is None:
        return rest
    if cut and isinstance(found, list) and found and isinstance(found[-1], dict):
        last = found[-1]
        if isinstance(last.get("parts"), list):  # a reader is to see that there was more
            last["parts"].append({"text": cut[0].strip()})
    return found


def _contents(value: Any) -> list[dict[str, Any]]:
    if isinstance(value, str):
        return [{"parts": [{"text": value}]}]
    if isinstance(value, dict):
        if "candidates" in value:
            return [_candidate(c) for c in value["candidates"] if isinstance(c, dict)]
        return [value] if "parts" in value else []
    if isinstance(value, list):
        if any(isinstance(entry, str) for entry in value):
            return [{"parts": [{"text": entry} if isinstance(entry, str) else entry for entry in value]}]
        return [content for entry in value for content in _contents(entry)]
    return []


def _candidate(candidate: dict[str, Any]) -> dict[str, Any]:
    content = candidate.get("content")
    made = dict(content) if isinstance(content, dict) else {}
    if candidate.get("finishReason"):
        made["finish_reason"] = candidate["finishReason"]
    return made


def _role(role: Any, default: str) -> str:
    if not isinstance(role, str):
        return default
    return {"model": "assistant", "function": "tool"}.get(role, role)


def _append(parts: list[dict[str, Any]], more: list[dict[str, Any]]) -> None:
    """Chunks of a streamed text are one text."""
    for part in more:
        same = parts and parts[-1].get("type") == part.get("type") and part.get("type") in ("text", "reasoning")
        if same:
            parts[-1]["content"] += part["content"]
        else:
            parts.append(part)


def _part(raw: Any) -> dict[str, Any] | None:
    if isinstance(raw, str):
        return {"type": "text", "content": raw}
    if not isinstance(raw, dict):
        return None
    if "type" in raw:
        if raw.get("type") == "tool_call" and isinstance(raw.get("arguments"), str):
            try:
                return {**raw, "arguments": orjson.loads(raw["arguments"])}
            except orjson.JSONDecodeError:
                return dict(raw)
        return dict(raw)
    if isinstance(raw.get("text"), str):
        return {"type": "reasoning" if raw.get("thought") else "text", "content": raw["text"]}
    if isinstance(call := raw.get("functionCall"), dict):
        made = {"type": "tool_call", "name": call.get("name", ""), "arguments": call.get("args")}
        return {**made, "id": call["id"]} if call.get("id") else made
    if isinstance(done := raw.get("functionResponse"), dict):
        made = {"type": "tool_call_response", "response": done.get("response")}
        return {**made, "id": done["id"]} if done.get("id") else made
    if isinstance(data := raw.get("inlineData"), dict):
        mime = str(data.get("mimeType", ""))
        return {"type": "blob", "modality": mime.partition("/")[0], "mime_type": mime, "content": data.get("data", "")}
    if isinstance(data := raw.get("fileData"), dict):
        return {"type": "uri", "mime_type": data.get("mimeType"), "uri": data.get("fileUri", "")}
    return {"type": "gemini", **raw}
