"""Monocle: entities in numbered attributes, inputs, outputs and token counts in three span events.

Each message is a JSON object of one member, `{"user": "…"}`. Source: monocle_apptrace 0.8.15, with and without its
option for OpenTelemetry's keys.
"""

from collections.abc import Mapping
from typing import Any

from spanweir.schemas import usage
from spanweir.schemas.convention import NATIVE, Convention, rules, word
from spanweir.schemas.genai import Agent, GenAISpan, Message, Model, Part, Text, Tool, ToolCall, ToolResult
from spanweir.schemas.messages import parse
from spanweir.schemas.notes import Notes, arguments, id_of
from spanweir.schemas.paths import set_field
from spanweir.schemas.raw import RawSpan
from spanweir.schemas.values import number, plain, text
from spanweir.schemas.vocabulary import provider, role

KINDS = {
    "inference": "llm", "inference.framework": "llm", "inference.modelapi": "step", "workflow": "workflow",
    "retrieval": "retrieval", "retrieval.embedding": "embedding", "agentic.turn": "workflow", "agentic.request":
    "workflow", "agentic.invocation": "agent", "agentic.tool.invocation": "tool", "agentic.mcp.invocation": "tool",
    "agentic.delegation": "step",
}  # fmt: skip


def _call(told: Any, notes: Notes) -> ToolCall | None:
    told = parse(told, notes)
    if not isinstance(told, dict):
        return None
    name = text(told.get("tool_name") or told.get("tool_function") or told.get("name"))
    given = told.get("tool_arguments", told.get("args"))
    return ToolCall(name, id_of(told, "tool_id", "id"), arguments(given)) if name and given is not None else None


def _parts(speaker: str, told: Any, notes: Notes) -> list[Part]:
    """What one said: text, or calls of tools as objects, JSON texts of objects, or JSON text of their list."""
    read = parse(told, notes) if isinstance(told, str) and told[:2] in ('{"', "[{") and speaker == "assistant" else told
    calls = (
        [_call(one, notes) for one in (read if isinstance(read, list) else [read])] if speaker == "assistant" else []
    )
    if calls and all(calls):
        return [call for call in calls if call is not None]
    if speaker == "tool":
        return [ToolResult(told)]
    said = told if isinstance(told, list) else [told]
    return [Text(one if isinstance(one, str) else str(one)) for one in said if one not in (None, "")]


def said(value: Any, notes: Notes) -> list[Message] | None:
    """Messages in Monocle's form, a list or one; None where these are none."""
    found: list[Message] = []
    value = parse(value, notes)
    for item in value if isinstance(value, list) else [value]:
        item = parse(item, notes)
        if not isinstance(item, dict) or len(item) != 1:
            return None
        ((name, told),) = item.items()
        speaker = role(str(name))
        if speaker not in ("system", "developer", "user", "assistant", "tool"):
            return None
        found.append(Message(speaker, _parts(speaker, told, notes)))
    return found or None


def _events(raw: RawSpan, span: GenAISpan) -> None:
    """Inputs, outputs and counts. Not by `Convention.events`, whose names count in every span: these are anybody's."""
    for event in raw.events:
        get = event.attributes.get
        if event.name == "data.input":
            _set(span, "io.input", get("input"))
        elif event.name == "data.output":
            _set(span, "io.output", get("response"))
        elif event.name == "metadata":
            _set(span, "usage", usage.from_object(dict(event.attributes)))
            _set(span, "params.temperature", number(get("temperature")))
            _set(span, "response.finish_reasons", [reason] if (reason := text(get("finish_reason"))) else None)


def _set(span: GenAISpan, field: str, value: Any) -> None:
    if value is not None:
        set_field(span, field, value)


def _entities(attributes: Mapping[str, Any]) -> list[tuple[str, str]]:
    """`entity.N.type` and `entity.N.name`, in order."""
    numbers = range(1, 65)
    return [
        (str(attributes[f"entity.{n}.type"]), text(attributes.get(f"entity.{n}.name")) or "")
        for n in numbers
        if f"entity.{n}.type" in attributes
    ]


def refine(raw: RawSpan, span: GenAISpan, notes: Notes) -> None:
    _events(raw, span)
    entities = _entities(raw.attributes)
    if span.kind == "llm":
        for kind, name in entities:
            if kind.startswith("model.") and name:
                span.model = span.model or Model()
                span.model.request = span.model.request or name
            elif kind.startswith("inference."):
                # gen_ai.provider.name holds the host's name.
                span.provider = provider(kind.removeprefix("inference."))[0] or span.provider
        if span.io is not None:
            span.input = span.input or said(plain(span.io.input), notes) or []
            span.output = span.output or said(plain(span.io.output), notes) or []
    elif span.kind in ("agent", "tool") and entities:
        kind, name = entities[0]
        if span.kind == "agent" and name:
            span.agent = span.agent or Agent(name)
        elif span.kind == "tool" and name:
            span.tool = span.tool or Tool()
            span.tool.name = span.tool.name or name
            span.tool.description = span.tool.description or text(raw.attributes.get("entity.1.description"))
            if span.io is not None and isinstance(given := plain(span.io.input), str):
                span.io.input = parse(given, notes)


CONVENTION = Convention(
    name="monocle",
    marks=("monocle_apptrace.", "monocle."),
    scopes=("monocle_apptrace",),
    rank=NATIVE,
    rules=(
        *rules(
            {
                "span.type": ("kind", word(KINDS)),
                "workflow.name": ("graph.workflow", text),
                "scope.agentic.session": ("session_id", text),
            }
        ),
    ),
    refine=refine,
)
