"""Every exporter against a real destination: one suite, and a bench for each type in `exporter_benches`."""

import time
from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import msgspec
import pytest

from spanweir.collector.config.components import known
from spanweir.exporters.api import CANONICAL, MAPPED, REQUESTS, Batch, Flushing, Permanent, wants
from tests.contracts.exporter_benches.api import Bench
from tests.support.batches import batch, context, ids

BENCHES = "tests.contracts.exporter_benches"
WITHOUT_BENCH = {
    "debug": "nothing is stored; tests/unit/exporters/test_debug.py",
}


@pytest.fixture(params=[*(name for name in known("exporters") if find_spec(f"{BENCHES}.{name}")), "delta_received"])
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bench]:
    made: Bench = import_module(f"{BENCHES}.{request.param}").Bench(tmp_path)
    yield made
    made.close()


def exporter_of(bench: Bench, directory: Path) -> Any:
    state = directory / "state"
    state.mkdir(exist_ok=True)
    return bench.config.build(context("contract", state))


def settle(exporter: Any, last: int) -> None:
    """Wait until an exporter that holds data back has written it."""
    for _ in range(200):
        if not isinstance(exporter, Flushing) or exporter.durable >= last:
            return
        exporter.idle()
    raise AssertionError(f"durable stays at {exporter.durable}, {last} was exported")


def delivered(exporter: Any, batch: Batch) -> bool:
    """Whether the batch is there. Raises Permanent; whatever else is raised is a retry."""
    try:
        exporter.export(batch)
        settle(exporter, batch.last)
    except Permanent:
        raise
    except Exception:
        return False
    return True


@pytest.mark.parametrize("name", known("exporters"))
def test_every_exporter_has_a_bench(name: str) -> None:
    there = bool(find_spec(f"{BENCHES}.{name}")) or name in WITHOUT_BENCH
    assert there, f"an exporter is held to its contract by tests/contracts/exporter_benches/{name}.py"


def test_what_was_exported_is_there(bench: Bench, tmp_path: Path) -> None:
    one, two = batch(1), batch(2, records=3)
    with exporter_of(bench, tmp_path) as exporter:
        exporter.export(one)
        exporter.export(two)
        settle(exporter, two.last)
        assert bench.spans() == sorted(ids(one) + ids(two))


def test_it_says_what_it_reads(bench: Bench, tmp_path: Path) -> None:
    exporter = exporter_of(bench, tmp_path)
    assert wants(exporter)
    assert wants(exporter) <= {MAPPED, REQUESTS, CANONICAL}


def test_a_batch_that_comes_again_leaves_the_same_rows(bench: Bench, tmp_path: Path) -> None:
    one, two = batch(1), batch(2)
    with exporter_of(bench, tmp_path) as exporter:
        for item in (one, two, two):
            exporter.export(item)
        settle(exporter, two.last)
    expected = sorted(ids(one) + ids(two))
    assert (bench.spans() if bench.exactly_once else sorted(set(bench.spans()))) == expected


def test_a_batch_that_comes_again_after_a_restart_leaves_the_same_rows(bench: Bench, tmp_path: Path) -> None:
    one, two, three = batch(1), batch(2), batch(3)
    with exporter_of(bench, tmp_path) as exporter:
        exporter.export(one)
        exporter.export(two)
        settle(exporter, two.last)
    with exporter_of(bench, tmp_path) as exporter:
        exporter.export(two)
        exporter.export(three)
        settle(exporter, three.last)
    expected = sorted(ids(one) + ids(two) + ids(three))
    assert (bench.spans() if bench.exactly_once else sorted(set(bench.spans()))) == expected


def test_a_batch_is_read_only(bench: Bench, tmp_path: Path) -> None:
    one = batch(1)
    before = msgspec.json.encode(one)
    with exporter_of(bench, tmp_path) as exporter:
        exporter.export(one)
        settle(exporter, one.last)
    assert msgspec.json.encode(one) == before


def test_an_empty_batch_is_fine(bench: Bench, tmp_path: Path) -> None:
    with exporter_of(bench, tmp_path) as exporter:
        exporter.export(batch(1))
        exporter.export(Batch(first=2, last=2))
        exporter.export(Batch(first=3, last=2))
        settle(exporter, 2)
    assert bench.spans() == ids(batch(1))


def test_an_unavailable_destination_is_a_retry_and_loses_nothing(bench: Bench, tmp_path: Path) -> None:
    if not bench.can_fail:
        pytest.skip("this destination cannot be made unavailable")
    one, two = batch(1), batch(2)
    with exporter_of(bench, tmp_path) as exporter:
        exporter.export(one)
        settle(exporter, one.last)
        bench.stop()
        assert delivered(exporter, two) is False
        bench.start()
        for _ in range(100):  # a channel may need a moment to come back
            if delivered(exporter, two):
                break
            time.sleep(0.1)
    assert sorted(set(bench.spans())) == sorted(ids(one) + ids(two))
