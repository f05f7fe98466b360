"""Dify, and the style of Alibaba's LoongSuite: `gen_ai.span.kind`, undivided content, nanoseconds to first token.

Source: Dify 1.x (semconv guide 5.9).
"""

from spanweir.schemas.content import documents
from spanweir.schemas.convention import NATIVE, WHOLE, Convention, rules, verbatim, word
from spanweir.schemas.values import boolean, nanoseconds, strings, text

KINDS = {
    "chain": "chain", "retriever": "retrieval", "reranker": "rerank", "llm": "llm", "embedding": "embedding",
    "tool": "tool", "agent": "agent", "task": "task", "step": "step", "entry": "workflow", "memory": "memory",
}  # fmt: skip


CONVENTION = Convention(
    name="dify",
    marks=("gen_ai.span.kind", "dify."),
    rank=NATIVE,
    rules=(
        *rules(
            {
                "gen_ai.span.kind": ("kind", word(KINDS)),
                "gen_ai.user.id": ("user_id", text),
                "gen_ai.session.id": ("session_id", text),
                "gen_ai.user.time_to_first_token": ("timing.ttft_ns", nanoseconds),
                "gen_ai.response.finish_reason": ("response.finish_reasons", strings),
                "gen_ai.model_name": ("model.request", text),
                "retrieval.query": ("retrieval.query", text),
                "dify.workflow_id": ("graph.workflow_id", text),
                "dify.streaming": ("params.stream", boolean),
                "tool.name": ("tool.name", text),
                "tool.description": ("tool.description", text),
            }
        ),
        *rules(
            {
                "retrieval.document": ("documents", documents),
                "tool.parameters": ("tool.arguments", verbatim),
            },
            rank=WHOLE,
            content=True,
        ),
    ),
)
