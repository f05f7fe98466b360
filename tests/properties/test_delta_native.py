"""Arrow arrays that C makes of texts and attributes, against those that Python makes of the same."""

import gc
import sys
from collections.abc import Callable
from typing import Any

import pytest
from arro3.core import Array
from hypothesis import given
from hypothesis import strategies as st

from spanweir.exporters.delta import arrow, cells
from spanweir.exporters.delta.arrow import parse

_native = pytest.importorskip("spanweir.exporters.delta._native", reason="no C compiler where this was installed")
MAPS = parse("MAP<STRING, STRING>")
ANY_TEXT = st.text(st.characters() | st.sampled_from('"\\ #{[\ud800\udfff\u00e9\u20ac\U0001f600\n'), max_size=12)
UTF8 = st.one_of(st.binary(max_size=20), st.text(max_size=12).map(str.encode))
TEXTS = st.one_of(
    st.lists(st.none() | ANY_TEXT, max_size=20),
    st.lists(st.none() | UTF8, max_size=20),
    st.lists(st.one_of(st.none(), ANY_TEXT, UTF8, st.integers()), max_size=4),
)
JSON_TEXTS = st.one_of(
    ANY_TEXT, ANY_TEXT.map(lambda text: f'"{text}"'), st.text(max_size=9).map(cells.dump).map(bytes.decode)
)
GIVEN = st.one_of(
    ANY_TEXT,
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.binary(max_size=9),
    st.lists(ANY_TEXT, max_size=3),
)


def outcome(make: Callable[..., Array], *given: Any) -> Any:
    try:
        array = make(*given)
    except Exception as error:
        return type(error)
    return array.type, array.null_count, array.to_pylist()


@given(TEXTS, st.booleans())
def test_a_column_of_texts(values: list[Any], as_tuple: bool) -> None:
    column = tuple(values) if as_tuple else values
    assert outcome(arrow._strings_natively, column) == outcome(arrow._strings_in_python, column)


@given(
    st.lists(
        st.tuples(st.dictionaries(ANY_TEXT, JSON_TEXTS, max_size=4), st.dictionaries(ANY_TEXT, GIVEN, max_size=4)),
        max_size=8,
    )
)
def test_attributes(bags: list[tuple[dict[str, str], dict[str, Any]]]) -> None:
    owns, givens = [own for own, _ in bags], [given for _, given in bags]
    expected = outcome(cells._unquoted_in_python, MAPS, owns, givens)
    assert outcome(cells._unquoted_natively, MAPS, owns, givens) == expected


def test_texts_that_c_makes_itself_and_those_that_it_leaves_to_python() -> None:
    for made in (["a"], ["a", None, "\u00e9\u20ac\U0001f600"], ["\ud800"], [b"a", b"\xc3\xa9"], ("a", "")):
        assert _native.strings(made) is not None
    for left in ([], [""], [None, None], ["a", b"a"], ["a", 1], [b"\xff"], [b"12345678\xff"]):
        assert _native.strings(left) is None
    with pytest.raises(TypeError):
        _native.strings(1)
    both = cells._unblank, cells.text
    assert _native.attribute_maps([{"k": '"v\\n"'}, {}], [{}, {"k": 1}], *both) is not None
    for owns, givens in (([{}], [{}]), ([{}], []), ([1], [{}]), ([{"k": 1}], [{}]), ([{}], [{1: "v"}]), ((), ())):
        assert _native.attribute_maps(owns, givens, *both) is None
    with pytest.raises(ZeroDivisionError):
        _native.attribute_maps([{}], [{"k": 0}], cells._unblank, lambda value: 1 / value)
    with pytest.raises(TypeError):
        _native.attribute_maps([], [])


def test_what_is_made_is_given_back() -> None:
    """References to what went in, and arrays that nobody took."""
    text, odd = "".join(["te", "xt"]), object()
    before = sys.getrefcount(text), sys.getrefcount(odd)
    for _ in range(3):
        _native.strings([text, None])
        _native.strings([text, odd])
        _native.attribute_maps([{text: text}], [{text: odd}], cells._unblank, str)
        arrow._strings([text]).to_pylist()
    gc.collect()
    assert (sys.getrefcount(text), sys.getrefcount(odd)) == before
