"""What only the Kafka queue does."""

import math
import os
import time
from typing import cast

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from spanweir.collector.decode.otlp_proto import decode_logs, decode_traces
from spanweir.collector.queue.api import Gap, QueueUnavailable, Record
from spanweir.collector.queue.kafka import Config
from spanweir.collector.queue.kafka_topic import watermarks
from spanweir.exporters.encode import logs_request, spans_request
from spanweir.schemas.options import MIB, Duration, Secret, Size
from spanweir.schemas.raw import RawLog
from tests.benchmarks.load import make_requests


def record(body: bytes) -> Record:
    return Record(signal="traces", received_ns=1, body=body)


@pytest.mark.parametrize("side", ["writer", "reader"])
def test_a_cluster_that_is_not_there_is_named(side: str) -> None:
    config = Config(brokers=("127.0.0.1:1",), timeout=Duration(1))
    with pytest.raises(QueueUnavailable, match=r"Kafka at 127.0.0.1:1: "):
        config.open_writer() if side == "writer" else config.open_reader(["a"])


def test_options_reach_the_client_and_stay_secret() -> None:
    config = Config(options={"sasl.password": Secret("s3cret")})
    assert config.client()["sasl.password"] == "s3cret"
    assert "s3cret" not in repr(config)


class Electing:
    """A consumer whose partition has no leader at first: how long that takes is no test's to say."""

    def __init__(self, *codes: int) -> None:
        self._errors = [KafkaException(KafkaError(code)) for code in codes]

    def get_watermark_offsets(self, place: TopicPartition, timeout: float) -> tuple[int, int]:
        assert timeout > 0
        if self._errors:
            raise self._errors.pop(0)
        return 3, 8


def test_a_partition_without_a_leader_is_asked_again() -> None:
    electing = Electing(
        KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError.LEADER_NOT_AVAILABLE, KafkaError.NOT_LEADER_FOR_PARTITION
    )
    assert watermarks(Config(), cast("Consumer", electing)) == (3, 8)


def test_a_partition_that_gets_no_leader_in_time_is_named() -> None:
    electing = Electing(*[KafkaError.NOT_LEADER_FOR_PARTITION] * 100)
    with pytest.raises(QueueUnavailable, match=r"Kafka at 127.0.0.1:9092: "):
        watermarks(Config(timeout=Duration(0.3)), cast("Consumer", electing))


def test_any_other_error_is_not_asked_again() -> None:
    electing = Electing(KafkaError.TOPIC_AUTHORIZATION_FAILED)
    with pytest.raises(QueueUnavailable, match=r"Kafka at 127.0.0.1:9092: "):
        watermarks(Config(), cast("Consumer", electing))


@pytest.mark.external
@pytest.mark.slow
def test_what_kafka_deleted_before_it_was_read_is_a_gap(kafka: str) -> None:
    config = Config(brokers=(kafka,), topic=f"deleted-{os.getpid()}")
    writer, reader = config.open_writer(), config.open_reader(["a"])
    for number in range(10):
        writer.append(record(b"%d" % number))
    assert reader.read(0, 2, MIB, 5)[-1].sequence == 2
    admin = AdminClient(config.client())
    (result,) = admin.delete_records([TopicPartition(config.topic, 0, 6)]).values()
    result.result()
    fresh = config.open_reader(["a"])
    assert [one.sequence for one in fresh.read(2, 10, MIB, 5)] == [7, 8, 9, 10]
    assert list(fresh.gaps) == [
        Gap(first=3, last=6, segment=f"{config.topic}/0", reason="deleted by Kafka's retention")
    ]
    assert fresh.lost_records == 4
    assert [one.sequence for one in fresh.scan()] == [7, 8, 9, 10]
    for one in (reader, fresh, writer):
        one.close()


