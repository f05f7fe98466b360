"""The native twin of a span's attributes as JSON writes what Python writes, byte for byte."""

import string
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spanweir.schemas import span_json
from spanweir.schemas.values import dumps

_native = pytest.importorskip("spanweir.schemas._native", reason="no C compiler where this was installed")

_ODD = '"\\\n\r\t\b\f\0\x01\x1f\x7f\u2028é😀/<' + string.ascii_letters
TEXT = st.text(st.characters(codec="utf-8") | st.sampled_from(_ODD), max_size=40) | st.text(st.sampled_from(_ODD))
SCALAR = TEXT | st.integers() | st.floats() | st.booleans() | st.none() | st.binary(max_size=8)
VALUE: st.SearchStrategy[Any] = st.recursive(
    SCALAR, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3), max_leaves=6
)


@given(own=st.dictionaries(TEXT, TEXT.map(dumps), max_size=4), values=st.dictionaries(TEXT, VALUE, max_size=6))
@settings(max_examples=400)
def test_both_write_the_same(own: dict[str, str], values: dict[str, Any]) -> None:
    values = {key: value for key, value in values.items() if key not in own}
    assert _native.attributes_json(own, values, dumps) == span_json._attributes_in_python(own, values)


@pytest.mark.parametrize("length", [*range(20), 4095, 4096, 4097, 1_000_000])
@pytest.mark.parametrize("odd", ["", '"', "\\", "\x1f", "\n", "é"])
def test_texts_of_any_length_with_something_odd_anywhere(length: int, odd: str) -> None:
    places = {0, length // 2, max(0, length - 1), length} if length > 20 else range(length + 1)
    for place in places:
        text = "a" * place + odd + "b" * (length - place)
        assert _native.attributes_json({}, {"k": text}, dumps) == span_json._attributes_in_python({}, {"k": text})
    text = odd * length
    assert _native.attributes_json({}, {text: text}, dumps) == span_json._attributes_in_python({}, {text: text})


@pytest.mark.parametrize("values", [{"k": "\ud800"}, {"\udfff": 1}, {"k": ["\ud800"]}])
def test_lone_surrogates_are_left_to_python(values: dict[str, Any]) -> None:
    told = _native.attributes_json({}, values, dumps)
    assert told is None or told == span_json._attributes_in_python({}, values)


def test_what_a_value_raises_is_raised() -> None:
    class Odd:
        pass

    def refuse(value: Any) -> str:
        raise RuntimeError(str(value.__class__))

    with pytest.raises(RuntimeError, match="Odd"):
        _native.attributes_json({}, {"k": Odd()}, refuse)
    with pytest.raises(TypeError):
        _native.attributes_json({}, [], dumps)
    with pytest.raises(TypeError):
        _native.attributes_json({"k": 1}, {}, dumps)
