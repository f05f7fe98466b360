"""One exporter: attempts, bisection, dead letters, cursor."""

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from spanweir.collector.delivery import Options
from spanweir.collector.delivery.deadletters import listed
from spanweir.collector.delivery.worker import Worker
from spanweir.exporters.api import Batch, Exporter, Permanent, Retry
from tests.support.batches import batch
from tests.support.recorder import Recorder, until
from tests.support.small_disk import fill, small_disk

QUICK = Options(initial_interval=0.01, max_interval=0.02)


class Bench:
    def __init__(self, exporter: Exporter, directory: Path, options: Options) -> None:
        self.cursor = 0
        self.fails = False
        self.counted: Counter[str] = Counter()
        self.directory = directory / "dead-letters"
        self.worker = Worker(
            "there", exporter, options, cursor=0, advance=self._advance, dead_letters=self.directory, count=self._count
        )

    def _advance(self, sequence: int) -> None:
        self.cursor = sequence

    def _count(self, name: str, n: float = 1, **labels: str) -> None:
        assert labels["exporter"] == "there"
        if self.fails:
            raise RuntimeError("cannot count")
        self.counted[name] += int(n)


@contextmanager
def running(exporter: Exporter, directory: Path, options: Options = QUICK) -> Iterator[Bench]:
    bench = Bench(exporter, directory, options)
    bench.worker.start()
    try:
        yield bench
    finally:
        bench.worker.stop(time.monotonic() + 20, time.monotonic() + 30)


def test_batches_arrive_in_order_and_the_cursor_follows(tmp_path: Path) -> None:
    recorder = Recorder()
    with running(recorder, tmp_path) as bench:
        for first in range(1, 6):
            bench.worker.offer(batch(first), 1000)
    assert [one.first for one in recorder.batches] == [1, 2, 3, 4, 5]
    assert bench.cursor == 5
    assert recorder.left
    assert bench.counted["otelcol_exporter_sent_spans"] == 50


def test_the_pause_stops_growing_however_long_a_destination_is_away(tmp_path: Path) -> None:
    """Half a second times 1.5 to the power of attempts is no float any more after 14 hours."""
    attempts = 0

    def refuse(_: Batch) -> None:
        nonlocal attempts
        attempts += 1
        if attempts <= 2000:
            raise Retry("away")

    recorder = Recorder(refuse)
    options = Options(initial_interval=0.00001, max_interval=0.0001)
    with running(recorder, tmp_path, options) as bench:
        bench.worker.offer(batch(1), 1000)
        until(lambda: recorder.batches)
    assert bench.cursor == 1


def test_a_thread_that_fails_says_so(tmp_path: Path) -> None:
    with running(Recorder(), tmp_path) as bench:
        bench.fails = True
        bench.worker.offer(batch(1), 1000)
        until(lambda: bench.worker.crash)
    assert str(bench.worker.crash) == "cannot count"
    assert bench.cursor == 0


@pytest.mark.parametrize("error", [Retry("busy"), OSError("gone"), RuntimeError("odd")])
def test_a_failing_destination_is_tried_until_it_works(tmp_path: Path, error: Exception) -> None:
    attempts = 0

    def refuse(_: Batch) -> None:
        nonlocal attempts
        attempts += 1
        if attempts <= 15:
            raise error

    recorder = Recorder(refuse)
    with running(recorder, tmp_path) as bench:
        bench.worker.offer(batch(1), 1000)
        until(lambda: bench.worker.failing_since is not None)
        assert bench.cursor == 0
        until(lambda: recorder.batches)
    assert bench.cursor == 1
    assert bench.worker.failing_since is None
    assert bench.counted["otelcol_exporter_send_failed_spans"] == 150
    assert not bench.directory.exists()


def test_a_retry_is_not_earlier_than_the_destination_says(tmp_path: Path) -> None:
    times = []

    def refuse(_: Batch) -> None:
        times.append(time.monotonic())
        if len(times) == 1:
            raise Retry("later", after_s=0.3)

    with running(Recorder(refuse), tmp_path) as bench:
        bench.worker.offer(batch(1), 1000)
        until(lambda: len(times) == 2)
    assert times[1] - times[0] >= 0.3


