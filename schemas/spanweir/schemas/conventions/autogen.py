"""AutoGen (autogen-core): OpenTelemetry's agent and tool spans among messaging spans of its runtime.

Source: autogen-core 0.7 (semconv guide 5.8). Messaging spans stay plain spans with their own names.
"""

from spanweir.schemas.convention import NATIVE, Convention, rules
from spanweir.schemas.genai import GenAISpan
from spanweir.schemas.messages import parse
from spanweir.schemas.notes import Notes
from spanweir.schemas.raw import RawSpan
from spanweir.schemas.values import text


def refine(raw: RawSpan, span: GenAISpan, notes: Notes) -> None:
    """`autogen process …` and its siblings carry messages between agents."""
    if span.kind == "other" and raw.name.startswith("autogen "):
        span.kind = "hook"


CONVENTION = Convention(
    name="autogen",
    marks=("autogen.", "recipient_agent_type"),
    scopes=("autogen-core", "autogen_core", "autogen"),
    rank=NATIVE,
    rules=(
        *rules({"recipient_agent_type": ("graph.node", text), "sender_agent_type": ("graph.parent_node_id", text)}),
        *rules({"message": ("io.input", parse)}, content=True),
    ),
    refine=refine,
)
