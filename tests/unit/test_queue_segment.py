"""Frames of any size are read back from a segment, whatever the step in which it is read."""

import random
from zlib import crc32

import pytest

from spanweir.collector.queue import segment

EDGES = (0, 1, 5 << 10, (64 << 10) - 100, (64 << 10) - 36, (64 << 10) - 35, 64 << 10, (64 << 10) + 1, 300_000)
HEADERS = {"x-mlflow-experiment-id": "1" * 200}


def frames(sizes: list[int], headers: dict[str, str]) -> tuple[bytes, list[bytes]]:
    """A segment with bodies of these sizes, and the bodies."""
    rng = random.Random(1)
    parts, bodies = [segment.file_header(1, 1)], []
    meta = segment.encode_meta("", headers)
    for sequence, size in enumerate(sizes, 1):
        body = rng.randbytes(size)
        checksum = segment.payload_checksum(meta, body)
        parts += [segment.frame_header(sequence, "traces", sequence, meta, body, checksum), meta, body]
        bodies.append(body)
    return b"".join(parts), bodies


def steps(data: bytes, end: int | None = None) -> list[segment.Found]:
    """`end` is where the file is thought to end."""
    return list(
        segment.walk(
            lambda at, size: data[at : at + size], segment.FILE_HEADER_BYTES, len(data) if end is None else end
        )
    )


@pytest.mark.parametrize("headers", [{}, HEADERS], ids=["plain", "with headers"])
@pytest.mark.parametrize("seed", range(4))
def test_bodies_of_any_size_in_any_order(headers: dict[str, str], seed: int) -> None:
    sizes = random.Random(seed).choices(EDGES, k=12)
    data, bodies = frames(sizes, headers)
    found = steps(data)
    assert [step.record and step.record.body for step in found] == bodies
    assert all(step.record and step.record.headers == headers for step in found)
    assert found[-1].end == len(data)


@pytest.mark.parametrize("size", EDGES[1:])
def test_a_damaged_body_costs_its_record(size: int) -> None:
    data, bodies = frames([10, size, 10], HEADERS)
    at = data.index(bodies[1]) + size // 2
    damaged = data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
    assert [step.record and step.record.sequence for step in steps(damaged)] == [1, None, 3]


@pytest.mark.parametrize("missing", [1, 200, 299_999, 300_000])
def test_a_file_that_became_shorter_while_it_was_read_is_torn(missing: int) -> None:
    data, _ = frames([10, 300_000], HEADERS)
    first, second = steps(data[:-missing], end=len(data))
    assert first.record is not None
    assert second == segment.Found(len(data), None, segment.TORN)


@pytest.mark.parametrize("size", [*EDGES, 1 << 20])
def test_the_sum_of_a_frame_is_that_of_the_format(size: int) -> None:
    body = random.Random(size).randbytes(size)
    assert segment.payload_checksum(b"meta", body) == crc32(b"meta" + body)
