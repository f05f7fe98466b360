"""Does what a plan says: reads a span's attributes into the canonical span, scalars, then content, then tokens.

Per field the strongest source wins: its rank first, then its convention's place; a value that is cut short loses
against a whole one, fewer messages against more. Token counts come from one convention as a set.

The loops over attributes have a twin in `_native.c`, which calls the same readers and, for what is rare, the same
functions of here; the Python ones are the specification.

Not here: what is to be done (`plan`), events and log records (`mapping`), what all fields together tell (`settle`).
"""

from collections.abc import Callable
from typing import Any

from spanweir.schemas.genai import GenAISpan, Usage
from spanweir.schemas.notes import Notes
from spanweir.schemas.paths import GROUPS, PATHS, fill_field, is_empty, join_field, set_field
from spanweir.schemas.plan import JOIN, JOINED, SEVERAL, TEXT, Field, Group, Plan, UsageSet
from spanweir.schemas.raw import Attributes
from spanweir.schemas.values import content_state, count
from spanweir.schemas.vocabulary import provider

_SENTINEL_CHARS = 64


def run(plan: Plan, attributes: Attributes, span: GenAISpan, notes: Notes) -> None:
    """Do what the plan says, into a span that is empty yet. Raises nothing that a reader raises."""
    shape = plan.shape
    _scalars(shape.groups, attributes, span, notes.flags)
    if shape.content:
        ranks = dict(shape.ranks) if shape.content[-1][3] == SEVERAL else shape.ranks
        _content(shape.content, plan.keys, attributes, span, notes, ranks)
    if shape.usages:
        _usage(shape.usages, attributes, span, notes.flags)
    for key in shape.providers:
        if _provider(span, attributes[key]):
            break


def _scalars_in_python(groups: tuple[Group, ...], attributes: Attributes, span: GenAISpan, flags: list[str]) -> None:
    for name, factory, items in groups:
        target: Any = span if factory is None else None
        for field, key, known, read, others in items:
            given = attributes[key]
            value = given if known == TEXT and given and given.__class__ is str else read(given)
            if value is None:
                if given is not None and given != "":
                    flags.append(f"unread:{key}")
                for other, reader in others:
                    value = reader(attributes[other])
                    if value is not None:
                        break
                else:
                    continue
            if target is None:
                assert factory is not None
                target = factory()
                setattr(span, name, target)
            setattr(target, field, value)


# ------------------------------------------------------------------------------------------------ content


def _content_in_python(
    fields: tuple[Field, ...],
    keys_of: tuple[tuple[str, ...], ...],
    attributes: Attributes,
    span: GenAISpan,
    notes: Notes,
    ranks: dict[str, int],
) -> None:
    flags, flagged = notes.flags, len(notes.flags)
    best_rank, cut = 0, False
    for field, head, tail, how, sources in fields:
        best: Any = None
        taken: tuple[str, ...] = ()
        for read, rank, key, keys, many, content in sources:
            notes.lossy = notes.truncated = False
            try:
                if key:
                    if taken and rank > best_rank and key in taken:
                        continue  # a stronger source has read all of it
                    given: Any = attributes[key]
                    if given.__class__ is bytes:
                        given = given.decode(errors="replace")
                    if given.__class__ is str:
                        if len(given) < _SENTINEL_CHARS and (not given or _is_sentinel(given, span, field)):
                            continue
                    elif given is None:
                        continue
                    value = read(given, notes) if content else read(given)
                else:
                    keys = keys_of[many]
                    value = read(attributes, keys, notes)
            except Exception as error:  # a reader that fails costs its own field only
                flags.append(f"failed:{type(error).__name__}")
                value = None
            if len(flags) > flagged:
                flagged = _say_where(flags, flagged, keys)
            if not value and is_empty(value):
                continue
            if how == SEVERAL:
                _merge_in_python(span, value, rank, ranks, notes)
            elif how == JOIN:
                join_field(span, field, value)
            elif best is None or _fuller(value, notes.truncated, best, cut, rank == best_rank):
                best, best_rank, cut = value, rank, notes.truncated
                taken = keys if content and not notes.lossy else ()
            elif content and value == best and not notes.lossy:
                taken += keys
        if best is not None:
            _put(span, head, tail, best)
            if cut:
                _state(span, field, "truncated")
            if taken:
                notes.taken[field] = taken


def _is_sentinel(given: str, span: GenAISpan, field: str) -> bool:
    """Whether a text says that what was there is hidden or cut off, which is noted."""
    state = content_state(given)
    if state is not None:
        _state(span, field, state)
    return state is not None


def _say_where(flags: list[str], start: int, keys: tuple[str, ...]) -> int:
    """Give the flags from `start` on the attribute that they are about. Returns how many flags there are."""
    flags[start:] = [f"{flag}:{keys[0]}" for flag in flags[start:]]
    return len(flags)


