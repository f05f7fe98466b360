"""A trace that comes at once: one root, every parent there, all spans ended. Most traces do.

Nothing of it has to be found out step by step, so its row is made without the state that other traces have, and
what is kept of it is what its spans said. A span that comes late all the same makes that state of it (`thaw`).
Whatever is less simple goes the general way: content that is lifted, counts of tokens that may repeat one another,
evaluations.

The loops over spans have a twin in `_native.c`, which leaves what is rare to Python; the Python ones are the
specification.
"""

from collections.abc import Callable, Mapping, Sequence

from spanweir.collector.assembly import rows, state, totals
from spanweir.collector.assembly.fold import rewait, route, take_content, take_root, tell
from spanweir.collector.assembly.state import CALLS, Facts, Kept, Node, Trace, Whole, dollars_of, tokens_of
from spanweir.collector.assembly.work import Rendered
from spanweir.collector.processors.api import Item
from spanweir.schemas.trace import TraceRow

Sums = tuple[Rendered, int, int, Sequence[int] | None, Sequence[int] | None]
"""The root, the first start and the last end in nanoseconds, and the sums of tokens and of dollars."""


def told(trace_id: str, shown: list[Rendered], parents: set[str], limit: int) -> tuple[TraceRow, Kept] | None:
    """The row of a whole trace, and what is kept of it; None where it has to go the general way."""
    whole = Whole(trace_id)
    sums = _sums(whole, shown, parents)
    if sums is None:
        return None
    root, first, last, tokens, dollars = sums
    take_content(whole, root.item.span, root.mapped)
    if not (whole.own_request and whole.own_response):
        return None
    row = rows.told(whole)
    row.start_ns, row.end_ns = first, max(first, last)
    row.state = "ERROR" if root.summary.error else "OK"
    if tokens is not None:
        row.usage = totals.usage_of(tokens)
    if dollars is not None:
        row.cost = totals.cost_of(dollars)
    row.span_count = len(shown)
    row.complete = True
    whole.forget(limit)
    return row, state.keep(whole)


def _parents_in_python(group: Mapping[str, Item]) -> set[str] | None:
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


def _sums_in_python(whole: Whole, shown: Sequence[Rendered], parents: set[str]) -> Sums | None:
    """Tell `whole` what the spans say; None where the trace has to go the general way."""
    root, spans, size_bytes = shown[0], [], 0
    first, last = root.item.raw.start_ns, 0
    tokens, dollars, responses = [0] * 9, [0] * 5, set()
    calls = 0
    for one in shown:
        item, summary = one.item, one.summary
        span_id, start, end, size = summary.span_id, summary.start_ns, summary.end_ns, len(one.mapped.content)
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
            root = one
            take_root(whole, item.raw, summary)
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
    return root, first, last, tokens if calls else None, dollars if dollars[4] else None


def _sums_natively(whole: Whole, shown: list[Rendered], parents: set[str]) -> Sums | None:
    found = _native.sums(shown, parents, CALLS, dollars_of, totals.pay_into)
    if found is None:
        return _sums_in_python(whole, shown, parents)
    root, whole.spans, whole.size_bytes, first, last, tokens, dollars, name, title, session, user = found
    whole.first_name, whole.title, whole.session, whole.user = name, title, session, user
    item = root.item
    take_root(whole, item.raw, root.summary)
    if item.experiment or item.tenant:
        route(whole, item)
    return root, first, last, tokens, dollars


try:
    from spanweir.collector.assembly import _native
except ImportError:  # installed where no C compiler was
    parents_of: Callable[[Mapping[str, Item]], set[str] | None] = _parents_in_python
    _sums: Callable[[Whole, list[Rendered], set[str]], Sums | None] = _sums_in_python
else:
    parents_of, _sums = _native.parents_of, _sums_natively


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
