"""What only the Kafka queue does."""

import os

import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient

from spanweir.collector.queue.api import Gap, QueueUnavailable, Record
from spanweir.collector.queue.kafka import Config
from spanweir.schemas.options import MIB, Duration, Secret, Size


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
def test_a_record_that_kafka_cannot_take_is_refused_for_ever(kafka: str) -> None:
    config = Config(brokers=(kafka,), topic=f"large-{os.getpid()}", max_record_bytes=Size(2 * MIB))
    writer = config.open_writer()
    with pytest.raises(ValueError, match="max_record_bytes"):
        writer.append(record(b"x" * (3 * MIB)))
    assert writer.append(record(b"x" * MIB)) == 1
    writer.close()
