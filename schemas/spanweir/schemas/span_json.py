"""A span as JSON text in the form of MLflow's `Span.to_dict()`: what `spans.content` holds.

The text is put together of pieces, since most of them are those of many spans: resource and scope, kind, status, the
ids of trace and parent. Source: MLflow 3.17 `entities/span.py`.
Not here: what stands in the attributes, and which error a span tells of (`mlflow`).
"""

import binascii
from collections.abc import Callable, Mapping
from functools import lru_cache, partial
from typing import Any

import orjson

from spanweir.schemas.raw import Attributes, Link, RawSpan, Resource, Scope
from spanweir.schemas.values import dumps, encodable

_KINDS = tuple(
    f',"kind":"SPAN_KIND_{kind}","start_time_unix_nano":'
    for kind in ("UNSPECIFIED", "INTERNAL", "SERVER", "CLIENT", "PRODUCER", "CONSUMER")
)
_CODES = tuple(f',"status":{{"code":"STATUS_CODE_{code}","message":' for code in ("UNSET", "OK", "ERROR"))
_CACHED_IDS = 4096


class SpanWriter:
    """Not thread-safe (it keeps the JSON of the last resource and scope)."""

    def __init__(self) -> None:
        self._resource: Resource | None = None
        self._scope: Scope | None = None
        self._sender = self._library = self._origin = b""
        self._end = b""
        self._flags = 0

    def write(
        self,
        raw: RawSpan,
        name: str,
        status: int,
        message: str,
        events: list[dict[str, Any]],
        own: dict[str, str],
        given: Attributes,
    ) -> bytes:
        """`raw` in MLflow's form, with this name, status (OpenTelemetry's code), status message, events, MLflow's own
        attributes as JSON texts and the sender's as they are. Never raises."""
        if raw.scope is not self._scope or raw.resource is not self._resource or raw.flags != self._flags:
            self._remember(raw.resource, raw.scope, raw.flags)
        return _span(
            raw.trace_id,
            raw.span_id,
            raw.parent_id,
            name,
            _KINDS[raw.kind if 0 <= raw.kind < 6 else 0],
            raw.start_ns,
            raw.end_ns,
            dumps(events) if events else "[]",
            _CODES[status],
            message,
            own,
            given,
            self._tail(raw) if raw.links or raw.trace_state else self._end,
        )

    def _tail(self, raw: RawSpan) -> bytes:
        """What a span ends with, of any kind."""
        links = dumps([_link(link) for link in raw.links])
        state = f',"trace_state":{dumps(raw.trace_state)}' if raw.trace_state else ""
        flags = b',"flags":%d' % raw.flags if raw.flags else b""
        return b"".join((b',"links":', links.encode(), self._origin, state.encode(), flags, b"}"))

    def _remember(self, resource: Resource, scope: Scope, flags: int) -> None:
        """Keep what the spans of one sender end with, as long as they have no links and no trace state."""
        if resource is not self._resource:
            self._resource = resource
            self._sender = _described(resource.attributes, {"schema_url": resource.schema_url})
        if scope is not self._scope:
            self._scope = scope
            named = {"name": scope.name, "version": scope.version, "schema_url": scope.schema_url}
            self._library = _described(scope.attributes, named)
        self._flags = flags
        self._origin = b',"resource":%b,"scope":%b' % (self._sender, self._library)
        self._end = b',"links":[]%b%b}' % (self._origin, b',"flags":%d' % flags if flags else b"")


def merged(own: dict[str, str], given: Attributes) -> dict[str, str]:
    """A span's attributes, all as JSON texts: MLflow's own, which are, and the sender's.

    Texts that come again and again are not remembered: looking them up touches more memory than writing them anew.
    """
    dump = orjson.dumps
    attributes = own.copy()
    for key, value in given.items():
        kind = value.__class__
        if kind is str:
            try:
                attributes[key] = dump(value).decode()
            except TypeError:
                attributes[key] = dumps(value)  # lone surrogates
        elif kind is int:
            attributes[key] = str(value)
        else:
            attributes[key] = dumps(value)
    return attributes


def spaced(attributes: dict[str, str]) -> bytes:
    """Attributes as JSON with a blank between key and value, as MLflow's `span.attributes.x RLIKE ...` looks for them
    in the text (3.18, `sqlalchemy_store.py`). Raises TypeError for lone surrogates.

    orjson writes a blank only where it indents.
    """
    return orjson.dumps(attributes, option=orjson.OPT_INDENT_2)


def _span_in_python(
    trace_id: str,
    span_id: str,
    parent_id: str,
    name: str,
    kind: str,
    start_ns: int,
    end_ns: int,
    events: str,
    code: str,
    message: str,
    own: dict[str, str],
    given: Attributes,
    tail: bytes,
) -> bytes:
    """`kind`, `events`, `code` and `tail` are pieces of JSON."""
    attributes = merged(own, given)
    try:
        told = spaced(attributes)
    except TypeError:  # lone surrogates
        told = dumps(attributes).encode()
    head = (
        f'{{"trace_id":{_shared_id(trace_id)},"span_id":{_id(span_id)},"parent_span_id":'
        f'{_shared_id(parent_id) if parent_id else "null"},"name":{dumps(name)}{kind}{start_ns}'
        f',"end_time_unix_nano":{end_ns or "null"},"events":{events}{code}{dumps(message)}}},"attributes":'
    )
    return b"".join((head.encode(), told, tail))


try:
    from spanweir.schemas._native import span_json
except ImportError:  # installed where no C compiler was
    _span: Callable[..., bytes] = _span_in_python
else:
    _span = partial(span_json, dumps, _span_in_python)


def encode_content(content: dict[str, Any]) -> bytes:
    """A span that was read from its JSON, as JSON again; `content` is changed. Raises TypeError for lone surrogates."""
    content["attributes"] = orjson.Fragment(spaced(content["attributes"]))
    return orjson.dumps(content, default=encodable)


def _id(hex_id: str) -> str:
    """JSON text of an id in base64; of what is no id, as it is."""
    try:
        return f'"{binascii.b2a_base64(binascii.unhexlify(hex_id), newline=False).decode()}"'
    except ValueError:
        return dumps(hex_id)


_shared_id = lru_cache(maxsize=_CACHED_IDS)(_id)
"""For ids that many spans name: of traces and parents."""


def _described(attributes: Mapping[str, Any], more: dict[str, str]) -> bytes:
    body: dict[str, Any] = {key: value for key, value in more.items() if value}
    if attributes:
        body["attributes"] = attributes
    return dumps(body).encode()


def _link(link: Link) -> dict[str, Any]:
    body = {"trace_id": f"tr-{link.trace_id}", "span_id": link.span_id, "attributes": link.attributes}
    if link.trace_state:
        body["trace_state"] = link.trace_state
    return body
