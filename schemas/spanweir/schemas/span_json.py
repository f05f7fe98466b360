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

from spanweir.schemas.raw import Attributes, Link, RawSpan, Resource, Scope
from spanweir.schemas.values import dumps, encodable

_KINDS = tuple(
    f',"kind":"SPAN_KIND_{kind}","start_time_unix_nano":'
    for kind in ("UNSPECIFIED", "INTERNAL", "SERVER", "CLIENT", "PRODUCER", "CONSUMER")
)
_CODES = tuple(f',"status":{{"code":"STATUS_CODE_{code}","message":' for code in ("UNSET", "OK", "ERROR"))
_CACHED_IDS = 4096

Encode = Callable[[Any], bytes]


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
        encode: Encode = orjson.dumps,
    ) -> bytes:
        """`raw` in MLflow's form, with this name, status (OpenTelemetry's code), status message, events, MLflow's own
        attributes as JSON texts and the sender's as they are. Never raises."""
        if raw.scope is not self._scope or raw.resource is not self._resource or raw.flags != self._flags:
            self._remember(raw.resource, raw.scope, raw.flags)
        strict = encode is orjson.dumps
        try:
            head = (
                f'{{"trace_id":{_shared_id(raw.trace_id)},"span_id":{_id(raw.span_id)},"parent_span_id":'
                f'{_shared_id(raw.parent_id) if raw.parent_id else "null"},"name":{encode(name).decode()}'
                f"{_KINDS[raw.kind if 0 <= raw.kind < 6 else 0]}{raw.start_ns}"
                f',"end_time_unix_nano":{raw.end_ns or "null"},"events":{dumps(events) if events else "[]"}'
                f'{_CODES[status]}{encode(message).decode() if message else _EMPTY}}},"attributes":'
            )
            told = _attributes(own, given) if strict else encode(merged(own, given))
            if not raw.links and not raw.trace_state:
                return b"".join((head.encode(), told, self._end))
            state = b',"trace_state":' + encode(raw.trace_state) if raw.trace_state else b""
        except TypeError:
            if not strict:
                raise
            # Lone surrogates, which orjson refuses.
            return self.write(raw, name, status, message, events, own, given, _encoded_anyhow)
        links = _encoded_anyhow([_link(link) for link in raw.links]) if raw.links else b"[]"
        flags = b',"flags":%d' % raw.flags if raw.flags else b""
        return b"".join((head.encode(), told, b',"links":', links, self._origin, state, flags, b"}"))

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


_EMPTY = '""'


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


def _attributes_in_python(own: dict[str, str], given: Attributes) -> bytes:
    return spaced(merged(own, given))


def _attributes_natively(own: dict[str, str], given: Attributes) -> bytes:
    told = attributes_json(own, given, dumps)
    return _attributes_in_python(own, given) if told is None else told


try:
    from spanweir.schemas._native import attributes_json
except ImportError:  # installed where no C compiler was
    _attributes = _attributes_in_python
else:
    _attributes = _attributes_natively


def encode_content(content: dict[str, Any]) -> bytes:
    """A span that was read from its JSON, as JSON again; `content` is changed. Raises TypeError for lone surrogates."""
    content["attributes"] = orjson.Fragment(spaced(content["attributes"]))
    return orjson.dumps(content, default=encodable)


def _encoded_anyhow(value: Any) -> bytes:
    return dumps(value).encode()


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
