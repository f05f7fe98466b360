"""VoltAgent: `entity.*`, `agent.messages`, `llm.messages`, `usage.*`. Source: @voltagent/core 1.x (semconv guide 5.9).

Its keys are so general that they only count on spans that have an `entity.type` or a `voltagent.` key.
"""

from spanweir.schemas import associations
from spanweir.schemas.content import request, response
from spanweir.schemas.convention import GENERIC, NATIVE, Convention, rules, verbatim, word
from spanweir.schemas.genai import Agent, GenAISpan, Tool
from spanweir.schemas.notes import Notes
from spanweir.schemas.raw import RawSpan
from spanweir.schemas.values import number, text

KINDS = {
    "agent": "agent", "subagent": "agent", "llm": "llm", "tool": "tool", "memory": "memory", "retriever": "retrieval",
    "workflow": "workflow", "workflow-step": "task", "guardrail": "guardrail", "embedding": "embedding",
    "vector": "retrieval", "summary": "step",
}  # fmt: skip


def refine(raw: RawSpan, span: GenAISpan, notes: Notes) -> None:
    name = text(raw.attributes.get("entity.name")) or text(raw.attributes.get("tool.name"))
    if span.kind == "agent":
        span.agent = span.agent or Agent()
        span.agent.name = span.agent.name or name
    elif span.kind == "tool":
        span.tool = span.tool or Tool()
        span.tool.name = span.tool.name or text(raw.attributes.get("tool.name")) or name


_METADATA, _PROPERTIES = associations.bag("voltagent.metadata.")

CONVENTION = Convention(
    name="voltagent",
    marks=("entity.type", "voltagent.", "agent.messages"),
    scopes=("voltagent", "@voltagent/"),
    rank=NATIVE,
    rules=(
        *rules(
            {
                "span.type": ("kind", word(KINDS)),
                "entity.type": ("kind", word(KINDS)),
                "llm.model": ("model.request", text),
                "ai.model.name": ("model.request", text),
                "llm.temperature": ("params.temperature", number),
                "tool.call.id": ("tool.id", text),
                "conversation.id": ("conversation_id", text),
                "userId": ("user_id", text),
                "conversationId": ("conversation_id", text),
            }
        ),
        *rules(
            {
                "llm.messages": ("*", request),
                "agent.messages": ("*", request),
                "llm.response": ("*", response),
            },
            content=True,
        ),
        *rules(
            {
                "tool.arguments": ("tool.arguments", verbatim),
                "tool.result": ("tool.result", verbatim),
                "input": ("io.input", verbatim),
                "output": ("io.output", verbatim),
            },
            rank=GENERIC,
            content=True,
        ),
        *_METADATA,
    ),
    many=_PROPERTIES,
    usage={
        "usage.prompt_tokens": "input",
        "usage.completion_tokens": "output",
        "usage.total_tokens": "total",
        "usage.cached_tokens": "cache_read",
        "usage.reasoning_tokens": "reasoning",
        "llm.usage.prompt_tokens": "input",
        "llm.usage.completion_tokens": "output",
        "llm.usage.total_tokens": "total",
    },
    refine=refine,
)
