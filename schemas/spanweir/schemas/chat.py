"""Canonical messages, tools and documents in the JSON shapes that MLflow's UI and evaluators read.

Messages are OpenAI chat messages of the kinds that MLflow's trace explorer renders (3.17, its JavaScript): roles
`system`, `user`, `assistant`, `tool`; content of text, `image_url` and `input_audio`; one part of another type makes
the explorer show the whole list as raw JSON, so such parts become text. Reasoning stands in the message's `reasoning`.

Not here: which of these a span has (`mlflow`).
"""

from typing import Any

from spanweir.schemas.genai import (
    Blob,
    Compaction,
    Doc,
    File,
    Message,
    Other,
    Part,
    Reasoning,
    Refusal,
    ServerToolCall,
    ServerToolResult,
    Text,
    ToolCall,
    ToolDef,
    ToolResult,
    Uri,
)
from spanweir.schemas.values import dumps
from spanweir.schemas.vocabulary import finish_reason

_OPENAI_REASONS = {"tool_call": "tool_calls"}


def chat_messages(messages: list[Message], system: list[Part]) -> list[dict[str, Any]]:
    """Messages as OpenAI's chat API has them. A message with tool results becomes one `tool` message for each."""
    found: list[dict[str, Any]] = []
    if system and not (messages and messages[0].role == "system" and messages[0].parts == system):
        found += _message(Message("system", system))  # OpenLIT sends it in both places
    for message in messages:
        body = _only_text(message)
        if body is None:
            found += _message(message)
            continue
        if message.finish_reason is not None:
            body["finish_reason"] = message.finish_reason
        found.append(body)
    return found


def _only_text(message: Message) -> dict[str, Any] | None:
    """A message of one text and nothing else, which most are; without its finish reason."""
    parts, role = message.parts, message.role
    if len(parts) == 1 and parts[0].__class__ is Text and message.name is None and message.id is None:
        return {"role": role, "content": parts[0].content} if role != "developer" else None
    return None


def _message(message: Message) -> list[dict[str, Any]]:
    """The message, without tool results unless it has nothing else, and a `tool` message for each tool result."""
    content: list[dict[str, Any]] = []
    calls: list[dict[str, Any]] = []
    results: list[dict[str, Any]] = []
    reasoning: list[Reasoning] = []
    refusal: str | None = None
    for part in message.parts:
        if part.__class__ is Text:
            content.append({"type": "text", "text": part.content})
        elif isinstance(part, ToolCall):
            calls.append(tool_call(part.id, part.name, part.arguments))
        elif isinstance(part, ToolResult):
            results.append(_result(part.id, part.name, part.response, part.is_error))
        elif isinstance(part, Reasoning):
            reasoning.append(part)
        elif isinstance(part, Refusal):
            refusal = part.content if refusal is None else f"{refusal}\n{part.content}"
        elif isinstance(part, ServerToolCall):
            calls.append(tool_call(part.id, part.name, part.server_tool_call))
        elif isinstance(part, ServerToolResult):
            results.append(_result(part.id, None, part.server_tool_call_response, None))
        else:
            content.append(_media(part))
    if results and not (content or calls or reasoning or refusal):
        _label(results[0], message)
        return results
    role = message.role
    body: dict[str, Any] = {"role": role, "content": _content(content)}
    if role == "developer":
        body["role"], body["sent_role"] = "system", role
    _label(body, message)
    if calls:
        body["tool_calls"] = calls
    if reasoning:
        _reason(body, reasoning)
    if refusal is not None:
        body["refusal"] = refusal
    # Results that a provider wants in a user message come before what the user says (Anthropic, Bedrock).
    return [*results, body] if role == "user" else [body, *results]


def _label(body: dict[str, Any], message: Message) -> None:
    if message.id is not None:
        body["id" if "id" not in body else "message_id"] = message.id
    if message.name is not None:
        body["name" if "name" not in body else "message_name"] = message.name
    if message.finish_reason is not None:
        body["finish_reason"] = message.finish_reason


def _content(content: list[dict[str, Any]]) -> Any:
    if not content:
        return None
    return content[0]["text"] if len(content) == 1 and content[0]["type"] == "text" else content


def _reason(body: dict[str, Any], reasoning: list[Reasoning]) -> None:
    thought = "\n".join(part.content for part in reasoning if part.content)
    if thought:
        body["reasoning"] = thought
    details = [
        {"signature": part.signature, "data": part.redacted, "id": part.id}
        for part in reasoning
        if part.signature or part.redacted or part.id
    ]
    if details:
        body["reasoning_details"] = details


