"""The topic of the Kafka queue: made if it is not there, its partitions, and where its records begin and end."""

import logging
import time
from collections.abc import Collection
from typing import TYPE_CHECKING

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from spanweir.collector.queue.api import QueueUnavailable

if TYPE_CHECKING:
    from spanweir.collector.queue.kafka import Config

_log = logging.getLogger(__name__)
HEADER_PREFIX = "header."
"""Of the message headers that are a record's routing headers."""
_PASSING = (KafkaError.NOT_LEADER_FOR_PARTITION, KafkaError.LEADER_NOT_AVAILABLE, KafkaError.UNKNOWN_TOPIC_OR_PART)
"""A topic that was just made answers so until its brokers have heard of it, any topic while it changes leaders."""
_AGAIN_S = 0.1


def name_others(config: "Config", partitions: Collection[int]) -> None:
    others = sorted(set(partitions) - {config.partition})
    if others:
        _log.warning(
            "topic %s has %d partitions and this collector delivers partition %d only; each of the others (%s) needs a"
            " collector of its own (service.queue.partition)",
            config.topic, len(others) + 1, config.partition, ", ".join(map(str, others[:20])),
        )  # fmt: skip


def ensure_topic(config: "Config") -> Collection[int]:
    """The topic's partitions; it is made if it is not there. Raises QueueUnavailable."""
    admin = AdminClient(config.client())
    timeout = float(config.timeout)
    try:
        topic = admin.list_topics(config.topic, timeout=timeout).topics[config.topic]
        if topic.error is None:
            if config.partition not in topic.partitions:
                raise QueueUnavailable(
                    f"Kafka topic {config.topic} has no partition {config.partition}, only 0 to"
                    f" {len(topic.partitions) - 1}; choose one that no other collector has (service.queue.partition),"
                    " or add partitions to the topic"
                )
            return list(topic.partitions)
        new = NewTopic(
            config.topic, config.partition + 1, config={"max.message.bytes": str(int(config.max_record_bytes))}
        )
        admin.create_topics([new])[config.topic].result(timeout)
    except KafkaException as error:
        if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
            raise QueueUnavailable(f"Kafka at {', '.join(config.brokers)}: {error.args[0].str()}") from error
    return range(config.partition + 1)


def watermarks(config: "Config", consumer: Consumer) -> tuple[int, int]:
    """Sequence numbers: that before the oldest record, and that of the newest. Raises `QueueUnavailable`."""
    place = TopicPartition(config.topic, config.partition)
    deadline = time.monotonic() + float(config.timeout)
    while True:
        left_s = max(deadline - time.monotonic(), 0.0)
        try:
            low, high = consumer.get_watermark_offsets(place, timeout=left_s)
        except KafkaException as error:
            cause = error.args[0]
            if cause.code() not in _PASSING or left_s <= _AGAIN_S:
                raise QueueUnavailable(f"Kafka at {', '.join(config.brokers)}: {cause.str()}") from error
            time.sleep(_AGAIN_S)
        else:
            return low, high


def newest(config: "Config") -> int:
    consumer = Consumer(config.client(**{"group.id": config.group}))
    try:
        return watermarks(config, consumer)[1]
    finally:
        consumer.close()
