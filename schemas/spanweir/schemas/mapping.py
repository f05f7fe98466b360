"""The engine that turns a raw span into a canonical one, by the tables in `conventions`.

What has to be done for a span depends on its scope and its attribute keys only, so it is worked out once for each such
shape (`plan`) and then done for each span of it. Per field the strongest source wins: rank first, then the place in
`conventions.ORDER`; a value that is cut short loses against a whole one, fewer messages against more. Token counts
come from one convention as a set. Nothing raises, and nothing is lost: what was not understood stays in the raw span.

How a convention is written: `convention`. What came from where: `explain`.
"""

from collections.abc import Sequence
from operator import attrgetter
from typing import Any, TypeAlias

from spanweir.schemas.convention import EVENT, LOG, Convention, Occurrence
from spanweir.schemas.conventions import load
from spanweir.schemas.deltas import Deltas
from spanweir.schemas.genai import Error, GenAISpan, Usage
from spanweir.schemas.messages import join_turn
from spanweir.schemas.notes import Notes
from spanweir.schemas.paths import GROUPS, fill_field, get_field, is_empty, join_field, set_field
from spanweir.schemas.plan import JOIN, JOINED, Plan, Planner, UsageSet
from spanweir.schemas.raw import NO_RESOURCE, Attributes, RawLog, RawSpan, Resource
from spanweir.schemas.settle import settle
from spanweir.schemas.values import content_state, count, text
from spanweir.schemas.vocabulary import provider

_SENTINEL_CHARS = 64
_LOCATIONS = (("event", EVENT), ("log", LOG))
_time_of = attrgetter("time_ns")
Groups: TypeAlias = list[tuple[Convention, list[Occurrence]]]
"""Events and log records by the convention that reads them."""


