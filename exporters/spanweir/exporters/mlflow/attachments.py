"""Large values out of spans' contents, into files beside the trace: MLflow's own attachments.

A value that was cut out is replaced by a reference that MLflow's UI follows, `mlflow-attachment://<id>?...`. Binary
data is a data URI, or base64 text of which the values around it (`media_type`, `format`, `type: base64`) or its first
bytes say what it is; letters that merely could be base64 are text, and stay. The id
comes from trace, span and data, so that a batch that is written again writes the same files. A value whose file cannot
be written stays where it is.

Not here: how a file gets to its place (`artifacts`).
"""

import base64
import binascii
import hashlib
import sys
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final
from urllib.parse import urlencode

import msgspec
import orjson

from spanweir.schemas.span_json import encode_content
from spanweir.schemas.trace import MappedSpan

PREVIEW_CHARS: Final = 2000
"""How much of a long text stays where it was, before the reference to all of it."""

_PROBE_BYTES: Final = 64
_BASE64: Final = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
_TYPE_KEYS: Final = ("media_type", "mime_type", "mimeType", "mediaType", "content_type")
_FORMATS: Final = {
    "png": "image/png", "jpeg": "image/jpeg", "jpg": "image/jpeg", "gif": "image/gif", "webp": "image/webp",
    "pdf": "application/pdf", "wav": "audio/wav", "mp3": "audio/mpeg", "flac": "audio/flac", "opus": "audio/opus",
    "ogg": "audio/ogg", "mp4": "video/mp4", "webm": "video/webm", "pcm": "audio/pcm", "pcm16": "audio/pcm",
}  # fmt: skip
_TEXT_TYPES: Final = ("text/", "application/json", "application/xml", "application/yaml", "multipart/")
"""Of the message around a value rather than of the value, where that is base64."""
_ENCODING_KEYS: Final = ("type", "source_type", "sourceType", "encoding")
_MAGIC: Final = (
    (0, b"\x89PNG", "image/png"), (0, b"\xff\xd8\xff", "image/jpeg"), (0, b"GIF8", "image/gif"),
    (0, b"%PDF-", "application/pdf"), (0, b"ID3", "audio/mpeg"), (0, b"\xff\xfb", "audio/mpeg"),
    (0, b"OggS", "audio/ogg"), (0, b"fLaC", "audio/flac"), (4, b"ftyp", "video/mp4"),
    (0, b"\x1a\x45\xdf\xa3", "video/webm"), (8, b"WEBP", "image/webp"), (8, b"WAVE", "audio/wav"),
    (0, b"PK\x03\x04", "application/zip"), (0, b"\x1f\x8b\x08", "application/gzip"),
)  # fmt: skip
"""Offset, bytes, media type."""
_OTHER: Final = "application/octet-stream"


class Attachment(msgspec.Struct, frozen=True):
    """Binary data that is kept beside a trace, and referred to in its spans."""

    attachment_id: str
    content_type: str
    data: bytes

    def reference(self, request_id: str) -> str:
        query = urlencode({"content_type": self.content_type, "trace_id": request_id, "size": len(self.data)})
        return f"mlflow-attachment://{self.attachment_id}?{query}"


class Unsaved(Exception):  # noqa: N818 - not an error: the value stays in the span
    """The file could not be written."""


Save = Callable[[str, Attachment], None]
"""Takes a trace id (32 hex digits) and what to keep. Raises Unsaved."""


def extract(
    spans: Sequence[MappedSpan], request_ids: Mapping[str, str], save: Save, *, min_bytes: int, min_text_bytes: int
) -> list[MappedSpan]:
    """The spans, large values replaced in contents and attributes, each saved before its reference is handed out.

    `request_ids` are MLflow's ids of the traces to look at; 0 turns a limit off.
    """
    smallest = min((limit for limit in (min_bytes, min_text_bytes) if limit), default=sys.maxsize)
    return [
        _lightened(span, request_ids[span.trace_id], save, min_bytes, min_text_bytes)
        if len(span.content) >= smallest
        and span.trace_id in request_ids
        and _is_suspect(span.content, min_bytes, min_text_bytes)
        else span
        for span in spans
    ]


