"""The segment file: what bytes on disk mean. No I/O here; whoever calls brings a `read(offset, size)`.

    segment  = file header, frame*
    file header (32 bytes, little endian)
        8s  magic and format version     "SPWEIR" 0x00 0x01
        u64 sequence number of the first frame (also the file's name, 20 digits, ".seg")
        u64 created, nanoseconds since the epoch
        u32 zero
        u32 CRC-32 of the 28 bytes before
    frame = frame header (36 bytes), meta, body
        4s  magic                        0xF5 "swr" (0xF5 never occurs in UTF-8 text)
        u8  signal                       1 traces, 2 logs, 3 metrics
        u8  zero
        u16 length of meta               msgpack [tenant, headers]; 0 when both are empty
        u32 length of body               serialized Export*ServiceRequest
        u64 sequence number
        u64 received, nanoseconds since the epoch
        u32 CRC-32 of meta and body
        u32 CRC-32 of the 32 bytes before

The header has a checksum of its own so that a damaged body costs one record: its length can still be trusted. After a
damaged header the next frame is looked for by its magic, its checksum and a sequence number that can be true.
Files grow at the end only. A frame that the file ends in the middle of is a torn write: it was never acknowledged.
"""

import struct
from collections.abc import Callable, Iterator
from typing import NamedTuple

import msgspec

from spanweir.collector.queue.api import Record

try:  # the same sum by the processor's own instructions: a tenth of zlib's time
    from isal.isal_zlib import crc32
except ImportError:  # a processor that it has no code for
    from zlib import crc32

MAGIC = b"SPWEIR\x00\x01"
FRAME_MAGIC = b"\xf5swr"
SUFFIX = ".seg"
FILE_HEADER_BYTES = 32
FRAME_HEADER_BYTES = 36
MAX_META_BYTES = 0xFFFF

_FILE = struct.Struct("<8sQQI")
_FRAME = struct.Struct("<4sBBHIQQI")
_CHECKSUM = struct.Struct("<I")
SIGNALS = {"traces": 1, "logs": 2, "metrics": 3}
_SIGNAL_NAMES = {number: name for name, number in SIGNALS.items()}
_WINDOW_BYTES = 64 << 10
"""Read at once: some small records, or the header of a large one."""
_SEARCH_BYTES = 1 << 20
_CHUNK_BYTES, _CHUNKED_BYTES = 5 << 10, 64 << 10

_meta_encode = msgspec.msgpack.Encoder().encode
_meta_decode = msgspec.msgpack.Decoder(tuple[str, dict[str, str]]).decode


class Found(NamedTuple):
    """One step through a segment: a record, or a stretch of bytes that does not verify."""

    end: int
    """Offset behind it."""
    record: Record | None
    damage: str = ""
    """Why there is no record; `torn` when the file ends in the middle of a frame."""


TORN = "torn"


def file_name(first: int) -> str:
    return f"{first:020d}{SUFFIX}"


def first_of(name: str) -> int | None:
    """The first sequence number of the segment with this file name; None if it is no segment's name."""
    digits = name.removesuffix(SUFFIX)
    return int(digits) if name.endswith(SUFFIX) and len(digits) == 20 and digits.isdigit() else None


def file_header(first: int, created_ns: int) -> bytes:
    head = _FILE.pack(MAGIC, first, created_ns, 0)
    return head + _CHECKSUM.pack(crc32(head))


def check_file_header(head: bytes) -> str:
    """Empty if this is a segment of this format, else what is wrong."""
    if len(head) < FILE_HEADER_BYTES:
        return "the file header is incomplete"
    if head[:6] == MAGIC[:6] and head[:8] != MAGIC:
        return f"format version {head[7]} is not known to this release"
    if head[:8] != MAGIC or _CHECKSUM.unpack_from(head, 28)[0] != crc32(head[:28]):
        return "the file header does not verify"
    return ""


def encode_meta(tenant: str, headers: dict[str, str]) -> bytes:
    """Raises ValueError over 64 KiB."""
    if not tenant and not headers:
        return b""
    meta = _meta_encode((tenant, headers))
    if len(meta) > MAX_META_BYTES:
        raise ValueError(f"routing headers of {len(meta)} bytes; at most {MAX_META_BYTES} can be kept")
    return meta


