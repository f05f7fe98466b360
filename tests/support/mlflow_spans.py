"""Already mapped spans for store tests: MLflow's own content JSON, made without any of the code that is tested.

`make_trace` gives a RAG trace of five spans of about 13 KB, a growing or odd trace by its arguments.
"""

import base64
import json
import random
from collections.abc import Sequence

from spanweir.exporters.api import Batch
from spanweir.schemas.raw import RawSpan
from spanweir.schemas.trace import Assessment, Cost, MappedSpan, TokenUsage, TraceRow

START_NS = 1_790_000_000_123_456_789
_VOCABULARY = """
river ledger storage engine latency cache policy window revenue invoice harbour signal protein index
"""
_WORDS = _VOCABULARY.split()


def words(rng: random.Random, size: int) -> str:
    text = ""
    while len(text) < size:
        text += rng.choice(_WORDS) + " "
    return text[:size]


def make_span(
    trace_id: str,
    span_id: str,
    parent_id: str | None,
    *,
    name: str = "span",
    kind: str = "UNKNOWN",
    start_ns: int = START_NS,
    end_ns: int | None = START_NS + 5_000_000,
    status: str = "OK",
    values: dict[str, object] | None = None,
    cost: Cost | None = None,
    model: str | None = None,
    provider: str | None = None,
) -> MappedSpan:
    """A span whose attributes are `values` as JSON text, beside the ones that MLflow needs."""
    attributes: dict[str, object] = {"mlflow.traceRequestId": f"tr-{trace_id}", "mlflow.spanType": kind}
    attributes |= values or {}
    if model:
        attributes["mlflow.llm.model"] = model
    if provider:
        attributes["mlflow.llm.provider"] = provider
    if cost:
        figures = {"input_cost": cost.input_cost, "output_cost": cost.output_cost, "total_cost": cost.total_cost}
        attributes["mlflow.llm.cost"] = figures
    encoded = {key: json.dumps(value, ensure_ascii=False) for key, value in attributes.items()}
    content = {
        "trace_id": _base64(trace_id),
        "span_id": _base64(span_id),
        "parent_span_id": None if parent_id is None else _base64(parent_id),
        "name": name,
        "start_time_unix_nano": start_ns,
        "end_time_unix_nano": end_ns,
        "events": [],
        "status": {"code": f"STATUS_CODE_{status}", "message": ""},
        "attributes": encoded,
        "links": [],
    }
    return MappedSpan(
        trace_id=trace_id,
        span_id=span_id,
        parent_id=parent_id,
        name=name,
        type=kind,
        status=status,
        start_ns=start_ns,
        end_ns=end_ns,
        model=model,
        provider=provider,
        cost=cost,
        own=encoded,
        content=json.dumps(content, ensure_ascii=False).encode(),
        raw=RawSpan(trace_id=trace_id, span_id=span_id, parent_id=parent_id or "", name=name),
    )


def make_trace(seed: int, *, experiment: str = "", start_ns: int = START_NS) -> tuple[TraceRow, list[MappedSpan]]:
    """A finished RAG trace and its five spans, parents first."""
    rng = random.Random(seed)
    trace_id = f"{rng.getrandbits(128):032x}"
    ids = [f"{rng.getrandbits(64):016x}" for _ in range(5)]
    start_ns += seed * 1_000_000_000
    question, answer = words(rng, 120), words(rng, 1000)
    usage = {"input_tokens": 1000 + seed, "output_tokens": 250, "total_tokens": 1250 + seed}
    cost = Cost(input_cost=0.00015, output_cost=0.0003, total_cost=0.00045)
    documents = [{"page_content": words(rng, 1000), "metadata": {"doc_uri": f"doc-{n}"}} for n in range(5)]
    messages = {"messages": [{"role": "user", "content": words(rng, 4000)}]}
    choices = {"choices": [{"index": 0, "message": {"role": "assistant", "content": answer}, "finish_reason": "stop"}]}

    def span(
        n: int, name: str, kind: str, start: int, length: int, values: dict[str, object], **more: object
    ) -> MappedSpan:
        begin = start_ns + start * 1_000_000
        return make_span(
            trace_id,
            ids[n],
            ids[0] if n else None,
            name=name,
            kind=kind,
            start_ns=begin,
            end_ns=begin + length * 1_000_000,
            values=values,
            **more,  # type: ignore[arg-type]
        )

    spans = [
        span(0, "invoke_agent librarian", "AGENT", 0, 1900,
             {"mlflow.spanInputs": {"question": question}, "mlflow.spanOutputs": answer}),
        span(1, "embeddings text-embedding-3-small", "EMBEDDING", 5, 60, {"mlflow.spanInputs": question}),
        span(2, "retrieval manuals", "RETRIEVER", 70, 120,
             {"mlflow.spanInputs": question, "mlflow.spanOutputs": documents}),
        span(3, "chat gpt-4o-mini", "CHAT_MODEL", 200, 1500,
             {"mlflow.spanInputs": messages, "mlflow.spanOutputs": choices, "mlflow.chat.tokenUsage": usage},
             cost=cost, model="gpt-4o-mini", provider="openai"),
        span(4, "execute_tool cite", "TOOL", 1750, 30, {"mlflow.spanInputs": {"document": "doc-0"}}),
    ]  # fmt: skip
    row = TraceRow(
        trace_id=trace_id,
        experiment=experiment,
        start_ns=start_ns,
        end_ns=start_ns + 1_900_000_000,
        state="OK",
        name="librarian",
        root_span_id=ids[0],
        request_preview=json.dumps({"question": question}),
        response_preview=answer[:997] + "..." if len(answer) > 1000 else answer,
        session_id=f"session-{seed % 3}",
        user_id=f"user-{seed % 2}",
        usage=TokenUsage(**usage),
        cost=cost,
        tags={"service.name": "librarian", "deployment.environment": "test", "team": f"team-{seed % 4}"},
        metadata={"mlflow.source.name": "librarian"},
        span_count=5,
        size_bytes=sum(len(span.content) for span in spans),
        complete=True,
    )
    return row, spans


def make_feedback(trace_id: str, *, value: object = 0.75, created_ms: int = START_NS // 1_000_000) -> Assessment:
    return Assessment(
        assessment_id=f"a-{trace_id}",
        name="relevance",
        kind="feedback",
        value=json.dumps(value),
        source_type="LLM_JUDGE",
        source_id="judge",
        rationale="because",
        metadata={"model": "judge-1"},
        created_ms=created_ms,
    )


def make_batch(traces: Sequence[tuple[TraceRow, Sequence[MappedSpan]]], number: int = 1) -> Batch:
    return Batch(
        first=number,
        last=number,
        traces=[row for row, _ in traces],
        spans=[span for _, spans in traces for span in spans],
    )


def _base64(hexadecimal: str) -> str:
    return base64.b64encode(bytes.fromhex(hexadecimal)).decode()
