"""The facts of a user turn, as every agent's module reads them from its own records.

Not here: what spans they become (`compose`).
"""

from collections.abc import Sequence
from typing import Self

import msgspec

from spanweir.schemas.raw import NO_RESOURCE, NO_SCOPE, Attributes, Event, RawLog, RawSpan, Resource, Scope


class Usage(msgspec.Struct):
    """Tokens: `input` includes cache reads and writes, `output` includes reasoning."""

    input: int | None = None
    output: int | None = None
    cache_read: int | None = None
    cache_write: int | None = None
    cache_write_1h: int | None = None
    reasoning: int | None = None


class Step(msgspec.Struct):
    """What a model call and a tool run have in common."""

    key: str
    start_ns: int
    end_ns: int
    span: RawSpan | None = None
    own_id: str = ""
    """Id of the span, where it is known without the span."""
    parent_id: str = ""
    """Span id of the agent it belongs to; empty for the turn's root."""
    error: str = ""
    """Message of the failure; empty when it succeeded."""
    error_type: str = ""
    resource: Resource = NO_RESOURCE
    scope: Scope = NO_SCOPE

    @property
    def span_id(self) -> str:
        return self.span.span_id if self.span else self.own_id


class Call(Step):
    """One model call. Content fields are JSON text in the form of OTel GenAI messages."""

    source: str = ""
    """What asked for it, as the sender names it."""
    utility: str = ""
    model: str = ""
    response_model: str = ""
    provider: str = ""
    response_id: str = ""
    finish: list[str] = []
    usage: Usage | None = None
    cost: float | None = None
    text: str = ""
    """What it answered, as one text."""
    reasoning: str = ""
    tools: list["ToolRun"] = []
    """The tool runs it asked for."""
    input: str = ""
    whole: bool = False
    """`input` is the request as it was sent, not only what was new to it."""
    output: str = ""
    events: list[Event] = []
    """Attempts that failed before."""
    extra: Attributes = {}
    native: bool = False
    """The span has its messages in a convention of its own, which the mapper reads."""


class ToolRun(Step):
    """One execution of a tool. `arguments` and `result` are JSON text, or plain text."""

    name: str = ""
    call_id: str = ""
    arguments: str = ""
    result: str = ""
    description: str = ""


class SubAgent(msgspec.Struct):
    """An agent that a tool run started."""

    span_id: str
    start_ns: int
    end_ns: int
    span: RawSpan | None = None
    parent_id: str = ""
    name: str = ""
    prompt: str = ""
    answer: str = ""
    error: str = ""
    resource: Resource = NO_RESOURCE
    scope: Scope = NO_SCOPE


class Facts(msgspec.Struct):
    """A whole turn."""

    agent: str
    root: RawSpan | None = None
    start_ns: int = 0
    end_ns: int = 0
    prompt: str = ""
    answer: str = ""
    user: str = ""
    model: str = ""
    error: str = ""
    error_type: str = ""
    calls: list[Call] = []
    tools: list[ToolRun] = []
    agents: list[SubAgent] = []
    resource: Resource = NO_RESOURCE
    scope: Scope = NO_SCOPE

    def close(self, own: Sequence[Call], source: RawSpan | RawLog | None) -> Self:
        """What the end of the turn tells: its last answer, and the failure of the last of its `own` model calls.

        Resource and scope are those of `source`.
        """
        self.answer = self.answer or next((call.text for call in reversed(own) if call.text and not call.error), "")
        if own:
            self.error, self.error_type = own[-1].error, own[-1].error_type
        if source is not None:
            self.resource, self.scope = source.resource, source.scope
        return self
