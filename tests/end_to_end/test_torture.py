"""The short forms of tests/torture: killed under load, and a destination that is away."""

from pathlib import Path

import pytest

from tests.torture import kill_nine, outage


def test_kill_nine(tmp_path: Path) -> None:
    assert kill_nine.torture(tmp_path, rounds=2, seed=3, log=False) == []


@pytest.mark.slow
def test_a_destination_that_is_away(tmp_path: Path) -> None:
    assert outage.torture(tmp_path, seconds=35, log=False) == []
