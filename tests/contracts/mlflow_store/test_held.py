"""Batches that SQLite commits together: who sees them when, and what becomes of them when something fails."""

import shutil
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from spanweir.exporters.api import Batch, Lost
from spanweir.exporters.mlflow import Config
from spanweir.exporters.mlflow.held import HELD_BYTES
from spanweir.exporters.mlflow.sql import SqlStore
from spanweir.exporters.mlflow.sqlite import LARGE_BYTES, PAST_LOG_BYTES, STAY_OPEN_S
from tests.benchmarks.load import make_requests
from tests.contracts.mlflow_store.test_sqlite import CONTEXT, count, large_trace
from tests.support.mlflow_spans import make_batch, make_trace
from tests.support.recorder import Recorder, until
from tests.support.small_disk import small_disk
from tests.unit.delivery.test_runner import Bench, ids


def batch(seed: int, content_bytes: int = PAST_LOG_BYTES + 4096) -> Batch:
    return make_batch([large_trace(seed, content_bytes)], seed)


def store_of(path: Path) -> SqlStore:
    store = Config(tracking_uri=f"sqlite:///{path}", experiment="rag").build(CONTEXT)
    assert isinstance(store, SqlStore)
    return store


@pytest.fixture
def store(sqlite_path: Path) -> Iterator[SqlStore]:
    with store_of(sqlite_path) as store:
        yield store


def hold(store: SqlStore, seed: int) -> None:
    """Accept a batch without committing it. A machine that stands still may make the time for it run out."""
    for attempt in range(seed, seed + 100):
        store.export(batch(attempt))
        if store.durable < attempt:
            return
    raise AssertionError("nothing is held")


def test_large_batches_are_committed_together_when_nothing_more_comes(sqlite_path: Path, store: SqlStore) -> None:
    hold(store, 1)
    before = store.durable
    assert count(sqlite_path) == 5 * before
    store.idle()
    assert store.durable > before
    assert count(sqlite_path) == 5 * store.durable


def test_no_more_is_held_than_there_is_room_and_time_for(sqlite_path: Path, store: SqlStore) -> None:
    for seed in range(1, 40):
        store.export(batch(seed))
        store.settle()
        assert (seed - store.durable) * PAST_LOG_BYTES < HELD_BYTES
    hold(store, 40)
    time.sleep(STAY_OPEN_S)
    store.settle()
    assert store.durable >= 40
    assert count(sqlite_path) == 5 * store.durable


def test_beside_a_reader_a_batch_is_committed_when_the_next_one_is_in_the_making(
    sqlite_path: Path, store: SqlStore
) -> None:
    reader = sqlite3.connect(sqlite_path)
    for seed in range(1, 4):
        assert reader.execute("SELECT COUNT(*) FROM spans").fetchone() == (5 * seed - 5,)
        store.export(batch(seed))
        assert store.durable == seed - 1
        store.settle()
        assert store.durable == seed
    reader.close()


@pytest.mark.parametrize("last", [make_batch([make_trace(500)], 500), batch(500, LARGE_BYTES)])
def test_other_batches_take_what_is_held_with_them(sqlite_path: Path, store: SqlStore, last: Batch) -> None:
    hold(store, 1)
    store.export(last)
    assert store.durable == 500
    assert count(sqlite_path) % 5 == 0


def test_what_the_clock_made_is_not_held(sqlite_path: Path, store: SqlStore) -> None:
    hold(store, 1)
    made = batch(600)
    made.first, made.last = 501, 500
    store.export(made)
    assert store.durable == 500
    assert count(sqlite_path) >= 10


def test_a_batch_without_traces_does_not_make_durable_what_is_held(store: SqlStore) -> None:
    hold(store, 1)
    store.export(Batch(first=200, last=300))
    assert store.durable < 200
    store.idle()
    assert store.durable == 300


def test_what_was_accepted_is_known(store: SqlStore) -> None:
    hold(store, 1)
    trace_id = large_trace(1)[0].trace_id
    assert len(store.known([trace_id])[trace_id].spans) == 5


def test_what_is_held_is_committed_at_the_end(sqlite_path: Path) -> None:
    with store_of(sqlite_path) as store:
        hold(store, 1)
        before = store.durable
    assert store.durable > before
    assert count(sqlite_path) == 5 * store.durable


@pytest.mark.parametrize("ask", [False, True])
def test_a_file_that_is_replaced_takes_only_what_was_not_durable(
    sqlite_path: Path, empty_database: Path, store: SqlStore, ask: bool
) -> None:
    hold(store, 1)
    before = store.durable
    for part in sqlite_path.parent.glob("mlflow.db*"):
        part.unlink()
    shutil.copy(empty_database, sqlite_path)
    if ask:
        assert not store.known([large_trace(1)[0].trace_id])
    with pytest.raises(Lost, match="undone"):
        store.export(batch(700))
    assert store.durable == before
    until(lambda: _exported(store, batch(before + 1)))
    assert store.durable == before + 1, "the next ones are committed one by one"
    assert count(sqlite_path) == 5


def _exported(store: SqlStore, one: Batch) -> bool:
    try:
        store.export(one)
    except Exception:
        return False
    return True


def test_a_value_that_no_database_takes_costs_only_itself(sqlite_path: Path, store: SqlStore) -> None:
    hold(store, 1)
    before = store.durable
    odd = batch(800)
    odd.spans[0].start_ns = 1 << 63
    with pytest.raises(Lost):
        store.export(odd)
    assert count(sqlite_path) == 5 * before
    for seed in range(before + 1, before + 4):
        store.export(batch(seed))
    store.export(odd)
    assert store.durable == 800
    assert count(sqlite_path) == 5 * (before + 4)


def test_a_full_disk_loses_nothing(tmp_path: Path, empty_database: Path, caplog: pytest.LogCaptureFixture) -> None:
    bodies = make_requests(12, 70)
    with small_disk(tmp_path / "disk", "48m") as disk:
        path = Path(shutil.copy(empty_database, disk / "mlflow.db"))
        ballast = disk / "ballast"
        ballast.write_bytes(bytes(40_000_000))
        bench = Bench(tmp_path)
        other = Recorder()
        with bench.delivering(mlflow=store_of(path), other=other):
            bench.put(*bodies)
            until(lambda: "is made again" in caplog.text)
            until(lambda: len(other.rows) == 840)
            ballast.unlink()
            until(lambda: bench.counters.get("otelcol_exporter_sent_spans", exporter="mlflow") >= 4200)
        with sqlite3.connect(path) as connection:
            found = connection.execute("SELECT trace_id, span_id FROM spans").fetchall()
            whole = connection.execute("PRAGMA integrity_check").fetchone()
        connection.close()
    assert {(trace[3:], span) for trace, span in found} == ids(bodies) == set(other.spans)
    assert whole == ("ok",)
