"""Dify, and the style of Alibaba's LoongSuite: `gen_ai.span.kind`, undivided content, nanoseconds to first token.

Its exporter of 2026 writes OpenInference's kinds with what it knows of a model call in `metadata`; the one for Tencent
has kinds of its own. Source: Dify 1.x (semconv guide 5.9), its sources of August 2026.
"""

from spanweir.schemas import usage
from spanweir.schemas.content import documents
from spanweir.schemas.convention import NATIVE, WHOLE, Convention, rules, verbatim, word
from spanweir.schemas.genai import GenAISpan, Model, Retrieval
from spanweir.schemas.notes import Notes
from spanweir.schemas.raw import RawSpan
from spanweir.schemas.values import boolean, nanoseconds, plain, strings, text
from spanweir.schemas.vocabulary import provider

KINDS = {
    "chain": "chain", "retriever": "retrieval", "reranker": "rerank", "llm": "llm", "embedding": "embedding",
    "tool": "tool", "agent": "agent", "task": "task", "step": "step", "entry": "workflow", "memory": "memory",
    "generation": "llm", "workflow": "workflow",
}  # fmt: skip


def refine(raw: RawSpan, span: GenAISpan, notes: Notes) -> None:
    """The newer exporter: a model call's name, provider and tokens are members of its metadata, a retrieval's query and
    documents are members of its input and output."""
    known = span.metadata
    if span.kind == "retrieval" and span.io is not None and not span.documents:
        given, found = plain(span.io.input), plain(span.io.output)
        if isinstance(found, dict):
            span.documents = documents(found.get("result"), notes) or []
        if span.retrieval is None and isinstance(given, dict):
            span.retrieval = Retrieval(text(given.get("query")))
    if span.kind != "llm" or not known:
        return
    if span.model is None and (name := text(known.get("model_name"))):
        span.model = Model(name)
    if span.provider is None:
        span.provider = provider(known.get("model_provider"))[0]
    if span.usage is None and known.get("total_tokens"):
        counts = {name: known.get(name) for name in ("prompt_tokens", "completion_tokens", "total_tokens")}
        span.usage = usage.from_object(counts)


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
                "gen_ai.response.time_to_first_token": ("timing.ttft_ns", nanoseconds),
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
                "gen_ai.entity.input": ("io.input", verbatim),
                "gen_ai.entity.output": ("io.output", verbatim),
            },
            rank=WHOLE,
            content=True,
        ),
    ),
    refine=refine,
)
