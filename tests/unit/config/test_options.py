"""Sizes, durations and secrets."""

import pickle

import pytest

from spanweir.schemas.options import GIB, MIB, Duration, Secret, Size


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("10GiB", 10 * GIB),
        ("64 MiB", 64 * MIB),
        ("1.5MiB", 3 * MIB // 2),
        ("2kb", 2000),
        ("4096", 4096),
        (7, 7),
        ("1Gi", GIB),
    ],
)
def test_sizes(text: object, expected: int) -> None:
    assert Size.parse(text) == expected


@pytest.mark.parametrize("value", ["10 GX", "", "-1", "MiB", True, 1.5, None, [1]])
def test_not_a_size(value: object) -> None:
    with pytest.raises(ValueError, match="is not a size; write a number of bytes, or one with a unit such as 64MiB"):
        Size.parse(value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("5s", 5), ("500ms", 0.5), ("1h30m", 5400), ("250us", 0.00025), ("2d", 172800), ("0", 0), (3, 3), (0.25, 0.25)],
)
def test_durations(text: object, expected: float) -> None:
    assert Duration.parse(text) == pytest.approx(expected)


@pytest.mark.parametrize("value", ["5", "5 seconds", "", "s", True, None, "1h30"])
def test_not_a_duration(value: object) -> None:
    with pytest.raises(ValueError, match="is not a duration; write a number with a unit such as 500ms, 5s"):
        Duration.parse(value)


@pytest.mark.parametrize("value", [-1, float("inf"), float("nan")])
def test_a_duration_is_finite_and_not_negative(value: float) -> None:
    with pytest.raises(ValueError, match="a duration must be zero or more seconds"):
        Duration.parse(value)


@pytest.mark.parametrize("text", ["10GiB", "64MiB", "3KiB", "1000", "0"])
def test_a_size_reads_as_it_was_written(text: str) -> None:
    assert str(Size.parse(text)) == text


@pytest.mark.parametrize("text", ["5s", "2h", "90m", "250ms", "0s"])
def test_a_duration_reads_as_it_was_written(text: str) -> None:
    assert str(Duration.parse(text)) == text


def test_a_secret_is_never_shown() -> None:
    secret = Secret("hunter2")
    shown = [str(secret), repr(secret), f"{secret}", f"{secret!r}", f"{secret:>20}", repr([secret]), str({"a": secret})]
    assert all("hunter2" not in text for text in shown), shown
    assert secret.reveal() == "hunter2"
    assert type(secret.reveal()) is str
    copy = pickle.loads(pickle.dumps(secret))
    assert (type(copy), copy.reveal()) == (Secret, "hunter2")
