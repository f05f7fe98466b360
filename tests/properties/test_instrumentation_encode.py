"""Any value that an application may pass: the text is JSON, equals what json makes of it, and never depends on size."""

import json
import math
from typing import Any
from unittest.mock import patch

from hypothesis import given, settings
from hypothesis import strategies as st

from spanweir.instrumentation import encode
from spanweir.instrumentation.freeze import freeze
from spanweir.instrumentation.policy import FORMS, Policy

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=300)
LEAVES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT
JSON = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=5) | st.dictionaries(TEXT, inner, max_size=5))
ODD = st.recursive(
    LEAVES | st.binary(max_size=20) | st.floats() | st.dates() | st.uuids() | st.complex_numbers() | st.just(object()),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.tuples(inner, inner)
        | st.dictionaries(st.integers() | TEXT | st.none() | st.tuples(st.integers()), inner, max_size=4)
    ),
)


@given(JSON)
@settings(max_examples=150, deadline=None)
def test_json_comes_back_as_it_was(value: Any) -> None:
    frozen = freeze(value)
    assert json.loads(encode.dumps(frozen.value)) == value
    with patch.object(encode, "PIECE_BYTES", 64):
        assert json.loads(b"".join(encode.pieces(frozen.value, 10_000))) == value


@given(ODD, st.sampled_from(sorted(FORMS)), st.integers(1, 400))
@settings(max_examples=200, deadline=None)
def test_everything_becomes_text_within_the_limit(value: Any, form: str, limit: int) -> None:
    pieces = Policy(max_content_bytes=limit).render("gen_ai.input.messages", freeze(value, form))
    text = b"".join(pieces).decode()
    if form != "text" or not isinstance(value, str):
        assert not math.isnan(json.loads(text) if isinstance(json.loads(text), float) else 0.0)
