"""Every span, trace and log record once in the Delta tables: killed writers, replays, other cuts, several writers."""

import json
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import polars
import pytest
from deltalake.transaction import AddAction

from spanweir.exporters.api import Batch, Context, Retry
from spanweir.exporters.delta import Config, committing
from spanweir.schemas.options import Duration
from tests.support.traces import received, records, row, sliced, together, trace

BOTH = pytest.mark.parametrize("attributes", ["mapped", "received"])
ROOT = Path(__file__).parents[2]


def exporter(directory: Path, *, interval: float = 0, instance: str = "0", attributes: str = "mapped") -> Any:
    config = Config(
        path=str(directory / "tables"), commit_interval=Duration(interval), maintenance_interval=Duration(0)
    )
    if attributes == "received":
        config = msgspec.structs.replace(config, attributes="received", tables=["spans"])
    (directory / "state").mkdir(exist_ok=True, parents=True)
    return config.build(Context(name="delta", state_directory=str(directory / "state"), instance=instance))


def table(directory: Path, suffix: str) -> polars.DataFrame:
    return polars.read_delta(str(directory / "tables" / f"spanweir_{suffix}"))


def assert_spans_there_once(directory: Path, batches: list[Batch]) -> None:
    spans = Counter(table(directory, "otel_spans").select("trace_id", "span_id").iter_rows())
    assert spans == Counter({(s.trace_id, s.span_id): 1 for b in batches for s in b.spans})


def assert_all_there_once(directory: Path, batches: list[Batch]) -> None:
    assert_spans_there_once(directory, batches)
    of_trace: dict[str, set[str]] = {}
    for batch in batches:
        for span in batch.spans:
            of_trace.setdefault(f"tr-{span.trace_id}", set()).add(span.span_id)
    payload = table(directory, "payload").select("databricks_request_id", "response").rows()
    assert Counter(request for request, _ in payload) == Counter(of_trace.keys())
    for request, response in payload:
        content = json.loads(response)["databricks_output"]["trace"]["data"]["spans"]
        assert len(content) == len({span["span_id"] for span in content}) == len(of_trace[request])
    logs = Counter(table(directory, "otel_logs")["trace_id"].to_list())
    assert logs == Counter(log.trace_id for b in batches for log in b.logs)
    annotations = table(directory, "otel_annotations").group_by("target_id", "annotation_type", "name").len()
    assert annotations["len"].to_list() == [1] * len(annotations)
    assert set(annotations["target_id"]) == {request.removeprefix("tr-") for request in of_trace}


def assert_right(directory: Path, batches: list[Batch], attributes: str) -> None:
    if attributes == "mapped":
        assert_all_there_once(directory, batches)
    else:
        assert_spans_there_once(directory, batches)


def given(batch: Batch, attributes: str) -> Batch:
    return batch if attributes == "mapped" else received(batch)


@BOTH
def test_records_in_any_cut_and_replayed_in_another(tmp_path: Path, attributes: str) -> None:
    batches, rng = records(1, 40), random.Random(2)
    with exporter(tmp_path, attributes=attributes) as first:
        for batch in sliced(batches[:25], rng):
            first.export(given(batch, attributes))
        assert first.durable == 25
    with exporter(tmp_path, attributes=attributes) as second:
        for batch in sliced(batches[10:], rng):
            second.export(given(batch, attributes))
        assert second.durable == 40
    assert_right(tmp_path, batches, attributes)


@BOTH
def test_records_that_come_again_while_they_wait(tmp_path: Path, attributes: str) -> None:
    batches, rng = records(3, 20), random.Random(4)
    with exporter(tmp_path, interval=3600, attributes=attributes) as one:
        for batch in sliced(batches[:12], rng):
            one.export(given(batch, attributes))
        assert one.durable == 0
        for batch in sliced(batches[4:], rng):
            one.export(given(batch, attributes))
    assert_right(tmp_path, batches, attributes)


def test_rows_that_come_after_a_commit_whose_answer_was_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(committing, "_STAGE_BYTES", 1)
    batches = records(5, 2)
    with exporter(tmp_path, interval=3600) as one:
        one.export(batches[0])
        target = one._targets["spans"]
        append = target.append

        def lost(actions: Sequence[AddAction], last: int) -> None:
            append(actions, last)
            raise Retry("the answer was lost")

        with monkeypatch.context() as patch:
            patch.setattr(target, "append", lost)
            with pytest.raises(Retry):
                one.flush()
        one.export(batches[1])
    assert_all_there_once(tmp_path, batches)


