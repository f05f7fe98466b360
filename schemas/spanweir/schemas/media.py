"""Images, sound, video and documents in messages, in every shape that they are written.

Not here: the recognition of a part (`parts`).
"""

from binascii import b2a_base64

from spanweir.schemas.genai import Blob, File, Other, Part, Uri
from spanweir.schemas.notes import Notes, Shape, first, id_of, name_of, rest

_MEDIA = frozenset(
    {
        "type",
        "mime_type",
        "mimeType",
        "media_type",
        "mediaType",
        "modality",
        "content",
        "data",
        "url",
        "uri",
        "image_url",
    }
    | {
        "file_id",
        "fileId",
        "file_uri",
        "fileUri",
        "image",
        "audio",
        "video",
        "document",
        "file",
        "source",
        "input_audio",
    }
    | {"kind", "block_type", "part_kind", "format", "name", "image_mimetype", "path"}
    | {"source_type", "base64", "file_data", "video_url", "audio_url", "base64_image", "contentType"}
)


def media(item: Shape, notes: Notes, modality: str | None = None) -> Part:
    """An image, sound, video or document: inline (data URL, base64), by URL or by file id, wherever it is nested."""
    rest(item, _MEDIA, notes)
    mime = id_of(item, "mime_type", "mimeType", "media_type", "mediaType", "image_mimetype", "contentType")
    modality = id_of(item, "modality") or modality
    value = first(
        item, "image_url", "video_url", "audio_url", "url", "uri", "source", "input_audio", "image", "audio",
        "video", "document", "file", "data", "content", "base64", "base64_image", "file_data", "file_uri", "fileUri",
        "file_id", "fileId", "path",
    )  # fmt: skip
    if isinstance(value, dict):
        inner = {"mime_type": mime, "modality": modality, "format": item.get("format")} | {
            k: v for k, v in value.items() if k != "type"
        }
        if "bytes" in inner:
            inner["data"] = inner.pop("bytes")
        if isinstance(inner.get("s3Location"), dict):
            inner["uri"] = inner.pop("s3Location").get("uri")
        return media(inner, notes, modality)
    file_id = id_of(item, "file_id", "fileId")
    if file_id and value == file_id:
        return File(file_id, mime, modality)
    if isinstance(value, bytes):  # log records may hold bytes as they are (util-genai)
        value = b2a_base64(value, newline=False).decode()
    if not isinstance(value, str):
        return Other(name_of(item, "type") or (modality or "media"), dict(item))
    if value[:5] == "data:" and ";base64," in value[:200]:
        head, _, data = value.partition(";base64,")
        mime = mime or head[5:].partition(";")[0] or None
        return Blob(data, mime, modality or modality_of(mime))
    if "://" in value[:32] or value[:2] == "s3":
        return Uri(value, mime, modality or modality_of(mime))
    form = item.get("format")
    if mime is None and isinstance(form, str) and modality:
        mime = f"{modality}/{form}"
    return Blob(value, mime, modality or modality_of(mime))


def modality_of(mime: str | None) -> str | None:
    if not mime:
        return None
    head = mime.partition("/")[0]
    return head if head in ("image", "audio", "video") else "document"


def image(item: Shape, notes: Notes) -> Part:
    return media(item, notes, "image")


def audio(item: Shape, notes: Notes) -> Part:
    return media(item, notes, "audio")


def video(item: Shape, notes: Notes) -> Part:
    return media(item, notes, "video")


def file(item: Shape, notes: Notes) -> Part:
    return media(item, notes)


def document(item: Shape, notes: Notes) -> Part:
    source = item.get("source")
    if isinstance(source, dict) and source.get("type") in ("text", "content"):
        return Other("document", dict(item))
    return media(item, notes, "document")


def blob(item: Shape, notes: Notes) -> Part:
    part = media(item, notes)
    if isinstance(part, (Blob, Uri)) and part.modality is None:
        part.modality = modality_of(part.mime_type)
    return part
