"""Token arithmetic (semconv guide 7.2)."""

from typing import Any

import pytest

from spanweir.schemas.genai import Usage
from spanweir.schemas.usage import from_object, settle, total_of


def settled(
    exclusive: tuple[bool | None, bool | None] = (None, None), **counts: int
) -> tuple[int | None, int | None, str]:
    usage = settle(Usage(**counts), *exclusive)
    return usage.input, usage.output, usage.inclusive


def test_nothing_to_decide_without_cache_and_reasoning() -> None:
    assert settled(input=10, output=5) == (10, 5, "none")


def test_a_total_decides_when_it_fits_one_way() -> None:
    assert settled(input=3, cache_read=0, cache_write=12_629, output=12, total=12_644) == (12_632, 12, "total")
    assert settled(input=100, cache_read=80, output=20, total=120) == (100, 20, "total")
    assert settled(input=100, output=20, reasoning=50, total=170) == (100, 70, "total")
    assert settled(input=10, cache_read=90, output=20, reasoning=50, total=170) == (100, 70, "total")


def test_what_is_known_of_the_emitter_decides_next() -> None:
    assert settled((True, None), input=100, cache_read=80, output=20) == (180, 20, "emitter")
    assert settled((False, None), input=10, cache_read=80, output=20) == (10, 20, "emitter")
    assert settled((None, True), input=10, output=20, reasoning=50) == (10, 70, "emitter")


def test_a_total_that_is_the_bare_sum_proves_nothing_of_an_emitter_that_excludes() -> None:
    assert settled((True, None), input=10, cache_read=80, output=20, total=30) == (90, 20, "emitter")


def test_a_cache_larger_than_the_input_cannot_be_part_of_it() -> None:
    assert settled(input=3, cache_read=500, cache_write=24, output=9) == (527, 9, "sanity")


def test_otherwise_counts_are_taken_as_the_standard_says() -> None:
    assert settled(input=100, cache_read=80, output=20, reasoning=5) == (100, 20, "unknown")


def test_cache_writes_of_two_lifetimes_add_up() -> None:
    usage = settle(Usage(input=3, output=1, cache_write_5m=100, cache_write_1h=20))
    assert (usage.cache_write, usage.input) == (120, 123)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"prompt_tokens": 9, "completion_tokens": 1, "total_tokens": 10}, (9, 1, None, None)),
        ({"prompt_tokens": 9, "completion_tokens": 4, "prompt_tokens_details": {"cached_tokens": 6}}, (9, 4, 6, None)),
        ({"input_tokens": 3, "output_tokens": 4, "cache_read_input_tokens": 6}, (9, 4, 6, None)),
        (
            {"input_tokens": 9, "output_tokens": 4, "total_tokens": 13, "cache_read_input_tokens": 6},
            (9, 4, 6, None),
        ),
        ({"promptTokenCount": 9, "candidatesTokenCount": 4, "thoughtsTokenCount": 6}, (9, 10, None, 6)),
        (
            {"input_tokens": 9, "output_tokens": 4, "output_tokens_details": {"reasoning_tokens": 3}},
            (9, 4, None, 3),
        ),
        ({"inputTokens": "9", "outputTokens": 4.0}, (9, 4, None, None)),
    ],
)
def test_usage_objects(given: dict[str, Any], expected: tuple[int | None, ...]) -> None:
    usage = from_object(given)
    assert usage is not None
    assert (usage.input, usage.output, usage.cache_read, usage.reasoning) == expected


@pytest.mark.parametrize("given", [None, {}, [], "9", {"cost": 1}, {"input_tokens": -5}, {"prompt_tokens": "many"}])
def test_no_usage(given: Any) -> None:
    assert from_object(given) is None


def test_totals() -> None:
    assert total_of(Usage(input=8)) == 8
    assert total_of(Usage(input=8, output=2, total=99)) == 10
    assert total_of(Usage(total=99)) == 99
