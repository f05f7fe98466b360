"""Tokens and cost of a trace: what its model calls really used, each call once (semconv guide 7.2).

A call is seen twice where a wrapper and the client below it both report it, where a client and the server do, where
two instrumentations are on side by side, where an agent or workflow repeats the sum of its calls, and where each call
of a tool loop reports the sum so far. The tree decides: a model span counts unless another model span below it,
through nothing but transparent spans, has usage too; a sum counts only where no call below it has usage, and of nested
sums only the outermost. Kept incrementally: each span is marked at most twice, so a trace of 10,000 spans costs linear
time.
"""

from collections.abc import Iterable, Sequence

from spanweir.collector.assembly.state import CALLS, PICO, TRANSPARENT, Dollars, Node, Tokens, Trace
from spanweir.schemas.trace import Cost, TokenUsage

_LOOP_MAX = 64
"""Calls of one tool loop that are compared with each other."""


def add(trace: Trace, span_id: str, node: Node) -> None:
    """Count a node that has just been put into `trace.nodes`.

    Where spans below it came before it, `trace.outermost` has been given up.
    """
    is_call = node.usage is not None and not node.aggregate
    if is_call and node.response_id:
        _twins(trace, span_id, node)
    if is_call and node.running:
        _loop(trace, span_id, node)
    if node.usage is not None:
        if is_call and span_id not in trace.inner:
            _count(trace, node, 1)
        elif node.aggregate and span_id not in trace.below:
            _aggregate(trace, span_id)
    if node.cost is not None and (not is_call or span_id in trace.inner):
        if node.usage is None and node.kind in CALLS and span_id not in trace.inner:
            _pay(trace, node.cost, 1)
        else:
            trace.costly.add(span_id)
    if is_call:
        _mark(trace, node.parent, not _follows(node, trace.nodes.get(node.parent)))
    elif span_id in trace.below:
        _mark(trace, node.parent, span_id in trace.inner and node.kind in TRANSPARENT)


def meet(trace: Trace, span_id: str, children: Iterable[str]) -> None:
    """A node that is about to be added has come after its children, which took it for a call that repeats theirs."""
    node = trace.nodes[span_id]
    if span_id in trace.inner and node.response_id and not trace.dropped:
        nodes, inner = trace.nodes, trace.inner
        if not any(
            not _follows(child, node)
            and (child.kind in TRANSPARENT if child_id in inner else child.usage is not None and not child.aggregate)
            for child_id in children
            if (child := nodes.get(child_id)) is not None
        ):
            inner.discard(span_id)


def rebuild(trace: Trace) -> None:
    """Count everything again, for a change that cannot be taken back one by one."""
    trace.below, trace.inner, trace.aggregates, trace.costly = set(), set(), set(), set()
    trace.responses, trace.loops = {}, {}
    trace.tokens, trace.dollars, trace.calls, trace.outermost = [], [], 0, None
    for span_id, node in trace.nodes.items():
        add(trace, span_id, node)


def usage(trace: Trace) -> TokenUsage | None:
    counted = [trace.nodes[i].usage for i in _sums(trace)]
    if not trace.calls and not counted:
        return None
    total = list(trace.tokens) if trace.calls else [0] * 9
    for tokens in counted:
        if tokens is not None:
            accumulate(total, tokens, 1)
    return usage_of(total)


def usage_of(total: Sequence[int]) -> TokenUsage:
    """Of a sum as of `Trace.tokens`."""
    return TokenUsage(
        input_tokens=total[0],
        output_tokens=total[1],
        total_tokens=total[2],
        cache_read_input_tokens=total[3] if total[6] else None,
        cache_creation_input_tokens=total[4] if total[7] else None,
        cache_creation_input_tokens_above_1hr=total[5] if total[8] else None,
    )


def cost(trace: Trace) -> Cost | None:
    """Of the calls that count; where none of them has a cost, of the outermost spans that report one."""
    amount = trace.dollars
    extra = [c for i in _sums(trace) if (c := trace.nodes[i].cost) is not None]
    if not (amount and amount[4]) and not extra:
        extra = [c for i in _outermost(trace, trace.costly) if (c := trace.nodes[i].cost) is not None]
    if not (amount and amount[4]) and not extra:
        return None
    total = list(amount) if amount else [0] * 5
    for dollars in extra:
        pay_into(total, dollars, 1)
    return cost_of(total)


def cost_of(total: Sequence[int]) -> Cost:
    """Of a sum as of `Trace.dollars`."""
    return Cost(
        input_cost=total[0] / PICO,
        output_cost=total[1] / PICO,
        total_cost=total[2] / PICO,
        reported=total[3] > 0 and total[3] == total[4],
    )


def _follows(node: Node, parent: Node | None) -> bool:
    """A call that began after the one above it had ended, and got another response: the instrumentation forgot to
    leave the span above (OpenLLMetry's LangChain 0.51 with calls outside chains)."""
    return (
        parent is not None
        and 0 < parent.end_ns <= node.start_ns
        and bool(parent.response_id and node.response_id)
        and parent.response_id != node.response_id
    )


def _twins(trace: Trace, span_id: str, node: Node) -> None:
    """Two instrumentations of one client that do not know of each other make siblings: the same response, the same
    usage, one within the time of the other. The outer one repeats the inner one's call."""
    others = trace.responses.setdefault(node.response_id, [])
    for other_id in others:
        other = trace.nodes[other_id]
        if other.parent != node.parent or other.scope == node.scope or not _same(other.usage, node.usage):
            continue
        if other.start_ns <= node.start_ns and node.end_ns <= other.end_ns:
            if other_id not in trace.inner:
                trace.inner.add(other_id)
                _take_back(trace, other_id, other)
        elif node.start_ns <= other.start_ns and other.end_ns <= node.end_ns:
            trace.inner.add(span_id)
    others.append(span_id)


