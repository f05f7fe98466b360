"""The native twin of a span as JSON writes what Python writes, byte for byte."""

import string
from collections.abc import Callable
from typing import Any

import msgspec
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spanweir.schemas import span_json, values
from spanweir.schemas.message import Text
from spanweir.schemas.values import dumps

_native = pytest.importorskip("spanweir.schemas._native", reason="no C compiler where this was installed")

_ODD = '"\\\n\r\t\b\f\0\x01\x1f\x7f\u2028é😀/<' + string.ascii_letters
TEXT = st.text(st.characters(codec="utf-8") | st.sampled_from(_ODD), max_size=40) | st.text(st.sampled_from(_ODD))
SCALAR = TEXT | st.integers() | st.floats() | st.booleans() | st.none() | st.binary(max_size=8)
VALUE: st.SearchStrategy[Any] = st.recursive(
    SCALAR, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3), max_leaves=6
)
ID = st.binary(max_size=20).map(bytes.hex) | st.sampled_from(["", "0" * 32, "AB" * 8])
TIME = st.integers(0, (1 << 64) - 1)


def parts(own: dict[str, str], values: dict[str, Any], **fields: Any) -> list[Any]:
    plain = {
        "trace_id": "ab" * 16, "span_id": "cd" * 8, "parent_id": "", "name": "n", "kind": ',"kind":"X","start":',
        "start_ns": 1, "end_ns": 2, "events": "[]", "code": ',"status":{"message":', "message": "",
    }  # fmt: skip
    return [*(plain | fields).values(), own, values, b',"links":[]}']


def left_to_python(*parts: Any) -> bytes:
    return b"left to Python"


def both(given: list[Any], in_python: Callable[..., bytes] = span_json._span_in_python) -> tuple[bytes, bytes]:
    return _native.span_json(dumps, in_python, *given), span_json._span_in_python(*given)


@given(
    own=st.dictionaries(TEXT, TEXT.map(dumps), max_size=4),
    values=st.dictionaries(TEXT, VALUE, max_size=6),
    fields=st.fixed_dictionaries(
        {
            "trace_id": ID,
            "span_id": ID,
            "parent_id": ID,
            "name": TEXT,
            "start_ns": TIME,
            "end_ns": TIME,
            "message": TEXT,
        }
    ),
)
@settings(max_examples=400)
def test_both_write_the_same(own: dict[str, str], values: dict[str, Any], fields: dict[str, Any]) -> None:
    values = {key: value for key, value in values.items() if key not in own}
    native, python = both(parts(own, values, **fields))
    assert native == python


@pytest.mark.parametrize("length", [*range(20), 4095, 4096, 4097, 1_000_000])
@pytest.mark.parametrize("odd", ["", '"', "\\", "\x1f", "\n", "é"])
def test_texts_of_any_length_with_something_odd_anywhere(length: int, odd: str) -> None:
    places = {0, length // 2, max(0, length - 1), length} if length > 20 else range(length + 1)
    for place in places:
        text = "a" * place + odd + "b" * (length - place)
        native, python = both(parts({}, {"k": text}))
        assert native == python
    text = odd * length
    native, python = both(parts({}, {text: text}))
    assert native == python


@pytest.mark.parametrize(
    "odd",
    [
        {"values": {"k": "\ud800"}},
        {"values": {"\udfff": 1}},
        {"name": "\ud800"},
        {"trace_id": "no id"},
        {"span_id": "abc"},
        {"parent_id": "é"},
        {"start_ns": -1},
        {"end_ns": 1 << 64},
    ],
)
def test_what_only_python_can_write_is_left_to_it(odd: dict[str, Any]) -> None:
    given = parts({}, odd.pop("values", {}), **odd)
    native, python = both(given, left_to_python)
    assert native == b"left to Python"
    assert b"attributes" in python
    native, python = both(given)
    assert native == python


def test_what_a_value_raises_is_raised() -> None:
    def refuse(value: Any) -> str:
        raise RuntimeError(str(value))

    with pytest.raises(RuntimeError, match="odd"):
        _native.span_json(refuse, left_to_python, *parts({}, {"k": ["odd"]}))
    with pytest.raises(TypeError):
        _native.span_json(dumps, left_to_python, *parts([], {}))  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        _native.span_json(dumps, left_to_python, *parts({"k": 1}, {}))  # type: ignore[dict-item]
    with pytest.raises(TypeError):
        _native.span_json(dumps, left_to_python)


DEEP: Any = []
for _ in range(2000):
    DEEP = [DEEP]
ANY = (
    VALUE
    | st.dictionaries(st.integers() | st.none() | st.floats(allow_nan=False), VALUE, max_size=3)
    | st.sampled_from(
        [
            "\ud800",
            {"a": "\udfff"},
            1 << 70,
            [1 << 70, "é"],
            DEEP,
            {"a": DEEP},
            object,
            {1: {2: b"b"}},
            Text("é"),
            [Text("t")],
        ]
    )
)
JSON_TEXT = st.sampled_from(["{}", "[1, 2]", '"é"', '{"a": "' + "b" * 100 + '"}', "", '"' + "é" * 9 + '"'])


@given(ANY | JSON_TEXT.map(msgspec.Raw) | st.lists(JSON_TEXT.filter(bool).map(msgspec.Raw), max_size=2))
@settings(max_examples=400)
def test_both_make_the_same_text_of_a_value(value: Any) -> None:
    assert values.dumps(value) == values._dumps_in_python(value)


@pytest.mark.parametrize("length", [*range(20), 1000])
def test_texts_that_are_ascii_up_to_any_place(length: int) -> None:
    for place in range(length + 1):
        value = "a" * place + "é" * (place < length) + "b" * max(0, length - place - 1)
        assert values.dumps([value]) == f'["{value}"]'


def test_what_no_encoder_may_raise_is_raised() -> None:
    def refuse(value: Any, default: Any = None) -> bytes:
        raise RuntimeError("odd")

    with pytest.raises(RuntimeError, match="odd"):
        _native.dumps(refuse, str, msgspec.Raw, str, 1)
    with pytest.raises(TypeError):
        _native.dumps(orjson.dumps, str)
    with pytest.raises(TypeError):
        _native.dumps(orjson.dumps, str, int, str, 1)
