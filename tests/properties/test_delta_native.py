"""Arrow arrays that C makes of values and of attributes, against those that Python makes of the same."""

import gc
import io
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from arro3.core import Array, DataType
from arro3.io import read_parquet, write_parquet
from hypothesis import given
from hypothesis import strategies as st

from spanweir.exporters.delta import arrow, cells
from spanweir.exporters.delta.arrow import Layout, Type, parse

_native = pytest.importorskip("spanweir.exporters.delta._native", reason="no C compiler where this was installed")
MAPS = parse("MAP<STRING, STRING>")
ANY_TEXT = st.text(st.characters() | st.sampled_from('"\\ #{[\ud800\udfff\u00e9\u20ac\U0001f600\n'), max_size=12)
UTF8 = st.one_of(st.binary(max_size=20), st.text(max_size=12).map(str.encode))
PARTS = st.lists(st.text(max_size=5).map(str.encode), max_size=4)
TEXT = Type("STRING")
TEXTS = st.one_of(
    st.lists(st.none() | ANY_TEXT, max_size=20),
    st.lists(st.none() | UTF8, max_size=20),
    st.lists(st.one_of(st.none(), PARTS, UTF8), max_size=9),
    st.lists(st.none() | st.just(""), max_size=20),
    st.lists(st.one_of(st.none(), ANY_TEXT, UTF8, st.integers()), max_size=4),
)
LONGS = st.integers(-(1 << 63), (1 << 63) - 1)
SCALARS = {
    "STRING": ANY_TEXT, "INT": st.integers(-(1 << 31), (1 << 31) - 1), "LONG": LONGS, "BIGINT": LONGS,
    "DOUBLE": st.floats(allow_nan=False), "BOOLEAN": st.booleans(), "DATE": st.integers(-9999, 99999),
    "TIMESTAMP": st.integers(-(1 << 50), 1 << 50), "BINARY": st.binary(max_size=4), "VARIANT": st.integers(),
}  # fmt: skip
ODD = st.one_of(st.integers(), st.floats(allow_nan=False), ANY_TEXT, UTF8, st.booleans(), st.just(()), st.just({}))
KINDS = st.recursive(
    st.sampled_from(sorted(SCALARS)).map(Type),
    lambda kinds: st.one_of(
        kinds.map(lambda kind: Type("ARRAY", (("element", kind),))),
        kinds.map(lambda kind: Type("MAP", (("key", TEXT), ("value", kind)))),
        st.lists(kinds, min_size=1, max_size=3).map(
            lambda kinds: Type("STRUCT", tuple((f"f{number}", kind) for number, kind in enumerate(kinds)))
        ),
    ),
    max_leaves=5,
)


def values_of(kind: Type) -> st.SearchStrategy[Any]:
    """Null among them."""
    fields = [values_of(child) for _, child in kind.fields]
    match kind.kind:
        case "ARRAY":
            found: st.SearchStrategy[Any] = st.lists(fields[0], max_size=3)
        case "MAP":
            found = st.dictionaries(ANY_TEXT, fields[1], max_size=3)
        case "STRUCT":
            found = st.tuples(*fields)
        case _:
            found = SCALARS[kind.kind]
    return st.none() | found


@st.composite
def columns(draw: st.DrawFn) -> tuple[Type, list[Any]]:
    """A kind and values of it; at times one of them is of another."""
    kind = draw(KINDS)
    values = draw(st.lists(values_of(kind), max_size=6))
    if draw(st.integers(0, 9)) == 0:
        values.insert(draw(st.integers(0, len(values))), draw(ODD))
    return kind, values


@contextmanager
def without_c() -> Iterator[None]:
    kept = arrow.build, arrow.native_batch
    arrow.build, arrow.native_batch = arrow._build_in_python, None
    try:
        yield
    finally:
        arrow.build, arrow.native_batch = kept


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


def outcome(make: Callable[..., Any], *given: Any) -> Any:
    try:
        array = make(*given)
    except Exception as error:
        return type(error)
    if isinstance(array, Array):
        return array.type, array.null_count, array.to_pylist()
    return array.schema, array.num_rows, [column.to_pylist() for column in array.columns]


def alike(made: Any) -> Any:
    """Of types that the next ones compare, so that 1 is no True."""
    return made if isinstance(made, type) else (made[0], made[1], repr(made[2]))


@given(TEXTS, st.booleans())
def test_a_column_of_texts(values: list[Any], as_tuple: bool) -> None:
    column = tuple(values) if as_tuple else values
    with without_c():
        expected = outcome(arrow.build, TEXT, column)
    assert outcome(arrow.build, TEXT, column) == expected


@given(columns())
def test_a_column_of_any_kind(given: tuple[Type, list[Any]]) -> None:
    with without_c():
        expected = outcome(arrow.build, *given)
    assert alike(outcome(arrow.build, *given)) == alike(expected)


