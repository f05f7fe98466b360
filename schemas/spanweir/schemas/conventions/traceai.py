"""FutureAGI's traceAI: OpenInference's lists below OpenTelemetry's names, `gen_ai.input.messages.0.message.role`.

Source: traceai-openai 0.1 with fi-instrumentation-otel 1.1.
"""

from spanweir.schemas.content import params
from spanweir.schemas.convention import INDEXED, WHOLE, Convention, Many, rules, verbatim, word
from spanweir.schemas.conventions.openinference import document_list, message_list
from spanweir.schemas.values import number, text

KINDS = {
    "llm": "llm", "chain": "chain", "tool": "tool", "retriever": "retrieval", "embedding": "embedding",
    "agent": "agent", "reranker": "rerank", "guardrail": "guardrail", "evaluator": "evaluation",
    "vector_db": "retrieval", "conversation": "workflow",
}  # fmt: skip

CONVENTION = Convention(
    name="traceai",
    marks=("gen_ai.input.messages.", "gen_ai.output.messages.", "gen_ai.request.parameters", "gen_ai.cost."),
    scopes=("traceai_", "fi_instrumentation"),
    rank=INDEXED,
    rules=(
        *rules(
            {
                "gen_ai.span.kind": ("kind", word(KINDS)),
                "gen_ai.cost.input": ("cost.input", number),
                "gen_ai.cost.output": ("cost.output", number),
                "gen_ai.cost.total": ("cost.total", number),
                "gen_ai.retrieval.query": ("retrieval.query", text),
                "gen_ai.reranker.query": ("rerank.query", text),
                "gen_ai.reranker.model": ("model.request", text),
            }
        ),
        *rules({"gen_ai.request.parameters": ("*", params)}, content=True),
        *rules({"gen_ai.tool.parameters": ("tool.arguments", verbatim)}, rank=WHOLE, content=True),
    ),
    many=(
        Many(("gen_ai.input.messages.#.",), "input", message_list("gen_ai.input.messages.")),
        Many(("gen_ai.output.messages.#.",), "output", message_list("gen_ai.output.messages.")),
        Many(("gen_ai.retrieval.documents.#.",), "documents", document_list("gen_ai.retrieval.documents.")),
        Many(("gen_ai.reranker.output_documents.#.",), "documents", document_list("gen_ai.reranker.output_documents.")),
        Many(
            ("gen_ai.reranker.input_documents.#.",), "rerank.input", document_list("gen_ai.reranker.input_documents.")
        ),
    ),
    usage={
        "gen_ai.usage.cache_read_tokens": "cache_read",
        "gen_ai.usage.cache_write_tokens": "cache_write",
        "gen_ai.usage.input_tokens.cache_input": "cache_read",
    },
)
