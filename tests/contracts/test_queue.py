"""What every queue does, whatever it is made of."""

import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from spanweir.collector.queue import disk, memory
from spanweir.collector.queue.api import QueueConfig, QueueFull, QueueInUse, QueueUnavailable, Record, Writer
from spanweir.collector.queue.kafka import Config as KafkaConfig
from spanweir.schemas.options import KIB, MIB, Size

Make = Callable[..., QueueConfig]


@pytest.fixture(params=["disk", "memory", pytest.param("kafka", marks=[pytest.mark.external, pytest.mark.slow])])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Make]:
    """Configurations of one and the same queue."""
    directory = str(tmp_path / "queue")
    if request.param == "kafka":
        brokers, topic = request.getfixturevalue("kafka"), f"queue-{tmp_path.name}-{os.getpid()}"
        yield lambda: KafkaConfig(brokers=(brokers,), topic=topic)
        return

    def disk_config(max_bytes: int = 64 * MIB) -> QueueConfig:
        return disk.Config(directory=directory, max_bytes=Size(max_bytes), segment_bytes=Size(64 * KIB))

    def memory_config(max_bytes: int = 64 * MIB) -> QueueConfig:
        return memory.Config(directory=directory, max_bytes=Size(max_bytes))

    yield disk_config if request.param == "disk" else memory_config
    memory.forget(memory.Config(directory=directory))


@pytest.fixture
def local(request: pytest.FixtureRequest) -> None:
    """For what Kafka does not promise: a bound of its own, one writer."""
    if "kafka" in request.node.name:
        pytest.skip("Kafka's own")


def record(number: int, *, size: int = 100, tenant: str = "", headers: dict[str, str] | None = None) -> Record:
    body = b"%d " % number
    return Record(
        signal="traces", tenant=tenant, headers=headers or {}, received_ns=number, body=body + b"x" * (size - len(body))
    )


def fill(writer: Writer) -> int:
    """Append records of 10 KB until the queue is full; returns how many it took."""
    for count in range(1000):
        try:
            writer.append(record(count, size=10_000))
        except QueueFull:
            return count
    raise AssertionError("never full")


def test_records_come_back_as_they_were_given(make: Make) -> None:
    writer = make().open_writer()
    reader = make().open_reader(["a"])
    given = [
        Record(signal="traces", received_ns=1_700_000_000_123_456_789, body=b"\x00\xff" * 10),
        Record(signal="logs", tenant="team-é", headers={"x-mlflow-experiment-id": "7"}, received_ns=2, body=b""),
        Record(signal="metrics", received_ns=3, body=b"m" * 300_000),
    ]
    assert [writer.append(one) for one in given] == [1, 2, 3]
    got = list(reader.read(0, 10, 10 * MIB, 1))
    assert [one.sequence for one in got] == [1, 2, 3]
    for expected, actual in zip(given, got, strict=True):
        assert (actual.signal, actual.tenant, actual.headers, actual.received_ns, actual.body) == (
            expected.signal,
            expected.tenant,
            expected.headers,
            expected.received_ns,
            expected.body,
        )
    writer.close()
    reader.close()


def test_reads_are_bounded_in_count_and_bytes_but_never_empty(make: Make) -> None:
    writer, reader = make().open_writer(), make().open_reader(["a"])
    for number in range(10):
        writer.append(record(number, size=1000))
    assert [one.sequence for one in reader.read(0, 3, MIB, 1)] == [1, 2, 3]
    assert [one.sequence for one in reader.read(3, 10, 1, 1)] == [4]
    assert [one.sequence for one in reader.read(4, 10, 2500, 1)] == [5, 6, 7]
    assert [one.sequence for one in reader.read(8, 10, MIB, 1)] == [9, 10]
    writer.close()
    reader.close()


def test_a_reader_waits_for_a_record_and_not_longer(make: Make) -> None:
    writer, reader = make().open_writer(), make().open_reader(["a"])
    began = time.monotonic()
    assert list(reader.read(0, 1, 1, 0.05)) == []
    assert time.monotonic() - began >= 0.05
    timer = threading.Timer(0.05, writer.append, [record(1)])
    timer.start()
    assert [one.sequence for one in reader.read(0, 1, 1, 30)] == [1]
    timer.join()
    writer.close()
    reader.close()


def test_lanes_read_at_their_own_places(make: Make) -> None:
    writer, reader = make().open_writer(), make().open_reader(["a", "b"])
    for number in range(300):
        writer.append(record(number, size=1000))
    fast, slow = 0, 0
    for _ in range(3):
        fast = reader.read(fast, 100, MIB, 1)[-1].sequence
        slow = reader.read(slow, 7, MIB, 1)[-1].sequence
    assert (fast, slow) == (300, 21)
    assert reader.read(slow, 1, 1, 1)[0].body.startswith(b"21 ")
    writer.close()
    reader.close()