def payload_checksum(meta: bytes, body: bytes) -> int:
    if len(body) > _CHUNKED_BYTES:
        return crc32(body, crc32(meta))
    # zlib gives up the interpreter lock from 5 KiB on, and taking it again costs more than the sum of a small body.
    checksum = crc32(meta)
    for start in range(0, len(body), _CHUNK_BYTES):
        checksum = crc32(body[start : start + _CHUNK_BYTES], checksum)
    return checksum


def frame_header(sequence: int, signal: str, received_ns: int, meta: bytes, body: bytes, checksum: int) -> bytes:
    """`checksum` is that of meta and body (`payload_checksum`), made before the sequence number is known."""
    head = _FRAME.pack(FRAME_MAGIC, SIGNALS[signal], 0, len(meta), len(body), sequence, received_ns, checksum)
    return head + _CHECKSUM.pack(crc32(head))


def walk(
    read: Callable[[int, int], bytes], start: int, end: int, *, after: int = 0, before: int = 1 << 63
) -> Iterator[Found]:
    """Step from offset `start` (a frame's, or `FILE_HEADER_BYTES`) to `end`.

    `read(offset, size)` may return less at the end of the file. Frames with a sequence number up to `after` are
    stepped over unread. Only frames with `after < sequence < before` come out, in growing order of sequence.
    """
    window, base = b"", start
    offset = start
    last = after
    while offset < end:
        if offset + FRAME_HEADER_BYTES > base + len(window):
            window, base = read(offset, min(_WINDOW_BYTES, end - offset)), offset
        at = offset - base
        if len(window) - at < FRAME_HEADER_BYTES:
            yield Found(end, None, TORN)
            return
        if not _verifies(window, at):
            following = _find(read, offset + 1, end, last, before)
            yield Found(following, None, "a frame header does not verify")
            offset = following
            continue
        _, signal, _, meta_bytes, body_bytes, sequence, received_ns, checksum = _FRAME.unpack_from(window, at)
        stop = offset + FRAME_HEADER_BYTES + meta_bytes + body_bytes
        if stop > end:
            yield Found(end, None, TORN)
            return
        if sequence <= last:
            offset = stop
            continue
        if sequence >= before:
            return
        middle = at + FRAME_HEADER_BYTES + meta_bytes
        if stop <= base + len(window):
            meta, body = window[at + FRAME_HEADER_BYTES : middle], window[middle : middle + body_bytes]
        else:
            # Read by themselves: a large body is then copied once.
            meta = read(offset + FRAME_HEADER_BYTES, meta_bytes) if meta_bytes else b""
            body = read(stop - body_bytes, body_bytes)
            if len(meta) + len(body) < meta_bytes + body_bytes:
                yield Found(end, None, TORN)
                return
        offset = stop
        last = sequence
        if payload_checksum(meta, body) != checksum:
            yield Found(stop, None, f"record {sequence} does not verify")
            continue
        yield Found(stop, _record(sequence, signal, received_ns, meta, body))


def _record(sequence: int, signal: int, received_ns: int, meta: bytes, body: bytes) -> Record:
    tenant, headers = _meta_decode(meta) if meta else ("", {})
    return Record(
        sequence=sequence,
        signal=_SIGNAL_NAMES.get(signal, "unknown"),
        tenant=tenant,
        headers=headers,
        received_ns=received_ns,
        body=body,
    )


def _verifies(window: bytes, at: int) -> bool:
    return window[at : at + 4] == FRAME_MAGIC and _CHECKSUM.unpack_from(window, at + 32)[0] == crc32(
        window[at : at + 32]
    )


def _find(read: Callable[[int, int], bytes], start: int, end: int, last: int, before: int) -> int:
    """Offset of the next frame header that verifies and can be true; `end` if there is none."""
    offset = start
    while offset < end:
        window = read(offset, min(_SEARCH_BYTES, end - offset))
        if len(window) < FRAME_HEADER_BYTES:
            return end
        at = window.find(FRAME_MAGIC)
        while 0 <= at <= len(window) - FRAME_HEADER_BYTES:
            if _verifies(window, at) and last < _FRAME.unpack_from(window, at)[5] < before:
                return offset + at
            at = window.find(FRAME_MAGIC, at + 1)
        offset += len(window) - FRAME_HEADER_BYTES + 1
    return end
