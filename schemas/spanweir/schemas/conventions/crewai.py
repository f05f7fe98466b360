"""CrewAI: crews, agents and tasks, as OpenLLMetry and CrewAI itself write them (`crewai.*`), and CrewAI's product
telemetry (`crew_key`, `task_key`), which holds no model calls. Source: crewai 1.15, openllmetry 0.62 (guide 5.9).
"""

import re

from spanweir.schemas.content import tools
from spanweir.schemas.convention import WHOLE, Convention, rules, verbatim
from spanweir.schemas.genai import Agent, GenAISpan, Graph, Retrieval
from spanweir.schemas.messages import parse
from spanweir.schemas.notes import Notes
from spanweir.schemas.raw import RawSpan
from spanweir.schemas.values import plain, text

_KINDS = (
    ("crewai.mcp.tool_name", "tool"), ("crewai.memory.query", "memory"), ("crewai.memory.value", "memory"),
    ("crewai.knowledge.query", "retrieval"), ("crewai.knowledge.retrieved_knowledge", "retrieval"),
    ("crewai.guardrail.description", "guardrail"), ("crewai.reasoning.attempt", "step"),
    ("crewai.method.name", "task"), ("crewai.flow.name", "workflow"), ("crewai.crew.name", "workflow"),
    ("crewai.agent.role", "agent"),
)  # fmt: skip
"""Of CrewAI's own spans without a standard operation: what a span is by what it tells."""


_CALLING = re.compile(r"tool_name=.* arguments=(\{.*\})$", re.DOTALL)


def _printed(span: GenAISpan) -> None:
    """OpenInference's instrumentation of before 1.0 prints the objects that a run was given: a tool's call stands in
    `calling`, an agent's task only in what came of it."""
    io = span.io
    given = plain(io.input) if io is not None else None
    if io is None or not isinstance(given, dict):
        return
    calling = given.get("calling")
    if span.kind == "tool" and isinstance(calling, str) and (found := _CALLING.match(calling)):
        read = parse(found[1], Notes())
        io.input = read if isinstance(read, dict) else given
    elif span.kind == "agent" and str(given.get("agent")).startswith("id=UUID("):
        said = plain(io.output)
        if isinstance(said, dict) and (task := text(said.get("description"))):
            io.input, io.output = task, said.get("raw", io.output)
            span.agent = span.agent or Agent(text(said.get("agent")))


def refine(raw: RawSpan, span: GenAISpan, notes: Notes) -> None:
    """A task is no agent, although OpenLLMetry calls the operation of both `invoke_agent`."""
    attributes = raw.attributes
    if raw.scope.name == _OPENINFERENCE:
        _printed(span)
        return
    if "crewai.task.id" in attributes or raw.name.endswith(".task"):
        span.kind = "task"
        span.graph = span.graph or Graph()
        span.graph.task = span.graph.task or text(attributes.get("crewai.task.name")) or raw.name.removesuffix(".task")
    elif "crewai.crew.id" in attributes or raw.name in ("crewai.workflow", "Crew Created", "Crew Execution"):
        span.kind = "workflow"
    elif "crewai.agent.id" in attributes and span.kind in ("other", "agent"):
        span.kind = "agent"
        span.agent = span.agent or Agent()
        span.agent.name = span.agent.name or text(attributes.get("crewai.agent.role"))
    elif raw.scope.name == "crewai.telemetry" and span.kind == "llm":
        span.kind = "other"
    elif span.kind == "other":
        span.kind = next((kind for key, kind in _KINDS if key in attributes), span.kind)
    if span.kind == "retrieval" and (query := text(attributes.get("crewai.knowledge.query"))):
        span.retrieval = span.retrieval or Retrieval()
        span.retrieval.query = span.retrieval.query or query


_OPENINFERENCE = "openinference.instrumentation.crewai"
CONVENTION = Convention(
    name="crewai",
    marks=("crewai.", "crew_key", "crew_id", "task_key"),
    scopes=("crewai", "opentelemetry.instrumentation.crewai", _OPENINFERENCE),
    rank=WHOLE,
    rules=(
        *rules(
            {
                "crewai.crew.name": ("graph.workflow", text),
                "crewai.crew.id": ("graph.workflow_id", text),
                "crewai.flow.name": ("graph.workflow", text),
                "crewai.task.id": ("graph.task_id", text),
                "crewai.task.name": ("graph.task", text),
                "crewai.agent.goal": ("agent.description", text),
                "crewai.agent.role": ("agent.name", text),
                "crewai.agent.id": ("agent.id", text),
                "crewai.mcp.tool_name": ("tool.name", text),
                "crewai.mcp.server_name": ("mcp.server", text),
                "crewai.memory.query": ("memory.query", text),
            }
        ),
        *rules(
            {
                "crewai.task.description": ("io.input", verbatim),
                "crewai.crew.inputs": ("io.input", parse),
                "crewai.task.output": ("io.output", verbatim),
                "crewai.crew.result": ("io.output", verbatim),
                "crewai.crew.output": ("io.output", verbatim),
                "crewai.flow.inputs": ("io.input", verbatim),
                "crewai.flow.result": ("io.output", verbatim),
                "crewai.method.params": ("io.input", verbatim),
                "crewai.method.result": ("io.output", verbatim),
                "crewai.mcp.tool_args": ("tool.arguments", verbatim),
                "crewai.mcp.tool_result": ("tool.result", verbatim),
                "crewai.memory.results": ("memory.records", parse),
                "crewai.knowledge.retrieved_knowledge": ("io.output", verbatim),
                "crewai.guardrail.description": ("io.input", verbatim),
                "crewai.guardrail.result": ("io.output", verbatim),
                "crewai.reasoning.plan": ("io.output", verbatim),
                "crewai.conversation.user_message": ("io.input", verbatim),
                "crewai.agent.tools": ("tools", tools),
            },
            content=True,
        ),
    ),
    refine=refine,
)
