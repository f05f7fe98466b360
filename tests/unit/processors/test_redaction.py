"""What is found and masked, what is left alone, and that nothing gets by."""

import json
from typing import Any

import pytest

from spanweir.collector.processors.redaction import Config
from spanweir.schemas.options import Secret
from spanweir.schemas.raw import Event, RawLog, Resource
from tests.support.processing import Bench
from tests.support.spans import messages, span


def cleaned(value: Any, key: str = "text", **options: Any) -> Any:
    (item,) = Bench(Config(**options))(span("a", attributes={key: value}))
    return item.raw.attributes.get(key)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("mail jane.doe+x@example.co.uk now", "mail [REDACTED_EMAIL] now"),
        ("card 4111 1111 1111 1111.", "card [REDACTED_CREDIT_CARD]."),
        ("order 4111 1111 1111 1112.", "order 4111 1111 1111 1112."),
        ("DE89 3704 0044 0532 0130 00", "[REDACTED_IBAN]"),
        ("GB82 WEST 1234 5698 7654 33", "GB82 WEST 1234 5698 7654 33"),
        ("ssn 078-05-1120", "ssn [REDACTED_US_SSN]"),
        ("code 666-05-1120", "code 666-05-1120"),
        ("call +49 170 1234567", "call [REDACTED_PHONE]"),
        ("key sk-abcdefghijklmnopqrstuvwx", "key [REDACTED_API_KEY]"),
        ("nothing to see, 12 apples at 10:30", "nothing to see, 12 apples at 10:30"),
    ],
)
def test_detectors(text: str, expected: str) -> None:
    assert cleaned(text) == expected


def test_messages_are_walked_and_stay_json() -> None:
    text = messages("user", 'I am jane@example.com, "quoted"')
    found = json.loads(cleaned(text))
    assert found[0]["parts"][0]["content"] == 'I am [REDACTED_EMAIL], "quoted"'


def test_json_in_json_is_walked() -> None:
    inner = json.dumps({"to": "jane@example.com", "password": "hunter2"})
    found = json.loads(cleaned(json.dumps({"function": {"arguments": inner}})))
    assert json.loads(found["function"]["arguments"]) == {"to": "[REDACTED_EMAIL]", "password": "[REDACTED]"}


def test_escaped_json_does_not_hide_anything() -> None:
    assert "example" not in cleaned(r'{"a": "jane\u0040example.com"}')


def test_text_without_findings_stays_byte_for_byte() -> None:
    text = '{"big":  12345678901234567890123, "f": 1.0, "list":[ ]}'
    assert cleaned(text) == text


def test_cut_json_is_still_looked_at() -> None:
    assert cleaned('[{"content": "jane@example.com and so on...') == '[{"content": "[REDACTED_EMAIL] and so on...'


@pytest.mark.parametrize("key", ["password", "db.password", "x-api-key", "Authorization", "user_secret"])
def test_blocked_keys(key: str) -> None:
    assert cleaned("anything", key) == "[REDACTED]"
    assert cleaned(17, key) == "[REDACTED]"


@pytest.mark.parametrize("key", ["gen_ai.usage.input_tokens", "token_count", "secretary"])
def test_keys_that_only_look_alike(key: str) -> None:
    assert cleaned("anything", key) == "anything"


def test_actions() -> None:
    assert cleaned("a@example.com", action="drop") == ""
    assert cleaned("x", "password", action="drop") is None
    one = cleaned("a@example.com b@example.com a@example.com", action="hash", hash_key=Secret("k")).split("] [")
    assert one[0].removeprefix("[") == one[2].removesuffix("]") != one[1]
    assert cleaned("a@example.com", action="hash", hash_key=Secret("k")) != cleaned("a@example.com", action="hash")


def test_own_patterns_and_exceptions() -> None:
    options = {"blocked_values": ("EMP-[0-9]+",), "allowed_values": (r"EMP-0+", r".*@example\.org")}
    assert cleaned("EMP-17 EMP-000 a@example.org a@example.com", **options) == (
        "[REDACTED] EMP-000 a@example.org [REDACTED_EMAIL]"
    )


def test_only_allowed_keys() -> None:
    config = Config(allow_all_keys=False, allowed_keys=("keep",), ignored_keys=("raw",))
    attributes = {"keep": "a@example.com", "raw": "a@example.com", "other": "x"}
    (item,) = Bench(config)(span("a", attributes=attributes))
    assert item.raw.attributes == {"keep": "[REDACTED_EMAIL]", "raw": "a@example.com"}


def test_everything_of_a_span_and_of_a_record_is_looked_at() -> None:
    mail = "a@example.com"
    raw = span(
        "a",
        name=f"to {mail}",
        status_message=f"no {mail}",
        resource=Resource(attributes={"user": mail}),
        events=[Event(name=f"e {mail}", attributes={"x": [mail, {"y": mail}]})],
        attributes={mail: 1, "b": mail.encode()},
    )
    bench = Bench(Config())
    (item,) = bench(raw)
    assert "example" not in repr(item.raw)
    log = RawLog(body={"messages": [{"content": mail}]}, attributes={"x": mail})
    (record,) = bench.processor.process_logs([log])  # type: ignore[attr-defined]
    assert "example" not in repr(record)
    assert bench.counted["spanweir_redaction_masked_values"] >= 10


def test_it_fails_closed() -> None:
    deep: Any = "a@example.com"
    for _ in range(300):
        deep = {"x": deep}
    assert "example" not in repr(cleaned(deep))


def test_twice_is_as_good_as_once() -> None:
    once = cleaned("x", "password", action="hash")
    assert cleaned(once, "password", action="hash") == once


def test_a_wrong_pattern_is_told() -> None:
    with pytest.raises(ValueError, match="blocked_values: '\\(' is no RE2 pattern"):
        Bench(Config(blocked_values=("(",)))
