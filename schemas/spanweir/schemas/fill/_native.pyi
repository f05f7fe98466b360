from collections.abc import Callable
from typing import Any

from spanweir.schemas.genai import GenAISpan
from spanweir.schemas.notes import Notes
from spanweir.schemas.plan import Field, Group
from spanweir.schemas.raw import Attributes

SOURCE: str
"""SHA-256 of the C source this was compiled of."""

def scalars(groups: tuple[Group, ...], attributes: Attributes, span: GenAISpan, flags: list[str], /) -> None:
    """See `_scalars_in_python`. What a reader raises is raised."""

def counts(
    items: tuple[tuple[str, str], ...], attributes: Attributes, flags: list[str], read: Callable[[Any], int | None], /
) -> dict[str, Any]:
    """See `_counts_in_python`. `read` is `values.count`."""

def content(
    fields: tuple[Field, ...],
    keys_of: tuple[tuple[str, ...], ...],
    attributes: Attributes,
    span: GenAISpan,
    notes: Notes,
    ranks: dict[str, int],
    rare: tuple[Callable[..., Any], ...],
    merging: tuple[Any, ...],
    /,
) -> None:
    """See `_content_in_python`. `rare` are the functions that it calls besides readers, in the order of `_RARE`;
    `merging` as for `merge`."""

def merge(
    span: GenAISpan, fields: dict[str, Any], rank: int, ranks: dict[str, int], notes: Notes, merging: tuple[Any, ...], /
) -> None:
    """See `_merge_in_python`. `merging` is `_MERGING`."""
