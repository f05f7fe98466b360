"""Koog (JetBrains): indexed keys in which an assistant's calls have role `tool` (read by `openllmetry` and `chat`),
kinds by span name, tool inputs in `input.value`. Source: ai.koog of 2025 and 2026 (semconv guide 5.9).
"""

from spanweir.schemas.convention import NATIVE, Convention, rules
from spanweir.schemas.genai import Agent, GenAISpan, Graph, Tool
from spanweir.schemas.notes import Notes
from spanweir.schemas.raw import RawSpan
from spanweir.schemas.values import text

_KINDS = (("agent.", "agent"), ("run.", "workflow"), ("node.", "task"), ("llm.", "llm"), ("tool.", "tool"))


def refine(raw: RawSpan, span: GenAISpan, notes: Notes) -> None:
    if span.kind == "other" or (span.kind == "agent" and raw.name.startswith("run.")):
        span.kind = next((kind for beginning, kind in _KINDS if raw.name.startswith(beginning)), span.kind)
    name = raw.name.partition(".")[2]
    if span.kind == "tool":
        span.tool = span.tool or Tool()
        span.tool.name = span.tool.name or name
    elif span.kind == "task":
        span.graph = span.graph or Graph()
        span.graph.node = span.graph.node or name
    elif span.kind == "agent" and (strategy := text(raw.attributes.get("koog.agent.strategy.name"))):
        span.agent = span.agent or Agent(strategy)


CONVENTION = Convention(
    name="koog",
    marks=("koog.",),
    scopes=("ai.koog",),
    rank=NATIVE,
    rules=rules({"koog.node.name": ("graph.node", text), "koog.agent.strategy.name": ("graph.workflow", text)}),
    refine=refine,
)
