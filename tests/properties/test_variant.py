"""VARIANT: any JSON-like value comes back from its bytes, read by a decoder written from the format's description."""

import contextlib
import struct
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spanweir.schemas import variant
from spanweir.schemas.variant import encode, members

LEAVES = st.none() | st.booleans() | st.integers(-(1 << 63), (1 << 63) - 1) | st.floats(allow_nan=False) | st.text()
VALUES = st.recursive(
    LEAVES, lambda v: st.lists(v, max_size=6) | st.dictionaries(st.text(), v, max_size=6), max_leaves=30
)


def decode(metadata: bytes, value: bytes) -> Any:
    """Apache Parquet VariantEncoding.md, version 1."""
    assert metadata[0] & 0x0F == 1
    width = (metadata[0] >> 6) + 1
    count = _number(metadata, 1, width)
    starts = [_number(metadata, 1 + width * (1 + n), width) for n in range(count + 1)]
    text = metadata[1 + width * (count + 2) :]
    names = [text[a:b].decode() for a, b in pairwise(starts)]
    if metadata[0] & 0x10:
        assert [n.encode() for n in names] == sorted({n.encode() for n in names})
    return _value(value, names)


def _number(data: bytes, at: int, width: int) -> int:
    return int.from_bytes(data[at : at + width], "little")


def _value(data: bytes, names: list[str]) -> Any:
    kind, header = data[0] & 3, data[0] >> 2
    if kind == 1:
        return data[1 : 1 + header].decode()
    if kind == 0:
        return _primitive(header, data[1:])
    return _object(header, data, names) if kind == 2 else _array(header, data, names)


def _primitive(kind: int, data: bytes) -> Any:
    if kind in (0, 1, 2):
        return (None, True, False)[kind]
    formats = {3: "<b", 4: "<h", 5: "<i", 6: "<q", 7: "<d"}
    if kind in formats:
        return struct.unpack_from(formats[kind], data)[0]
    assert kind == 16
    return data[4 : 4 + _number(data, 0, 4)].decode()


def _object(header: int, data: bytes, names: list[str]) -> dict[str, Any]:
    offset_width, id_width, large = (header & 3) + 1, (header >> 2 & 3) + 1, header >> 4 & 1
    count, at = (_number(data, 1, 4), 5) if large else (data[1], 2)
    ids = [_number(data, at + n * id_width, id_width) for n in range(count)]
    assert [names[i].encode() for i in ids] == sorted(names[i].encode() for i in ids)
    at += count * id_width
    starts = [_number(data, at + n * offset_width, offset_width) for n in range(count + 1)]
    body = data[at + (count + 1) * offset_width :]
    return {names[i]: _value(body[start:], names) for i, start in zip(ids, starts, strict=False)}


def _array(header: int, data: bytes, names: list[str]) -> list[Any]:
    width, large = (header & 3) + 1, header >> 2 & 1
    count, at = (_number(data, 1, 4), 5) if large else (data[1], 2)
    starts = [_number(data, at + n * width, width) for n in range(count + 1)]
    body = data[at + (count + 1) * width :]
    return [_value(body[start:], names) for start in starts[:count]]


@settings(max_examples=300, deadline=None)
@given(VALUES)
def test_a_value_comes_back(value: Any) -> None:
    assert decode(*encode(value)) == value
    assert variant.decode(*encode(value)) == value


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(st.text(), VALUES, max_size=6), st.lists(st.text(), max_size=3))
def test_members_are_those_wanted(value: dict[str, Any], others: list[str]) -> None:
    wanted = [*list(value)[::2], *others]
    assert members(*encode(value), wanted) == {key: value[key] for key in value if key in wanted}


@given(st.binary(max_size=40), st.binary(max_size=40))
def test_other_bytes_are_an_error_of_one_kind(metadata: bytes, value: bytes) -> None:
    for read in (lambda: variant.decode(metadata, value), lambda: members(metadata, value, ["a"])):
        with contextlib.suppress(ValueError):
            read()


@given(VALUES, st.data())
def test_bytes_that_are_cut_off_are_an_error_of_one_kind(value: Any, data: st.DataObject) -> None:
    metadata, encoded = encode(value)
    with contextlib.suppress(ValueError):
        variant.decode(metadata, encoded[: data.draw(st.integers(0, len(encoded) - 1))])


OF_OTHERS = [
    (b"\x20\x02" + struct.pack("<i", -12345), -123.45),  # decimal4, scale 2
    (b"\x24\x00" + struct.pack("<q", 1 << 40), 1 << 40),  # decimal8
    (b"\x28\x01" + (15).to_bytes(16, "little"), 1.5),  # decimal16
    (b"\x2c" + struct.pack("<i", 20_417), "2025-11-25"),
    (b"\x30" + struct.pack("<q", 1_764_064_800_000_001), "2025-11-25T10:00:00.000001+00:00"),
    (b"\x34" + struct.pack("<q", 0), "1970-01-01T00:00:00"),
    (b"\x38" + struct.pack("<f", 0.5), 0.5),
    (b"\x44" + struct.pack("<q", 1_000_000), "00:00:01"),
    (b"\x48" + struct.pack("<q", 1_764_064_800_000_000_000), "2025-11-25T10:00:00+00:00"),
    (b"\x4c" + struct.pack("<q", 0), "1970-01-01T00:00:00"),
    (b"\x50" + bytes(range(16)), "00010203-0405-0607-0809-0a0b0c0d0e0f"),
]


@pytest.mark.parametrize(("value", "expected"), OF_OTHERS)
def test_primitives_that_others_write(value: bytes, expected: Any) -> None:
    assert variant.decode(b"\x11\x00\x00", value) == expected


def test_large_ones_come_back() -> None:
    for value in (list(range(300)), {f"key {n}": "x" * n for n in range(300)}, "y" * 70_000, [["z" * 300] * 300]):
        assert decode(*encode(value)) == value
        assert variant.decode(*encode(value)) == value
