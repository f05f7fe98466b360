"""Files of Python values, against arro3's arrays of the same values and against what other readers make of them."""

import re
from io import BytesIO
from pathlib import Path
from typing import Any

import duckdb
import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spanweir.exporters.delta.arrow import Layout, Type, parse
from spanweir.exporters.delta.parquet import Encoder
from spanweir.exporters.delta.shred import Fields, plain
from spanweir.schemas import inference_table

CODECS = ["uncompressed", "snappy", "lz4_raw", "gzip", "gzip(1)", "zstd", "zstd(3)"]
ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=4)
BEYOND = 1 << 64
LEAVES: dict[str, st.SearchStrategy[Any]] = {
    "STRING": ANY_TEXT,
    "BINARY": st.binary(max_size=3),
    "INT": st.integers(-BEYOND, BEYOND) | st.integers(-3, 3),
    "LONG": st.integers(-BEYOND, BEYOND) | st.integers(-3, 3),
    "DOUBLE": st.floats(allow_nan=False),
    "BOOLEAN": st.booleans(),
    "DATE": st.integers(-5000, 50_000),
    "TIMESTAMP": st.integers(0, 1 << 50),
}
TYPES = st.recursive(
    st.sampled_from(list(LEAVES)),
    lambda inner: (
        inner.map(lambda kind: f"ARRAY<{kind}>")
        | inner.map(lambda kind: f"MAP<STRING,{kind}>")
        | st.lists(inner, min_size=1, max_size=3).map(
            lambda kinds: f"STRUCT<{','.join(f'f{number}:{kind}' for number, kind in enumerate(kinds))}>"
        )
    ),
    max_leaves=4,
)


def values(kind: Type) -> st.SearchStrategy[Any]:
    """None, or a value."""
    return st.none() | present(kind)


def present(kind: Type) -> st.SearchStrategy[Any]:
    match kind.kind:
        case "MAP":
            return st.dictionaries(st.text(max_size=2), values(kind.fields[1][1]), max_size=3)
        case "ARRAY":
            return st.lists(values(kind.fields[0][1]), max_size=3)
        case "STRUCT":
            fields = {name: values(child) for name, child in kind.fields}
            return st.fixed_dictionaries({}, optional=fields) | st.tuples(*fields.values())
    return LEAVES[kind.kind]


@st.composite
def columns(draw: st.DrawFn) -> tuple[str, list[Any]]:
    kind = draw(TYPES)
    rows = draw(st.sampled_from([values, present]).flatmap(lambda of: st.lists(of(parse(kind)), min_size=1)))
    return kind, rows


@settings(deadline=None)
@given(columns(), st.sampled_from(CODECS))
def test_files_hold_what_arrays_hold(column: tuple[str, list[Any]], codec: str) -> None:
    """The same columns, nulls, clamped numbers and mended texts; read by arro3, and by Arrow's own reader."""
    kind, rows = column
    layout = Layout([("row", "LONG"), ("column", kind)])
    encoder, numbers = Encoder(layout, codec), list(range(len(rows)))
    expected = layout.batch([numbers, rows])
    chunk = encoder.chunk([numbers, rows])
    assert chunk.batch().schema == expected.schema
    assert chunk.batch()["column"].to_pylist() == expected["column"].to_pylist()
    twice = pyarrow.parquet.read_table(BytesIO(encoder.file([chunk, chunk])))
    assert twice["column"].to_pylist() == pyarrow.record_batch(expected)["column"].to_pylist() * 2
    assert twice["row"].to_pylist() == numbers * 2


TABLES = [
    *(of(version) for version in ("v1", "v2") for of in
      (inference_table.spans, inference_table.logs, inference_table.metrics, inference_table.annotations)),
    inference_table.PAYLOAD,
]  # fmt: skip