@given(st.lists(columns().filter(lambda given: len(given[1]) >= 2), min_size=1, max_size=4), st.data())
def test_a_batch_of_columns_of_which_some_are_arrays(given: list[tuple[Type, list[Any]]], data: st.DataObject) -> None:
    layout = layout_of([kind for kind, _ in given])
    values: list[Any] = [column[:2] for _, column in given]
    for number, (kind, _) in enumerate(given):
        if data.draw(st.booleans(), "an array"):
            try:
                values[number] = arrow.build(kind, values[number])
            except Exception:
                return
    with without_c():
        expected = outcome(layout.batch, values)
    assert alike(outcome(layout.batch, values)) == alike(expected)


def layout_of(kinds: list[Type]) -> Layout:
    return Layout([(f"c{number}", said(kind)) for number, kind in enumerate(kinds)])


def said(kind: Type) -> str:
    """The kind as SQL."""
    if kind.kind == "STRUCT":
        return f"STRUCT<{', '.join(f'{name}:{said(child)}' for name, child in kind.fields)}>"
    return f"{kind.kind}<{', '.join(said(child) for _, child in kind.fields)}>" if kind.fields else kind.kind


def test_columns_without_a_byte_are_written_and_read_taken_and_sliced() -> None:
    layout = Layout([("a", "STRING"), ("b", "MAP<STRING,STRING>"), ("c", "STRUCT<d:STRING>"), ("e", "ARRAY<STRING>")])
    row = ["", {"": ""}, ("",), [""]]
    tables: list[list[list[Any]]] = [[row], [row, [None, None, None, None], [None, {}, (None,), []]], []]
    for rows in tables:
        values = [[row[number] for row in rows] for number in range(4)]
        batches = [layout.batch(values)]
        with without_c():
            batches.append(layout.batch(values))
        for batch in batches:
            file = io.BytesIO()
            write_parquet(batch.take(Array(list(range(len(rows))), DataType.int64())), file)
            file.seek(0)
            read = read_parquet(file).read_all()
            for made in (batch, batch.slice(0, len(rows)), read):
                found: list[list[Any]] = [list(made[name].to_pylist()) for name in layout.names]
                found[1] = [None if bag is None else dict(bag) for bag in found[1]]
                found[2] = [each and (each["d"],) for each in found[2]]
                assert found == values


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
    text: tuple[str, tuple[Any, ...]] = ("u", ())
    texts: list[Any] = [["a", None, "\u00e9\u20ac\U0001f600"], ["\ud800"], [b"a", b"\xc3\xa9"], ("a", ""), [], [None]]
    for made in texts:
        assert _native.build(text, made) is not None
    for left in (["a", b"a"], ["a", 1], [b"\xff"], [b"12345678\xff"]):
        assert _native.build(text, left) is None
    with pytest.raises(TypeError):
        _native.build(text, 1)
    both = cells._unblank, cells.text
    assert _native.attribute_maps([{"k": '"v\\n"'}, {}], [{}, {"k": 1}], *both) is not None
    assert _native.attribute_maps([{}], [{}], *both) is not None
    for owns, givens in (([{}], []), ([1], [{}]), ([{"k": 1}], [{}]), ([{}], [{1: "v"}]), ((), ())):
        assert _native.attribute_maps(owns, givens, *both) is None
    with pytest.raises(ZeroDivisionError):
        _native.attribute_maps([{}], [{"k": 0}], cells._unblank, lambda value: 1 / value)
    with pytest.raises(TypeError):
        _native.attribute_maps([], [])


def test_a_batch_that_is_left_to_python_leaves_arrays_where_they_are() -> None:
    kinds = (("u", ()), ("u", ()))
    array = arrow.build(TEXT, ["a"]).__arrow_c_array__()[1]
    for other in (["a", "b"], [1], "a", None, object()):
        assert _native.batch(kinds, [array, other], 1) is None
    assert _native.batch(kinds, [array, ["b"]], 1) is not None
    assert _native.batch(kinds, [array, ["b"]], 1) is None
    for wrong in ((), (kinds, (), 1), (kinds, [["a"]], 1), (kinds, [["a"], ["b"]], "1")):
        with pytest.raises(TypeError):
            _native.batch(*wrong)


def test_what_is_made_is_given_back() -> None:
    """References to what went in, and arrays that nobody took."""
    text, odd = "".join(["te", "xt"]), object()
    before = sys.getrefcount(text), sys.getrefcount(odd)
    for _ in range(3):
        _native.build(("u", ()), [text, None])
        _native.build(("+s", (("u", ()), ("u", ()))), [(text, odd)])
        _native.batch((("u", ()), ("u", ())), [[text], [odd]], 1)
        _native.attribute_maps([{text: text}], [{text: odd}], cells._unblank, str)
        arrow.build(TEXT, [text]).to_pylist()
        Layout([("a", "STRING"), ("b", "STRING")]).batch([[text], arrow.build(TEXT, [text])])
    gc.collect()
    assert (sys.getrefcount(text), sys.getrefcount(odd)) == before
