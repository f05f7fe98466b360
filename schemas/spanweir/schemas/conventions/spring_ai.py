"""Spring AI, and Camel's subset: Micrometer writes every attribute as a string, which the readers of `values` accept.

Until version 2, which needs Spring Boot 4, the calls of a tool loop report the sum of all calls so far. Content stands
in span events `gen_ai.content.*` of versions before 1.0 (`otel_genai`), later nowhere. Source: Spring AI
1.x (semconv guide 5.9).
"""

from spanweir.schemas.content import documents, tools
from spanweir.schemas.convention import NATIVE, Convention, rules, verbatim, word
from spanweir.schemas.genai import GenAISpan, Tool
from spanweir.schemas.notes import Notes
from spanweir.schemas.raw import RawSpan
from spanweir.schemas.values import count, number, strings, text

KINDS = {
    "chat_client": "chain", "advisor": "chain", "tool_call": "tool", "vector_store": "retrieval", "chat": "llm",
    "embedding": "embedding", "image": "image",
}  # fmt: skip


def refine(raw: RawSpan, span: GenAISpan, notes: Notes) -> None:
    if span.usage is not None and span.kind == "llm" and raw.scope.version.startswith("3."):
        reasons = (span.response.finish_reasons if span.response is not None else None) or []
        span.usage.running = "more" if any(reason.upper() == "TOOL_CALLS" for reason in reasons) else "last"
    if span.kind == "tool":
        span.tool = span.tool or Tool()
        span.tool.name = span.tool.name or raw.name.removeprefix("tool_call ").removeprefix("spring_ai tool_call ")
    operation = str(raw.attributes.get("db.operation.name", "")).lower()
    if span.kind == "retrieval" and operation and operation not in ("query", "search"):
        span.kind = "other"


CONVENTION = Convention(
    name="spring_ai",
    marks=("spring.ai.", "spring_ai.", "db.vector.query."),
    scopes=("org.springframework.boot", "org.springframework.ai"),
    rank=NATIVE,
    rules=(
        *rules(
            {
                "spring.ai.kind": ("kind", word(KINDS)),
                "spring.ai.advisor.name": ("graph.node", text),
                "spring.ai.tool.definition.name": ("tool.name", text),
                "spring.ai.tool.name": ("tool.name", text),
                "spring.ai.tool.definition.description": ("tool.description", text),
                "gen_ai.response.finish_reasons": ("response.finish_reasons", strings),
                "gen_ai.request.embedding.dimensions": ("params.dimensions", count),
                "db.vector.query.content": ("retrieval.query", text),
                "db.vector.query.top_k": ("retrieval.top_k", count),
                "db.vector.query.similarity_threshold": (
                    "params.extra",
                    lambda value: {"similarity_threshold": number(value)},
                ),
                "spring.ai.chat.client.conversation.id": ("conversation_id", text),
            }
        ),
        *rules(
            {
                "spring.ai.model.request.tool.names": ("tools", tools),
                "spring.ai.tool.call.arguments": ("tool.arguments", verbatim),
                "spring.ai.tool.call.result": ("tool.result", verbatim),
                "db.vector.query.response.documents": ("documents", documents),
            },
            content=True,
        ),
    ),
    refine=refine,
)
