"""Plans: what to do with a span of a certain shape, worked out once from the conventions' tables.

A shape is the scope's name and the attribute keys with numbers collapsed (`llm.input_messages.#.message.role`). Two
caches stand before the work: exact keys -> `Plan` (a dictionary look-up for most spans), collapsed keys -> `Shape`
(for keys with numbers, where every length of a conversation has other keys). Both are bounded.
"""

import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from sys import intern
from typing import Any, NamedTuple

import msgspec

from spanweir.schemas.convention import Convention, Many, Rule
from spanweir.schemas.paths import GROUPS, PATHS, check
from spanweir.schemas.raw import Attributes
from spanweir.schemas.values import count, integer, model_name, number, quoted, text

MAX_PLANS = 4096
MAX_MARKED = 65_536
MAX_CACHED_KEYS = 512
"""Spans with more attributes than this are planned each time, so that the cache stays small."""

JOINED = frozenset(
    {"metadata", "params.extra", "prompt.variables", "usage.other", "tags", "cost.other", "refs", "trace_tags"}
)

Read = Callable[..., Any]
OTHER, TEXT, NAME, UNQUOTED, INTEGER, COUNT, NUMBER = range(7)
"""Which of the readers of `values` one is: what these make of an ordinary value is the value itself."""

Item = tuple[str, str, int, Read, tuple[tuple[str, Read], ...]]
"""Attribute of the group, key, which reader it is, reader, further (key, reader) in order of strength."""


class Candidate(NamedTuple):
    """One source of a content field: a key, or the number of a list of keys in `Plan.keys`."""

    read: Read
    rank: int
    key: str = ""
    many: int = -1
    content: bool = True


ONE, JOIN, SEVERAL = range(3)
"""What becomes of the value of a content field: the strongest source's stands, all are joined, it is several fields."""

Source = tuple[Read, int, str, tuple[str, ...], int, bool]
"""As `Candidate`, with its key as a tuple of one."""

Field = tuple[str, str, str, int, tuple[Source, ...]]
"""A content field, the two parts of its path, what becomes of its values, and its sources by strength."""


Group = tuple[str, type | None, tuple[Item, ...]]
"""A group of scalars (`model`), what makes it, and its items; without a name those of the span itself."""


class UsageSet(msgspec.Struct, frozen=True):
    """Where one convention has its token counts."""

    convention: str
    items: tuple[tuple[str, str], ...]
    """(field of Usage, key), in order of strength."""


