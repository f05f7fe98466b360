"""Single values as senders write them (semconv guide 7.4)."""

import json
from typing import Any

import msgspec
import pytest

from spanweir.schemas import values
from spanweir.schemas.values import Broken
from spanweir.schemas.vocabulary import finish_reason, provider, role


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (7, 7),
        (7.0, 7),
        ("7", 7),
        (" 7.0 ", 7),
        ('"7"', 7),
        (0, 0),
        (-1, None),
        ("-1", None),
        (float("nan"), None),
        (float("inf"), None),
        ("NaN", None),
        ("many", None),
        (None, None),
        ([7], None),
        (10**18, 10**18),
    ],
)
def test_counts(given: Any, expected: int | None) -> None:
    assert values.count(given) == expected


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["a", "b"], ["a", "b"]),
        ('["a", "b"]', ["a", "b"]),
        ("['a', 'b']", ["a", "b"]),
        ("a, b", ["a", "b"]),
        ("stop", ["stop"]),
        ('"stop"', ["stop"]),
        ([None, 1], ["1"]),
        ("", None),
        ([], None),
        (3, None),
    ],
)
def test_string_lists(given: Any, expected: list[str] | None) -> None:
    assert values.strings(given) == expected


def test_a_stop_sequence_may_hold_a_comma() -> None:
    assert values.whole_strings("a, b") == ["a, b"]
    assert values.whole_strings('["\\n", "a, b"]') == ["\n", "a, b"]


@pytest.mark.parametrize(
    ("given", "value", "how"),
    [
        ("{'a': None, 'b': True}", {"a": None, "b": True}, "literal"),
        ("{'a': (1, 2)}", {"a": [1, 2]}, "literal"),
        ('{"a": NaN}', {"a": "NaN"}, "lenient"),
        ('{"a": "line\nbreak"}', {"a": "line\nbreak"}, "lenient"),
        ('[{"a": 1}, {"b": 2', [{"a": 1}, {"b": 2}], "truncated"),
        ('[{"a": "one"}, {"b": "tw', [{"a": "one"}, {"b": "tw"}], "truncated"),
        ('[{"a": "x\\u00', [{"a": "x"}], "truncated"),
        ('[{"a": 1}, {"b', [{"a": 1}], "truncated"),
        ('{"a": "x"}...[TRUNCATED: original length 9]', {"a": "x"}, "truncated"),
    ],
)
def test_broken_json_is_read_as_far_as_it_goes(given: str, value: Any, how: str) -> None:
    assert values.loads(given) == Broken(value, how)


@pytest.mark.parametrize("given", ["hello", "", "None", "{", "]", "<ChatMessage>"])
def test_what_is_no_json_is_refused(given: str) -> None:
    if given == "{":
        assert values.loads(given) == Broken({}, "truncated")
        return
    with pytest.raises(ValueError, match=r"."):
        values.loads(given)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("plain", "plain"),
        ("123", "123"),
        ("null", "null"),
        ('"quoted"', "quoted"),
        ('"not closed', '"not closed'),
        ("{'a': 1}", {"a": 1}),
        ('{"cut": ', '{"cut": '),
        (5, 5),
        ("", None),
    ],
)
def test_text_that_may_be_json(given: Any, expected: Any) -> None:
    assert values.json_or_text(given) == expected


def test_valid_json_is_not_decoded_but_escapes_are() -> None:
    raw = values.json_or_text(' {"z": 1.0, "a": 12345678901234567890}')
    assert isinstance(raw, msgspec.Raw)
    assert values.dumps(raw) == ' {"z": 1.0, "a": 12345678901234567890}'
    assert values.dumps(values.json_or_text('{"city": "Z\\u00fcrich"}')) == '{"city":"Zürich"}'


@pytest.mark.parametrize(
    "given",
    [float("nan"), b"\x00\xff", {1: 2}, 2**70, "\ud800", {"a": msgspec.Raw(b'{"b":1}')}, {"x": object()}, {1, 2}],
)
def test_everything_has_a_json_form(given: Any) -> None:
    json.loads(values.dumps(given))
    json.loads(values.dumps({"deep": [given]}))


def test_a_value_that_is_nested_too_deep_has_one_too() -> None:
    deep: Any = []
    for _ in range(100_000):
        deep = [deep]
    json.loads(values.dumps(deep))


@pytest.mark.parametrize(
    ("given", "state"),
    [
        ("<REDACTED>", "redacted"),
        ("__REDACTED__", "redacted"),
        ("[Filtered]", "redacted"),
        ("<elided>", "elided"),
        ("N/A", "elided"),
        ('{"a": 1...[TRUNCATED: original length 20000]', "truncated"),
        ("and so on…", "truncated"),
        ("redacted documents are kept", None),
        ("A question?", None),
        ("", None),
    ],
)
def test_what_stands_for_content(given: str, state: str | None) -> None:
    assert values.content_state(given) == state


def test_durations_go_by_key_never_by_size() -> None:
    assert values.seconds(0.25) == 250_000_000
    assert values.milliseconds("250") == 250_000_000
    assert values.nanoseconds(250_000_000) == 250_000_000
    assert values.seconds(-1) is None


@pytest.mark.parametrize(
    "given",
    ["2026-01-02T03:04:05Z", '"2026-01-02T03:04:05+00:00"', 1767323045, 1767323045000, "1767323045"],
)
def test_instants(given: Any) -> None:
    assert values.instant(given) == 1767323045 * 10**9


def test_vocabularies() -> None:
    assert [finish_reason(x) for x in ("end_turn", "STOP", "MAX_TOKENS", "FinishReason.STOP", "odd")] == [
        "stop",
        "stop",
        "length",
        "stop",
        "odd",
    ]
    assert [role(x) for x in ("model", "Human", "MessageRole.USER", "tool-response", "critic")] == [
        "assistant",
        "user",
        "user",
        "tool",
        "critic",
    ]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("OpenAI", ("openai", None)),
        ("openai.chat", ("openai", None)),
        ("AWS", ("aws.bedrock", None)),
        ("azure", ("azure.ai.openai", None)),
        ("vertex_ai", ("gcp.vertex_ai", None)),
        ("Langchain", (None, "langchain")),
        ("strands-agents", (None, "strands-agents")),
        ("my-own-cloud", ("my-own-cloud", None)),
        ("", (None, None)),
        (5, (None, None)),
    ],
)
def test_providers_and_frameworks(given: Any, expected: tuple[str | None, str | None]) -> None:
    assert provider(given) == expected
