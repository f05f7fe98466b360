"""Whatever the order and batching of records, what is stored in the end is the same."""

import random
from pathlib import Path

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from spanweir.schemas.agents import Limits
from tests.support.agents import Replay, Stored, load, records

CASES = sorted((Path(__file__).parents[1] / "golden" / "agents").glob("*/*/records.json"))
SETTLE_S, FINAL_S = 2.0, 12.0


def plain(stored: Stored) -> dict[tuple[str, str], bytes]:
    return {key: msgspec.msgpack.encode(span) for key, span in stored.items()}


def in_order(path: Path, limits: Limits | None = None) -> dict[tuple[str, str], bytes]:
    replay = Replay(limits)
    replay.put(records(load(path)))
    return plain(replay.finish().stored)


@pytest.mark.parametrize("path", CASES, ids=lambda path: f"{path.parents[1].name}-{path.parent.name}")
@settings(max_examples=80, deadline=None)
@given(seed=st.integers(0, 2**32), waits=st.lists(st.sampled_from([0.0, 0.0, SETTLE_S, FINAL_S]), max_size=40))
@example(seed=0, waits=[0.0] * 5 + [FINAL_S])  # Codex: a span that is not kept tells the session after the turn ended
def test_any_order_and_batching_gives_the_same_traces(path: Path, seed: int, waits: list[float]) -> None:
    """Spans and logs one by one, with pauses in which turns go out and are finalised before the rest has come."""
    shuffled = records(load(path))
    random.Random(seed).shuffle(shuffled)
    replay = Replay()
    for n, record in enumerate(shuffled):
        replay.put([record])
        if n < len(waits) and waits[n]:
            replay.wait(waits[n])
    assert plain(replay.finish().stored) == in_order(path)


@pytest.mark.parametrize("path", CASES, ids=lambda path: f"{path.parents[1].name}-{path.parent.name}")
@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32), every=st.integers(1, 5))
def test_internal_spans_find_their_turn_in_any_order(path: Path, seed: int, every: int) -> None:
    limits = Limits(keep_internal=True)
    shuffled = records(load(path))
    random.Random(seed).shuffle(shuffled)
    replay = Replay(limits)
    for n, record in enumerate(shuffled):
        replay.put([record])
        if n % every == 0:
            replay.wait(SETTLE_S)
    assert plain(replay.finish().stored) == in_order(path, limits)


@pytest.mark.parametrize("path", CASES, ids=lambda path: f"{path.parents[1].name}-{path.parent.name}")
def test_sending_everything_twice_changes_nothing(path: Path) -> None:
    replay = Replay()
    for record in records(load(path)) * 2:
        replay.put([record])
        replay.wait(SETTLE_S)
    assert plain(replay.finish().stored) == in_order(path)