@pytest.mark.external
@pytest.mark.slow
def test_collectors_share_a_topic_by_its_partitions(kafka: str, caplog: pytest.LogCaptureFixture) -> None:
    topic = shared_topic(kafka, 3)
    configs = [Config(brokers=(kafka,), topic=topic, partition=number) for number in range(2)]
    writers = [config.open_writer() for config in configs]
    assert f"topic {topic} has 3 partitions and this collector delivers partition 1 only" in caplog.text
    assert "each of the others (0, 2) needs a collector of its own" in caplog.text
    for number in range(5):
        for writer in writers:
            sent = Record(signal="metrics", received_ns=1, body=f"{writers.index(writer)} {number}".encode())
            assert writer.append(sent) == number + 1
    readers = [config.open_reader(["a"]) for config in configs]
    for number, reader in enumerate(readers):
        assert [one.body for one in reader.scan()] == [f"{number} {each}".encode() for each in range(5)]
    # The same group and exporter, and yet a cursor for each partition.
    readers[0].advance("a", 4)
    assert [config.open_reader(["a"]).cursor("a") for config in configs] == [4, 0]
    for one in (*readers, *writers):
        one.close()
    with pytest.raises(QueueUnavailable, match=r"has no partition 7, only 0 to 2; choose one that no other"):
        Config(brokers=(kafka,), topic=topic, partition=7).open_writer()


@pytest.mark.external
@pytest.mark.slow
def test_a_trace_is_in_one_partition_whichever_collector_took_its_spans_in(kafka: str) -> None:
    count = 3
    topic = shared_topic(kafka, count)
    configs = [Config(brokers=(kafka,), topic=topic, partition=number) for number in range(count)]
    writers = [config.open_writer() for config in configs]
    sent = [span for body in make_requests(4, traces=6) for span in decode_traces(body)]
    for number in range(len(sent)):
        # Each collector gets some spans of every trace, several traces in a request, and their log records.
        others = sent[number : number + 3]
        headers = {"x-mlflow-experiment-id": "7"}
        body = spans_request([(one, one.attributes) for one in others])
        writers[number % count].append(Record(signal="traces", received_ns=5, headers=headers, body=body))
        logs = logs_request([RawLog(trace_id=one.trace_id, span_id=one.span_id, event_name="e") for one in others])
        writers[(number + 1) % count].append(Record(signal="logs", received_ns=5, body=logs))
    found: dict[str, set[str]] = {"traces": set(), "logs": set()}
    for number, config in enumerate(configs):
        reader = config.open_reader(["a"])
        for one in reader.scan():
            assert one.received_ns == 5
            assert one.headers == ({"x-mlflow-experiment-id": "7"} if one.signal == "traces" else {})
            decode = decode_traces if one.signal == "traces" else decode_logs
            items = decode(one.body)
            found[one.signal] |= {item.span_id for item in items}
            assert {sarama_partition(item.trace_id, count) for item in items} == {number}
        reader.close()
    every = {span.span_id for span in sent}
    assert found == {"traces": every, "logs": every}
    for writer in writers:
        writer.close()


def shared_topic(kafka: str, partitions: int) -> str:
    topic = f"shared-{partitions}-{time.monotonic_ns()}"
    admin = AdminClient({"bootstrap.servers": kafka})
    (created,) = admin.create_topics([NewTopic(topic, partitions)]).values()
    created.result(30)
    return topic


def sarama_partition(trace_id: str, partitions: int) -> int:
    """Where the OpenTelemetry Collector's Kafka exporter puts a trace: 32 bit FNV-1a, as a signed number."""
    value = 0x811C9DC5
    for byte in trace_id.encode():
        value = (value ^ byte) * 0x01000193 & 0xFFFFFFFF
    signed = value - (1 << 32) if value >> 31 else value
    return abs(int(math.fmod(signed, partitions)))


@pytest.mark.external
@pytest.mark.slow
def test_a_record_that_kafka_cannot_take_is_refused_for_ever(kafka: str) -> None:
    config = Config(brokers=(kafka,), topic=f"large-{os.getpid()}", max_record_bytes=Size(2 * MIB))
    writer = config.open_writer()
    with pytest.raises(ValueError, match="max_record_bytes"):
        writer.append(record(b"x" * (3 * MIB)))
    assert writer.append(record(b"x" * MIB)) == 1
    writer.close()