def test_one_bad_span_costs_only_itself(tmp_path: Path) -> None:
    one = batch(1, traces=6)
    bad = one.spans[13]

    def refuse(given: Batch) -> None:
        if bad in given.spans:
            raise Permanent(f"span {bad.span_id} is too odd")

    recorder = Recorder(refuse)
    with running(recorder, tmp_path) as bench:
        bench.worker.offer(one, 1000)
    expected = {(s.trace_id, s.span_id) for s in one.spans if s is not bad}
    assert set(recorder.spans) == expected
    assert len(recorder.rows) == 6
    assert bench.cursor == 1
    assert bench.counted["spanweir_dead_letter_spans"] == 1
    ((path, letter),) = listed(bench.directory)
    assert letter.reason == f"span {bad.span_id} is too odd"
    assert letter.trace_ids == [bad.trace_id]
    request = ExportTraceServiceRequest.FromString(path.with_suffix(".traces.otlp").read_bytes())
    (span,) = request.resource_spans[0].scope_spans[0].spans
    assert (span.span_id.hex(), span.name) == (bad.span_id, bad.name)
    assert path.stat().st_mode & 0o077 == 0, "content is for the owner's eyes"


def test_what_is_refused_waits_while_the_disk_is_full(tmp_path: Path) -> None:
    one = batch(1, traces=3)
    bad = one.spans[7]

    def refuse(given: Batch) -> None:
        if bad in given.spans:
            raise Permanent("too odd")

    recorder = Recorder(refuse)
    with small_disk(tmp_path / "dead-letters", "64k") as place:
        ballast = fill(place)
        with running(recorder, tmp_path) as bench:
            bench.worker.offer(one, 1000, taken=15)
            until(lambda: bench.worker.failing_since)
            assert bench.cursor == 0
            assert list(place.iterdir()) == [ballast]
            ballast.unlink()
            until(lambda: bench.cursor == 1)
        ((_, letter),) = listed(place)
    assert letter.reason == "too odd"
    assert (bench.counted["spanweir_exporter_answered_spans"], bench.counted["spanweir_dead_letter_spans"]) == (14, 1)
    assert bench.worker.failing_since is None


def test_what_an_exporter_names_is_set_aside_without_trying(tmp_path: Path) -> None:
    one = batch(1, traces=3)
    gone = one.traces[1].trace_id
    calls = 0

    def refuse(_: Batch) -> None:
        nonlocal calls
        calls += 1
        raise Permanent("archived", rejected={gone: "the trace is archived"})

    with running(Recorder(refuse), tmp_path) as bench:
        bench.worker.offer(one, 1000)
    assert calls == 1
    ((_, letter),) = listed(bench.directory)
    assert (letter.trace_ids, letter.reason, len(letter.spans)) == ([gone], "the trace is archived", 5)
    assert bench.counted["otelcol_exporter_sent_spans"] == 10, "the rest was written"
    assert bench.counted["spanweir_dead_letter_spans"] == 5


def test_spans_and_rows_that_an_exporter_names_are_set_aside_alone(tmp_path: Path) -> None:
    one = batch(1, traces=3)
    odd = [span for span in one.spans if span.trace_id == one.traces[0].trace_id][:2]
    bare = one.traces[1].trace_id

    def refuse(_: Batch) -> None:
        reasons = {(span.trace_id, span.span_id): f"odd {n}" for n, span in enumerate(odd)}
        raise Permanent("odd", rejected_spans=reasons, rejected_rows={bare: "no such state"})

    with running(Recorder(refuse), tmp_path) as bench:
        bench.worker.offer(one, 1000)
    letters = {letter.reason: letter for _, letter in listed(bench.directory)}
    assert {reason: (letter.trace_ids, len(letter.spans), len(letter.rows)) for reason, letter in letters.items()} == {
        "odd 0; odd 1": ([odd[0].trace_id], 2, 1),
        "no such state": ([bare], 0, 1),
    }
    assert bench.counted["otelcol_exporter_sent_spans"] == 13
    assert bench.counted["spanweir_dead_letter_spans"] == 2
    assert bench.counted["spanweir_dead_letter_items"] == 1


