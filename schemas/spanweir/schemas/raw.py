"""OTLP as Python values, otherwise untouched: integer nanoseconds, lower-case hex ids, attribute types and order kept.

These structs, and those of `genai`, `message` and `trace`, are trees of values: nothing in them refers back, so that
Python's garbage collector need not follow them (`gc=False`).
Not here: what an attribute means (`conventions`), and how bytes become these values (`spanweir.collector.decode`).
"""

from typing import TypeAlias

import msgspec

Value: TypeAlias = "str | bool | int | float | bytes | list[Value] | dict[str, Value] | None"
"""An OTLP AnyValue. `None` is an AnyValue with nothing set."""

Attributes: TypeAlias = dict[str, Value]
"""In wire order; of a key that was sent twice the last value stands."""


class Resource(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Who sent it. One object is shared by all spans of a ResourceSpans."""

    attributes: Attributes = {}
    dropped_attributes_count: int = 0
    schema_url: str = ""


class Scope(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Which instrumentation library made it. One object is shared by all spans of a ScopeSpans."""

    name: str = ""
    version: str = ""
    attributes: Attributes = {}
    dropped_attributes_count: int = 0
    schema_url: str = ""


NO_RESOURCE = Resource()
NO_SCOPE = Scope()


class Event(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A span event."""

    name: str
    time_ns: int = 0
    attributes: Attributes = {}
    dropped_attributes_count: int = 0


class Link(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A link to another span."""

    trace_id: str
    span_id: str
    trace_state: str = ""
    attributes: Attributes = {}
    dropped_attributes_count: int = 0
    flags: int = 0


class RawSpan(msgspec.Struct, kw_only=True, gc=False):
    """One OTLP span.

    `trace_id` is 32 and `span_id` 16 hex digits; `parent_id` is empty for a root. `kind` and `status_code` are the
    protobuf enum numbers. `end_ns` is 0 for a span that is still running.
    """

    trace_id: str
    span_id: str
    parent_id: str = ""
    name: str = ""
    kind: int = 0
    start_ns: int = 0
    end_ns: int = 0
    attributes: Attributes = {}
    events: list[Event] = []
    links: list[Link] = []
    status_code: int = 0
    status_message: str = ""
    trace_state: str = ""
    flags: int = 0
    dropped_attributes_count: int = 0
    dropped_events_count: int = 0
    dropped_links_count: int = 0
    resource: Resource = NO_RESOURCE
    scope: Scope = NO_SCOPE
    issues: tuple[str, ...] = ()
    """What decoding had to repair or could not accept: `invalid_trace_id`, `invalid_span_id`, `invalid_parent_id`,
    `duplicate_keys`, and of any span in the same request `invalid_utf8`, `too_deep`."""


class RawLog(msgspec.Struct, kw_only=True, gc=False):
    """One OTLP log record. `trace_id` and `span_id` are empty where the sender gave none."""

    trace_id: str = ""
    span_id: str = ""
    event_name: str = ""
    time_ns: int = 0
    observed_ns: int = 0
    severity_number: int = 0
    severity_text: str = ""
    body: Value = None
    attributes: Attributes = {}
    flags: int = 0
    dropped_attributes_count: int = 0
    resource: Resource = NO_RESOURCE
    scope: Scope = NO_SCOPE
    issues: tuple[str, ...] = ()
    """As of `RawSpan`."""
