"""What of a group's turns has changed since it last went out, and what of it is let go."""

from collections import Counter
from hashlib import blake2b

import msgspec

from spanweir.schemas.agents.turn import Closed, Group, Item, Rules, Turn
from spanweir.schemas.raw import NO_RESOURCE, NO_SCOPE, RawSpan

_LOOSE = "/internal"
"""Key of the internal spans that belong to no turn."""
_encode = msgspec.msgpack.Encoder().encode


def changed(
    rules: Rules, group: Group, final: bool, keep: bool, counters: Counter[str]
) -> tuple[list[RawSpan], list[tuple[str, str]]]:
    """Spans that are new or differ from what went out, and (trace id, span id) pairs that no longer stand."""
    out: list[RawSpan] = []
    gone: dict[tuple[str, str], None] = {}
    standing: set[tuple[str, str]] = set()
    turns = _turns(rules, group, counters)
    internals = _internals(group, turns) if keep else {}
    for turn in turns:
        turn.final = final
        if known := group.closed.get(turn.key):
            turn.carried = known.root
        kept = internals.get(turn.key, [])
        stamp = (*_stamp(turn), len(kept), len(group.links), len(group.notes))
        before = group.emitted.get(turn.key, {})
        if group.stamps.get(turn.key) == stamp:
            standing.update((trace, span_id) for span_id, (trace, _) in before.items())
            continue
        if turn.carried is not None:
            counters[f"late.{rules.name}"] += 1
        after: dict[str, tuple[str, bytes]] = {}
        spans = _render(rules, turn, counters)
        if final and not keep:
            _count_merged(rules.name, turn, spans, counters)
        if keep:
            spans = spans + _kept(turn, spans, kept)
        for span in spans:
            sent = after[span.span_id] = (span.trace_id, _digest(span))
            standing.add((span.trace_id, span.span_id))
            if before.get(span.span_id) != sent:
                out.append(span)
        for span_id, (trace, _) in before.items():
            if span_id not in after or after[span_id][0] != trace:
                gone[(trace, span_id)] = None
        group.emitted[turn.key], group.stamps[turn.key] = after, stamp
    if keep:
        turns = [*turns, _loose(group, internals.get(_LOOSE, []), out, gone, standing)]
    current = {turn.key for turn in turns}
    for key in [key for key in group.emitted if key not in current]:
        for span_id, (trace, _) in group.emitted.pop(key).items():
            gone[(trace, span_id)] = None
        group.stamps.pop(key, None)
    return out, [pair for pair in gone if pair not in standing]


def close(rules: Rules, group: Group, before_ns: int, counters: Counter[str]) -> None:
    """Let go of the records of turns that nothing arrived for since `before_ns`, and of records of no turn.

    A turn's root stays, without content that is large.
    """
    placed: set[str] = set()
    for turn in _turns(rules, group, counters):
        placed.update(item.key for item in turn.items)
        if not turn.items or any(item.arrived_ns >= before_ns for item in turn.items):
            continue
        known = group.closed.get(turn.key)
        turn.carried = known.root if known else None
        root = _slim(next(iter(_render(rules, turn, counters)), None))
        start = min(item.start_ns for item in turn.items)
        if known:
            known.root, known.start_ns = root or known.root, min(known.start_ns, start)
        else:
            group.closed[turn.key] = Closed(turn.key, turn.trace_id, start, root)
        for item in turn.items:
            group.items.pop(item.key, None)
        group.emitted.pop(turn.key, None)
        group.stamps.pop(turn.key, None)
    for items in (group.items, group.internals):
        for key in [key for key, item in items.items() if key not in placed and item.arrived_ns < before_ns]:
            del items[key]


def _loose(
    group: Group,
    items: list[Item],
    out: list[RawSpan],
    gone: dict[tuple[str, str], None],
    standing: set[tuple[str, str]],
) -> Turn:
    """Internal spans of no turn go out as they came, until there is a turn that they belong to."""
    before = group.emitted.get(_LOOSE, {})
    after = {item.span_id: (item.trace_id, b"") for item in items}
    out += [item.span for item in items if item.span is not None and item.span_id not in before]
    standing.update((trace, span_id) for span_id, (trace, _) in after.items())
    gone.update(dict.fromkeys((trace, span_id) for span_id, (trace, _) in before.items() if span_id not in after))
    group.emitted[_LOOSE] = after
    return Turn(_LOOSE, "", items)


def _count_merged(agent: str, turn: Turn, spans: list[RawSpan], counters: Counter[str]) -> None:
    """Spans that do not go out as spans, each once: what they said is in others."""
    known = {span.span_id for span in spans}
    for item in turn.items:
        if item.span is not None and not item.counted and item.span_id not in known:
            item.counted = True
            counters[f"merged.{agent}"] += 1


def _internals(group: Group, turns: list[Turn]) -> dict[str, list[Item]]:
    """Internal spans by turn: that of the same trace which began last before them; by `_LOOSE` those of none."""
    starts: dict[str, list[tuple[int, str]]] = {}
    for turn in turns:
        for trace_id in {item.trace_id for item in turn.items if item.span is not None}:
            own = [item.start_ns for item in turn.items if item.trace_id == trace_id]
            starts.setdefault(trace_id, []).append((min(own), turn.key))
    placed: dict[str, list[Item]] = {}
    for item in group.internals.values():
        within = sorted(starts.get(item.trace_id, []))
        key = next((k for start, k in reversed(within) if start <= item.start_ns), within[0][1] if within else _LOOSE)
        placed.setdefault(key, []).append(item)
    return placed


def _kept(turn: Turn, spans: list[RawSpan], internals: list[Item]) -> list[RawSpan]:
    """The turn's internal spans, below the spans that went out; under the root where their parents did not."""
    known = {span.span_id for span in spans}
    kept = [item.span for item in (*turn.items, *internals) if item.span is not None and item.span_id not in known]
    known.update(span.span_id for span in kept)
    root_id = spans[0].span_id if spans else ""
    return [
        msgspec.structs.replace(
            span, trace_id=turn.trace_id, parent_id=span.parent_id if span.parent_id in known else root_id
        )
        for span in kept
    ]


def _turns(rules: Rules, group: Group, counters: Counter[str]) -> list[Turn]:
    try:
        return rules.turns(group)
    except Exception:  # what a sender sends must never stop the stream; the counter tells
        counters[f"failed.{rules.name}"] += 1
        by_trace: dict[str, Turn] = {}
        for item in group.items.values():
            by_trace.setdefault(item.trace_id, Turn(item.trace_id, item.trace_id, [])).items.append(item)
        return list(by_trace.values())


def _render(rules: Rules, turn: Turn, counters: Counter[str]) -> list[RawSpan]:
    try:
        return rules.render(turn)
    except Exception:  # better untouched spans than none
        counters[f"failed.{rules.name}"] += 1
        return [item.span for item in turn.items if item.span is not None]


def _slim(root: RawSpan | None) -> RawSpan | None:
    """A root small enough to be kept for an hour."""
    if root is None:
        return None
    small = {key: value for key, value in root.attributes.items() if not isinstance(value, str) or len(value) < 32_768}
    return msgspec.structs.replace(root, attributes=small)


def _stamp(turn: Turn) -> tuple[object, ...]:
    items = tuple((item.key, item.arrived_ns) for item in turn.items)
    return (turn.trace_id, turn.root_id, turn.session, turn.final, hash(items))


def _digest(span: RawSpan) -> bytes:
    shown = msgspec.structs.replace(span, resource=NO_RESOURCE, scope=NO_SCOPE)
    return blake2b(_encode(shown), digest_size=8).digest()
