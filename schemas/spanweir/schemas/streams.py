"""What the events of a streamed answer say that the answer beside them lacks: why it ended, tool calls, when it began.

Senders put one event on a span for each chunk. MLflow's SDK (3.17) keeps the chunk itself but writes an answer that has
no tool calls and ends with an invented `stop` (OpenAI) or with no reason (LangChain); the others only mark the time.

Not here: answers that came whole (`content`).
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import orjson

from spanweir.schemas.chat import tool_call
from spanweir.schemas.genai import GenAISpan, Message, Response, Text, ToolCall
from spanweir.schemas.notes import arguments
from spanweir.schemas.raw import Event

FIRST_CHUNK = frozenset(
    {
        "First Token Stream Event",  # OpenInference
        "gen_ai.content.completion.chunk", "llm.content.completion.chunk",  # OpenLLMetry, new and old
        "mlflow.chunk.item.0", "new_token",  # MLflow
    }
)  # fmt: skip
"""Names of the events that a sender puts on a span when a chunk of an answer comes."""

_CHUNK = {"mlflow.chunk.item.": "mlflow.chunk.value", "new_token": "chunk"}


def first_chunk_ns(events: Sequence[Event]) -> int | None:
    """When the first chunk came, in Unix nanoseconds; None where no event says so."""
    for event in events:
        if event.name in FIRST_CHUNK:
            return event.time_ns or None
    return None


def completed(answer: Any, events: Sequence[Event]) -> Any:
    """`answer` (OpenAI's `{choices: [...]}`) with the finish reason and the tool calls of its chunks, as a new object;
    None where they add nothing. Only for answers with one choice: LangChain's chunks do not say whose they are."""
    if not isinstance(answer, dict):
        return None
    choices = answer.get("choices")
    if not isinstance(choices, list) or len(choices) != 1 or not isinstance(choices[0], dict):
        return None
    choice = dict(choices[0])
    message = choice.get("message")
    changed = False
    reason = _last_reason(events)
    if reason is not None and reason != choice.get("finish_reason"):
        choice["finish_reason"] = reason
        changed = True
    if isinstance(message, dict) and not message.get("content") and not message.get("tool_calls"):
        calls = _calls(_chunks(iter(events)))
        if calls:
            choice["message"] = {
                **message,
                "content": None,
                "tool_calls": [tool_call(call["id"], call["name"], call["arguments"]) for call in calls],
            }
            changed = True
    return {**answer, "choices": [choice]} if changed else None


def complete(span: GenAISpan, events: Sequence[Event]) -> None:
    """The same for messages (MLflow's SDK with OpenTelemetry's names), in place."""
    if len(span.output) > 1 or not any(_attribute(event.name) for event in events[:1]):
        return
    message = span.output[0] if span.output else Message("assistant")
    if not any(part.content for part in message.parts if isinstance(part, Text)) and not any(
        isinstance(part, ToolCall) for part in message.parts
    ):
        calls = _calls(_chunks(iter(events)))
        if calls:
            message.parts = [part for part in message.parts if not isinstance(part, Text)]
            message.parts += [ToolCall(c["name"], c["id"] or None, arguments(c["arguments"])) for c in calls]
    reason = _last_reason(events)
    if reason is not None:
        message.finish_reason = reason
        span.response = span.response or Response()
        span.response.finish_reasons = [reason]
    if message.parts or message.finish_reason:
        span.output = [message]


def _last_reason(events: Sequence[Event]) -> str | None:
    return next((found for chunk in _chunks(reversed(events)) if (found := _reason(chunk))), None)


def _attribute(name: str) -> str | None:
    """The attribute that holds the chunk, of an event of this name; None for another event."""
    return _CHUNK.get(name) or _CHUNK.get(name.rstrip("0123456789"))


def _chunks(events: Iterator[Event]) -> Iterator[Mapping[str, Any]]:
    for event in events:
        attribute = _attribute(event.name)
        value = event.attributes.get(attribute) if attribute is not None else None
        for _ in range(2):  # JSON text, or JSON text of JSON text
            if isinstance(value, str):
                try:
                    value = orjson.loads(value)
                except ValueError:
                    break
        if isinstance(value, dict):
            yield _langchain(value) if "kwargs" in value else value


def folded(items: Sequence[Any]) -> dict[str, Any] | None:
    """A list of a stream's chunks, or of their JSON texts, as the answer that OpenAI would give whole; None
    for any other list. OpenInference's instrumentation of Agno 0.1 sends streams so."""
    last = items[-1] if items else None
    if not (isinstance(last, dict) or (isinstance(last, str) and last[:1] == "{")):
        return None
    read = [item for item in map(_object, items) if item]
    if len(read) < len(items):
        return None
    if all("choices" in item and str(item.get("object", "")).endswith(".chunk") for item in read):
        return _answer(read)
    whole = read[-1].get("response")
    return whole if read[-1].get("type") == "response.completed" and isinstance(whole, dict) else None


def _object(item: Any) -> dict[str, Any] | None:
    if isinstance(item, str):
        try:
            item = orjson.loads(item)
        except ValueError:
            return None
    return item if isinstance(item, dict) else None


def _answer(chunks: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """OpenAI's chunks with one choice as its answer: text put together, and what only single chunks say."""
    found = {key: value for chunk in chunks for key, value in chunk.items() if value is not None}
    deltas = [c["delta"] for chunk in chunks for c in chunk["choices"][:1] if isinstance(c.get("delta"), dict)]
    message: dict[str, Any] = {"role": "assistant", "content": "".join(d.get("content") or "" for d in deltas) or None}
    if thought := "".join(d.get("reasoning_content") or "" for d in deltas):
        message["reasoning_content"] = thought
    if calls := _calls(iter(chunks)):
        message["tool_calls"] = [tool_call(call["id"], call["name"], call["arguments"]) for call in calls]
    reason = next((told for chunk in reversed(chunks) if (told := _reason(chunk))), None)
    return {**found, "choices": [{"index": 0, "message": message, "finish_reason": reason}]}


def _langchain(chunk: Mapping[str, Any]) -> Mapping[str, Any]:
    """LangChain's dump of a chunk, as OpenAI would write the chunk."""
    outer = chunk["kwargs"]
    message = outer.get("message") if isinstance(outer, dict) else None
    inner = message.get("kwargs") if isinstance(message, dict) else None
    if not isinstance(inner, dict):
        return {}
    calls = [
        {"index": call.get("index"), "id": call.get("id"), "function": {"name": call.get("name"), "arguments": args}}
        for call in inner.get("tool_call_chunks") or ()
        if isinstance(call, dict) and isinstance(args := call.get("args") or "", str)
    ]
    meta = inner.get("response_metadata")
    reason = _reason(meta) if isinstance(meta, dict) else None
    return {"choices": [{"delta": {"tool_calls": calls}, "finish_reason": reason}]}


def _reason(chunk: Mapping[str, Any]) -> str | None:
    """Of a chunk of OpenAI, Anthropic (`message_delta`) or LangChain's response metadata."""
    choices = chunk.get("choices")
    inner = choices[0] if isinstance(choices, list) and choices else chunk.get("delta", chunk)
    if not isinstance(inner, dict):
        return None
    found = inner.get("finish_reason") or inner.get("stop_reason")
    return found if isinstance(found, str) else None


def _calls(chunks: Iterator[Mapping[str, Any]]) -> list[dict[str, str]]:
    """The pieces of tool calls put together (`id`, `name`, `arguments`), in the order they began."""
    found: dict[Any, dict[str, str]] = {}
    for chunk in chunks:
        choices = chunk.get("choices")
        delta = choices[0].get("delta") if isinstance(choices, list) and choices else None
        pieces = delta.get("tool_calls") if isinstance(delta, dict) else None
        for piece in pieces or ():
            function = piece.get("function") or {}
            call = found.setdefault(piece.get("index"), {"id": "", "name": "", "arguments": ""})
            call["id"] = call["id"] or piece.get("id") or ""
            call["name"] = call["name"] or function.get("name") or ""
            call["arguments"] += function.get("arguments") or ""
    return [call for call in found.values() if call["name"]]
