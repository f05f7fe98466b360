"""The native twin of `fill` leaves a span as Python leaves it, with the same notes."""

import random
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spanweir.schemas import fill
from spanweir.schemas.convention import INDEXED, SEMCONV, WHOLE, Convention, Many, Rule
from spanweir.schemas.conventions import load
from spanweir.schemas.genai import GenAISpan, Message, Text
from spanweir.schemas.messages import otel
from spanweir.schemas.notes import Notes
from spanweir.schemas.plan import Planner
from spanweir.schemas.raw import Attributes
from spanweir.schemas.values import count, integer, json_or_text, model_name, number, quoted, text
from tests.golden.test_golden import CASES, read

_native = pytest.importorskip("spanweir.schemas.fill._native", reason="no C compiler where this was installed")

_LOOPS: tuple[dict[str, Any], ...] = (
    {"_scalars": fill._scalars_in_python, "_content": fill._content_in_python, "_counts": fill._counts_in_python},
    {"_scalars": _native.scalars, "_content": fill._content_natively, "_counts": fill._counts_natively},
)


def _raw(value: Any) -> str:
    return f"raw {bytes(value)!r}"


def both(planner: Planner, scope: str, attributes: Attributes, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is left behind by Python and by C, as text: NaN does not equal itself, and 1 equals 1.0."""
    plan = planner.plan(scope, attributes)
    left = []
    for loops in _LOOPS:
        with monkeypatch.context() as patch:
            for name, loop in loops.items():
                patch.setattr(fill, name, loop)
            span, notes = GenAISpan(), Notes()
            fill.run(plan, attributes, span, notes)
            left.append(
                repr([msgspec.to_builtins(one, enc_hook=_raw, builtin_types=(bytes,)) for one in (span, notes)])
            )
    return left


PLANNER = Planner(load())
SPANS = [(raw.scope.name, raw.attributes) for case in CASES for raw, _ in read(case)]
_KEYS = sorted({key for _, attributes in SPANS for key in attributes})
_VALUES = [value for _, attributes in SPANS for value in attributes.values()]
_ODD: list[Any] = [
    None, "", b"", b"[REDACTED]", b"caf\xe9", "<redacted>", "[TRUNCATED]", "and so on...", "unknown", "Not set", 0, -1,
    1 << 70, -(1 << 70), 0.0, -0.5, float("nan"), float("inf"), True, False, [], {}, [None], ["a", 1], {"a": {}}, "{",
    '[{"role":"user","parts":[{"type":"text","content":"cut', "'", '"quoted"', "[1, 2", "17", "1.5", " ", "\ud800",
]  # fmt: skip


def test_both_leave_the_same_of_all_golden_spans(monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(SPANS) > 300
    for scope, attributes in SPANS:
        python, native = both(PLANNER, scope, attributes, monkeypatch)
        assert native == python


def test_both_leave_the_same_of_golden_spans_with_odd_values(monkeypatch: pytest.MonkeyPatch) -> None:
    chance = random.Random(20261126)
    for scope, attributes in SPANS:
        for _ in range(3):
            changed = {key: chance.choice(_ODD) if chance.random() < 0.3 else was for key, was in attributes.items()}
            python, native = both(PLANNER, scope, changed, monkeypatch)
            assert native == python


@given(st.dictionaries(st.sampled_from(_KEYS), st.sampled_from(_ODD) | st.sampled_from(_VALUES), max_size=12))
@settings(max_examples=300, deadline=None)
def test_both_leave_the_same_of_any_keys_together(attributes: Attributes) -> None:
    with pytest.MonkeyPatch.context() as patch:
        python, native = both(PLANNER, "", attributes, patch)
    assert native == python


class _Stop(BaseException):
    pass


def _raising(error: BaseException) -> Callable[..., Any]:
    def read(*_: Any) -> Any:
        raise error

    return read


def _noting(value: Any, notes: Notes) -> Any:
    notes.flags.append("seen")
    notes.lossy = "lossy" in value
    notes.truncated = "cut" in value
    return [Message("user", [Text(word)]) for word in value.split()]


def _joined(attributes: Attributes, keys: Sequence[str], notes: Notes) -> list[Message]:
    notes.flags += ["one", "two"]
    return [Message("user", [Text(str(attributes[key]))]) for key in keys]


_RULES = (
    Rule("t.op", "op", text),
    Rule("t.in", "usage.input", count),
    Rule("t.name", "model.response", model_name),
    Rule("t.quoted", "session_id", quoted),
    Rule("t.whole", "params.seed", integer),
    Rule("t.first", "params.top_p", number),
    Rule("t.second", "params.top_p", number, INDEXED),
    Rule("t.strong", "input", _noting, SEMCONV, content=True),
    Rule("t.equal", "input", _noting, SEMCONV, content=True),
    Rule("t.weak", "input", _noting, WHOLE, content=True),
    Rule("t.otel", "output", otel, content=True),
    Rule("t.said", "io.input", lambda value, notes: json_or_text(value), content=True),
    Rule("t.fails", "tools", _raising(ZeroDivisionError("no")), content=True),
    Rule(
        "t.many", "*", lambda value, notes: {"op": value, "model.request": "m", "metadata": {"k": value}}, content=True
    ),
    Rule("t.more", "metadata", lambda value: {"more": value}),
)
_TEST = Convention(
    name="test",
    marks=("t.",),
    rules=_RULES,
    many=(Many(("t.list.#",), "input", _joined, INDEXED), Many(("t.bag.",), "metadata", lambda a, k, n: dict(a))),
    usage={"t.in": "input", "t.out": "output", "t.out2": "output"},
)
_WORDS = st.lists(st.sampled_from(["a", "b", "lossy", "cut", "x" * 64, "..."]), max_size=4).map(" ".join)
_TEST_KEYS = [rule.key for rule in _RULES] + ["t.out", "t.out2", "t.list.0", "t.list.1", "t.bag.x", "else"]


@given(st.dictionaries(st.sampled_from(_TEST_KEYS), _WORDS | _WORDS.map(str.encode) | st.sampled_from(_ODD)))
@settings(max_examples=500, deadline=None)
def test_both_choose_among_sources_alike(attributes: Attributes) -> None:
    with pytest.MonkeyPatch.context() as patch:
        python, native = both(Planner([_TEST]), "", attributes, patch)
    assert native == python


_FIELDS = ["input", "model.request", "usage.input", "provider", "metadata", "tags", "params.extra", "error.failed"]


@given(
    st.lists(
        st.tuples(st.dictionaries(st.sampled_from(_FIELDS), st.sampled_from(_ODD) | _WORDS), st.integers(0, 9)),
        max_size=4,
    )
)
@settings(max_examples=500, deadline=None)
def test_both_merge_alike(given_: list[tuple[dict[str, Any], int]]) -> None:
    left = []
    for merge in (fill._merge_in_python, fill._merge_natively):
        span, notes, ranks = GenAISpan(content_state={"input": "truncated"}), Notes(), {"input": 3}
        failed = ""
        for fields, rank in given_:
            try:
                merge(span, dict(fields), rank, ranks, notes)
            except Exception as error:  # of two values that cannot be joined
                failed = repr(error)
        left.append((repr(msgspec.to_builtins(span, builtin_types=(bytes,))), repr(notes), ranks, failed))
    assert left[0] == left[1]


@pytest.mark.parametrize("content", [True, False])
def test_what_is_no_mistake_of_a_reader_is_raised(content: bool) -> None:
    rule = Rule("t.key", "io.input" if content else "op", _raising(_Stop()), content=content)
    plan = Planner([Convention(name="test", marks=("t.",), rules=(rule,))]).plan("", {"t.key": "x"})
    with pytest.raises(_Stop):
        fill.run(plan, {"t.key": "x"}, GenAISpan(), Notes())


def test_a_scalar_reader_that_fails_is_raised_by_both() -> None:
    rule = Rule("t.key", "op", _raising(ZeroDivisionError("no")))
    groups = Planner([Convention(name="test", marks=("t.",), rules=(rule,))]).plan("", {"t.key": "x"}).shape.groups
    for scalars in (fill._scalars_in_python, _native.scalars):
        with pytest.raises(ZeroDivisionError):
            scalars(groups, {"t.key": "x"}, GenAISpan(), [])
        with pytest.raises(KeyError):
            scalars(groups, {}, GenAISpan(), [])


def test_arguments_of_other_types_are_refused() -> None:
    span, notes = GenAISpan(), Notes()
    with pytest.raises(TypeError):
        _native.scalars([], {}, span, [])
    with pytest.raises(TypeError):
        _native.scalars((), {}, span)
    with pytest.raises(TypeError):
        _native.counts((), [], [], count)
    with pytest.raises(TypeError):
        _native.content((), (), {}, span, notes, {}, (), fill._MERGING)
    with pytest.raises(TypeError):
        _native.content((), (), {}, span, notes, {}, fill._RARE, ())
    with pytest.raises(AttributeError):
        _native.content((), (), {}, span, None, {}, fill._RARE, fill._MERGING)
    with pytest.raises(TypeError):
        _native.merge(span, [], 1, {}, notes, fill._MERGING)
    with pytest.raises(KeyError):
        fill._merge_natively(span, {"no.such": 1}, 1, {}, notes)