@pytest.mark.parametrize("spec", TABLES, ids=lambda spec: f"{spec.suffix}-{spec.properties.get('otel.schemaVersion')}")
def test_tables_have_the_columns_that_arro3_writes(spec: inference_table.Table) -> None:
    """Rows of nothing but nulls, without the partition's column, as they stand in a table's folder."""
    layout = Layout(spec.columns)
    encoder, columns = Encoder(layout, "snappy"), [[None, None] for _ in spec.columns]
    without = [spec.partition] if spec.partition else []
    file = pyarrow.parquet.ParquetFile(BytesIO(encoder.file([encoder.chunk(columns)], without)))
    expected = pyarrow.table(layout.batch(columns)).drop_columns(without)
    assert file.schema_arrow == expected.schema
    assert file.read().to_pylist() == expected.to_pylist()
    assert re.match("parquet-rs", file.metadata.created_by)


def test_statistics_prune(tmp_path: Path) -> None:
    encoder = Encoder(
        Layout([("number", "LONG"), ("moment", "TIMESTAMP"), ("day", "DATE"), ("text", "STRING")]), "zstd"
    )
    chunks = [encoder.chunk([[low, None], [low, low], [low, low + 1], ["a", None]]) for low in (-3, 500)]
    path = tmp_path / "two.parquet"
    path.write_bytes(encoder.file(chunks))
    group = pyarrow.parquet.ParquetFile(path).metadata.row_group(0)
    number, moment, day, text = (group.column(place).statistics for place in range(4))
    assert (number.min, number.max, number.null_count) == (-3, 500, 2)
    assert (moment.min_raw, moment.max_raw, moment.null_count) == (-3, 500, 0)
    assert (day.min_raw, day.max_raw) == (-3, 501)
    assert text is None
    found = duckdb.sql(f"SELECT count(*), count(number), count(text) FROM '{path}' WHERE day >= DATE '1971-01-01'")
    assert found.fetchall() == [(2, 1, 1)]


def test_long_columns() -> None:
    """More entries than one byte counts, lists of many lengths, and texts of which not one is short."""
    encoder = Encoder(Layout([("row", "LONG"), ("many", "ARRAY<INT>"), ("text", "STRING")]), "snappy")
    rows, many = list(range(1000)), [list(range(row % 300)) for row in range(1000)]
    texts = [("é" if row % 7 else "e") * row * 20 for row in rows]
    large, small = encoder.chunk([rows, many, texts]), encoder.chunk([rows[:3], [None, [], [7]], ["a", None, "é"]])
    found = pyarrow.parquet.read_table(BytesIO(encoder.file([small, large, small, small, large])))
    assert found["row"].to_pylist() == [*rows[:3], *rows, *rows[:3], *rows[:3], *rows]
    assert found["many"].to_pylist() == [None, [], [7], *many, *[None, [], [7]] * 2, *many]
    assert found["text"].to_pylist() == ["a", None, "é", *texts, *["a", None, "é"] * 2, *texts]


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("STRING", 5), ("STRING", b"\xff"), ("INT", "5"), ("LONG", 1.5), ("DOUBLE", "x"), ("DATE", 1 << 40),
        ("TIMESTAMP", 1 << 70), ("BOOLEAN", 2), ("BINARY", "text"), ("MAP<STRING,STRING>", ["a"]),
        ("MAP<STRING,STRING>", {None: "a"}), ("ARRAY<INT>", 5), ("STRUCT<a:INT, b:INT>", (1,)), ("STRUCT<a:INT>", 7),
    ],
)  # fmt: skip
def test_what_a_column_cannot_hold_is_refused(kind: str, value: Any) -> None:
    """The window then leaves the row out; its neighbours are not changed."""
    encoder = Encoder(Layout([("row", "LONG"), ("column", kind)]), "snappy")
    for column in ([value], [None, value], [value, value]):
        with pytest.raises((TypeError, AttributeError, ValueError, OverflowError)):
            encoder.chunk([list(range(len(column))), column])


def test_structs_as_columns_and_texts_made_before() -> None:
    encoder = Encoder(Layout([("row", "LONG"), ("column", "STRUCT<a:INT, b:STRING>")]), "snappy")
    chunk = encoder.chunk([[0, 1], Fields(([1, None], ["x", "y"]))])
    assert chunk.batch()["column"].to_pylist() == [{"a": 1, "b": "x"}, {"a": None, "b": "y"}]
    assert b"".join(plain("é\ud800")) == b"\3\0\0\0\xc3\xa9?"
