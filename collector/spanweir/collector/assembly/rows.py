"""The state of a trace as its own row, and stand-ins for parents that never came."""

from spanweir.collector.assembly import totals
from spanweir.collector.assembly.lifting import cut
from spanweir.collector.assembly.state import Content, First, Trace
from spanweir.schemas.raw import RawSpan
from spanweir.schemas.trace import TraceRow

NOTE = "spanweir.root"
"""Trace tag and attribute of a stand-in: why the root is not the sender's."""
PLACEHOLDERS_MAX = 64


def root_of(trace: Trace) -> str:
    """The span that is shown without a parent; empty while there is none."""
    return trace.root or trace.adopted or (trace.placeholders[0] if trace.placeholders else "")


def state_of(trace: Trace) -> str:
    """Errors of spans below are the root's business: an agent that recovers from a failed tool has not failed."""
    if trace.root:
        if trace.root_ended:
            return "ERROR" if trace.nodes[trace.root].error else "OK"
        return "ERROR" if trace.finalised else "IN_PROGRESS"
    if not trace.finalised:
        return "IN_PROGRESS"
    tops = [trace.adopted] if trace.adopted else [i for ids in trace.waiting.values() for i in ids]
    return "ERROR" if any(trace.nodes[i].error for i in tops if i in trace.nodes) else "OK"


def name_of(trace: Trace) -> str | None:
    """What the sender called the trace; the root's name, unless it is a route and an agent or workflow has a name."""
    if trace.given_name is not None:
        return trace.given_name[2]
    if trace.root and not (trace.root_generic and trace.title):
        return trace.root_name or None
    if trace.title is not None:
        return trace.title[2]
    return trace.first_name[2] if trace.first_name and trace.finalised else None


def row(trace: Trace) -> TraceRow:
    root_id = root_of(trace)
    tags = _values(trace.tags) if trace.tags else {}
    tags.update(trace.root_tags)
    if trace.finalised and not trace.root:
        tags[NOTE] = "adopted" if trace.adopted else "synthesised"
    elif trace.finalised and not trace.root_ended:
        tags[NOTE] = "unfinished"
    request, request_preview = _content(
        trace.given_request, trace.question if not trace.own_request else None, trace.request, trace.request_preview
    )
    response, response_preview = _content(
        trace.given_response, trace.answer if not trace.own_response else None, trace.response, trace.response_preview
    )
    done = trace.root_ended or trace.finalised
    return TraceRow(
        trace_id=trace.trace_id,
        experiment=trace.experiment,
        start_ns=trace.start_ns,
        end_ns=max(trace.end_ns, trace.start_ns) if done else None,
        state=state_of(trace),
        name=name_of(trace),
        root_span_id=root_id or None,
        request=request,
        response=response,
        request_preview=request_preview,
        response_preview=response_preview,
        session_id=trace.session[2] if trace.session else None,
        user_id=trace.user[2] if trace.user else None,
        client_request_id=trace.client_request_id,
        run_id=trace.run_id,
        tenant=trace.tenant,
        model_id=trace.model_id,
        usage=totals.usage(trace),
        cost=totals.cost(trace),
        tags=tags,
        metadata=_values(trace.metadata) if trace.metadata else {},
        assessments=list(trace.assessments.values()) if trace.assessments else [],
        span_count=len(trace.nodes) + len(trace.placeholders),
        size_bytes=trace.size_bytes,
        complete=trace.complete,
        revision=trace.revision,
    )


def _values(firsts: dict[str, First]) -> dict[str, str]:
    return {key: first[2] for key, first in firsts.items()}


def _content(
    given: First | None, lifted: Content | None, own: bytes | None, preview: str | None
) -> tuple[bytes | None, str | None]:
    """JSON text and preview: what the sender said of the trace, else what was lifted, else the root's own."""
    if given is not None:
        return given[2].encode("utf-8", "replace"), cut(given[2])
    if lifted is not None:
        return lifted.value, lifted.preview
    return own, preview


def placeholder(trace: Trace, span_id: str) -> RawSpan:
    """A span under the id of a parent that never came, so that the tree has one root and no gaps."""
    children = [trace.nodes[i] for i in trace.waiting.get(span_id, ())]
    root = root_of(trace)
    return RawSpan(
        trace_id=trace.trace_id,
        span_id=span_id,
        parent_id="" if span_id == root else root,
        name=(name_of(trace) if span_id == root else None) or "missing span",
        start_ns=min((n.start_ns for n in children), default=trace.start_ns),
        end_ns=trace.end_ns if span_id == root else max((n.end_ns for n in children), default=trace.end_ns),
        attributes={NOTE: "synthesised: its children came, it did not"},
    )
