"""The state of a trace from what a destination has stored of it."""

from spanweir.collector.assembly import totals
from spanweir.collector.assembly.fold import rewait
from spanweir.collector.assembly.state import CALLS, Node, Trace, dollars_of, tokens_of
from spanweir.exporters.api import KnownTrace

_KINDS = {
    "CHAT_MODEL": "llm", "LLM": "llm", "EMBEDDING": "embedding", "RERANKER": "rerank", "RETRIEVER": "retrieval",
    "TOOL": "tool", "AGENT": "agent", "WORKFLOW": "workflow", "CHAIN": "chain", "TASK": "task", "MEMORY": "memory",
    "GUARDRAIL": "guardrail", "EVALUATOR": "evaluation", "PARSER": "parser",
}  # fmt: skip
_STORED = ""
"""As the span id of values that the stored row gives: they win over those of any span."""


def trace_of(known: KnownTrace) -> Trace:
    row = known.row
    trace = Trace(trace_id=row.trace_id, experiment=row.experiment, run_id=row.run_id)
    for span in known.spans:
        kind = _KINDS.get(span.type, "other")
        node = Node(
            span.parent_id or "",
            span.start_ns,
            span.end_ns or 0,
            kind,
            span.status == "ERROR",
            tokens_of(span.usage) if span.usage else None,
            kind not in CALLS,
            dollars_of(span.cost) if span.cost else None,
        )
        trace.nodes[span.span_id] = node
    rewait(trace)
    totals.rebuild(trace)
    trace.start_ns = row.start_ns
    trace.end_ns = max((n.end_ns for n in trace.nodes.values()), default=row.end_ns or 0)
    root = row.root_span_id or next((s.span_id for s in known.spans if not s.parent_id), "")
    if root in trace.nodes and not trace.nodes[root].parent:
        trace.root, trace.root_name = root, next(s.name for s in known.spans if s.span_id == root)
        trace.root_ended = trace.nodes[root].end_ns > 0
    trace.own_request = row.request is not None or row.request_preview is not None
    trace.own_response = row.response is not None or row.response_preview is not None
    trace.request, trace.response = row.request, row.response
    trace.request_preview, trace.response_preview = row.request_preview, row.response_preview
    trace.client_request_id, trace.model_id = row.client_request_id, row.model_id
    trace.given_name = (0, _STORED, row.name) if row.name else None
    trace.session = (0, _STORED, row.session_id) if row.session_id else None
    trace.user = (0, _STORED, row.user_id) if row.user_id else None
    trace.tags = {key: (0, _STORED, value) for key, value in row.tags.items()}
    trace.metadata = {key: (0, _STORED, value) for key, value in row.metadata.items()}
    trace.assessments = {a.assessment_id: a for a in row.assessments}
    trace.size_bytes = row.size_bytes
    trace.complete = row.complete or row.state != "IN_PROGRESS"
    trace.finalised = trace.complete and not trace.root_ended
    trace.revision = max(row.revision, int(trace.complete))
    return trace
