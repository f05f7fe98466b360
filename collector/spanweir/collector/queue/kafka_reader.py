"""The Kafka queue's reading side: any number of lanes, each with a consumer at its own place in the partition."""

import logging
import time
from collections import OrderedDict
from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from confluent_kafka import OFFSET_INVALID, Consumer, KafkaException, TopicPartition

from spanweir.collector.queue.api import Gap, QueueUnavailable, Record
from spanweir.collector.queue.base_reader import BaseReader
from spanweir.collector.queue.kafka_topic import HEADER_PREFIX, ensure_topic, watermarks

if TYPE_CHECKING:
    from spanweir.collector.queue.kafka import Config

_log = logging.getLogger(__name__)
_KEPT_CONSUMERS = 8


class KafkaReader(BaseReader):
    """Raises `QueueUnavailable` if the cluster cannot be reached."""

    def __init__(self, config: "Config", cursors: Collection[str]) -> None:
        super().__init__()
        self._config = config
        self._closed = False
        self._readers: OrderedDict[int, Consumer] = OrderedDict()
        """Consumers by the sequence number that they have read up to: lanes are at different places."""
        self._groups: dict[str, Consumer] = {}
        ensure_topic(config)
        self._watch = self._consumer(config.group)
        for name in cursors:
            self._groups[name] = self._consumer(f"{config.group}.{config.partition}.{name}")
            self._positions[name] = self._committed(name)

    def read(self, after: int, max_records: int, max_bytes: int, wait_s: float) -> Sequence[Record]:
        deadline = time.monotonic() + wait_s
        consumer = self._take(after)
        if consumer is None:
            return []
        records: list[Record] = []
        size = 0
        place = self._place(after)
        try:
            while len(records) < max_records and (size < max_bytes or not records):
                if not records:
                    left = max(min(deadline - time.monotonic(), 0.2), 0.0)
                else:
                    # What the broker says it has is worth waiting for; what it may get is not.
                    known = consumer.get_watermark_offsets(place, cached=True)[1]
                    left = 0.2 if records[-1].sequence < known else 0.0
                message = consumer.poll(left)
                if message is None:
                    if records or self._closed or time.monotonic() >= deadline:
                        break
                    continue
                if message.error():
                    _log.warning("Kafka: %s", message.error().str())
                    continue
                record = _record(message)
                self._note_gap(records[-1].sequence if records else after, record.sequence)
                records.append(record)
                size += len(record.body)
        finally:
            self._give_back(records[-1].sequence if records else after, consumer)
        return records

    def last(self) -> int:
        with self._lock:
            return watermarks(self._config, self._watch)[1]

    def scan(self) -> Iterator[Record]:
        with self._lock:
            after, last = watermarks(self._config, self._watch)
        while after < last and (records := self.read(after, 100, 4 << 20, 10)):
            yield from records
            after = records[-1].sequence

    def close(self) -> None:
        with self._lock:
            if self._closed:
                return
            self._closed = True
            for consumer in (*self._readers.values(), *self._groups.values(), self._watch):
                consumer.close()
            self._readers.clear()

    def _store(self, name: str, sequence: int) -> None:
        try:
            self._groups[name].commit(offsets=[self._place(sequence)], asynchronous=False)
        except KafkaException as error:
            raise OSError(f"Kafka: cursor {name}: {error}") from error

    def _consumer(self, group: str) -> Consumer:
        return Consumer(
            self._config.client(
                **{
                    "group.id": group,
                    "enable.auto.commit": False,
                    "auto.offset.reset": "earliest",
                    "fetch.message.max.bytes": int(self._config.max_record_bytes),
                    "fetch.max.bytes": int(self._config.max_record_bytes),
                    "receive.message.max.bytes": int(self._config.max_record_bytes) + (1 << 20),
                    "queued.max.messages.kbytes": 16384,
                }
            )
        )

    def _place(self, offset: int) -> TopicPartition:
        return TopicPartition(self._config.topic, self._config.partition, offset)

    def _committed(self, name: str) -> int:
        try:
            (place,) = self._groups[name].committed([self._place(0)], timeout=float(self._config.timeout))
        except KafkaException as error:
            raise QueueUnavailable(f"Kafka: cursor {name}: {error}") from error
        return 0 if place.offset == OFFSET_INVALID else int(place.offset)

    def _take(self, after: int) -> Consumer | None:
        with self._lock:
            if self._closed:
                return None
            consumer = self._readers.pop(after, None)
            if consumer is None:
                consumer = self._consumer(self._config.group)
                consumer.assign([self._place(after)])
            return consumer

    def _give_back(self, after: int, consumer: Consumer) -> None:
        with self._lock:
            if self._closed or after in self._readers:
                consumer.close()
                return
            self._readers[after] = consumer
            while len(self._readers) > _KEPT_CONSUMERS:
                self._readers.popitem(last=False)[1].close()

    def _note_gap(self, before: int, sequence: int) -> None:
        # A new cursor begins with the oldest record that is there: nothing it had to have is missing.
        if before and sequence > before + 1:
            where = f"{self._config.topic}/{self._config.partition}"
            self._lose(Gap(first=before + 1, last=sequence - 1, segment=where, reason="deleted by Kafka's retention"))
            _log.error("records %d to %d of %s are lost: deleted by Kafka's retention", before + 1, sequence - 1, where)


def _record(message: Any) -> Record:
    headers = {name: value.decode(errors="replace") for name, value in message.headers() or () if value is not None}
    received_ns = headers.get("received_ns", "")
    return Record(
        sequence=message.offset() + 1,
        signal=headers.get("signal", "traces"),
        tenant=headers.get("tenant", ""),
        headers={name.removeprefix(HEADER_PREFIX): v for name, v in headers.items() if name.startswith(HEADER_PREFIX)},
        received_ns=int(received_ns) if received_ns.isdigit() else message.timestamp()[1] * 1_000_000,
        body=message.value() or b"",
    )