class Shape(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be done for spans of one shape: the same conventions, and the same keys up to their numbers."""

    names: tuple[str, ...] = ()
    """Conventions that apply, strongest first, without general ones."""
    groups: tuple[Group, ...] = ()
    content: tuple[Field, ...] = ()
    usages: tuple[UsageSet, ...] = ()
    providers: tuple[str, ...] = ()
    kinds: tuple[tuple[str, Read], ...] = ()
    forced_kinds: tuple[tuple[str, Read], ...] = ()
    excludes: tuple[Any, ...] = ()
    refines: tuple[Any, ...] = ()
    ranks: dict[str, int] = {}
    """Of each field, the rank of its strongest source."""
    fields: tuple[tuple[str, str, str], ...] = ()
    """Fields that may be filled: path, the group or the field of the span, the field of the group or nothing."""
    patterns: tuple[tuple[str, ...], ...] = ()
    """Of each `Many` in use, the collapsed keys that matched."""
    idle: bool = False


class Plan(msgspec.Struct, frozen=True):
    """A shape applied to the keys of one kind of span: `keys` are those of each of the shape's patterns."""

    shape: Shape
    keys: tuple[tuple[str, ...], ...] = ()
    idle: bool = False
    """Nothing to do: no convention has a rule for any of the keys."""


_INDEX = re.compile(r"(?<=[._\[])\d+(?=[.\]]|$)")


@lru_cache(maxsize=16384)
def collapse(key: str) -> str:
    """The key with its numeric segments replaced by `#`. Keys of any length and content may occur."""
    return _INDEX.sub("#", key) if len(key) < 512 else key


class Planner:
    """Makes and keeps plans for an ordered set of conventions."""

    def __init__(self, conventions: Sequence[Convention]) -> None:
        """Raises ValueError for a rule with a field that does not exist."""
        self.conventions = conventions
        self.claimants = tuple(c for c in conventions if c.claims is not None)
        self.event_names: dict[str, tuple[str, ...]] = {}
        for convention in conventions:
            for field in [rule.field for rule in convention.rules] + [many.field for many in convention.many]:
                check(field)
            for name in (*convention.events, *convention.like_span):
                self.event_names[name] = (*self.event_names.get(name, ()), convention.name)
        self._plans: dict[tuple[str, ...], Plan] = {}
        self._shapes: dict[tuple[str, ...], Shape] = {}
        self._marked: dict[str, tuple[int, ...]] = {}

    def plan(self, scope: str, attributes: Attributes) -> Plan:
        """The plan for a span with these attributes."""
        key = (scope, *attributes)
        plan = self._plans.get(key)
        if plan is None:
            plan = self._make(scope, attributes)
            if len(key) <= MAX_CACHED_KEYS:
                if len(self._plans) >= MAX_PLANS:
                    self._plans.clear()
                self._plans[key] = plan
        return plan

    def _make(self, scope: str, attributes: Attributes) -> Plan:
        collapsed = {key: collapse(key) for key in attributes}
        distinct = tuple(dict.fromkeys(collapsed.values()))
        shape = self._shapes.get((scope, *distinct))
        if shape is None:
            shape = _Draft(self._active(scope, distinct), distinct).shape()
            if len(distinct) <= MAX_CACHED_KEYS:
                if len(self._shapes) >= MAX_PLANS:
                    self._shapes.clear()
                self._shapes[(scope, *distinct)] = shape
        wanted = [frozenset(pattern) for pattern in shape.patterns]
        keys = tuple(tuple(key for key, short in collapsed.items() if short in match) for match in wanted)
        return Plan(shape, keys, shape.idle)

    def _active(self, scope: str, keys: tuple[str, ...]) -> list[Convention]:
        """The conventions that apply to spans of this scope with these keys."""
        places: set[int] = set()
        for key in keys:
            marked = self._marked.get(key)
            if marked is None:
                marked = tuple(i for i, c in enumerate(self.conventions) if c.general or key.startswith(c.marks))
                if len(self._marked) >= MAX_MARKED:
                    self._marked.clear()
                self._marked[key] = marked
            places.update(marked)
        return [c for i, c in enumerate(self.conventions) if i in places or c.general or scope.startswith(c.scopes)]


def _matches(key: str, pattern: str) -> bool:
    return key == pattern or (pattern[-1:] in (".", ":") and key.startswith(pattern))


_KNOWN: dict[Read, int] = {
    text: TEXT, model_name: NAME, quoted: UNQUOTED, integer: INTEGER, count: COUNT, number: NUMBER,
}  # fmt: skip


class _Draft:
    """A shape in the making."""

    def __init__(self, active: list[Convention], keys: tuple[str, ...]) -> None:
        self.keys = keys
        self.active = active
        self.scalars: dict[str, list[tuple[int, int, str, Read]]] = {}
        self.content: dict[str, list[tuple[int, int, Candidate]]] = {}
        self.patterns: list[tuple[str, ...]] = []

    def shape(self) -> Shape:
        names = tuple(c.name for c in self.active if not c.general)
        present = frozenset(self.keys)
        usages: list[UsageSet] = []
        for place, convention in enumerate(self.active):
            self._tables(convention, place, present)
            items = tuple((name, key) for key, name in convention.usage.items() if key in present)
            if items:
                usages.append(UsageSet(convention.name, items))
        ranks = {field: min(found)[0] for field, found in self.scalars.items()}
        for field, entries in self.content.items():
            ranks[field] = min(ranks.get(field, 9), *(entry[0] for entry in entries))
        for field in self.content.keys() & self.scalars.keys():
            for rank, place, key, read in self.scalars.pop(field):
                self.content[field].append((rank, place, Candidate(read, rank, key, content=False)))
        kinds, forced = self._pairs("kind"), self._pairs("kind!")
        providers = tuple(key for key, _ in self._pairs("provider"))
        groups, content = self._groups(), self._content()
        fields = [*ranks, *(["usage"] if usages else [])]
        return Shape(
            names=names,
            groups=groups,
            content=content,
            usages=tuple(usages),
            providers=providers,
            kinds=kinds,
            forced_kinds=forced,
            excludes=tuple(c.excludes for c in self.active if c.excludes is not None),
            refines=tuple(c.refine for c in self.active if c.refine is not None),
            ranks=ranks,
            fields=tuple((field, *PATHS[field]) for field in fields if field not in ("kind", "kind!", "*")),
            patterns=tuple(self.patterns),
            idle=not names and not groups and not content,
        )

    def _tables(self, convention: Convention, place: int, present: frozenset[str]) -> None:
        for rule in convention.rules:
            if rule.key in present:
                self._rule(convention, place, rule)
        for many in convention.many:
            self._many(convention, place, many)

    def _rule(self, convention: Convention, place: int, rule: Rule) -> None:
        rank = convention.rank if rule.rank is None else rule.rank
        if rule.content or rule.field in JOINED or rule.field == "*":
            candidate = Candidate(rule.read, rank, rule.key, content=rule.content)
            self.content.setdefault(rule.field, []).append((rank, place, candidate))
        else:
            self.scalars.setdefault(rule.field, []).append((rank, place, rule.key, rule.read))

    def _many(self, convention: Convention, place: int, many: Many) -> None:
        found = tuple(key for key in self.keys if any(_matches(key, pattern) for pattern in many.patterns))
        if found:
            rank = convention.rank if many.rank is None else many.rank
            candidate = Candidate(many.read, rank, many=len(self.patterns), content=many.content)
            self.patterns.append(found)
            self.content.setdefault(many.field, []).append((rank, place, candidate))

    def _pairs(self, field: str) -> tuple[tuple[str, Read], ...]:
        found = sorted(self.scalars.get(field, ()), key=lambda entry: entry[:2])
        return tuple((key, read) for _, _, key, read in found)

    def _groups(self) -> tuple[Group, ...]:
        groups: dict[str, list[Item]] = {}
        for field in self.scalars:
            if field in ("kind", "kind!", "provider"):
                continue
            head, tail = _parts(field)
            group, name = (head, tail) if tail else ("", head)
            (key, read), *others = self._pairs(field)
            groups.setdefault(group, []).append((name, key, _KNOWN.get(read, OTHER), read, tuple(others)))
        return tuple((name, GROUPS.get(name), tuple(items)) for name, items in groups.items())

    def _content(self) -> tuple[Field, ...]:
        fields: list[Field] = []
        for field, found in self.content.items():
            head, tail = _parts(field)
            how = SEVERAL if field == "*" else JOIN if field in JOINED else ONE
            # Plain tuples: Python takes those apart several times as fast as named ones.
            ordered = [entry[2] for entry in sorted(found, key=lambda entry: entry[:2])]
            sources = tuple((one.read, one.rank, one.key, (one.key,), one.many, one.content) for one in ordered)
            fields.append((field, head, tail, how, sources))
        # Functions that give several fields come last: what single fields say is then known.
        return tuple(sorted(fields, key=lambda each: each[3] == SEVERAL))


def _parts(field: str) -> tuple[str, str]:
    """A field of the span, or a group and its field. Interned, so that C knows them again without reading them."""
    head, _, tail = field.partition(".")
    return intern(head), intern(tail)