def test_a_state_directory_that_is_lost(tmp_path: Path) -> None:
    batches = [b for b in records(5, 20) if len(b.traces) == 1 and b.traces[0].revision == 1 and len(b.spans) > 1]
    whole = [b for b in batches if {s.trace_id for s in b.spans} == {b.traces[0].trace_id}]
    with exporter(tmp_path) as one:
        one.export(together(whole))
    (tmp_path / "state").rename(tmp_path / "lost")
    with exporter(tmp_path) as one:
        one.export(together(whole))
    assert_all_there_once(tmp_path, whole)


def test_a_batch_that_the_clock_made_is_not_skipped(tmp_path: Path) -> None:
    spans, complete = trace(random.Random(6))
    with exporter(tmp_path) as one:
        one.export(Batch(first=1, last=1, spans=spans))
    with exporter(tmp_path) as one:
        one.export(Batch(first=2, last=1, traces=[complete]))
        one.export(Batch(first=2, last=1, traces=[complete]))
    assert_all_there_once(tmp_path, [Batch(first=1, last=1, spans=spans)])


def test_an_amended_row_keeps_what_is_not_at_hand_any_more(tmp_path: Path) -> None:
    spans, complete = trace(random.Random(7))
    amended = row(spans[0], len(spans), revision=2)
    amended.request = amended.response = None
    with exporter(tmp_path) as one:
        one.export(Batch(first=1, last=1, spans=spans[:2], traces=[complete]))
        one.export(Batch(first=2, last=2, spans=spans[2:], traces=[amended]))
    [stored] = table(tmp_path, "payload").to_dicts()
    assert stored["request"] == '{"question": "why?"}'
    assert json.loads(stored["response"])["answer"] == "because"
    assert len(json.loads(stored["response"])["databricks_output"]["trace"]["data"]["spans"]) == 4


def test_spans_that_were_taken_back_are_gone(tmp_path: Path) -> None:
    rng = random.Random(10)
    (spans, complete), (lone, of_lone) = trace(rng), trace(rng, spans=1)
    for interval in (0, 3600):
        directory = tmp_path / str(interval)
        with exporter(directory, interval=interval) as one:
            one.export(Batch(first=1, last=1, spans=spans + lone, traces=[complete, of_lone]))
            gone = [(s.trace_id, s.span_id) for s in (spans[-1], lone[0])]
            one.export(Batch(first=2, last=2, traces=[row(spans[0], len(spans) - 1, revision=2)], retracted=gone))
        assert_all_there_once(directory, [Batch(first=1, last=1, spans=spans[:-1])])


def test_many_rows_are_committed_as_soon_as_nothing_else_comes(tmp_path: Path) -> None:
    rng = random.Random(13)
    few, many = [trace(rng)], [trace(rng) for _ in range(300)]
    with exporter(tmp_path, interval=3600) as one:
        for position, traces in enumerate((few, many), 1):
            spans = [span for spans, _ in traces for span in spans]
            one.export(Batch(first=position, last=position, spans=spans, traces=[row for _, row in traces]))
            assert one.durable == 0
            one.idle()
            assert one.durable == (0 if traces is few else 2)


def test_parts_of_a_batch_do_not_count_before_all_are_there(tmp_path: Path) -> None:
    (left, of_left), (right, of_right) = trace(random.Random(11)), trace(random.Random(12))
    with exporter(tmp_path) as one:
        one.export(Batch(first=2, last=1, spans=left, traces=[of_left]))
        assert one.durable == 0
        one.export(Batch(first=2, last=1, spans=right, traces=[of_right]))
        one.idle()
        one.export(Batch(first=2, last=2))
        assert one.durable == 2
    assert_all_there_once(tmp_path, [Batch(first=1, last=1, spans=left + right)])


def start(directory: Path, seed: int, count: int, instance: str, attributes: str) -> "subprocess.Popen[str]":
    module = "tests.support.delta_writer"
    command = [sys.executable, "-m", module, str(directory), str(seed), str(count), instance, attributes]
    return subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)


@BOTH
def test_a_writer_that_is_killed_again_and_again(tmp_path: Path, attributes: str) -> None:
    rng, seed, count = random.Random(8), 9, 40
    for _ in range(6):
        writer = start(tmp_path, seed, count, "0", attributes)
        time.sleep(0.4 + rng.random() * 0.4)
        writer.send_signal(signal.SIGKILL)
        writer.communicate()
    writer = start(tmp_path, seed, count, "0", attributes)
    _, errors = writer.communicate(timeout=120)
    assert writer.returncode == 0, errors
    assert_right(tmp_path, records(seed, count), attributes)


@BOTH
def test_four_writers_at_once(tmp_path: Path, attributes: str) -> None:
    writers = [start(tmp_path, 100 + n, 25, str(n), attributes) for n in range(4)]
    for writer in writers:
        _, errors = writer.communicate(timeout=200)
        assert writer.returncode == 0, errors
        assert "retry" not in errors
    assert_right(tmp_path, [b for n in range(4) for b in records(100 + n, 25)], attributes)
