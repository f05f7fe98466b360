"""The question and the answer of a trace whose root has none of its own: web frameworks, remote parents, lost roots.

The question is that of the agent or workflow that started first, the answer that of the one that ended last; where no
agent has content, of the model calls, then of any other span (a retrieval, a tool). Of two spans with the same times
the outer one is meant. Only text is lifted from messages: what the user asked, what was answered.
"""

import msgspec

from spanweir.collector.assembly.state import Content, Trace
from spanweir.schemas.genai import GenAISpan
from spanweir.schemas.summary import Summary, request_preview, response_preview
from spanweir.schemas.trace import MappedSpan

_RANK = {"agent": 0, "workflow": 0, "llm": 1, "chain": 2, "task": 2, "step": 2, "retrieval": 3, "rerank": 3, "tool": 3}
_TALKS, _LAST = 2, 4
"""Up to rank 2 messages are a conversation; an embedding's or reranker's are only texts."""
PREVIEW_MAX = 1000
_json = msgspec.json.Encoder().encode


def offer(trace: Trace, span: GenAISpan | None, mapped: MappedSpan, summary: Summary, limit: int) -> bool:
    """Take the span's content where it is the best so far. True if the question or the answer changed."""
    if not summary.kind:
        return False
    rank = _RANK.get(summary.kind, _LAST)
    changed = False
    start, end = summary.start_ns, summary.end_ns
    if summary.has_request and _wins(trace.question, key := (rank, start, -end, summary.span_id)):
        text = request_preview(span, mapped, limit) if span is not None and span.input and rank <= _TALKS else None
        content = _content(key, mapped, "mlflow.spanInputs", text, "user", limit)
        if content is not None and _shows(content, request_preview(span, mapped, PREVIEW_MAX)):
            changed = changed or content != trace.question
            trace.question = content
    elif (
        not summary.has_request
        and (tool := _tool_name(span))
        and _wins(trace.question, key := (_LAST + 1, start, -end, summary.span_id))
    ):
        # Nothing of what was asked is on the wire (content off, MCP without arguments): which tool is better than none.
        content = Content(*key, _json({"tool": tool}), cut(tool))
        changed = changed or content != trace.question
        trace.question = content
    if summary.has_response and _wins(trace.answer, key := (rank, -end, start, summary.span_id)):
        text = response_preview(span, mapped, limit) if span is not None and span.output and rank <= _TALKS else None
        content = _content(key, mapped, "mlflow.spanOutputs", text, "assistant", limit)
        if content is not None and _shows(content, response_preview(span, mapped, PREVIEW_MAX)):
            changed = changed or content != trace.answer
            trace.answer = content
    return changed


def _shows(content: Content, preview: str | None) -> bool:
    """Whether there is anything to see of it (a graph's state may be nothing but empty fields)."""
    content.preview = content.preview or preview
    return content.preview is not None


def _tool_name(span: GenAISpan | None) -> str | None:
    return span.tool.name if span is not None and span.kind == "tool" and span.tool is not None else None


def _wins(best: Content | None, key: tuple[int, int, int, str]) -> bool:
    return best is None or key <= best.key


def _content(
    key: tuple[int, int, int, str], mapped: MappedSpan, attribute: str, text: str | None, role: str, limit: int
) -> Content | None:
    """`text` is what was said, where the span holds messages; else the span's whole inputs or outputs are lifted."""
    if text is not None:
        value = _json({"messages": [{"role": role, "content": text}]})
        return Content(*key, value, cut(text))
    whole = mapped.own.get(attribute)
    if not whole or len(whole) > limit:
        return None
    return Content(*key, whole.encode("utf-8", "replace"), None)


def cut(text: str, limit: int = PREVIEW_MAX) -> str:
    """A preview as MLflow 3.17 makes it (`tracing/utils/truncation.py`)."""
    text = text.replace("\0", "\ufffd")
    return text if len(text) <= limit else text[: limit - 3] + "..."
