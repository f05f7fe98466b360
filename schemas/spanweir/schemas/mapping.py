"""The engine that turns a raw span into a canonical one, by the tables in `conventions`.

What has to be done for a span depends on its scope and its attribute keys only, so it is worked out once for each such
shape (`plan`) and then done for each span of it (`fill`); events and log records are read here. Nothing raises, and
nothing is lost: what was not understood stays in the raw span.

How a convention is written: `convention`. What came from where: `explain`.
"""

from collections.abc import Sequence
from operator import attrgetter
from typing import Any, TypeAlias

from spanweir.schemas.convention import EVENT, LOG, Convention, Occurrence
from spanweir.schemas.conventions import load
from spanweir.schemas.deltas import Deltas
from spanweir.schemas.fill import merge, run
from spanweir.schemas.genai import Error, GenAISpan
from spanweir.schemas.messages import join_turn
from spanweir.schemas.notes import Notes
from spanweir.schemas.paths import is_empty
from spanweir.schemas.plan import Plan, Planner
from spanweir.schemas.raw import NO_RESOURCE, RawLog, RawSpan, Resource
from spanweir.schemas.settle import settle
from spanweir.schemas.values import text

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
            return self._map(raw, logs)
        except Exception as error:
            return GenAISpan(flags=[f"mapping_failed:{type(error).__name__}: {error}"[:500]])

    def _map(self, raw: RawSpan, logs: Sequence[RawLog]) -> GenAISpan | None:
        plan = self.planner.plan(raw.scope.name, raw.attributes)
        if raw.resource is not self._resource:
            self._resource, self._context = raw.resource, _context(raw.resource)
        occurrences = self._occurrences(raw, logs) if raw.events or logs else None
        if plan.idle and not occurrences and not self._context:
            return None
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
                    merge(span, self._like_span(like, notes), rank, ranks, notes)
                rest = [one for one in here if one.name not in like_span] if like else here
                merge(span, self._events(convention, rest, notes), rank, ranks, notes)

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
            for field, head, tail in plan.shape.fields:
                value = getattr(inner, head)
                if tail and value is not None:
                    value = getattr(value, tail)
                if not value and is_empty(value):
                    continue
                before = fields.get(field) if fields else None
                if before and field == "output" and value != before:
                    fields[field] = join_turn(before, value)
                elif before and field == "input" and len(before) >= len(value):
                    continue
                else:
                    fields[field] = value
            if inner.provider:
                fields["provider"] = inner.provider
        return fields


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