def test_cursors_stay_and_never_move_back(make: Make) -> None:
    writer, reader = make().open_writer(), make().open_reader(["delta/prod", "mlflow"])
    for number in range(5):
        writer.append(record(number))
    assert reader.cursor("delta/prod") == 0
    reader.advance("delta/prod", 3)
    reader.advance("delta/prod", 2)
    assert reader.cursor("delta/prod") == 3
    with pytest.raises(KeyError):
        reader.advance("nobody", 1)
    reader.close()
    again = make().open_reader(["delta/prod", "mlflow", "new"])
    assert [again.cursor(name) for name in ("delta/prod", "mlflow", "new")] == [3, 0, 0]
    again.close()
    writer.close()


@pytest.mark.usefixtures("local")
def test_room_is_freed_when_every_cursor_has_passed(make: Make) -> None:
    writer, reader = make(MIB).open_writer(), make(MIB).open_reader(["a", "b"])
    count = fill(writer)
    assert 50 < count < 110
    reader.advance("a", count)
    with pytest.raises(QueueFull, match="1MiB"):
        writer.append(record(count, size=10_000))
    reader.advance("b", count)
    time.sleep(0.06)
    assert writer.append(record(count, size=10_000)) == count + 1
    assert [one.sequence for one in reader.read(count, 10, MIB, 1)] == [count + 1]
    assert writer.size_bytes() < MIB / 2
    writer.close()
    reader.close()


@pytest.mark.usefixtures("local")
def test_a_cursor_that_nobody_names_holds_nothing_back_and_is_remembered(make: Make) -> None:
    writer = make(MIB).open_writer()
    reader = make(MIB).open_reader(["a", "gone"])
    for number in range(80):
        writer.append(record(number, size=10_000))
    reader.advance("gone", 5)
    reader.close()
    reader = make(MIB).open_reader(["a"])
    reader.advance("a", 80)
    time.sleep(0.06)
    for number in range(60):
        writer.append(record(number, size=10_000))
    reader.close()
    reader = make(MIB).open_reader(["a", "gone"])
    assert reader.cursor("gone") == 5
    writer.close()
    reader.close()


@pytest.mark.usefixtures("local")
def test_there_is_one_writer(make: Make) -> None:
    writer = make().open_writer()
    with pytest.raises(QueueInUse):
        make().open_writer()
    writer.close()
    make().open_writer().close()


def test_a_closed_writer_refuses_and_the_next_one_goes_on(make: Make) -> None:
    writer = make().open_writer()
    assert writer.append(record(1)) == 1
    writer.close()
    writer.close()
    with pytest.raises(QueueUnavailable, match="shutting down"):
        writer.append(record(2))
    second = make().open_writer()
    assert second.last() == 1
    assert second.append(record(2)) == 2
    reader = make().open_reader(["a"])
    assert [one.body[:2] for one in reader.read(0, 10, MIB, 1)] == [b"1 ", b"2 "]
    second.close()
    reader.close()


def test_concurrent_appends_get_numbers_without_holes(make: Make) -> None:
    writer, reader = make().open_writer(), make().open_reader(["a"])
    numbers: list[int] = []

    def work(start: int) -> None:
        for number in range(start, start + 50):
            numbers.append(writer.append(record(number)))

    threads = [threading.Thread(target=work, args=[thread * 50]) for thread in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(numbers) == list(range(1, 401))
    assert writer.last() == reader.last() == 400
    bodies = {one.body for one in reader.scan()}
    assert len(bodies) == 400
    writer.close()
    reader.close()


def test_submit_calls_back_once_with_the_number(make: Make) -> None:
    writer = make().open_writer()
    results: list[int | Exception] = []
    for number in range(20):
        writer.submit(record(number), results.append)
    writer.close()
    assert results == list(range(1, 21))
    with pytest.raises(QueueUnavailable):
        writer.submit(record(1), results.append)
    assert len(results) == 20


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (Record(signal="traces", headers={"x": "y" * 70_000}, received_ns=1, body=b""), "at most 65535"),
        (Record(signal="profiles", received_ns=1, body=b""), "profiles"),
    ],
)
def test_a_record_that_cannot_be_kept_is_refused_and_costs_no_neighbour(make: Make, bad: Record, message: str) -> None:
    writer, reader = make().open_writer(), make().open_reader(["a"])
    writer.append(record(1))
    with pytest.raises(ValueError, match=message):
        writer.append(bad)
    assert writer.append(record(2)) == 2
    assert len(reader.read(0, 10, MIB, 1)) == 2
    writer.close()
    reader.close()


def test_closing_the_reader_ends_a_wait(make: Make) -> None:
    writer, reader = make().open_writer(), make().open_reader(["a"])
    timer = threading.Timer(0.05, reader.close)
    timer.start()
    assert list(reader.read(0, 1, 1, 30)) == []
    timer.join()
    writer.close()
