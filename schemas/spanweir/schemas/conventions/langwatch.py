"""LangWatch SDK: `langwatch.*`, inputs and outputs as `{type, value}`. Source: langwatch 1.4
(Python); langwatch 0.16 (TypeScript, recorded), where contexts and metrics are wrapped in the same way.

Models, operation names and token counts are OpenTelemetry's keys beside them.
"""

from typing import Any

from spanweir.schemas import usage
from spanweir.schemas.content import documents
from spanweir.schemas.convention import WHOLE, Convention, rules, word
from spanweir.schemas.genai import Agent, GenAISpan, Tool
from spanweir.schemas.messages import parse
from spanweir.schemas.notes import Notes
from spanweir.schemas.params import params
from spanweir.schemas.raw import RawSpan
from spanweir.schemas.values import json_or_text, milliseconds, number, strings, text

KINDS = {
    "llm": "llm", "chain": "chain", "tool": "tool", "agent": "agent", "rag": "retrieval", "workflow": "workflow",
    "guardrail": "guardrail", "evaluation": "evaluation", "component": "chain", "module": "chain", "task": "task",
}  # fmt: skip


def typed(value: Any, notes: Notes) -> Any:
    """What `{type, value}` holds; a `list` holds more of these."""
    found = parse(value, notes)
    if not isinstance(found, dict) or "value" not in found:
        return json_or_text(value)
    held = found["value"]
    if found.get("type") == "list" and isinstance(held, list):
        return [item["value"] if isinstance(item, dict) and "value" in item else item for item in held]
    return held


def _held(value: Any, notes: Notes) -> Any:
    found = parse(value, notes)
    return found["value"] if isinstance(found, dict) and found.keys() == {"type", "value"} else found


def contexts(value: Any, notes: Notes) -> Any:
    """Chunks `{document_id, chunk_id, content}`."""
    found = _held(value, notes)
    if not isinstance(found, list):
        return None
    return documents([_chunk(item) for item in found], notes)


def _chunk(item: Any) -> Any:
    if not isinstance(item, dict):
        return item
    named = {key: item[key] for key in ("document_id", "chunk_id") if item.get(key)}
    return {"id": named.get("document_id") or named.get("chunk_id"), "content": item.get("content"), "metadata": named}


def metrics(value: Any, notes: Notes) -> dict[str, Any] | None:
    found = _held(value, notes)
    if not isinstance(found, dict):
        return None
    fields: dict[str, Any] = {}
    if (read := usage.from_object(found)) is not None:
        fields["usage"] = read
    if (cost := number(found.get("cost"))) is not None:
        fields["cost.total"] = cost
    if (first := milliseconds(found.get("first_token_ms"))) is not None:
        fields["timing.ttft_ns"] = first
    return fields or None


def labels(value: Any, notes: Notes) -> dict[str, Any] | None:
    """LangWatch's names in the trace's `metadata`; everybody's are read elsewhere."""
    found = parse(value, notes)
    if not isinstance(found, dict):
        return None
    fields: dict[str, Any] = {}
    if tags := strings(found.get("labels")):
        fields["tags"] = tags
    if isinstance(user := found.get("customer_id"), str) and "user_id" not in found:
        fields["user_id"] = user
    return fields or None


def refine(raw: RawSpan, span: GenAISpan, notes: Notes) -> None:
    if span.kind == "agent":
        span.agent = span.agent or Agent()
        span.agent.name = span.agent.name or raw.name
    elif span.kind == "tool":
        span.tool = span.tool or Tool()
        span.tool.name = span.tool.name or raw.name


CONVENTION = Convention(
    name="langwatch",
    marks=("langwatch.",),
    scopes=("langwatch",),
    rank=WHOLE,
    rules=(
        *rules(
            {
                "langwatch.span.type": ("kind", word(KINDS)),
                "langwatch.thread.id": ("session_id", text),
                "langwatch.session.id": ("session_id", text),
                "langwatch.user.id": ("user_id", text),
                "langwatch.customer.id": ("user_id", text),
                "langwatch.labels": ("tags", strings),
                "langwatch.prompt.handle": ("prompt.name", text),
                "langwatch.prompt.id": ("prompt.id", text),
                "langwatch.prompt.version.number": ("prompt.version", text),
            }
        ),
        *rules(
            {
                "langwatch.input": ("io.input", typed),
                "langwatch.output": ("io.output", typed),
                "langwatch.rag_contexts": ("documents", contexts),
                "langwatch.contexts": ("documents", contexts),
                "langwatch.params": ("*", params),
                "langwatch.metrics": ("*", metrics),
                "metadata": ("*", labels),
            },
            content=True,
        ),
    ),
    refine=refine,
)
