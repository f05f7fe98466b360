"""The state of a trace as its own row, and stand-ins for parents that never came."""

from spanweir.collector.assembly import totals
from spanweir.collector.assembly.lifting import cut
from spanweir.collector.assembly.state import Content, Facts, First, Trace
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
    told = told_name(trace)
    if told is None and not trace.root and trace.first_name and trace.finalised:
        return trace.first_name[2]
    return told


def told_name(facts: Facts) -> str | None:
    if facts.given_name is not None:
        return facts.given_name[2]
    if facts.root and not (facts.root_generic and facts.title):
        return facts.root_name or None
    return facts.title[2] if facts.title is not None else None


def row(trace: Trace) -> TraceRow:
    request, request_preview = _content(
        trace.given_request, trace.question if not trace.own_request else None, trace.request, trace.request_preview
    )
    response, response_preview = _content(
        trace.given_response, trace.answer if not trace.own_response else None, trace.response, trace.response_preview
    )
    done = trace.root_ended or trace.finalised
    made = told(trace)
    if trace.finalised and not trace.root:
        made.tags[NOTE] = "adopted" if trace.adopted else "synthesised"
    elif trace.finalised and not trace.root_ended:
        made.tags[NOTE] = "unfinished"
    made.start_ns = trace.start_ns
    made.end_ns = max(trace.end_ns, trace.start_ns) if done else None
    made.state = state_of(trace)
    made.name = name_of(trace)
    made.root_span_id = root_of(trace) or None
    made.request, made.request_preview = request, request_preview
    made.response, made.response_preview = response, response_preview
    made.usage = totals.usage(trace)
    made.cost = totals.cost(trace)
    if trace.assessments:
        made.assessments = list(trace.assessments.values())
    made.span_count = len(trace.nodes) + len(trace.placeholders)
    made.complete = trace.complete
    made.revision = trace.revision
    return made


def told(facts: Facts) -> TraceRow:
    """What the row has from `facts` as it stands there."""
    tags = _values(facts.tags) if facts.tags else {}
    tags.update(facts.root_tags)
    made = TraceRow(
        trace_id=facts.trace_id,
        experiment=facts.experiment,
        name=told_name(facts),
        root_span_id=facts.root or None,
        request=facts.request,
        response=facts.response,
        request_preview=facts.request_preview,
        response_preview=facts.response_preview,
        session_id=facts.session[2] if facts.session else None,
        user_id=facts.user[2] if facts.user else None,
        run_id=facts.run_id,
        tenant=facts.tenant,
        tags=tags,
        metadata=_values(facts.metadata) if facts.metadata else {},
        size_bytes=facts.size_bytes,
    )
    # Few traces have these; and of more than 15 arguments by name Python makes a dictionary first.
    if facts.client_request_id is not None:
        made.client_request_id = facts.client_request_id
    if facts.model_id is not None:
        made.model_id = facts.model_id
    return made


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
