"""What a trace's own row needs to know of each of its spans: sums, names, and previews as a person wants to see them.

Source of the previews: MLflow 3.17 `tracing/utils/truncation.py`.
Not here: the trace row itself (the collector's trace assembly).
"""

import msgspec

from spanweir.schemas.genai import Evaluation, GenAISpan, ToolCall
from spanweir.schemas.messages import text_of
from spanweir.schemas.mlflow import tokens_of
from spanweir.schemas.preview import preview_of
from spanweir.schemas.raw import RawSpan
from spanweir.schemas.trace import Cost, MappedSpan, TokenUsage
from spanweir.schemas.values import dumps


class Summary(msgspec.Struct, omit_defaults=True, gc=False):
    """What trace assembly keeps of a span: no content, so some hundred bytes."""

    span_id: str
    parent_id: str
    name: str
    kind: str
    """`GenAISpan.kind`, or `` for a span that is not about generative AI."""
    start_ns: int
    end_ns: int
    error: bool = False
    status_message: str = ""
    usage: TokenUsage | None = None
    """Only of spans whose tokens may be added up (`Usage.scope` `own`)."""
    rollup: TokenUsage | None = None
    """A reported sum over spans below, for a trace whose calls report no usage themselves."""
    running: str = ""
    """`Usage.running`."""
    cost: Cost | None = None
    response_id: str | None = None
    """The same id on parent and child means one model call seen twice."""
    has_request: bool = False
    has_response: bool = False
    title: str | None = None
    """The agent's or workflow's name, where the span is one."""
    trace_name: str | None = None
    session_id: str | None = None
    """A session that the application named; `conversation_id` is the framework's thread, which stands in for one."""
    conversation_id: str | None = None
    user_id: str | None = None
    tags: dict[str, str] = {}
    metadata: dict[str, str] = {}
    evaluations: list[Evaluation] = []
    trace_request: str | None = None
    """JSON text: what the sender said the trace's request was."""
    trace_response: str | None = None


_NOTHING = frozenset({"{}", "[]", '""', "null"})
_NOTHING_CHARS = 4


def said(mapped: MappedSpan, slot: str) -> str | None:
    """JSON text of the span's inputs or outputs; None where they are missing or empty (a root that returned `{}`)."""
    found = mapped.own.get(slot)
    return found if _says(found) else None


def _says(json: str | None) -> bool:
    return json is not None and (len(json) > _NOTHING_CHARS or json not in _NOTHING)


def summarise(raw: RawSpan, span: GenAISpan | None, mapped: MappedSpan) -> Summary:
    """What the trace's own row needs of this span."""
    summary = Summary(
        raw.span_id, raw.parent_id, raw.name, "", raw.start_ns, raw.end_ns, raw.status_code == 2, raw.status_message
    )
    if span is None:
        return summary
    if span.error is not None and span.error.failed:
        summary.error, summary.status_message = True, summary.status_message or span.error.message or ""
    kind = summary.kind = span.kind
    own = mapped.own
    summary.has_request = _says(own.get("mlflow.spanInputs"))
    summary.has_response = _says(own.get("mlflow.spanOutputs"))
    usage = span.usage
    if usage is not None:
        if usage.scope == "own":
            summary.usage, summary.running = tokens_of(usage), usage.running
        elif usage.scope == "rollup":
            summary.rollup = tokens_of(usage)
    summary.cost = mapped.cost
    if span.response is not None:
        summary.response_id = span.response.id
    if kind == "agent" and span.agent is not None:
        summary.title = span.agent.name
    elif kind == "workflow" and span.graph is not None:
        summary.title = span.graph.workflow
    summary.session_id = span.session_id
    summary.conversation_id = span.conversation_id
    summary.user_id = span.user_id
    if span.trace_tags:
        summary.tags = dict(span.trace_tags)
    if span.tags:
        summary.tags = {**summary.tags, "tags": dumps(span.tags)}
    if span.metadata and not raw.parent_id:
        summary.metadata = {
            key: value if isinstance(value, str) else dumps(value)
            for key, value in span.metadata.items()
            if value is not None and value != ""
        }
    if span.evaluations:
        summary.evaluations = span.evaluations
    io = span.io
    if io is not None:
        summary.trace_name = io.trace_name
        summary.trace_request = dumps(io.trace_input) if io.trace_input is not None else None
        summary.trace_response = dumps(io.trace_output) if io.trace_output is not None else None
    return summary


def request_preview(span: GenAISpan | None, mapped: MappedSpan, limit: int = 1000) -> str | None:
    """Text of the last user message, query, tool arguments, …: what `trace_info.request_preview` shows."""
    found: str | None = None
    if span is not None:
        if span.kind == "embedding":
            found = "\n".join(one.text for one in span.embeddings if one.text)
        for message in reversed(span.input if not found else ()):
            if message.role == "user" and (found := text_of(message)):
                break
        if not found and span.retrieval is not None:
            found = span.retrieval.query
        if not found and span.rerank is not None:
            found = span.rerank.query
        if not found and span.kind == "tool" and span.tool is not None and span.tool.arguments is None:
            found = span.tool.name
    return _cut(found or preview_of(mapped.own.get("mlflow.spanInputs"), "user"), limit)


def response_preview(span: GenAISpan | None, mapped: MappedSpan, limit: int = 1000) -> str | None:
    """Text of the last answer, or of what stands in for it."""
    found: str | None = None
    if span is not None:
        for message in reversed(span.output):
            if message.role == "assistant" and (found := text_of(message)):
                break
        if not found and span.output:
            found = "\n".join(
                f"{part.name}({dumps(part.arguments)})"
                for message in span.output
                for part in message.parts
                if isinstance(part, ToolCall)
            )
            if not found and not any(message.parts for message in span.output):
                return None
        if not found and span.kind in ("retrieval", "rerank"):
            found = "\n".join(doc.content for doc in span.documents if doc.content)
    return _cut(found or preview_of(mapped.own.get("mlflow.spanOutputs"), "assistant"), limit)


def _cut(text: str | None, limit: int) -> str | None:
    if not text:
        return None
    text = text.replace("\0", "\ufffd")
    return text if len(text) <= limit else f"{text[: limit - 3]}..."