class Mapper:
    """Maps spans. Not thread-safe: one for each thread that maps (it holds the plan caches)."""

    def __init__(self, order: Sequence[str] = (), *, conventions: Sequence[Convention] | None = None) -> None:
        """`order`: names of conventions, strongest first, by default all of `conventions.ORDER`; or the conventions
        themselves. Raises ValueError for a name that is none."""
        self.conventions = tuple(load(order) if conventions is None else conventions)
        self.planner = Planner(self.conventions)
        self._places = {convention.name: place for place, convention in enumerate(self.conventions)}
        self._resource: Resource = NO_RESOURCE
        self._context: dict[str, str] = {}
        self._deltas = Deltas()

    def map(self, raw: RawSpan, logs: Sequence[RawLog] = ()) -> GenAISpan | None:
        """The canonical span, from the span and the log records that carry its ids; `None` for a span that says
        nothing about generative AI, a session, a user or an evaluation (HTTP, databases). Never raises."""
        try:
            plan = self.planner.plan(raw.scope.name, raw.attributes)
            if raw.resource is not self._resource:
                self._resource, self._context = raw.resource, _context(raw.resource)
            occurrences = self._occurrences(raw, logs) if raw.events or logs else None
            if plan.idle and not occurrences and not self._context:
                return None
            return self._map(raw, plan, occurrences)
        except Exception as error:
            return GenAISpan(flags=[f"mapping_failed:{type(error).__name__}: {error}"[:500]])

    def _map(self, raw: RawSpan, plan: Plan, occurrences: Groups | None) -> GenAISpan | None:
        notes = Notes()
        span = GenAISpan(conventions=plan.shape.names)
        run(plan, raw.attributes, span, notes)
        if occurrences:
            self._read(occurrences, plan, span, notes)
        if raw.events:
            _exception(raw, span)
        settle(raw, span, plan.shape, notes)
        if "livekit" in span.conventions:
            self._deltas.resolve(raw, span)
        if not span.conventions and not _says_something(span):
            return None
        context = self._context
        if context:
            span.session_id = span.session_id or context.get("session")
            span.user_id = span.user_id or context.get("user")
        if notes.taken:
            span.consumed = notes.taken
        if notes.flags:
            span.flags = notes.flags
        return span

    # -------------------------------------------------------------------------------------------- events and logs

    def _occurrences(self, raw: RawSpan, logs: Sequence[RawLog]) -> Groups:
        """The events and log records that some convention reads, by convention, strongest first, in order of time."""
        names, claimants = self.planner.event_names, self.planner.claimants
        found: dict[str, list[Occurrence]] = {}
        for event in raw.events:
            if (readers := names.get(event.name)) is None:
                continue
            one = Occurrence(event.name, event.attributes, None, event.time_ns, "event", raw.scope.name)
            for name in readers:
                found.setdefault(name, []).append(one)
        for log in logs:
            one = _occurrence(log)
            readers = names.get(one.name, ())
            for name in readers:
                found.setdefault(name, []).append(one)
            if not readers:
                for convention in claimants:
                    if convention.claims is not None and convention.claims(one):
                        found.setdefault(convention.name, []).append(one)
                        break
        places = self._places
        return [(self.conventions[places[name]], found[name]) for name in sorted(found, key=places.__getitem__)]

    def _read(self, groups: Groups, plan: Plan, span: GenAISpan, notes: Notes) -> None:
        ranks = dict(plan.shape.ranks)
        for convention, group in groups:
            if convention.name not in span.conventions:
                span.conventions = (*span.conventions, convention.name)
            like_span = convention.like_span
            for location, rank in _LOCATIONS:
                here = [one for one in group if one.location == location]
                if not here:
                    continue
                here.sort(key=_time_of)
                like = [one for one in here if one.name in like_span]
                if like:
                    for field, value in self._like_span(like, notes).items():
                        merge(span, field, value, rank, ranks, notes)
                rest = [one for one in here if one.name not in like_span] if like else here
                for field, value in self._events(convention, rest, notes).items():
                    merge(span, field, value, rank, ranks, notes)

    def _events(self, convention: Convention, occurrences: list[Occurrence], notes: Notes) -> dict[str, Any]:
        if not occurrences or convention.read_events is None:
            return {}
        try:
            return convention.read_events(occurrences, notes)
        except Exception as error:
            notes.flags.append(f"failed:{type(error).__name__}:{occurrences[0].name}")
            return {}

    def _like_span(self, occurrences: list[Occurrence], notes: Notes) -> dict[str, Any]:
        """Fields of events that carry a span's attributes. Several for one span tell one turn piece by piece."""
        fields: dict[str, Any] = {}
        for one in occurrences:
            inner, inner_notes = GenAISpan(), Notes()
            plan = self.planner.plan(one.scope, one.attributes)
            run(plan, one.attributes, inner, inner_notes)
            notes.flags += inner_notes.flags
            for field in (*plan.shape.fields, *(("provider",) if inner.provider else ())):
                value = get_field(inner, field)
                if not value and is_empty(value):
                    continue
                before = fields.get(field) if fields else None
                if before and field == "output" and value != before:
                    fields[field] = join_turn(before, value)
                elif before and field == "input" and len(before) >= len(value):
                    continue
                else:
                    fields[field] = value
        return fields


def run(plan: Plan, attributes: Attributes, span: GenAISpan, notes: Notes) -> None:
    """Do what the plan says: scalars, then content, then tokens."""
    shape = plan.shape
    for name, factory, items in shape.groups:
        target: Any = span if factory is None else None
        for field, key, plain, read, others in items:
            given = attributes[key]
            value = given if given and given.__class__ is plain else read(given)
            if value is None:
                if given is not None and given != "":
                    notes.flags.append(f"unread:{key}")
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
    if shape.content:
        _content(plan, attributes, span, notes)
    if shape.usages:
        _usage(shape.usages, attributes, span, notes)
    for key in shape.providers:
        if _provider(span, attributes[key]):
            break


