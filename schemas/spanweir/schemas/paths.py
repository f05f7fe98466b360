"""Reads and writes canonical fields by path (`model.request`), creating groups where they are missing."""

from typing import Any

import msgspec

from spanweir.schemas import genai
from spanweir.schemas.genai import GenAISpan

GROUPS: dict[str, type[msgspec.Struct]] = {
    "model": genai.Model, "params": genai.Params, "response": genai.Response, "tool": genai.Tool, "mcp": genai.Mcp,
    "retrieval": genai.Retrieval, "rerank": genai.Rerank, "memory": genai.Memory, "usage": genai.Usage,
    "cost": genai.Costs, "timing": genai.Timing, "agent": genai.Agent, "graph": genai.Graph, "prompt": genai.Prompt,
    "io": genai.TraceIO, "error": genai.Error,
}  # fmt: skip

_FIELDS = {name: frozenset(group.__struct_fields__) for name, group in GROUPS.items()}
PATHS = {name: (name, "") for name in GenAISpan.__struct_fields__} | {
    f"{name}.{field}": (name, field) for name, fields in _FIELDS.items() for field in fields
}
"""Of each path of a field, the group or the field of the span, and the field of the group or nothing."""


def check(field: str) -> None:
    """Raises ValueError for a path that is no field: a mistake in a convention's table."""
    head, _, tail = field.partition(".")
    if tail:
        if head not in GROUPS or tail not in _FIELDS[head]:
            raise ValueError(f"{field!r} is no field of a canonical span")
    elif head not in GenAISpan.__struct_fields__ and field not in ("kind!", "*", "provider"):
        raise ValueError(f"{field!r} is no field of a canonical span")


def get_field(span: GenAISpan, field: str) -> Any:
    path = PATHS.get(field)
    if path is None:
        return None
    head, tail = path
    if not tail:
        return getattr(span, head)
    group = getattr(span, head)
    return None if group is None else getattr(group, tail)


def set_field(span: GenAISpan, field: str, value: Any) -> None:
    head, tail = PATHS[field]
    if not tail:
        setattr(span, head, value)
        return
    group = getattr(span, head)
    if group is None:
        group = GROUPS[head]()
        setattr(span, head, group)
    setattr(group, tail, value)


def fill_field(span: GenAISpan, field: str, value: Any) -> Any:
    """Put a value into a field that is empty. What the field says already; None where it was empty."""
    head, tail = PATHS[field]
    target: Any = span
    if tail:
        target = getattr(span, head)
        if target is None:
            target = GROUPS[head]()
            setattr(span, head, target)
            setattr(target, tail, value)
            return None
        head = tail
    known = getattr(target, head)
    if known or not is_empty(known):
        return known
    setattr(target, head, value)
    return None


def join_field(span: GenAISpan, field: str, value: Any) -> None:
    """Add to a field that gathers: new keys of a dict, new items of a list."""
    current = get_field(span, field)
    if not current:
        set_field(span, field, value)
    elif isinstance(current, dict):
        set_field(span, field, {**value, **current})
    else:
        set_field(span, field, current + [item for item in value if item not in current])


_EMPTY = frozenset({list, str, dict})


def is_empty(value: Any) -> bool:
    return value is None or (not value and value.__class__ in _EMPTY)