def _loop(trace: Trace, span_id: str, node: Node) -> None:
    """Calls that asked for tools and are repeated in the sum of a later one do not count."""
    calls = trace.loops.setdefault(node.parent, [])
    if len(calls) == _LOOP_MAX:
        return
    calls.append(span_id)
    loop = [trace.nodes[i] for i in calls]
    for one_id, one in zip(calls, loop, strict=True):
        if one.running == "more" and one_id not in trace.inner and _summed_up(one, loop):
            trace.inner.add(one_id)
            if one_id != span_id:
                _take_back(trace, one_id, one)


def _summed_up(one: Node, loop: list[Node]) -> bool:
    """A later call of the loop can be the sum of this one, which is a sum itself, and calls after it: the prompt of a
    call is no shorter than that of the call before. Where an application runs the loop, each call reports its own."""
    counts = [(n, n.usage) for n in loop if n.usage is not None]
    given, said = one.usage[:2] if one.usage is not None else (0, 0)
    before = (u[0] for n, u in counts if n.running == "more" and n.end_ns <= one.start_ns and u[0] <= given)
    least = 2 * given - max(before, default=0)
    return any(n.start_ns >= one.end_ns and u[0] >= least and u[1] >= said for n, u in counts)


def _same(one: Tokens | None, other: Tokens | None) -> bool:
    """Input and output agree; one of two instrumentations may know more of the cache."""
    return one is not None and other is not None and one[:2] == other[:2]


def _aggregate(trace: Trace, span_id: str) -> None:
    """Add a sum; what is outermost is kept up to date where that takes a look upwards only."""
    if trace.outermost is not None and not _has_ancestor_in(trace, span_id, trace.aggregates):
        trace.outermost.append(span_id)
    trace.aggregates.add(span_id)


def _sums(trace: Trace) -> list[str]:
    """The aggregates that count."""
    if trace.outermost is None:
        trace.outermost = list(_outermost(trace, trace.aggregates))
    return trace.outermost


def _mark(trace: Trace, parent: str, direct: bool) -> None:
    below, inner, nodes = trace.below, trace.inner, trace.nodes
    span_id = trace.parent_of(parent) if trace.dropped else parent
    while span_id:
        node = nodes.get(span_id)
        new = span_id not in below
        if new:
            below.add(span_id)
            if span_id in trace.aggregates:
                trace.aggregates.discard(span_id)
                trace.outermost = None
        if direct and span_id not in inner:
            new = True
            inner.add(span_id)
            if node is not None and not node.aggregate:
                _take_back(trace, span_id, node)
        if not new or node is None:
            return
        span_id = trace.parent_of(node.parent) if trace.dropped else node.parent
        direct = direct and node.kind in TRANSPARENT and not _follows(node, nodes.get(span_id))


def _take_back(trace: Trace, span_id: str, node: Node) -> None:
    """A model span that counted, and is now known to repeat the call of another one below it."""
    if node.usage is not None:
        _count(trace, node, -1)
    elif node.cost is not None and node.kind in CALLS:
        _pay(trace, node.cost, -1)
    if node.cost is not None:
        trace.costly.add(span_id)


def drop(trace: Trace, span_id: str) -> None:
    """Carry the marks of a span that a processor took out on to its parent."""
    if span_id in trace.below:
        _mark(trace, trace.dropped[span_id], span_id in trace.inner)


def _count(trace: Trace, node: Node, sign: int) -> None:
    if not trace.tokens:
        trace.tokens = [0] * 9
    if node.usage is not None:
        accumulate(trace.tokens, node.usage, sign)
    trace.calls += sign
    if node.cost is not None:
        _pay(trace, node.cost, sign)


def accumulate(total: list[int], tokens: Tokens, sign: int = 1) -> None:
    """Add to a sum as of `Trace.tokens`."""
    total[0] += sign * tokens[0]
    total[1] += sign * tokens[1]
    total[2] += sign * tokens[2]
    for i in (3, 4, 5):
        value = tokens[i]
        if value is not None:
            total[i] += sign * value
            total[i + 3] += sign


def _pay(trace: Trace, dollars: Dollars, sign: int) -> None:
    if not trace.dollars:
        trace.dollars = [0] * 5
    pay_into(trace.dollars, dollars, sign)


def pay_into(total: list[int], dollars: Dollars, sign: int = 1) -> None:
    """Add to a sum as of `Trace.dollars`."""
    total[0] += sign * dollars[0]
    total[1] += sign * dollars[1]
    total[2] += sign * dollars[2]
    total[3] += sign * dollars[3]
    total[4] += sign


def _outermost(trace: Trace, ids: set[str]) -> Iterable[str]:
    if len(ids) < 2:
        return tuple(ids)
    return [i for i in sorted(ids) if not _has_ancestor_in(trace, i, ids)]


def _has_ancestor_in(trace: Trace, span_id: str, ids: set[str]) -> bool:
    seen = {span_id}
    node = trace.nodes.get(span_id)
    while node is not None:
        span_id = trace.parent_of(node.parent)
        if span_id in ids and span_id not in seen:
            return True
        if span_id in seen:
            return False
        seen.add(span_id)
        node = trace.nodes.get(span_id)
    return False