def _fuller(value: Any, cut: bool, best: Any, best_cut: bool, equals: bool) -> bool:
    """Whether a weaker source's value is preferred: whole to cut short, and among equals the longer list."""
    longer = isinstance(value, list) and isinstance(best, list) and len(value) > len(best)
    if best_cut:
        return longer or not cut
    return equals and longer and not cut


def _put(span: GenAISpan, head: str, tail: str, value: Any) -> None:
    if not tail:
        setattr(span, head, value)
        return
    if (group := getattr(span, head)) is None:
        group = GROUPS[head]()
        setattr(span, head, group)
    setattr(group, tail, value)


def _state(span: GenAISpan, field: str, state: str) -> None:
    if span.content_state is None:
        span.content_state = {}
    span.content_state.setdefault(field, state)


def _merge_in_python(span: GenAISpan, fields: dict[str, Any], rank: int, ranks: dict[str, int], notes: Notes) -> None:
    """Put values that were found while running into their fields, unless something stronger is there."""
    for field, value in fields.items():
        _merge_one(span, field, value, rank, ranks, notes)


def _merge_one(span: GenAISpan, field: str, value: Any, rank: int, ranks: dict[str, int], notes: Notes) -> None:
    if not value and is_empty(value):
        return
    if field == "provider":
        _provider(span, value)
        return
    if field in JOINED:
        join_field(span, field, value)
        return
    current = fill_field(span, field, value)
    if current is None:
        ranks[field] = rank
        return
    if current == value:
        return
    truncated = span.content_state is not None and span.content_state.get(field) == "truncated"
    if rank < ranks.get(field, 9) or truncated:
        notes.taken.pop(field, None)
        set_field(span, field, value)
        ranks[field] = rank
        if truncated and span.content_state is not None:
            del span.content_state[field]


# ------------------------------------------------------------------------------------------------ tokens and provider


def _usage(sets: tuple[UsageSet, ...], attributes: Attributes, span: GenAISpan, flags: list[str]) -> None:
    """Token counts of the strongest convention that has input or output; details it lacks from the others."""
    chosen: Usage | None = span.usage
    for one in sets:
        counts = _counts(one.items, attributes, flags)
        if not counts:
            continue
        if chosen is None:
            chosen = span.usage = Usage(**counts)
            continue
        if chosen.input is None and chosen.output is None and ("input" in counts or "output" in counts):
            usage = Usage(**counts)
            for field in usage.__struct_fields__:
                if getattr(usage, field) is None:
                    setattr(usage, field, getattr(chosen, field))
            chosen = span.usage = usage
        elif chosen.input == counts.get("input") and chosen.output == counts.get("output"):
            # The same counts by another name: details may be added, because they were counted the same way.
            for field, amount in counts.items():
                if getattr(chosen, field) is None:
                    setattr(chosen, field, amount)


def _counts_in_python(items: tuple[tuple[str, str], ...], attributes: Attributes, flags: list[str]) -> dict[str, Any]:
    """Of each field the strongest count."""
    counts: dict[str, Any] = {}
    for field, key in items:
        amount: Any = attributes[key]
        if amount.__class__ is not int or amount < 0:
            given, amount = amount, count(amount)
            if amount is None:
                if given is not None and given != "":
                    flags.append(f"unread:{key}")
                continue
        if field not in counts:
            counts[field] = amount
    return counts


def _provider(span: GenAISpan, given: Any) -> bool:
    """A real provider beats a framework's name (semconv guide 7.3.ii). Returns whether it is one."""
    known, framework = provider(given)
    if framework is not None and span.framework is None:
        span.framework = framework
    if known is None or span.provider is not None:
        return span.provider is not None
    span.provider = known
    if known != given:
        span.provider_raw = given
    return True


# ------------------------------------------------------------------------------------------------ the native twin

_PLACES = {path: place for path, place in PATHS.items() if path != "provider" and path not in JOINED}
_MERGING = (_merge_one, _PLACES, GROUPS)
_RARE = (_is_sentinel, _say_where, join_field, _fuller, _state)


def _content_natively(
    fields: tuple[Field, ...],
    keys_of: tuple[tuple[str, ...], ...],
    attributes: Attributes,
    span: GenAISpan,
    notes: Notes,
    ranks: dict[str, int],
) -> None:
    _native.content(fields, keys_of, attributes, span, notes, ranks, _RARE, _MERGING)


def _merge_natively(span: GenAISpan, fields: dict[str, Any], rank: int, ranks: dict[str, int], notes: Notes) -> None:
    _native.merge(span, fields, rank, ranks, notes, _MERGING)


def _counts_natively(items: tuple[tuple[str, str], ...], attributes: Attributes, flags: list[str]) -> dict[str, Any]:
    return _native.counts(items, attributes, flags, count)


try:
    from spanweir.schemas.fill import _native
except ImportError:  # installed where no C compiler was
    _scalars: Callable[[tuple[Group, ...], Attributes, GenAISpan, list[str]], None] = _scalars_in_python
    _content, _counts, merge = _content_in_python, _counts_in_python, _merge_in_python
else:
    _scalars = _native.scalars
    _content, _counts, merge = _content_natively, _counts_natively, _merge_natively
