"""Looking into a queue."""

import os
from pathlib import Path

import msgspec
import pytest

from spanweir.collector.queue.api import QueueInUse, QueueUnavailable, Record
from spanweir.collector.queue.disk import Config
from spanweir.collector.queue.inspect import document, line, overview, records, replay, table
from spanweir.schemas.options import KIB, MIB, Duration, Size
from tests.benchmarks.load import make_requests


@pytest.fixture
def config(tmp_path: Path) -> Config:
    """A stopped queue of ten requests in several segments; `mlflow` has all, `delta/prod` four, `old` is retired."""
    one = Config(
        directory=str(tmp_path / "queue"),
        max_bytes=Size(MIB),
        segment_bytes=Size(64 * KIB),
        retention=Duration(3600),
    )
    writer = one.open_writer()
    for index, body in enumerate(make_requests(10, 1)):
        headers = {"x-mlflow-experiment-id": str(index)}
        writer.append(
            Record(signal="traces", tenant="a", headers=headers, received_ns=1_700_000_000_000_000_000, body=body)
        )
    one.open_reader(["old"]).close()
    reader = one.open_reader(["mlflow", "delta/prod"])
    reader.advance("mlflow", 10)
    reader.advance("delta/prod", 6)
    reader.close()
    writer.close()
    return one


def test_everything_has_a_state(config: Config) -> None:
    (Path(config.directory) / "corrupt").mkdir()
    (Path(config.directory) / "corrupt" / "00000000000000000003.seg").write_bytes(b"x")
    view = overview(config)
    assert {one.name: (one.state, one.sequence, one.behind) for one in view.cursors} == {
        "delta/prod": ("behind", 6, 4),
        "mlflow": ("current", 10, 0),
        "old": ("retired", 0, 10),
    }
    states = [(one.state, one.first) for one in view.segments]
    assert states == [("done", 1), ("writing", 6), ("corrupt", 3)]
    assert view.writer is None
    assert view.last == 10
    assert "delta/prod  behind" in table(view)
    assert "not in use; newest record 10;" in table(view)
    assert msgspec.json.decode(msgspec.json.encode(view))["last"] == 10


def test_records_are_shown_to_people_and_to_programs(config: Config) -> None:
    some = list(records(config, after=8))
    assert [one.sequence for one in some] == [9, 10]
    assert line(some[0]).startswith("9 2023-11-14T22:13:20.000+00:00 traces ")
    assert line(some[0]).endswith(
        "tenant=a x-mlflow-experiment-id=8 [invoke_agent librarian, embeddings text-embedding-3-small,"
        " retrieval manuals, chat gpt-4o-mini, execute_tool cite]"
    )
    span = document(some[0])["request"]["resourceSpans"][0]["scopeSpans"][0]["spans"][0]
    assert len(span["traceId"]) == 32
    assert span["kind"] == 1


def test_a_record_that_is_no_protobuf_is_shown_as_such(config: Config) -> None:
    writer = config.open_writer()
    writer.append(Record(signal="logs", received_ns=1, body=b"\xff\xff"))
    writer.close()
    (bad,) = records(config, after=10)
    assert "not readable as protobuf" in line(bad)
    assert "not readable as protobuf" in document(bad)["request"]["error"]


def test_replay_sets_a_cursor_back(config: Config) -> None:
    assert replay(config, "mlflow", to=3) == 10
    reader = config.open_reader(["mlflow", "delta/prod"])
    assert reader.cursor("mlflow") == 3
    reader.close()
    with pytest.raises(KeyError):
        replay(config, "nobody")
    with pytest.raises(ValueError, match="there is no position 11; the newest record is 10"):
        replay(config, "mlflow", to=11)


def test_a_running_collector_is_looked_at_but_not_replayed(config: Config) -> None:
    writer = config.open_writer()
    assert overview(config).writer == os.getpid()
    assert f"in use by process {os.getpid()}" in table(overview(config))
    with pytest.raises(QueueInUse, match="stop the collector first"):
        replay(config, "mlflow")
    assert len(list(records(config))) == 10
    writer.close()


def test_no_queue_is_said(tmp_path: Path) -> None:
    with pytest.raises(QueueUnavailable, match="there is no queue in"):
        overview(Config(directory=str(tmp_path / "nothing")))


def test_segments_that_all_have_passed_stay_for_retention_and_go_for_room(tmp_path: Path) -> None:
    one = Config(
        directory=str(tmp_path / "queue"), max_bytes=Size(MIB), segment_bytes=Size(64 * KIB), retention=Duration(3600)
    )
    writer, reader = one.open_writer(), one.open_reader(["a"])
    for body in make_requests(20, 1):
        reader.advance("a", writer.append(Record(signal="traces", received_ns=1, body=body)))
    assert [segment.state for segment in overview(one).segments] == ["done", "done", "done", "writing"]
    for body in make_requests(40, 1, seed=2):
        reader.advance("a", writer.append(Record(signal="traces", received_ns=1, body=body)))
    view = overview(one)
    assert view.segments[0].first > 1
    assert MIB / 4 < view.bytes < MIB / 2 + 128 * KIB
    writer.close()
    reader.close()
