"""Lanes over a real queue: one for all, one of its own for an exporter that fails, nothing lost over a restart."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest

from spanweir.collector.assembly import Options as AssemblyOptions
from spanweir.collector.decode.otlp_proto import decode_traces
from spanweir.collector.delivery import Options
from spanweir.collector.delivery.deadletters import DeadLetters, listed
from spanweir.collector.delivery.lane import Outlet
from spanweir.collector.delivery.runner import Group, Runner
from spanweir.collector.delivery.snapshot import SnapshotFile
from spanweir.collector.delivery.stages import Stages
from spanweir.collector.delivery.worker import Worker
from spanweir.collector.processors import tail_sampling
from spanweir.collector.processors.api import Context, Item, Processor
from spanweir.collector.processors.genai import GenAI
from spanweir.collector.queue.api import QueueFull, Record
from spanweir.collector.queue.disk import Config as DiskQueue
from spanweir.collector.queue.memory import Config as MemoryQueue
from spanweir.collector.telemetry import Counters
from spanweir.exporters.api import CANONICAL, MAPPED, Batch, Exporter, Lost, Retry, wants
from spanweir.exporters.encode import spans_request
from spanweir.schemas.mapping import Mapper
from spanweir.schemas.mlflow import Renderer
from spanweir.schemas.options import MIB, Duration, Size
from spanweir.schemas.raw import RawSpan
from tests.benchmarks.load import make_requests
from tests.support.recorder import Recorder, until
from tests.support.small_disk import fill, small_disk
from tests.support.spans import TRACE, span

OPTIONS = Options(
    initial_interval=0.01, max_interval=0.05, detach_after=0.2, buffer_bytes=50_000, snapshot_interval=0.1,
    read_max_records=2,
)  # fmt: skip


class Bench:
    """A queue in a directory, and a runner that delivers it to recorders by name."""

    def __init__(self, directory: Path, *, idle_timeout: float = 0.5) -> None:
        self.queue: DiskQueue | MemoryQueue = DiskQueue(directory=str(directory / "queue"))
        self.options = OPTIONS
        self.directory = directory
        self.writer = self.queue.open_writer()
        self.counters = Counters()
        self.processors: Callable[[], list[Processor]] = lambda: [GenAI(Mapper())]
        self._assembly = AssemblyOptions(idle_timeout=idle_timeout)

    def put(self, *bodies: bytes) -> None:
        for body in bodies:
            self.writer.append(Record(signal="traces", received_ns=1, body=body))

    @contextmanager
    def delivering(self, **exporters: Exporter) -> Iterator[Runner]:
        """Deliver until the block ends, then drain."""
        reader = self.queue.open_reader([*exporters, "assembly"])
        room = threading.Event()

        def outlet(name: str, exporter: Exporter) -> Outlet:
            worker = Worker(
                name, exporter, self.options, cursor=reader.cursor(name),
                advance=lambda sequence: reader.advance(name, sequence),
                dead_letters=self.directory / "dead", count=self.counters.add, on_room=room.set,
            )  # fmt: skip
            return Outlet(worker, wants(exporter), frozenset({"traces"}))

        def stages() -> Stages:
            read = any(CANONICAL in wants(exporter) for exporter in exporters.values())
            return Stages(self.processors(), Renderer(), [], self.counters.add, options=self._assembly, canonical=read)

        group = Group(
            name="assembly", make_stages=stages, outlets=[outlet(*pair) for pair in exporters.items()],
            snapshot=SnapshotFile(self.directory / "assembly.snapshot"), room=room,
            undeliverable=DeadLetters(self.directory / "undeliverable", "delivery"),
        )  # fmt: skip
        runner = Runner([group], reader, self.options, self.counters.add, self.counters.set)
        thread = threading.Thread(target=runner.run)
        thread.start()
        try:
            yield runner
        finally:
            runner.stop(time.monotonic() + 20)
            thread.join()
            reader.close()

    def gauge(self, name: str) -> float:
        return self.counters.get(name)


def ids(bodies: Sequence[bytes]) -> set[tuple[str, str]]:
    return {(raw.trace_id, raw.span_id) for body in bodies for raw in decode_traces(body)}


def body(*spans: RawSpan) -> bytes:
    return spans_request((raw, raw.attributes) for raw in spans)


class Normalising(Recorder):
    wants = frozenset({MAPPED, CANONICAL})


@pytest.mark.parametrize("second", [Recorder, Normalising])
def test_canonical_spans_are_there_for_who_reads_them(tmp_path: Path, second: type[Recorder]) -> None:
    bench = Bench(tmp_path)
    bench.put(*make_requests(4, 2))
    one, two = Recorder(), second()
    with bench.delivering(one=one, two=two):
        until(lambda: len(one.rows) == len(two.rows) == 8)
    kept = {span.canonical is not None for span in two.spans.values()}
    assert kept == {second is Normalising}


def test_every_exporter_gets_everything_once(tmp_path: Path) -> None:
    bodies = make_requests(20, 2)
    bench = Bench(tmp_path)
    bench.put(*bodies)
    one, two = Recorder(), Recorder()
    with bench.delivering(one=one, two=two):
        until(lambda: len(one.rows) == len(two.rows) == 40)
    assert set(one.spans) == set(two.spans) == ids(bodies)
    assert sum(len(batch.spans) for batch in one.batches) == 200
    assert bench.counters.get("spanweir_delivery_spans") == 200, "decoded once for both"
    assert all(a.last + 1 == b.first for a, b in zip(one.batches, one.batches[1:], strict=False))


def test_an_exporter_that_fails_does_not_hold_the_other_and_catches_up(tmp_path: Path) -> None:
    bodies = make_requests(60, 2)
    bench = Bench(tmp_path)
    away = threading.Event()
    away.set()

    def refuse(_: Batch) -> None:
        if away.is_set():
            raise Retry("away")

    good, bad = Recorder(), Recorder(refuse)
    with bench.delivering(good=good, bad=bad):
        bench.put(*bodies[:30])
        until(lambda: len(good.rows) == 60)
        until(lambda: bench.gauge("spanweir_delivery_detached_lanes") == 1)
        assert not bad.rows
        away.clear()
        bench.put(*bodies[30:])
        until(lambda: len(bad.rows) == 120)
        until(lambda: bench.gauge("spanweir_delivery_detached_lanes") == 0)
    assert set(good.spans) == set(bad.spans) == ids(bodies)
    assert all(row.complete for row in bad.rows.values())


class Losing(Recorder):
    """Accepts `at` batches, loses them, and holds nothing back from then on."""

    def __init__(self, at: int) -> None:
        super().__init__()
        self.durable = 0
        self.losses = 0
        self._at = at

    def export(self, batch: Batch) -> None:
        if not self.losses and len(self.batches) == self._at:
            self._lose()
        super().export(batch)
        if self.losses:
            self.durable = batch.last

    def idle(self) -> None:
        if self.batches and not self.losses:
            self._lose()

    def _lose(self) -> None:
        self.losses += 1
        self.batches.clear()
        self.spans.clear()
        self.rows.clear()
        raise Lost("a transaction")


@pytest.mark.parametrize("at", [1, 4, 1000])
@pytest.mark.parametrize("others", [0, 1])
def test_what_an_exporter_has_lost_is_made_again_for_it_alone(tmp_path: Path, at: int, others: int) -> None:
    bodies = make_requests(20, 2)
    bench = Bench(tmp_path)
    bench.put(*bodies)
    losing, other = Losing(at), [Recorder() for _ in range(others)]
    with bench.delivering(losing=losing, **{f"other-{n}": one for n, one in enumerate(other)}):
        until(lambda: losing.losses and len(losing.rows) == 40)
        until(lambda: bench.gauge("spanweir_delivery_detached_lanes") == 0)
        bench.put(*(late := make_requests(4, 2, seed=5)))
        until(lambda: len(losing.rows) == 48)
    assert set(losing.spans) == ids([*bodies, *late])
    assert all(row.complete for row in losing.rows.values())
    assert bench.counters.get("otelcol_exporter_sent_spans", exporter="losing") == 240, "only what it has is counted"
    for one in other:
        assert sum(len(batch.spans) for batch in one.batches) == 240
        assert set(one.spans) == set(losing.spans)


def test_a_trace_that_was_open_is_whole_after_a_loss(tmp_path: Path) -> None:
    bench = Bench(tmp_path, idle_timeout=100)
    bench.put(body(span("llm", "agent", op="chat", start=5, asked="q", said="a", tokens=(7, 3))))
    bench.put(*make_requests(2, 1))
    losing = Losing(2)
    with bench.delivering(losing=losing):
        until(lambda: losing.rows)
        bench.put(body(span("agent", op="invoke_agent", end=90)))
        until(lambda: losing.losses and TRACE in losing.rows and losing.rows[TRACE].complete)
    row = losing.rows[TRACE]
    assert (row.state, row.span_count, row.usage and row.usage.total_tokens, row.request_preview) == ("OK", 2, 10, "q")


def test_a_restart_goes_on_where_it_stopped(tmp_path: Path) -> None:
    bodies = make_requests(10, 2)
    bench = Bench(tmp_path)
    bench.put(*bodies[:5])
    first, second = Recorder(), Recorder()
    with bench.delivering(one=first):
        until(lambda: len(first.rows) == 10)
    bench.put(*bodies[5:])
    with bench.delivering(one=second):
        until(lambda: len(second.rows) == 10)
    assert not set(first.spans) & set(second.spans)
    assert set(first.spans) | set(second.spans) == ids(bodies)


def test_an_open_trace_is_whole_after_a_restart(tmp_path: Path) -> None:
    bench = Bench(tmp_path, idle_timeout=100)
    bench.put(body(span("llm", "agent", op="chat", start=5, asked="q", said="a", tokens=(7, 3))))
    store = Recorder()
    with bench.delivering(one=store):
        until(lambda: store.rows)
    assert store.rows[TRACE].state == "IN_PROGRESS"
    bench.put(body(span("agent", op="invoke_agent", end=90)))
    with bench.delivering(one=store):
        until(lambda: store.rows[TRACE].complete)
    row = store.rows[TRACE]
    assert (row.state, row.span_count, row.usage and row.usage.total_tokens, row.request_preview) == ("OK", 2, 10, "q")


def test_an_open_trace_is_finalised_after_a_crash_that_left_no_snapshot(tmp_path: Path) -> None:
    bench = Bench(tmp_path, idle_timeout=100)
    bench.put(body(span("llm", "lost", op="chat", asked="q", said="a")))
    store = Recorder()
    with bench.delivering(one=store):
        until(lambda: store.rows)
    (tmp_path / "assembly.snapshot").unlink()
    for cursor in (tmp_path / "queue" / "cursors").glob("assembly*"):
        cursor.unlink()
    bench._assembly = AssemblyOptions(idle_timeout=0.3)
    with bench.delivering(one=store):
        until(lambda: store.rows[TRACE].complete)
    assert store.rows[TRACE].state == "OK"


def test_traces_are_finalised_by_the_clock(tmp_path: Path) -> None:
    bench = Bench(tmp_path, idle_timeout=0.3)
    store = Recorder()
    with bench.delivering(one=store):
        bench.put(body(span("agent", "remote", op="invoke_agent", asked="q", said="a")))
        until(lambda: store.rows and store.rows[TRACE].complete)
    made = store.batches[-1]
    assert made.first == made.last + 1, "the clock's batches cover no record"
    assert store.rows[TRACE].state == "OK"


def test_small_requests_that_follow_one_another_are_one_batch(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.options = msgspec.structs.replace(OPTIONS, read_max_records=5, batch_interval=Duration(1))
    first, *bodies = make_requests(6, 1)
    store = Recorder()
    with bench.delivering(one=store):
        bench.put(first)
        until(lambda: len(store.rows) == 1)
        for one in bodies:
            bench.writer.submit(Record(signal="traces", received_ns=1, body=one), lambda result: None)
        until(lambda: len(store.rows) == 6)
        bench.put(*make_requests(1, 1, seed=2))
    assert [(batch.first, batch.last) for batch in store.batches] == [(1, 1), (2, 6), (7, 7)]
    assert set(store.spans) >= ids(bodies)


def test_batches_cannot_wait_for_long() -> None:
    with pytest.raises(ValueError, match="batch_interval must be at most 1s, not 2s"):
        Options(batch_interval=Duration(2))


def test_undecodable_records_are_passed_over(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bodies = make_requests(1, 1)
    bench.put(b"\xff\xff\xff", *bodies)
    store = Recorder()
    with bench.delivering(one=store):
        until(lambda: store.rows)
    assert set(store.spans) == ids(bodies)
    assert bench.counters.get("spanweir_delivery_undecodable_records") == 1


class Touchy(GenAI):
    def process(self, items: list[Item]) -> list[Item]:
        if any(item.raw.name == "poison" for item in items):
            raise RuntimeError("a bug")
        return super().process(items)


def test_a_record_that_cannot_be_taken_in_stops_nobody(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.processors = lambda: [Touchy(Mapper())]
    bodies = make_requests(4, 1)
    bench.put(*bodies[:2], body(span("poison")), *bodies[2:])
    store = Recorder()
    with bench.delivering(one=store):
        until(lambda: len(store.rows) == 4)
    assert set(store.spans) == ids(bodies)
    ((path, letter),) = listed(tmp_path / "undeliverable")
    assert (letter.first, letter.reason, letter.requests) == (3, "RuntimeError: a bug", ["traces"])
    (raw,) = decode_traces(path.with_suffix(".traces-0.otlp").read_bytes())
    assert raw.name == "poison"
    assert bench.counters.get("spanweir_delivery_failed_records") == 1


def test_a_record_waits_that_can_neither_be_taken_in_nor_set_aside(tmp_path: Path) -> None:
    """The disk is full. What is behind goes on; a restart meets the record again; with room it is set aside once."""
    bench = Bench(tmp_path)
    bench.processors = lambda: [Touchy(Mapper())]
    bodies = make_requests(4, 1)
    bench.put(*bodies[:2], body(span("poison")), *bodies[2:])
    store = Recorder()
    with small_disk(tmp_path / "undeliverable", "64k") as place:
        ballast = fill(place)
        for _ in range(2):
            with bench.delivering(one=store):
                until(lambda: len(store.rows) == 4)
                until(lambda: bench.gauge("otelcol_exporter_queue_size") == 3)
            assert set(store.spans) == ids(bodies)
            assert list(place.iterdir()) == [ballast]
        assert bench.counters.get("spanweir_delivery_failed_records") == 0
        with bench.delivering(one=store):
            until(lambda: bench.gauge("otelcol_exporter_queue_size") == 3)
            ballast.unlink()
            until(lambda: bench.gauge("otelcol_exporter_queue_size") == 0)
        ((_, letter),) = listed(place)
    assert (letter.first, letter.reason) == (3, "RuntimeError: a bug")
    assert bench.counters.get("spanweir_delivery_failed_records") == 1


@pytest.mark.parametrize("queue", [DiskQueue, MemoryQueue])
def test_a_full_queue_has_room_again_long_before_the_next_snapshot_is_due(
    tmp_path: Path, queue: type[DiskQueue | MemoryQueue]
) -> None:
    bench = Bench(tmp_path)
    bench.queue = queue(directory=str(tmp_path / "small"), max_bytes=Size(MIB))
    bench.writer = bench.queue.open_writer()
    bench.options = msgspec.structs.replace(OPTIONS, snapshot_interval=Duration(3600))
    (one,) = make_requests(1, 20)
    store = Recorder()

    def refused() -> bool:
        try:
            bench.put(one)
        except QueueFull:
            return True
        return False

    store.gate.clear()
    with bench.delivering(one=store):
        until(refused)
        store.gate.set()
        until(lambda: not refused())


def test_a_row_says_who_sent_its_trace(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    (one,) = make_requests(1, 1)
    bench.writer.append(Record(signal="traces", tenant="acme", received_ns=1, body=one))
    store = Recorder()
    with bench.delivering(one=store):
        until(lambda: store.rows)
    assert {row.tenant for row in store.rows.values()} == {"acme"}


def test_no_cursor_passes_a_span_that_waits(tmp_path: Path) -> None:
    """A sampler holds traces back; a crash before it decides loses none of them."""
    bodies = make_requests(3, 2)
    bench = Bench(tmp_path)
    bench.processors = lambda: [GenAI(Mapper()), sampler(settle=3600)]
    bench.put(*bodies)
    store = Recorder()
    with bench.delivering(one=store):
        until(lambda: bench.counters.get("spanweir_delivery_spans") == 30)
    assert not store.spans
    bench.processors = lambda: [GenAI(Mapper()), sampler(settle=0.1)]
    with bench.delivering(one=store):
        until(lambda: len(store.rows) == 6)
        until(lambda: bench.gauge("otelcol_exporter_queue_size") == 0)
    assert set(store.spans) == ids(bodies)


def sampler(settle: float) -> Processor:
    context = Context(
        name="tail", state_directory="", count=lambda name, n: None, drop=lambda raw, reason: None,
        discard=lambda raw, reason: None,
    )  # fmt: skip
    return tail_sampling.Config(settle=settle, decision_wait=3600).build(context)