def test_a_bug_in_an_exporter_does_not_hold_the_queue_for_ever(tmp_path: Path) -> None:
    one = batch(1, traces=2)
    bad = one.spans[0].trace_id

    def refuse(given: Batch) -> None:
        if any(span.trace_id == bad for span in given.spans):
            raise TypeError("cannot encode that")

    recorder = Recorder(refuse)
    with running(recorder, tmp_path) as bench:
        bench.worker.offer(one, 1000)
        until(lambda: bench.cursor == 1)
    assert {trace for trace, _ in recorder.spans} == {one.traces[1].trace_id}


def test_a_stop_interrupts_waiting_and_leaves_the_rest_queued(tmp_path: Path) -> None:
    def refuse(_: Batch) -> None:
        raise Retry("never", after_s=3600)

    bench = Bench(Recorder(refuse), tmp_path, QUICK)
    bench.worker.start()
    bench.worker.offer(batch(1), 1000)
    until(lambda: bench.worker.failing_since is not None)
    began = time.monotonic()
    assert bench.worker.stop(time.monotonic() + 0.2, time.monotonic() + 10)
    assert time.monotonic() - began < 10
    assert bench.cursor == 0


@pytest.mark.parametrize("error", [Retry("t: no space left on device"), OSError(28, "no space left on device")])
def test_a_destination_that_refuses_the_end_is_a_warning_of_one_line(
    tmp_path: Path, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    class Full(Recorder):
        def __exit__(self, *raised: object) -> None:
            raise error

    with running(Full(), tmp_path):
        pass
    (told,) = caplog.records
    assert (told.levelname, told.exc_info) == ("WARNING", None)
    assert "stays queued" in told.getMessage()
    assert "no space left on device" in told.getMessage()


def test_the_buffer_has_a_bound(tmp_path: Path) -> None:
    recorder = Recorder()
    recorder.gate.clear()
    with running(recorder, tmp_path) as bench:
        assert bench.worker.has_room()
        bench.worker.offer(batch(1), int(QUICK.buffer_bytes))
        assert not bench.worker.has_room()
        recorder.gate.set()
        until(bench.worker.has_room)


def test_an_exporter_that_can_never_work_says_so(tmp_path: Path) -> None:
    class Wrong(Recorder):
        def __enter__(self) -> "Wrong":
            raise Permanent("tracking_uri: no such host")

    with running(Wrong(), tmp_path) as bench:
        until(lambda: bench.worker.fatal)
    assert bench.worker.fatal == "tracking_uri: no such host"


def test_a_destination_that_is_away_at_the_start_is_waited_for(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    attempts = []

    class Late(Recorder):
        def __enter__(self) -> "Late":
            attempts.append(1)
            if len(attempts) < 4:
                raise OSError("connection refused")
            return self

    recorder = Late()
    with running(recorder, tmp_path) as bench:
        bench.worker.offer(batch(1), 1000)
        until(lambda: recorder.batches)
    assert "there: cannot start, will try again in " in caplog.text


class Holding(Recorder):
    """Keeps what it got until it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.durable = 0
        self.idles = 0

    def idle(self) -> None:
        self.idles += 1


def test_the_cursor_of_an_exporter_that_holds_back_follows_what_is_durable(tmp_path: Path) -> None:
    holding = Holding()
    with running(holding, tmp_path) as bench:
        bench.worker.offer(batch(1), 1000)
        bench.worker.offer(batch(2), 1000)
        until(lambda: len(holding.batches) == 2)
        until(lambda: holding.idles)
        assert bench.cursor == 0
        holding.durable = 1
        until(lambda: bench.cursor == 1)
        holding.durable = 2
    assert bench.cursor == 2, "also when it is closed"
