"""AWS Distro for OpenTelemetry and Bedrock AgentCore: content is taken off spans and their events and sent as one log
record for each span: its name is the instrumentation's scope, its body `{input: {messages}, output: {messages}}`.

Source: aws-opentelemetry-distro 0.21 (semconv guide 5.7).
"""

from collections.abc import Mapping
from typing import Any

from spanweir.schemas.convention import NATIVE, Convention, Fields, Occurrence, rules
from spanweir.schemas.genai import Message
from spanweir.schemas.messages import messages, parse
from spanweir.schemas.notes import Notes
from spanweir.schemas.values import text


def claims(one: Occurrence) -> bool:
    """Whether a record has such a body."""
    body = one.body
    if not isinstance(body, dict):
        return False
    sides = (body.get("input"), body.get("output"))
    return any(isinstance(side, dict) and "messages" in side for side in sides)


def _side(body: Mapping[str, Any], side: str, speaker: str, notes: Notes) -> list[Message]:
    held = body.get(side)
    found: list[Message] = []
    for item in (held.get("messages") if isinstance(held, dict) else None) or ():
        if isinstance(item, dict):
            content = item.get("content")
            if isinstance(content, str) and content[:1] in ("[", "{"):
                item = {**item, "content": parse(content, Notes())}
            elif isinstance(content, dict):
                item = {**item, "content": _inner(content)}
        found += messages(item, notes, speaker) or []
    return found


def _inner(content: Mapping[str, Any]) -> Any:
    """Strands wraps once more: `{"content": "<JSON>"}`, `{"message": "<JSON>"}`."""
    for name in ("content", "message"):
        if isinstance(content.get(name), str):
            return parse(content[name], Notes())
    return content


def read_events(occurrences: list[Occurrence], notes: Notes) -> Fields:
    given: list[Message] = []
    said: list[Message] = []
    for one in occurrences:
        if isinstance(one.body, dict):
            given += _side(one.body, "input", "user", notes)
            said += _side(one.body, "output", "assistant", notes)
    return {"input": given, "output": said}


CONVENTION = Convention(
    name="adot",
    marks=("aws.bedrock.agentcore.", "gen_ai.runtime.id", "gen_ai.memory.id", "gen_ai.gateway.id"),
    rank=NATIVE,
    rules=rules(
        {
            "gen_ai.memory.id": ("memory.store_id", text),
            "gen_ai.runtime.id": ("agent.id", text),
            "gen_ai.gateway.id": ("mcp.server", text),
        }
    ),
    claims=claims,
    read_events=read_events,
)
