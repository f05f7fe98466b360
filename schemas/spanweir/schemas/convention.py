"""What a convention is: a table of rules and a few functions, in one file `conventions/<name>.py`.

A file exports `CONVENTION = Convention(...)` and has a place in `conventions.ORDER`. It says

* when it applies: `marks` (beginnings of attribute keys) or `scopes` (beginnings of instrumentation scope names);
* `rules`: one attribute key gives one canonical field, read by a reader of `values` (scalars) or, with
  `content=True`, by a function `(value, notes)` for messages, documents and the like;
* `many`: several keys, or all keys with a pattern, give one field by a function `(attributes, keys, notes)`. In a
  pattern `#` stands for a number, and the pattern ends where the collapsed key may go on:
  `llm.input_messages.#.` matches `llm.input_messages.0.message.role`;
* `usage`: keys of token counts, which always come from one convention as a set, and `excludes`, whether its emitter
  counts cache and reasoning apart;
* `events`: names of span events, and of log records, that carry content, and `read_events` that gives their fields;
  `like_span`: names of events whose attributes are read as if they stood on the span;
* `refine`: what only the whole span tells (names, kinds), as a last step that may only fill what is empty.

A field is a path in `GenAISpan`: `input`, `model.request`, `tool.name`, `io.input`. Besides those there are
`provider` (any spelling, `values.provider` sorts it out), `kind` (a kind that counts where there is no standard
operation name), `kind!` (a kind that counts in any case), and `*`: the function returns several fields as a dict.
`metadata`, `params.extra`, `prompt.variables`, `usage.other` and `tags` are joined over all rules that give some.

The rank of a rule says how much its source is trusted (semconv guide 7.3); of equal ranks `ORDER` decides. A value
that cannot be read, a sentinel (`<REDACTED>`) or nothing never wins. What two families share is one table used twice:
import it from the other convention's module or from `usage`.

Not here: the engine (`mapping`).
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import msgspec

from spanweir.schemas.genai import GenAISpan
from spanweir.schemas.notes import Notes
from spanweir.schemas.raw import Attributes, RawSpan, Value
from spanweir.schemas.values import json_or_text

OVERRIDE = 0
"""What a user's SDK says in MLflow's own terms, or a vendor's for its own spans."""
SEMCONV = 1
"""OpenTelemetry's structured attributes."""
INDEXED = 2
"""OpenInference's indexed attributes."""
NATIVE = 3
"""A dialect's own dumps, richer than what a standard has."""
EVENT = 4
LOG = 5
LEGACY_INDEXED = 6
"""`gen_ai.prompt.N.*` and the like."""
WHOLE = 7
"""One attribute with a whole call's input or output."""
GENERIC = 8
"""`input`, `output` and the like, on spans that are known to be about generative AI."""

Fields: TypeAlias = dict[str, Any]
"""Canonical fields by path."""


class Occurrence(msgspec.Struct, gc=False):
    """A span event or a log record that belongs to the span."""

    name: str
    """Event name: the field of that name, the attribute `event.name`, or what the body says."""
    attributes: Attributes
    body: Value = None
    time_ns: int = 0
    location: str = "event"
    scope: str = ""


class Rule(msgspec.Struct, frozen=True):
    """Attribute `key` gives `field`. `read` takes the value, and with `content` also the notes."""

    key: str
    field: str
    read: Callable[..., Any]
    rank: int | None = None
    """As the convention's, where it is None."""
    content: bool = False
    """Prompts, answers and the like: read with notes, compared with what other conventions say, and not stored again
    as an attribute when all of it was understood."""


class Many(msgspec.Struct, frozen=True):
    """Attributes whose keys equal one of `patterns`, or begin with one that ends in `.` or `:`, together give `field`.

    `read` takes all attributes, the keys that matched in wire order, and the notes.
    """

    patterns: tuple[str, ...]
    field: str
    read: Callable[[Attributes, Sequence[str], Notes], Any]
    rank: int | None = None
    content: bool = True


class Convention(msgspec.Struct, frozen=True, kw_only=True):
    """See the module's description."""

    name: str
    marks: tuple[str, ...] = ()
    scopes: tuple[str, ...] = ()
    rank: int = NATIVE
    rules: tuple[Rule, ...] = ()
    many: tuple[Many, ...] = ()
    usage: Mapping[str, str] = {}
    excludes: Callable[[RawSpan, GenAISpan], tuple[bool | None, bool | None]] | None = None
    """Whether this emitter's input count excludes the cache, and its output count reasoning; None: not known."""
    events: tuple[str, ...] = ()
    read_events: Callable[[list[Occurrence], Notes], Fields] | None = None
    claims: Callable[[Occurrence], bool] | None = None
    """For log records that no name tells: whether this one is the convention's."""
    like_span: tuple[str, ...] = ()
    refine: Callable[[RawSpan, GenAISpan, Notes], None] | None = None
    general: bool = False
    """Applies to every span and does not make it one about generative AI (sessions, users, errors)."""


def word(table: Mapping[str, str]) -> Callable[[Value], str | None]:
    """A reader of an enum: the table's keys are lower-case, the value's case does not count."""
    return lambda value: table.get(str(value).lower())


def verbatim(value: Value, notes: Notes) -> Any:
    """A content reader that keeps JSON as it is, and text as text."""
    return json_or_text(value)


def rules(
    table: Mapping[str, tuple[str, Callable[..., Any]]], *, rank: int | None = None, content: bool = False
) -> tuple[Rule, ...]:
    """Rules from a table of key -> (field, reader)."""
    return tuple(Rule(key, field, read, rank, content) for key, (field, read) in table.items())
