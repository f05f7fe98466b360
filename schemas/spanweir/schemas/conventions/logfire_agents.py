"""Logfire around the OpenAI Agents SDK: names in templates, the whole answer beside the events. Source: logfire 4.14.

Messages are read from `events`, as of all of Logfire's spans.
"""

from typing import Any

from spanweir.schemas import content, usage
from spanweir.schemas.convention import OVERRIDE, Convention, rules
from spanweir.schemas.genai import Agent, GenAISpan, Graph, Tool, TraceIO
from spanweir.schemas.messages import parse
from spanweir.schemas.notes import Notes
from spanweir.schemas.raw import RawSpan
from spanweir.schemas.values import quoted, text

_KINDS = (
    ("OpenAI Agents trace", "workflow"), ("Agent run", "agent"), ("Function:", "tool"), ("Handoff:", "router"),
    ("Guardrail", "guardrail"),
)  # fmt: skip


def answer(value: Any, notes: Notes) -> dict[str, Any] | None:
    """What the events leave out of an answer of the Responses API: detailed counts, tools offered, status."""
    found = parse(value, notes)
    if not isinstance(found, dict):
        return None
    fields: dict[str, Any] = {}
    if (read := usage.from_object(found.get("usage"))) is not None:
        fields["usage"] = read
    if found.get("tools") and (offered := content.tools(found["tools"], notes)):
        fields["tools"] = offered
    if status := text(found.get("status")):
        fields["response.finish_reasons"] = [status]
    notes.lossy = True
    return fields or None


def session(value: Any) -> str | None:
    """`group_id`, which is the text `null` where there is none."""
    return None if value == "null" else quoted(value)


def refine(raw: RawSpan, span: GenAISpan, notes: Notes) -> None:
    kind = next((kind for beginning, kind in _KINDS if raw.name.startswith(beginning)), None)
    if kind is None:
        return
    span.kind = kind
    name = text(raw.attributes.get("name"))
    if kind == "agent":
        span.agent = span.agent or Agent()
        span.agent.name = span.agent.name or name
    elif kind == "tool":
        span.tool = span.tool or Tool()
        span.tool.name = span.tool.name or name
    elif kind == "workflow" and name:
        span.graph = span.graph or Graph()
        span.graph.workflow = span.graph.workflow or name
        span.io = span.io or TraceIO()
        span.io.trace_name = span.io.trace_name or name


CONVENTION = Convention(
    name="logfire_agents",
    scopes=("logfire.openai_agents",),
    rank=OVERRIDE,
    rules=(
        *rules({"response_id": ("response.id", text), "group_id": ("session_id", session)}),
        *rules({"response": ("*", answer)}, content=True),
    ),
    refine=refine,
)
