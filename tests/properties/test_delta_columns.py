"""Columns that are made for many rows at once, against what one row alone would have."""

import json
import uuid
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spanweir.exporters.delta import origins
from spanweir.exporters.delta.arrow import Layout, parse
from spanweir.exporters.delta.cells import record_id, record_ids, text, texts, unquoted
from spanweir.schemas import inference_table
from spanweir.schemas.raw import Resource, Scope

TIMES = st.integers(0, (1 << 63) - 1)


def hexes(digits: int) -> st.SearchStrategy[str]:
    return st.text("0123456789abcdef", min_size=digits, max_size=digits)


@given(st.lists(st.tuples(TIMES, hexes(32), hexes(16)), min_size=1))
def test_record_ids_are_those_of_each_row(rows: list[tuple[int, str, str]]) -> None:
    ids = record_ids(*map(list, zip(*rows, strict=True)))
    assert ids == [record_id(*row) for row in rows]
    assert [uuid.UUID(row_id).version for row_id in ids] == [7] * len(rows)


def test_record_ids_of_odd_lengths() -> None:
    """What other senders than OpenTelemetry's make of ids is decoded elsewhere; here it must not shift neighbours'."""
    rows = [(1_000_000, "a" * 32, "b" * 16), (2_000_000, "c" * 30, "d" * 18)]
    assert record_ids(*map(list, zip(*rows, strict=True))) == [record_id(*row) for row in rows]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@given(
    st.lists(st.dictionaries(st.text(max_size=5), JSON, max_size=4), min_size=1, max_size=4), st.sampled_from(["", " "])
)
def test_attributes_stand_as_text(bags: list[dict[str, Any]], blank: str) -> None:
    """A JSON string as its text, everything else as the JSON that it was."""
    rendered = [
        {
            key: blank * (not isinstance(value, str)) + json.dumps(value, ensure_ascii=False)
            for key, value in bag.items()
        }
        for bag in bags
    ]
    expected = [
        {key: value if isinstance(value, str) else rendered[i][key] for key, value in bag.items()}
        for i, bag in enumerate(bags)
    ]
    found = unquoted(parse("MAP<STRING,STRING>"), rendered, [{}] * len(rendered)).to_pylist()
    assert [dict(bag) for bag in found] == expected


VALUES = st.booleans() | st.integers(-3, 3) | st.floats(-3, 3) | st.text(max_size=3) | st.binary(max_size=3)
RESOURCES = st.dictionaries(st.sampled_from(["service.name", "a", "b"]), VALUES, max_size=3)


@pytest.mark.parametrize("limit", [origins._LATELY_BYTES, 0])
@given(steps=st.lists(st.lists(st.tuples(RESOURCES, st.text(max_size=2)), min_size=1, max_size=4), max_size=5))
def test_each_row_has_its_own_origin(limit: int, steps: list[list[tuple[dict[str, Any], str]]]) -> None:
    """Whatever came before, and also where 1, 1.0 and True, or b"" and "", stand in otherwise equal resources."""
    layout = Layout(inference_table.spans("v1").columns)
    made = origins.Origins(layout, texts)
    kept = origins._LATELY_BYTES
    origins._LATELY_BYTES = limit
    try:
        for step in steps:
            resources = [Resource(attributes=attributes, schema_url=url) for attributes, url in step]
            scopes = [Scope(name=url, attributes=attributes) for attributes, url in step]
            resource, resource_url, scope, _, services = made.columns(resources, scopes)
            expected = [{key: text(value) for key, value in attributes.items()} for attributes, _ in step]
            assert [dict(row["attributes"]) for row in resource.to_pylist()] == expected
            assert [dict(row["attributes"]) for row in scope.to_pylist()] == expected
            assert resource_url.to_pylist() == [url for _, url in step]
            assert [row["name"] for row in scope.to_pylist()] == [url for _, url in step]
            assert services == [bag.get("service.name") or origins.UNKNOWN_SERVICE for bag in expected]
    finally:
        origins._LATELY_BYTES = kept