def _is_suspect(content: bytes, min_bytes: int, min_text_bytes: int) -> bool:
    if min_text_bytes and len(content) >= min_text_bytes:
        return True
    if not min_bytes or len(content) < min_bytes:
        return False
    # Base64 of at least `min_bytes` covers one of these places whole; prose has a blank or a quote in it.
    step = max(_PROBE_BYTES, min_bytes // 2 - _PROBE_BYTES)
    return any(
        not content[at : at + _PROBE_BYTES].translate(None, _BASE64)
        for at in range(0, len(content) - _PROBE_BYTES, step)
    )


def _lightened(span: MappedSpan, request_id: str, save: Save, min_bytes: int, min_text_bytes: int) -> MappedSpan:
    content: dict[str, Any] = orjson.loads(span.content)
    cutter = _Cutter(span, request_id, save, min_bytes, min_text_bytes)
    smallest = min(limit for limit in (min_bytes, min_text_bytes) if limit)
    attributes = content["attributes"]
    for key, encoded in attributes.items():
        if len(encoded) >= smallest:
            attributes[key] = cutter.attribute(encoded)
    if not cutter.cut:
        return span
    changed = {key: attributes.get(key, encoded) for key, encoded in span.attributes.items()}
    return msgspec.structs.replace(span, content=encode_content(content), own=changed, given={})


class _Cutter:
    def __init__(self, span: MappedSpan, request_id: str, save: Save, min_bytes: int, min_text_bytes: int) -> None:
        self._trace_id = span.trace_id
        self._seed = f"{span.trace_id}/{span.span_id}/".encode()
        self._request_id = request_id
        self._save = save
        self._min_bytes = min_bytes or 1 << 62
        self._min_text_bytes = min_text_bytes or 1 << 62
        self.cut = 0

    def attribute(self, encoded: str) -> str:
        try:
            value = orjson.loads(encoded)
        except ValueError:
            return encoded
        before = self.cut
        value = self._walk(value, {})
        return orjson.dumps(value).decode() if self.cut > before else encoded

    def _walk(self, value: Any, around: Mapping[str, Any]) -> Any:
        """`around` is the object that holds the value, and what it inherits from the objects around it."""
        if isinstance(value, str):
            return self._text(value, around)
        if isinstance(value, list):
            return [self._walk(item, around) for item in value]
        if isinstance(value, dict):
            hints = {key: item for key, item in value.items() if isinstance(item, str) and len(item) < 100}
            return {key: self._walk(item, {**around, **hints}) for key, item in value.items()}
        return value

    def _text(self, value: str, around: Mapping[str, Any]) -> str:
        if len(value) >= self._min_bytes:
            head, separator, _ = value[:200].partition(";base64,")
            if separator and head.startswith("data:"):
                data = _decoded(value[len(head) + len(separator) :])
                if data is not None:
                    return self._store(data, head[5:].partition(";")[0] or _sniffed(data) or _OTHER) or value
            elif (data := _decoded(value)) is not None and (content_type := _type_of(data, around)):
                return self._store(data, content_type) or value
        if len(value) >= self._min_text_bytes:
            reference = self._store(value.encode("utf-8", "replace"), "text/plain")
            if reference:
                return f"{value[:PREVIEW_CHARS]}\n\n[{len(value)} characters in all: {reference} ]"
        return value

    def _store(self, data: bytes, content_type: str) -> str | None:
        digest = hashlib.sha256(self._seed + data).digest()
        attachment = Attachment(str(uuid.UUID(bytes=digest[:16], version=4)), content_type, data)
        try:
            self._save(self._trace_id, attachment)
        except Unsaved:
            return None
        self.cut += 1
        return attachment.reference(self._request_id)


def _decoded(value: str) -> bytes | None:
    """The bytes, if it is base64 and nothing else."""
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        return None


def _type_of(data: bytes, around: Mapping[str, Any]) -> str:
    """The media type; empty if nothing says that this is more than a text of base64's letters."""
    for key in _TYPE_KEYS:
        said = str(around.get(key, ""))
        if "/" in said and not said.startswith(_TEXT_TYPES):
            return said
    known = _FORMATS.get(str(around.get("format", "")).lower()) or _sniffed(data)
    return known or (_OTHER if any(around.get(key) == "base64" for key in _ENCODING_KEYS) else "")


def _sniffed(data: bytes) -> str:
    return next((kind for offset, magic, kind in _MAGIC if data.startswith(magic, offset)), "")
