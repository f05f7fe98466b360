"""Where each field of a canonical span came from: by which convention, from which attributes, events and logs.

Found by leaving things out: a field comes from an attribute if it is another without it. So this cannot disagree with
the mapping, whatever the mapping does, and costs the mapping nothing. Far too slow for anything but looking at a span.
"""

from collections.abc import Sequence
from typing import Any

import msgspec

from spanweir.schemas.convention import Convention
from spanweir.schemas.conventions import load
from spanweir.schemas.genai import Conflict, GenAISpan, Source
from spanweir.schemas.mapping import Mapper
from spanweir.schemas.raw import RawLog, RawSpan

_NOT_FIELDS = frozenset({"flags", "conventions", "consumed"})
_MAX_INDEXED = 400
"""Attributes that are left out one by one; of spans with more, the rest is left out by common beginnings."""


class Explanation(msgspec.Struct, kw_only=True):
    """A span as it was understood, and why."""

    span: GenAISpan | None
    sources: dict[str, Source]
    """By field, `usage.input`."""
    conflicts: list[Conflict]
    """What said something else for a field and lost."""
    unread: list[str]
    """Attributes that no field came from; they stay as they are."""


def explain(raw: RawSpan, logs: Sequence[RawLog] = (), order: Sequence[str] = ()) -> Explanation:
    """The canonical span of `raw`, and where its fields come from. `order` as for `Mapper`."""
    conventions = load(order)
    mapper = Mapper(conventions=conventions)
    whole = _fields(mapper.map(raw, logs))
    keys_of: dict[str, list[str]] = {field: [] for field in whole}
    locations: dict[str, str] = {}
    read: set[str] = set()
    groups = _groups(raw)
    for keys in groups:
        without = _fields(mapper.map(_less(raw, keys), logs))
        for field in whole.keys() | without.keys():
            if whole.get(field) != without.get(field):
                read.update(keys)
                if field in keys_of:
                    keys_of[field].extend(keys)
                    locations[field] = "span"
    _beside(mapper, raw, logs, whole, keys_of, locations)
    sources = {}
    alone = {c.name: fields for c in conventions if (fields := _fields(Mapper(conventions=[c]).map(raw, logs)))}
    for field, value in whole.items():
        convention = next((name for name, fields in alone.items() if fields.get(field) == value), "several")
        sources[field] = Source(convention=convention, keys=keys_of[field], location=locations.get(field, "derived"))
    speaking = [convention for convention in conventions if convention.name in alone]
    conflicts = _conflicts(raw, groups, speaking, whole, sources)
    unread = [key for key in raw.attributes if key not in read]
    return Explanation(span=mapper.map(raw, logs), sources=sources, conflicts=conflicts, unread=unread)


def _beside(
    mapper: Mapper,
    raw: RawSpan,
    logs: Sequence[RawLog],
    whole: dict[str, Any],
    keys_of: dict[str, list[str]],
    locations: dict[str, str],
) -> None:
    """Fields that come from what stands beside the span's attributes."""
    variants = [
        ("event", sorted({event.name for event in raw.events}), msgspec.structs.replace(raw, events=[]), logs),
        ("log", sorted({log.event_name for log in logs}), raw, ()),
        (
            "resource",
            sorted(raw.resource.attributes),
            msgspec.structs.replace(raw, resource=type(raw.resource)()),
            logs,
        ),
    ]
    for location, names, changed, changed_logs in variants:
        if not names:
            continue
        without = _fields(mapper.map(changed, changed_logs))
        for field, value in whole.items():
            if without.get(field) != value and not keys_of[field]:
                keys_of[field] = names if location != "resource" else []
                locations[field] = location


def _conflicts(
    raw: RawSpan,
    groups: Sequence[tuple[str, ...]],
    conventions: Sequence[Convention],
    whole: dict[str, Any],
    sources: dict[str, Source],
) -> list[Conflict]:
    """Attributes that alone would have given a field another value."""
    found: dict[tuple[str, str], Conflict] = {}
    bare = msgspec.structs.replace(raw, attributes={}, events=[])
    nothing = _fields(Mapper(conventions=conventions).map(bare))
    mappers = [(convention.name, Mapper(conventions=[convention])) for convention in conventions]
    for keys in groups:
        only = msgspec.structs.replace(bare, attributes={key: raw.attributes[key] for key in keys})
        for name, mapper in mappers:
            for field, value in _fields(mapper.map(only)).items():
                said = field != "kind" and nothing.get(field) != value  # a kind is what the whole makes of it
                lost = said and field in whole and whole[field] != value
                if lost and not set(keys) & set(sources[field].keys):
                    conflict = Conflict(field=field, convention=name, reason=_shown(value))
                    found.setdefault((field, name), conflict).keys.extend(keys)
    return list(found.values())


def _groups(raw: RawSpan) -> list[tuple[str, ...]]:
    """Attributes one by one; of very many, those that share all but what follows a number together."""
    if len(raw.attributes) <= _MAX_INDEXED:
        return [(key,) for key in raw.attributes]
    groups: dict[str, list[str]] = {}
    for key in raw.attributes:
        stem = ".".join(part for part in key.split(".") if not part.isdigit())
        groups.setdefault(stem, []).append(key)
    return [tuple(keys) for keys in groups.values()]


def _less(raw: RawSpan, keys: Sequence[str]) -> RawSpan:
    return msgspec.structs.replace(raw, attributes={k: v for k, v in raw.attributes.items() if k not in keys})


def _fields(span: GenAISpan | None) -> dict[str, Any]:
    """Field path to value, of the fields that say something; groups are opened one level."""
    found: dict[str, Any] = {}
    if span is None:
        return found
    for name in span.__struct_fields__:
        value = getattr(span, name)
        if name in _NOT_FIELDS or value is None or value == [] or value == {} or value == ():
            continue
        if isinstance(value, msgspec.Struct):
            for inner in value.__struct_fields__:
                part = getattr(value, inner)
                if part is not None and part != [] and part != {}:
                    found[f"{name}.{inner}"] = part
        else:
            found[name] = value
    return found


def _shown(value: Any, limit: int = 120) -> str:
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    return text if len(text) <= limit else text[: limit - 1] + "…"


def shown(span: GenAISpan, field: str, limit: int = 120) -> str:
    """A field's value for people."""
    return _shown(_fields(span).get(field), limit)
