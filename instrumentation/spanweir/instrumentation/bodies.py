"""HTTP bodies as JSON values, off the calling thread. Pure."""

import json
from typing import Any

from spanweir.instrumentation import messages


def to_body(value: Any) -> Any:
    """A JSON document as it stands, a stream of server-sent events put together, anything else as text."""
    if not isinstance(value, bytes):
        return value
    text = value.decode("utf-8", "replace")
    try:
        return json.loads(text)
    except ValueError:
        pass
    events = [_parsed(line[5:].strip()) for line in text.splitlines() if line.startswith("data:")]
    events = [event for event in events if event not in ("[DONE]", "")]
    return _together(events) if events else text


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _together(events: list[Any]) -> Any:
    """What the events of a stream add up to: a response, its output items, a message, or else the list of them."""
    known = [event for event in events if isinstance(event, dict)]
    if len(known) < len(events):
        return events
    for event in known:
        if event.get("type") == "response.completed" and isinstance(event.get("response"), dict):
            return event["response"]
    items = [event["item"] for event in known if event.get("type") == "response.output_item.done" and "item" in event]
    if items:
        return {"object": "response", "output": items}
    if all(isinstance(event.get("choices"), list) for event in known):
        choices = []
        for index, message in enumerate(messages.merged_chunks(known)):
            reason = message.pop("finish_reason", None)
            choices.append({"index": index, "message": message, "finish_reason": reason})
        return {"object": "chat.completion", "choices": choices}
    return events
