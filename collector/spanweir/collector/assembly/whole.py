"""A trace that comes at once: one root, every parent there, all spans ended. Most traces do.

Nothing of it has to be found out step by step, so its row is made without the state that other traces have, and
what is kept of it is what its spans said. A span that comes late all the same makes that state of it (`thaw`).
Whatever is less simple goes the general way: content that is lifted, counts of tokens that may repeat one another,
evaluations.
"""

from collections.abc import Mapping, Sequence

from spanweir.collector.assembly import rows, state, totals
from spanweir.collector.assembly.fold import rewait, route, take_content, take_root, tell
from spanweir.collector.assembly.state import CALLS, Facts, Kept, Node, Trace, Whole, dollars_of, tokens_of
from spanweir.collector.assembly.work import Rendered
from spanweir.collector.processors.api import Item
from spanweir.schemas.trace import TraceRow


def parents_of(group: Mapping[str, Item]) -> set[str] | None:
    """The spans that have children; None where the spans are no whole trace."""
    parents, roots = set(), 0
    for span_id, item in group.items():
        raw = item.raw
        parent = raw.parent_id
        if not parent:
            roots += 1
        elif parent not in group or parent == span_id:
            return None
        else:
            parents.add(parent)
        if not raw.end_ns:
            return None
    return parents if roots == 1 else None


def told(trace_id: str, rendered: Sequence[Rendered], parents: set[str], limit: int) -> tuple[TraceRow, Kept] | None:
    """The row of a whole trace, and what is kept of it; None where it has to go the general way."""
    whole, spans, size_bytes = Whole(trace_id), [], 0
    first, last, failed = rendered[0][2].start_ns, 0, False
    tokens, dollars, responses = [0] * 9, [0] * 5, set()
    calls = 0
    for item, mapped, summary in rendered:
        span_id, start, end, size = summary.span_id, summary.start_ns, summary.end_ns, len(mapped.content)
        usage = cost = None
        if summary.usage is not None:
            if summary.kind not in CALLS or span_id in parents or summary.running or summary.response_id in responses:
                return None
            if summary.response_id:
                responses.add(summary.response_id)
            usage = tokens_of(summary.usage)
            totals.accumulate(tokens, usage)
            calls += 1
            if summary.cost is not None:
                cost = dollars_of(summary.cost)
                totals.pay_into(dollars, cost)
        elif summary.cost is not None or summary.rollup is not None:
            return None
        if summary.evaluations or summary.trace_request or summary.trace_response:
            return None
        tell(whole, span_id, summary)
        if not summary.parent_id:
            take_root(whole, item.raw, summary)
            take_content(whole, item.span, mapped)
            if not (whole.own_request and whole.own_response):
                return None
            failed = summary.error
        if item.experiment or item.tenant or item.run_id:
            route(whole, item)
        spans.append((
            span_id, summary.parent_id, start, end, summary.kind, summary.error, usage, False, cost, size,
            summary.response_id or "", item.raw.scope.name, summary.running,
        ))  # fmt: skip
        size_bytes += size
        if start < first:
            first = start
        if end > last:
            last = end
    whole.spans, whole.size_bytes = spans, size_bytes
    row = rows.told(whole)
    row.start_ns, row.end_ns = first, max(first, last)
    row.state = "ERROR" if failed else "OK"
    if calls:
        row.usage = totals.usage_of(tokens)
        if dollars[4]:
            row.cost = totals.cost_of(dollars)
    row.span_count = len(spans)
    row.complete = True
    whole.forget(limit)
    return row, state.keep(whole)


def thaw(kept: Kept) -> Trace:
    """The state of a complete trace. Raises msgspec.MsgspecError."""
    found = state.of(kept)
    if isinstance(found, Trace):
        return found
    facts = {name: getattr(found, name) for name in Facts.__struct_fields__}
    trace = Trace(**facts, nodes={seen[0]: Node(*seen[1:]) for seen in found.spans}, complete=True, revision=1)
    rewait(trace)
    totals.rebuild(trace)
    trace.start_ns = min(node.start_ns for node in trace.nodes.values())
    trace.end_ns = max(node.end_ns for node in trace.nodes.values())
    return trace