def _content(plan: Plan, attributes: Attributes, span: GenAISpan, notes: Notes) -> None:
    ranks: dict[str, int] | None = None
    flags, flagged = notes.flags, len(notes.flags)
    best_rank, cut = 0, False
    for field, head, tail, how, candidates in plan.shape.content:
        best: Any = None
        taken: tuple[str, ...] = ()
        for read, rank, key, keys, many, content in candidates:
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
                    keys = plan.keys[many]
                    value = read(attributes, keys, notes)
            except Exception as error:  # a reader that fails costs its own field only
                flags.append(f"failed:{type(error).__name__}")
                value = None
            if flags and len(flags) > flagged:
                flags[flagged:] = [f"{flag}:{keys[0]}" for flag in flags[flagged:]]
                flagged = len(flags)
            if not value and is_empty(value):
                continue
            if how:
                if how == JOIN:
                    join_field(span, field, value)
                    continue
                ranks = ranks if ranks is not None else dict(plan.shape.ranks)
                for path, part in value.items():
                    merge(span, path, part, rank, ranks, notes)
                continue
            if best is None or _fuller(value, notes.truncated, best, cut, rank == best_rank):
                best, best_rank, cut = value, rank, notes.truncated
                taken = keys if content and not notes.lossy else ()
            elif content and value == best and not notes.lossy:
                taken += keys
        if best is not None:
            if tail:
                if (group := getattr(span, head)) is None:
                    group = GROUPS[head]()
                    setattr(span, head, group)
                setattr(group, tail, best)
            else:
                setattr(span, head, best)
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


def _fuller(value: Any, cut: bool, best: Any, best_cut: bool, equals: bool) -> bool:
    """Whether a weaker source's value is preferred: whole to cut short, and among equals the longer list."""
    longer = isinstance(value, list) and isinstance(best, list) and len(value) > len(best)
    if best_cut:
        return longer or not cut
    return equals and longer and not cut


def _state(span: GenAISpan, field: str, state: str) -> None:
    if span.content_state is None:
        span.content_state = {}
    span.content_state.setdefault(field, state)


def merge(span: GenAISpan, field: str, value: Any, rank: int, ranks: dict[str, int], notes: Notes) -> None:
    """Put a value that was found while running into a field, unless something stronger is there."""
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


def _usage(sets: tuple[UsageSet, ...], attributes: Attributes, span: GenAISpan, notes: Notes) -> None:
    """Token counts of the strongest convention that has input or output; details it lacks from the others."""
    chosen: Usage | None = span.usage
    for one in sets:
        counts: dict[str, Any] = {}
        for field, key in one.items:
            amount: Any = attributes[key]
            if amount.__class__ is not int or amount < 0:
                given, amount = amount, count(amount)
                if amount is None:
                    if given is not None and given != "":
                        notes.flags.append(f"unread:{key}")
                    continue
            if field not in counts:
                counts[field] = amount
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


# ------------------------------------------------------------------------------------------------ helpers

_SESSION_KEYS = ("session.id", "gen_ai.conversation.id")
_USER_KEYS = ("user.id", "enduser.id")


def _context(resource: Resource) -> dict[str, str]:
    """Session and user where a sender put them into the resource (one process for each user or session)."""
    found: dict[str, str] = {}
    for name, keys in (("session", _SESSION_KEYS), ("user", _USER_KEYS)):
        for key in keys:
            value = text(resource.attributes.get(key))
            if value:
                found[name] = value
                break
    return found


def _occurrence(log: RawLog) -> Occurrence:
    name = log.event_name
    if not name:
        given = log.attributes.get("event.name")
        name = given if isinstance(given, str) else ""
    if not name and isinstance(log.body, dict) and isinstance(log.body.get("event.name"), str):
        name = str(log.body["event.name"])
    return Occurrence(name, log.attributes, log.body, log.time_ns or log.observed_ns, "log", log.scope.name)


def _exception(raw: RawSpan, span: GenAISpan) -> None:
    for event in raw.events:
        if event.name == "exception":
            error = span.error = span.error or Error()
            error.type = text(event.attributes.get("exception.type")) or error.type
            error.message = text(event.attributes.get("exception.message")) or error.message
            error.stack = text(event.attributes.get("exception.stacktrace")) or error.stack


def _says_something(span: GenAISpan) -> bool:
    return bool(
        span.session_id
        or span.user_id
        or span.conversation_id
        or span.evaluations
        or span.io
        or span.tags
        or span.metadata
    )