def tool_call(call_id: str | None, name: str, arguments: Any) -> dict[str, Any]:
    given = arguments if arguments.__class__ is str else "{}" if arguments is None else dumps(arguments)
    return {"id": call_id or "", "type": "function", "function": {"name": name, "arguments": given}}


def _result(call_id: str | None, name: str | None, response: Any, is_error: bool | None) -> dict[str, Any]:
    said = response if response.__class__ is str else "" if response is None else dumps(response)
    body: dict[str, Any] = {"role": "tool", "content": said, "tool_call_id": call_id or ""}
    if name is not None:
        body["name"] = name
    if is_error:
        body["is_error"] = True
    return body


_AUDIO_FORMATS = {"audio/wav": "wav", "audio/x-wav": "wav", "audio/mp3": "mp3", "audio/mpeg": "mp3"}


def _media(part: Part) -> dict[str, Any]:
    if isinstance(part, Blob):
        mime = part.mime_type or (f"{part.modality}/*" if part.modality else "application/octet-stream")
        if mime in _AUDIO_FORMATS:
            return {"type": "input_audio", "input_audio": {"data": part.content, "format": _AUDIO_FORMATS[mime]}}
        if mime.startswith("image/"):
            return {"type": "image_url", "image_url": {"url": f"data:{mime};base64,{part.content}"}}
        return {"type": "text", "text": f"data:{mime};base64,{part.content}"}
    if isinstance(part, Uri):
        image = part.modality == "image" or (part.mime_type or "").startswith("image/")
        shown: dict[str, Any] = {"type": "image_url", "image_url": {"url": part.uri}}
        shown = shown if image else {"type": "text", "text": part.uri}
        return shown if part.mime_type is None else {**shown, "mime_type": part.mime_type}
    if isinstance(part, File):
        return {"type": "text", "text": dumps({"file_id": part.file_id, "mime_type": part.mime_type})}
    if isinstance(part, Compaction) and part.id is None:
        return {"type": "text", "text": part.content or ""}
    return {"type": "text", "text": dumps(part.value) if isinstance(part, Other) else dumps(part)}


def choices(messages: list[Message], reasons: list[str] | None) -> list[dict[str, Any]]:
    """OpenAI's `choices`: one for each output message."""
    found: list[dict[str, Any]] = []
    for place, message in enumerate(messages):
        reason = message.finish_reason or (reasons[place] if reasons and place < len(reasons) else None)
        body = _only_text(message)
        rendered = [body] if body is not None else _message(message)
        rendered[0].pop("finish_reason", None)
        choice: dict[str, Any] = {"index": place if message.index is None else message.index, "message": rendered[0]}
        if reason is not None:
            common = finish_reason(reason)
            common = _OPENAI_REASONS.get(common, common)
            choice["finish_reason"] = common
            if reason not in (common, "tool_call"):
                choice["native_finish_reason"] = reason
        found.append(choice)
        for extra in rendered[1:]:
            found.append({"index": choice["index"], "message": extra})
    return found


def tool_definitions(tools: list[ToolDef]) -> list[dict[str, Any]]:
    """`mlflow.chat.tools`: OpenAI's nested form, whatever type a tool has, because the UI takes all or none."""
    found: list[dict[str, Any]] = []
    for tool in tools:
        function: dict[str, Any] = {"name": tool.name}
        if tool.description is not None:
            function["description"] = tool.description
        if tool.parameters is not None:
            function["parameters"] = tool.parameters
        if tool.strict is not None:
            function["strict"] = tool.strict
        found.append({"type": "function", "function": function})
    return found


def docs(documents: list[Doc]) -> list[dict[str, Any]]:
    """A retriever's documents: `[{page_content, metadata: {doc_uri, …, score}, id}]`."""
    found: list[dict[str, Any]] = []
    for doc in documents:
        given = doc.metadata
        metadata = dict(given) if isinstance(given, dict) else {} if given is None else {"metadata": given}
        if doc.uri is not None:
            metadata.setdefault("doc_uri", doc.uri)
        if doc.title is not None:
            metadata.setdefault("title", doc.title)
        if doc.score is not None:
            metadata.setdefault("score", doc.score)
        if doc.index is not None:
            metadata.setdefault("index", doc.index)
        item: dict[str, Any] = {"page_content": doc.content or "", "metadata": metadata}
        if doc.id is not None:
            item["id"] = doc.id
        found.append(item)
    return found
