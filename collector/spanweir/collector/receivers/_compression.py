"""Content codings of request bodies, each with a bound on what comes out: a small body must not become a large one."""

import zlib

from spanweir.collector.decode import Undecodable

CODINGS = ("gzip", "deflate", "zstd", "identity")
_ZSTD_STEP_BYTES = 1024
"""The library bounds no output, and the format makes at most 128 KB of 4 bytes: 32 MB of a step."""
_ZSTD_WINDOW_BYTES = 128 << 20
"""The largest that compressors use; only as much of it as comes out becomes real memory."""
_GZIP_OR_ZLIB, _RAW_DEFLATE = 47, -15


class TooLarge(ValueError):  # noqa: N818 - an adjective, as Undecodable
    """More came out, or would, than the limit."""


def decompress(coding: str, body: bytes, limit: int) -> bytes:
    """At most `limit` bytes. Raises `TooLarge` or `Undecodable`. `coding` is one of `CODINGS`, or empty."""
    if coding in ("", "identity"):
        return body
    return _zstd(body, limit) if coding == "zstd" else _zlib(coding, body, limit)


def _zlib(coding: str, body: bytes, limit: int) -> bytes:
    parts: list[bytes] = []
    size = 0
    # "deflate" is zlib's format (RFC 9110, 8.4.1.2), and some senders leave its two bytes of header out.
    raw = coding == "deflate" and not (len(body) > 1 and body[0] & 15 == 8 and (body[0] << 8 | body[1]) % 31 == 0)
    while True:
        decoder = zlib.decompressobj(_RAW_DEFLATE if raw else _GZIP_OR_ZLIB)
        try:
            parts.append(decoder.decompress(body, limit - size + 1))
        except zlib.error as error:
            raise Undecodable(f"the body is not {coding}: {error}") from None
        size += len(parts[-1])
        if size > limit:
            raise TooLarge(f"more than {limit} bytes when decompressed")
        if not decoder.eof:
            raise Undecodable(f"the {coding} body is cut short")
        # A gzip file may consist of several members; what follows else is padding.
        body = decoder.unused_data
        if coding != "gzip" or body[:2] != b"\x1f\x8b":
            return parts[0] if len(parts) == 1 else b"".join(parts)


def _zstd(body: bytes, limit: int) -> bytes:
    # The process needs it only when somebody sends it.
    import zstandard

    decompressor = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW_BYTES)
    decoder = decompressor.decompressobj()
    parts: list[bytes] = []
    size = 0
    position = 0
    try:
        if zstandard.frame_content_size(body) > limit:
            raise TooLarge(f"{zstandard.frame_content_size(body)} bytes when decompressed")
        while position < len(body):
            if decoder.eof:
                decoder = decompressor.decompressobj()
            part = decoder.decompress(body[position : position + _ZSTD_STEP_BYTES])
            position = min(position + _ZSTD_STEP_BYTES, len(body)) - len(decoder.unused_data)
            parts.append(part)
            size += len(part)
            if size > limit:
                raise TooLarge(f"more than {limit} bytes when decompressed")
    except zstandard.ZstdError as error:
        raise Undecodable(f"the body is not zstd: {error}") from None
    if not decoder.eof:
        raise Undecodable("the zstd body is cut short")
    return b"".join(parts)
