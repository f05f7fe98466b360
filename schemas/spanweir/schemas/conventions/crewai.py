"""CrewAI: crews, agents and tasks, as OpenLLMetry and CrewAI itself write them (`crewai.*`), and CrewAI's product
telemetry (`crew_key`, `task_key`), which holds no model calls. Source: crewai 1.15, openllmetry 0.62 (guide 5.9).
"""

from spanweir.schemas.content import tools
from spanweir.schemas.convention import WHOLE, Convention, rules, verbatim
from spanweir.schemas.genai import Agent, GenAISpan, Graph
from spanweir.schemas.messages import parse
from spanweir.schemas.notes import Notes
from spanweir.schemas.raw import RawSpan
from spanweir.schemas.values import text


def refine(raw: RawSpan, span: GenAISpan, notes: Notes) -> None:
    """A task is no agent, although OpenLLMetry calls the operation of both `invoke_agent`."""
    attributes = raw.attributes
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


CONVENTION = Convention(
    name="crewai",
    marks=("crewai.", "crew_key", "crew_id", "task_key"),
    scopes=("crewai", "opentelemetry.instrumentation.crewai"),
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
            }
        ),
        *rules(
            {
                "crewai.task.description": ("io.input", verbatim),
                "crewai.crew.inputs": ("io.input", parse),
                "crewai.task.output": ("io.output", verbatim),
                "crewai.crew.result": ("io.output", verbatim),
                "crewai.agent.tools": ("tools", tools),
            },
            content=True,
        ),
    ),
    refine=refine,
)
