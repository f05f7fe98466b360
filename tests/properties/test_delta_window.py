"""Rows that wait for a commit, against dictionaries of what was added last."""

from arro3.core import Array, DataType, Field, RecordBatch, Schema
from hypothesis import given
from hypothesis import strategies as st

from spanweir.exporters.delta.window import Columns, Pending, Rows

POISON = -1
KEYS = st.sampled_from("abcdefgh")
SCHEMA = Schema([Field("key", DataType.string()), Field("version", DataType.int64())])


def build(columns: Columns) -> RecordBatch:
    keys, versions = columns
    if POISON in versions:
        raise TypeError("no number")
    return RecordBatch.from_arrays([Array(keys, DataType.string()), Array(versions, DataType.int64())], schema=SCHEMA)


def read(batches: list[RecordBatch]) -> list[tuple[str, int]]:
    return [row for b in batches for row in zip(b["key"].to_pylist(), b["version"].to_pylist(), strict=True)]


@given(st.lists(st.one_of(st.lists(KEYS, min_size=1, max_size=5), KEYS), max_size=12))
def test_the_last_of_each_key_waits(steps: list[list[str] | str]) -> None:
    """A list of keys is a batch that is added, a key a row that is taken out."""
    rows, expected, version = Rows(build), dict[str, int](), 0
    for step in steps:
        if isinstance(step, str):
            assert rows.discard(step) is (expected.pop(step, None) is not None)
            continue
        added = []
        for key in step:
            version += 1
            added.append((key, version))
        rows.add(list(zip(*added, strict=True)), step, {version}, len(step))
        expected.update(added)
    assert sorted(read(rows.batches())) == sorted(expected.items())
    assert len(rows) == len(expected)
    for key, last in expected.items():
        assert key in rows
        assert read([rows.get(key)]) == [(key, last)]


@given(st.lists(st.booleans(), min_size=1))
def test_a_row_that_cannot_be_built_costs_no_other(sound: list[bool]) -> None:
    rows = Rows(build)
    for number, good in enumerate(sound):
        rows.add([[str(number)], [number if good else POISON]], [str(number)], (), 1)
    assert read(rows.batches()) == [(str(number), number) for number, good in enumerate(sound) if good]


@given(st.sets(KEYS), st.sets(KEYS), st.sets(KEYS), st.sets(KEYS), st.sets(KEYS), st.lists(KEYS, unique=True))
def test_what_may_be_in_the_table_is_merged(
    appended: set[str], merged: set[str], staged: set[str], deleted: set[str], known: set[str], keys: list[str]
) -> None:
    pending = Pending(build)
    for rows, of in ((pending.appends, appended), (pending.merges, merged - appended)):
        if of:
            rows.add([list(of), [0] * len(of)], list(of), (), len(of))
    pending.staged |= staged
    for key in deleted - appended - merged:
        pending.delete(key, f"key = '{key}'")
    maybe = {*known, *merged, *staged, *pending.deletes}
    split = pending.split([key.upper() for key in keys], keys, known & set(keys))
    assert sorted(key for _, _, group in split for key in group) == sorted(keys)
    for rows, items, group in split:
        assert list(items) == [key.upper() for key in group]
        for key in group:
            assert (rows is pending.merges) == (key in maybe and key not in appended)
    assert not pending.deletes.keys() & keys
