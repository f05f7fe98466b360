"""n8n: workflows and their nodes; model data only where a node adds it. Source: n8n 2.19 (semconv guide 5.9).

Its agents (@n8n/agents 0.26, recorded) send the AI SDK's spans below a root whose `gen_ai.prompt` is no prompt: it
lists the agent's tools.
"""

from spanweir.schemas import associations
from spanweir.schemas.content import tools
from spanweir.schemas.convention import NATIVE, Convention, rules
from spanweir.schemas.genai import GenAISpan
from spanweir.schemas.messages import parse
from spanweir.schemas.notes import Notes
from spanweir.schemas.raw import RawSpan
from spanweir.schemas.values import quoted, text

_NODES = (
    ("lmchat", "llm"), ("lmopenai", "llm"), ("agent", "agent"), ("embeddings", "embedding"),
    ("vectorstore", "retrieval"), ("retriever", "retrieval"), ("tool", "tool"),
    ("memory", "memory"), ("outputparser", "parser"),
)  # fmt: skip


_CATALOGUE = {"agent", "tool_count", "tools"}


def refine(raw: RawSpan, span: GenAISpan, notes: Notes) -> None:
    """A node is what its type says, else a task; an agent's list of tools is not what it was asked."""
    if span.op == "invoke_agent" and "gen_ai.prompt" in raw.attributes:
        listed = parse(raw.attributes["gen_ai.prompt"], Notes())
        if isinstance(listed, dict) and listed.keys() == _CATALOGUE:
            span.tools = span.tools or tools(listed["tools"], notes) or []
            span.input = []
            if span.io is not None:
                span.io.input = None
            notes.taken.pop("io.input", None)
            notes.taken.pop("input", None)
    if span.kind != "other":
        return
    if raw.name == "workflow.execute":
        span.kind = "workflow"
    elif raw.name == "node.execute":
        kind = str(raw.attributes.get("n8n.node.type", "")).rpartition(".")[2].lower()
        span.kind = next((found for word, found in _NODES if word in kind), "task")


_CUSTOM, _PROPERTIES = associations.bag("n8n.node.custom.")

CONVENTION = Convention(
    name="n8n",
    marks=("n8n.",),
    scopes=("n8n-otel", "n8n", "@n8n/"),
    rank=NATIVE,
    rules=(
        *rules(
            {
                "n8n.workflow.name": ("graph.workflow", text),
                "n8n.workflow.id": ("graph.workflow_id", text),
                "n8n.node.name": ("graph.node", text),
                "n8n.node.custom.model": ("model.request", quoted),
            }
        ),
        *_CUSTOM,
    ),
    many=_PROPERTIES,
    refine=refine,
)
