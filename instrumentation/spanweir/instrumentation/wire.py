"""Ended spans to OTLP requests of bounded size, off the calling thread.

The SDK's own encoder writes the spans; frozen content is written here, in pieces, and joined to the encoded span. That
is legal protobuf (fields may come in any order, repeated fields may be apart) and spares three copies of every string.
Only four nested messages are framed by hand: request, ResourceSpans, ScopeSpans, Span.
"""

import copy
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.trace import Status

from spanweir.instrumentation import lazy, names
from spanweir.instrumentation.encode import tame
from spanweir.instrumentation.policy import Policy, redact_text

Pieces = list[bytes]
_AT_ONCE = 32
_PLACE = re.compile(r'^  File ".*", line \d+, in .*$', re.MULTILINE)


def varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def field(number: int, pieces: Pieces) -> Pieces:
    """A length-delimited field."""
    return [varint(number << 3 | 2) + varint(sum(map(len, pieces))), *pieces]


def attribute(key: str, value: Pieces) -> Pieces:
    """`Span.attributes` (9): a KeyValue whose AnyValue is a string."""
    name = key.encode()
    return field(9, field(1, [name]) + field(2, field(1, value)))


def requests(spans: Sequence[ReadableSpan], limit_bytes: int) -> Iterator[tuple[bytes, list[bytes]]]:
    """Serialized ExportTraceServiceRequests and the ids of the spans in each.

    None is larger than `limit_bytes` unless a single span is.
    """
    held: Pieces = []
    held_bytes = 0
    ids: list[bytes] = []
    for resource, scope, bodies in _groups(spans):
        overhead = sum(map(len, resource)) + sum(map(len, scope)) + 64
        group: Pieces = []
        group_bytes = 0
        for span_id, body in bodies:
            size = sum(map(len, body))
            if ids and held_bytes + group_bytes + size + overhead > limit_bytes:
                yield b"".join(held + (_resource_spans(resource, scope, group) if group else [])), ids
                held, held_bytes, group, group_bytes, ids = [], 0, [], 0, []
            group += body
            group_bytes += size
            ids.append(span_id)
        if group:
            held += _resource_spans(resource, scope, group)
            held_bytes += group_bytes + overhead
    if ids:
        yield b"".join(held), ids


def _groups(spans: Sequence[ReadableSpan]) -> Iterator[tuple[Pieces, Pieces, list[tuple[bytes, Pieces]]]]:
    """Resource, scope, and the encoded spans of both by span id; a few spans at a time, with a yield of the
    interpreter lock between."""
    for start in range(0, len(spans), _AT_ONCE):
        if start:
            time.sleep(0)
        content: dict[bytes, Pieces] = {}
        message: Any = encode_spans([_split(span, content) for span in spans[start : start + _AT_ONCE]])
        for resource_spans in message.resource_spans:
            resource = field(1, [resource_spans.resource.SerializeToString()])
            for scope_spans in resource_spans.scope_spans:
                scope = field(1, [scope_spans.scope.SerializeToString()]) + field(3, [scope_spans.schema_url.encode()])
                bodies = [
                    (span.span_id, field(2, [span.SerializeToString(), *content.get(span.span_id, ())]))
                    for span in scope_spans.spans
                ]
                yield resource, scope, bodies


def _resource_spans(resource: Pieces, scope: Pieces, spans: Pieces) -> Pieces:
    return field(1, resource + field(2, scope + spans))


def _split(span: ReadableSpan, content: dict[bytes, Pieces]) -> ReadableSpan:
    """The span without its frozen content, which is rendered into `content` under the span's id."""
    attributes = lazy.content_of(span)
    if attributes is None:
        return span
    finished, frozen = attributes.take()
    pieces: Pieces = []
    for key, item in frozen.items():
        text = attributes.policy.render(key, item, attributes.max_value_len)
        if text:
            pieces += attribute(key, text)
    context = span.get_span_context()
    if pieces and context is not None:
        content[context.span_id.to_bytes(8, "big")] = pieces
    bare = copy.copy(span)
    bare._attributes = finished
    return bare


def governed(span: ReadableSpan, policy: Policy) -> ReadableSpan:
    """The span with the policy applied to the content that it carries as text already: what another instrumentation
    library wrote, and what exceptions say.

    With content off on spans nothing of it is left, whether or not the instrumentation has a switch of its own.
    """
    if policy.redact is None and policy.on_spans:
        return span
    attributes = span.attributes or {}
    changes: dict[str, Any] = {}
    content: list[str] = []
    if lazy.content_of(span) is None:
        content = [key for key in attributes if key in names.CONTENT or key.startswith(names.FOREIGN_CONTENT)]
    if content:
        texts = {key: _text(policy, key, attributes[key]) for key in content}
        kept = {key: value for key, value in attributes.items() if key not in texts}
        changes["_attributes"] = {**kept, **{key: text for key, text in texts.items() if text is not None}}
    if span.events:
        changes["_events"] = [event for e in span.events if (event := _event(e, policy)) is not None]
    if span.status.description:
        changes["_status"] = Status(span.status.status_code, _description(span, policy))
    if not changes:
        return span
    bare = copy.copy(span)
    vars(bare).update(changes)
    return bare


def _text(policy: Policy, key: str, value: Any) -> str | None:
    """Content under this name, None for nothing."""
    if not policy.on_spans or policy.redact is None or not isinstance(value, str):
        return None
    return redact_text(policy.redact, key, value)


def _event(event: Event, policy: Policy) -> Event | None:
    attributes = event.attributes or {}
    if not policy.on_spans and event.name.startswith(names.CONTENT_EVENTS):
        return None
    governed: dict[str, Any] = {}
    for key, value in attributes.items():
        if key in names.EVENT_CONTENT and isinstance(value, str):
            if not policy.captures or (key == names.EVALUATION_EXPLANATION and not policy.on_spans):
                # Of a stack trace the places; what the exceptions say stands between them.
                value = "\n".join(_PLACE.findall(value)) if key == names.EXCEPTION_STACK else None
            elif policy.redact is not None:
                value = redact_text(policy.redact, key, value)
        if value is not None:
            governed[key] = value
    return Event(event.name, governed, event.timestamp)


def _description(span: ReadableSpan, policy: Policy) -> str | None:
    text = span.status.description or ""
    if not policy.captures:
        return str((span.attributes or {}).get(names.ERROR_TYPE) or "") or None
    return text if policy.redact is None else redact_text(policy.redact, names.EXCEPTION_MESSAGE, text)


class Mended(ReadableSpan):
    """A span that could not be encoded as it was."""


def mended(span: ReadableSpan) -> ReadableSpan | None:
    """The span with everything in it that protobuf cannot hold described (half of a surrogate pair, integers of more
    than 64 bits). None if that has been done already."""
    if isinstance(span, Mended):
        return None
    return Mended(
        name=tame(span.name),
        context=span.context,
        parent=span.parent,
        resource=span.resource,
        attributes=_mended(span.attributes or {}),
        events=[Event(tame(event.name), _mended(event.attributes or {}), event.timestamp) for event in span.events],
        links=span.links,
        kind=span.kind,
        status=Status(span.status.status_code, tame(span.status.description or "")),
        start_time=span.start_time,
        end_time=span.end_time,
        instrumentation_scope=span.instrumentation_scope,
    )


def _mended(attributes: Mapping[str, Any]) -> dict[str, Any]:
    return {tame(key): tame(value) for key, value in attributes.items()}
