"""AgentOps: `agentops.*` around OpenLLMetry's indexed keys. Source: agentops 0.4 (semconv guide 5.10)."""

from spanweir.schemas.convention import WHOLE, Convention, rules, verbatim, word
from spanweir.schemas.conventions.openllmetry import entity_input
from spanweir.schemas.genai import Agent, GenAISpan, Tool
from spanweir.schemas.notes import Notes
from spanweir.schemas.raw import RawSpan
from spanweir.schemas.values import boolean, number, seconds, strings, text

KINDS = {
    "session": "workflow", "workflow": "workflow", "agent": "agent", "operation": "task", "task": "task",
    "tool": "tool", "llm": "llm", "chain": "chain", "guardrail": "guardrail", "text": "chain",
}  # fmt: skip

_DECORATED = ("entity", "session", "trace", "workflow", "agent", "operation", "task", "tool", "guardrail")
"""What the decorators are called; their inputs and outputs stand below the name of the kind."""


def refine(raw: RawSpan, span: GenAISpan, notes: Notes) -> None:
    name = text(raw.attributes.get("agentops.entity.name")) or text(raw.attributes.get("operation.name"))
    if span.kind == "agent":
        span.agent = span.agent or Agent()
        span.agent.name = span.agent.name or name
    elif span.kind == "tool":
        span.tool = span.tool or Tool()
        span.tool.name = span.tool.name or name


CONVENTION = Convention(
    name="agentops",
    marks=("agentops.",),
    scopes=("agentops",),
    rank=WHOLE,
    rules=(
        *rules(
            {
                "agentops.span.kind": ("kind", word(KINDS)),
                "agentops.tags": ("tags", strings),
                "agent.name": ("agent.name", text),
                "agent.id": ("agent.id", text),
                "tool.name": ("tool.name", text),
                "workflow.name": ("graph.workflow", text),
                "tool.call.id": ("tool.id", text),
                "gen_ai.request.streaming": ("params.stream", boolean),
                "gen_ai.usage.total_cost": ("cost.total", number),
                "gen_ai.streaming.time_to_first_token": ("timing.ttft_ns", seconds),
            }
        ),
        *rules(
            {
                **{f"agentops.{kind}.input": ("io.input", entity_input) for kind in _DECORATED},
                **{f"agentops.{kind}.output": ("io.output", verbatim) for kind in _DECORATED},
                "tool.parameters": ("tool.arguments", verbatim),
                "tool.result": ("tool.result", verbatim),
            },
            content=True,
        ),
    ),
    refine=refine,
)
