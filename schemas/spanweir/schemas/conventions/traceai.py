"""FutureAGI's traceAI: OpenInference's lists below OpenTelemetry's names, `gen_ai.input.messages.0.message.role`.

Source: traceai-openai 0.1 with fi-instrumentation-otel 1.1.
"""

from collections.abc import Sequence
from typing import Any

from spanweir.schemas.convention import INDEXED, WHOLE, Convention, Many, rules, verbatim, word
from spanweir.schemas.conventions.openinference import document_list, message_list
from spanweir.schemas.genai import Message
from spanweir.schemas.notes import Notes
from spanweir.schemas.params import params
from spanweir.schemas.raw import Attributes
from spanweir.schemas.values import number, text

KINDS = {
    "llm": "llm", "chain": "chain", "tool": "tool", "retriever": "retrieval", "embedding": "embedding",
    "agent": "agent", "reranker": "rerank", "guardrail": "guardrail", "evaluator": "evaluation",
    "vector_db": "retrieval", "conversation": "workflow",
}  # fmt: skip

_BARE = (".message_content.image", ".message_content.audio", ".message_content.video")


def messages(prefix: str) -> Any:
    """OpenInference's list of messages, where a picture or a sound may be one attribute."""
    read = message_list(prefix)

    def named(attributes: Attributes, keys: Sequence[str], notes: Notes) -> list[Message] | None:
        if any(key.endswith(_BARE) for key in keys):
            names = {key: f"{key}.url" if key.endswith(_BARE) else key for key in keys}
            attributes = {name: attributes[key] for key, name in names.items()}
            keys = list(names.values())
        found: list[Message] | None = read(attributes, keys, notes)
        return found

    return named


CONVENTION = Convention(
    name="traceai",
    marks=("gen_ai.input.messages.", "gen_ai.output.messages.", "gen_ai.request.parameters"),
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
        Many(("gen_ai.input.messages.#.",), "input", messages("gen_ai.input.messages.")),
        Many(("gen_ai.output.messages.#.",), "output", messages("gen_ai.output.messages.")),
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
