"""Snapshots and their JSON text: nothing that an application passes may break or block it."""

import dataclasses
import datetime
import decimal
import enum
import hashlib
import json
import pathlib
import uuid
from collections import OrderedDict, namedtuple
from typing import Any

import pytest

from spanweir.instrumentation.encode import PIECE_BYTES, dumps, pieces, tame
from spanweir.instrumentation.freeze import ELIDED, MAX_COPIED, MAX_ITEMS, freeze
from spanweir.instrumentation.policy import Policy


def text_of(value: Any, form: str = "json") -> Any:
    return json.loads(b"".join(Policy().render("gen_ai.input.messages", freeze(value, form))))


class Colour(enum.Enum):
    RED = "red"


class Hostile:
    def __repr__(self) -> str:
        raise RuntimeError("no")

    def __iter__(self) -> Any:
        raise AssertionError("iterated")

    @property
    def usage(self) -> Any:
        raise AssertionError("a property was read")


@dataclasses.dataclass
class Point:
    x: int
    y: list[int]


Pair = namedtuple("Pair", "left right")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"a": [1, 2.5, None, True, "x"]}, {"a": [1, 2.5, None, True, "x"]}),
        ((1, "a"), [1, "a"]),
        (Point(1, [2]), {"x": 1, "y": [2]}),
        (Pair(1, [2]), {"left": 1, "right": [2]}),
        (OrderedDict(a=OrderedDict(b=1)), {"a": {"b": 1}}),
        ({Colour.RED: Colour.RED}, {"red": "red"}),
        (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (decimal.Decimal("1.10"), "1.10"),
        (pathlib.PurePosixPath("/a"), "/a"),
        (datetime.date(2026, 1, 2), "2026-01-02"),
        (float("nan"), "nan"),
        ({"n": [float("inf"), 1]}, {"n": ["inf", 1]}),
        ({1: "a", (2, 3): "b"}, {"1": "a", "(2, 3)": "b"}),
        ({"s": "\ud800"}, {"s": "?"}),
        ({3}, [3]),
    ],
)
def test_values_become_json(value: Any, expected: Any) -> None:
    assert text_of(value) == expected


def test_bytes_are_recorded_by_reference() -> None:
    image = b"\x89PNG" * 1000
    digest = hashlib.sha256(image).hexdigest()
    assert text_of({"image": image}) == {"image": {"type": "bytes", "size": 4000, "sha256": digest}}


def test_attribute_values_become_the_types_of_otlp() -> None:
    class Marked(str):
        pass

    class Number(float):
        pass

    class Kind(enum.StrEnum):
        A = "a"

    class Level(enum.IntEnum):
        LOW = 1

    given = [Marked("m"), Number(0.5), Kind.A, Level.LOW, True, (1, "b", [2]), {"c": 1}, b"d"]
    made = [tame(value) for value in given]
    assert made[:-1] == ["m", 0.5, "a", 1, True, [1, "b", "[2]"], '{"c":1}']
    assert [type(value) for value in made[:5]] == [str, float, str, int, bool]
    assert json.loads(made[-1])["size"] == 1


def test_an_object_whose_repr_raises_is_named() -> None:
    assert text_of([Hostile()]) == ["<Hostile: __repr__ failed, RuntimeError>"]


def test_a_long_repr_is_cut() -> None:
    class Long:
        def __repr__(self) -> str:
            return "x" * 1_000_000

    assert len(text_of([Long()])[0]) < 5000


def test_self_reference_ends() -> None:
    loop: dict[str, Any] = {"name": "loop"}
    loop["self"] = loop
    knot: list[Any] = []
    knot.extend([knot] * 10)
    assert ELIDED in json.dumps(text_of(loop), ensure_ascii=False)
    assert ELIDED in json.dumps(text_of(knot), ensure_ascii=False)


def test_later_changes_are_not_recorded() -> None:
    messages: list[dict[str, Any]] = [{"role": "user", "content": [{"type": "text", "text": "before"}]}]
    frozen = freeze(messages, "input")
    messages[0]["content"][0]["text"] = "after"
    messages.append({"role": "assistant", "content": "after"})
    text = b"".join(Policy().render("gen_ai.input.messages", frozen)).decode()
    assert "before" in text
    assert "after" not in text


def test_of_a_huge_conversation_the_last_messages_are_the_safest() -> None:
    messages = [{"role": "user", "content": [{"text": f"m{n}"}]} for n in range(2 * MAX_COPIED)]
    frozen = freeze(messages, "input")
    messages[-1]["content"][0]["text"] = "changed"
    messages[0]["content"] = "changed"
    text = b"".join(Policy().render("gen_ai.input.messages", frozen)).decode()
    assert "changed" not in text
    assert text.count('"role"') == len(messages)


def test_a_gigantic_list_is_counted_not_copied() -> None:
    recorded = text_of(list(range(1_000_000)))
    assert len(recorded) == MAX_ITEMS + 1
    assert recorded[-1] == f"{ELIDED} 990000 more items"


def test_pieces_are_small_and_add_up() -> None:
    value = {
        "long": "é\n" * 100_000,
        "list": [{"n": n, "text": "x" * 1000} for n in range(1000)],
        "empty": [[], {}, ""],
        "deep": {"a": {"b": ["y" * 200_000]}},
    }
    frozen = freeze(value)
    parts = list(pieces(frozen.value, frozen.size))
    assert json.loads(b"".join(parts)) == value
    assert len(parts) > 10
    assert max(map(len, parts)) < 5 * PIECE_BYTES


def test_size_is_about_right() -> None:
    value = [{"role": "user", "parts": [{"content": "x" * 1000}]} for _ in range(3000)]
    assert freeze(value).size == pytest.approx(len(dumps(value)), rel=0.1)


def test_content_over_the_limit_is_cut_and_says_so() -> None:
    policy = Policy(max_content_bytes=10_000)
    frozen = freeze([{"role": "user", "content": "x" * 50_000}, {"role": "user", "content": "end"}], "input")
    recorded = json.loads(b"".join(policy.render("gen_ai.input.messages", frozen)))
    assert recorded[0]["parts"][0]["content"].endswith("more characters")
    assert sum(map(len, policy.render("gen_ai.input.messages", frozen))) < 12_000
