"""A span as JSON text in the form of MLflow's `Span.to_dict()`: what `spans.content` holds.

The text is put together of pieces, since most of them are those of many spans: resource and scope, kind, status, the
ids of trace and parent. Source: MLflow 3.17 `entities/span.py`.
Not here: what stands in the attributes, and which error a span tells of (`mlflow`).
"""

import binascii
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

import orjson

from spanweir.schemas.raw import Link, RawSpan, Resource, Scope
from spanweir.schemas.values import dumps, encodable

_SPAN = (
    b'{"trace_id":%b,"span_id":%b,"parent_span_id":%b,"name":%b,"kind":"SPAN_KIND_%b","start_time_unix_nano":%d,'
    b'"end_time_unix_nano":%b,"events":%b,"status":{"code":"STATUS_CODE_%b","message":%b},"attributes":'
)
_KINDS = (b"UNSPECIFIED", b"INTERNAL", b"SERVER", b"CLIENT", b"PRODUCER", b"CONSUMER")
_CODES = (b"UNSET", b"OK", b"ERROR")
_CACHED_IDS = 4096
_CACHED_FLAGS = 64

Encode = Callable[[Any], bytes]


class SpanWriter:
    """Not thread-safe (it keeps the JSON of the last resource and scope)."""

    def __init__(self) -> None:
        self._resource: Resource | None = None
        self._scope: Scope | None = None
        self._sender = self._library = self._origin = b""

    def write(
        self,
        raw: RawSpan,
        name: str,
        status: int,
        message: str,
        events: list[dict[str, Any]],
        attributes: dict[str, str],
        encode: Encode = orjson.dumps,
    ) -> bytes:
        """`raw` in MLflow's form, with this name, status (OpenTelemetry's code), status message, events and JSON texts
        of attributes. Never raises."""
        if raw.scope is not self._scope or raw.resource is not self._resource:
            self._remember(raw.resource, raw.scope)
        strict = encode is orjson.dumps
        try:
            state = b',"trace_state":' + encode(raw.trace_state) if raw.trace_state else b""
            head = _SPAN % (
                _shared_id(raw.trace_id),
                _id(raw.span_id),
                _shared_id(raw.parent_id) if raw.parent_id else b"null",
                encode(name),
                _KINDS[raw.kind if 0 <= raw.kind < 6 else 0],
                raw.start_ns,
                b"%d" % raw.end_ns if raw.end_ns else b"null",
                _encoded_anyhow(events) if events else b"[]",
                _CODES[status],
                encode(message) if message else b'""',
            )
            told = spaced(attributes) if strict else encode(attributes)
        except TypeError:
            if not strict:
                raise
            # Lone surrogates, which orjson refuses.
            return self.write(raw, name, status, message, events, attributes, _encoded_anyhow)
        links = _encoded_anyhow([_link(link) for link in raw.links]) if raw.links else b"[]"
        flags = _shared_flags(raw.flags) if raw.flags else b""
        return b"".join((head, told, b',"links":', links, self._origin, state, flags, b"}"))

    def _remember(self, resource: Resource, scope: Scope) -> None:
        if resource is not self._resource:
            self._resource = resource
            self._sender = _described(resource.attributes, {"schema_url": resource.schema_url})
        if scope is not self._scope:
            self._scope = scope
            named = {"name": scope.name, "version": scope.version, "schema_url": scope.schema_url}
            self._library = _described(scope.attributes, named)
        self._origin = b',"resource":%b,"scope":%b' % (self._sender, self._library)


def spaced(attributes: dict[str, str]) -> bytes:
    """Attributes as JSON with a blank between key and value, as MLflow's `span.attributes.x RLIKE ...` looks for them
    in the text (3.18, `sqlalchemy_store.py`). Raises TypeError for lone surrogates.

    orjson writes a blank only where it indents.
    """
    return orjson.dumps(attributes, option=orjson.OPT_INDENT_2)


def encode_content(content: dict[str, Any]) -> bytes:
    """A span that was read from its JSON, as JSON again; `content` is changed. Raises TypeError for lone surrogates."""
    content["attributes"] = orjson.Fragment(spaced(content["attributes"]))
    return orjson.dumps(content, default=encodable)


def _encoded_anyhow(value: Any) -> bytes:
    return dumps(value).encode()


def _id(hex_id: str) -> bytes:
    """JSON text of an id in base64; of what is no id, as it is."""
    try:
        return b'"%b"' % binascii.b2a_base64(binascii.unhexlify(hex_id), newline=False)
    except ValueError:
        return dumps(hex_id).encode()


_shared_id = lru_cache(maxsize=_CACHED_IDS)(_id)
"""For ids that many spans name: of traces and parents."""


@lru_cache(maxsize=_CACHED_FLAGS)
def _shared_flags(flags: int) -> bytes:
    return b',"flags":%d' % flags


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
