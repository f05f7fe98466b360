"""Azure AI Inference, Azure AI Projects (Foundry) and Agents: threads, runs, and events with one JSON attribute
`gen_ai.event.content`, which `otel_genai` reads. Source: azure-ai-inference 1.0b9, azure-ai-projects 2.10 (guide 5.8).
"""

from spanweir.schemas.content import tools
from spanweir.schemas.convention import NATIVE, Convention, Fields, Occurrence, rules
from spanweir.schemas.genai import GenAISpan
from spanweir.schemas.messages import otel, otel_parts, parse
from spanweir.schemas.notes import Notes
from spanweir.schemas.raw import RawSpan
from spanweir.schemas.values import text

_OPERATIONS = {
    "create_thread": "other", "create_message": "other", "list_messages": "other", "start_thread_run": "agent",
    "process_thread_run": "agent", "get_thread_run": "agent", "submit_tool_outputs": "tool", "list_run_steps": "other",
}  # fmt: skip


_INPUT, _OUTPUT = "gen_ai.input.messages", "gen_ai.output.messages"
_SYSTEM = "gen_ai.system.instructions"


def read_events(occurrences: list[Occurrence], notes: Notes) -> Fields:
    """Whole lists of messages, each as the JSON text of one event (Projects 2; before, one event for each message)."""
    fields: Fields = {}
    for one in occurrences:
        said = one.attributes.get("gen_ai.event.content")
        if one.name == _SYSTEM:
            fields["system"] = otel_parts(said, notes)
        else:
            fields["input" if one.name == _INPUT else "output"] = otel(said, notes)
    return fields


def refine(raw: RawSpan, span: GenAISpan, notes: Notes) -> None:
    """Runs of an agent tell its answer as an assistant's message, after what it was asked."""
    found = _OPERATIONS.get(span.op or "")
    if found is not None:
        span.kind = found
    if span.kind == "agent" and not span.output:
        asked = len(span.input)
        while asked and span.input[asked - 1].role == "assistant":
            asked -= 1
        span.input, span.output = span.input[:asked], span.input[asked:]


CONVENTION = Convention(
    name="azure_ai",
    marks=(
        "gen_ai.thread.",
        "az.namespace",
        "azure.resource_provider.namespace",
        "gen_ai.run_step.",
        "gen_ai.message.",
        "microsoft.foundry.",
        "gen_ai.conversation.item.",
    ),
    scopes=("azure.ai", "azure-ai"),
    rank=NATIVE,
    rules=(
        *rules(
            {
                "gen_ai.thread.id": ("conversation_id", text),
                "gen_ai.thread.run.id": ("graph.workflow_id", text),
                "gen_ai.thread.run.status": ("response.status", text),
            }
        ),
        *rules(
            {
                "gen_ai.request.tools": ("tools", tools),
                "gen_ai.request.response_format": ("params.response_format", parse),
            },
            content=True,
        ),
    ),
    events=(_INPUT, _OUTPUT, _SYSTEM),
    read_events=read_events,
    refine=refine,
)
