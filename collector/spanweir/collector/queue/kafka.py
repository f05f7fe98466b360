"""The queue on Apache Kafka: the contract of `disk` on an engine that several machines keep, for who has one already.

A record is a Kafka message whose value is the plain OTLP protobuf request, as the OpenTelemetry Collector's Kafka
components read and write it; signal, tenant, receive time and routing headers are message headers. A queue is one
partition: a record's sequence number is its offset plus one, and an exporter's cursor is the committed offset of a
consumer group of its own, so Kafka's tools show what each exporter still has to do.

Room is Kafka's: what its retention deletes before every exporter had it is lost, and is reported as a `Gap`.
Bugs: nothing keeps two collectors from one partition; give each a partition or a topic of its own.
"""

import logging
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Collection, Iterator, Sequence
from typing import Any

import msgspec

# Imported here, so that the configuration says what to install where it is missing.
from confluent_kafka import OFFSET_INVALID, Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from spanweir.collector.queue.api import Done, Gap, QueueUnavailable, Reader, Record, Writer
from spanweir.collector.queue.segment import SIGNALS, encode_meta
from spanweir.schemas.options import MIB, Duration, Secret, Size

_log = logging.getLogger(__name__)
_PREFIX = "header."
_KEPT_CONSUMERS = 8
_KEPT_GAPS = 1000
_PERMANENT = (KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.INVALID_MSG)


_COMPLAIN_S = 10.0
_complained = [float("-inf")]


def _complain(error: KafkaError) -> None:
    """Errors of the connection, which librdkafka mends by itself: one line every ten seconds."""
    now = time.monotonic()
    if now - _complained[0] > _COMPLAIN_S:
        _complained[0] = now
        _log.warning("Kafka: %s", error.str())


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One partition of a Kafka topic."""

    brokers: tuple[str, ...] = ("127.0.0.1:9092",)
    """host:port of some brokers of the cluster."""
    topic: str = "spanweir"
    """Where records are kept; created with one partition if it does not exist."""
    partition: int = 0
    """The partition of this collector. Each collector needs one of its own."""
    group: str = "spanweir"
    """Consumer groups are named after it, the partition and the exporter: `spanweir.0.delta/prod`."""
    state_directory: str = "./queue"
    """A local directory for what exporters remember and for their dead letters."""
    max_pending_bytes: Size = Size(128 * MIB)
    """Records on their way to Kafka. Over it senders are told to try again."""
    max_record_bytes: Size = Size(66 * MIB)
    """Largest record; topic and brokers must allow it too (max.message.bytes)."""
    timeout: Duration = Duration(30)
    """How long a record may take to be acknowledged before its sender is told to try again."""
    options: dict[str, Secret] = {}
    """Further librdkafka properties for every client, such as security.protocol or sasl.password."""

    def __post_init__(self) -> None:
        if not self.brokers:
            raise ValueError("brokers must name at least one host:port")
        if not self.topic or not self.group:
            raise ValueError("topic and group must not be empty")
        if self.partition < 0:
            raise ValueError(f"partition must be zero or more, not {self.partition}")

    def open_writer(self) -> Writer:
        return KafkaWriter(self)

    def open_reader(self, cursors: Collection[str]) -> Reader:
        return KafkaReader(self, cursors)

    def client(self, **properties: Any) -> dict[str, Any]:
        """Properties of a librdkafka client."""
        common = {
            "bootstrap.servers": ",".join(self.brokers),
            # By itself it writes to standard error, twenty lines a second while a broker is away.
            "log_level": 2,
            "error_cb": _complain,
            "reconnect.backoff.max.ms": 2000,
        }
        return common | properties | {name: value.reveal() for name, value in self.options.items()}


class KafkaWriter:
    """Raises `QueueUnavailable` if the cluster cannot be reached or the topic cannot be used."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._closed = False
        self._lock = threading.Lock()
        self._pending_bytes = 0
        _ensure_topic(config)
        self._producer = Producer(
            config.client(
                **{
                    "acks": "all",
                    "enable.idempotence": True,
                    "linger.ms": 2,
                    "message.max.bytes": int(config.max_record_bytes),
                    "queue.buffering.max.kbytes": max(int(config.max_pending_bytes) // 1024 * 2, 1024),
                    "delivery.timeout.ms": int(config.timeout * 1000),
                }
            )
        )
        self._last = _newest(config)
        self._thread = threading.Thread(target=self._poll, name="queue-kafka", daemon=True)
        self._thread.start()

    def append(self, record: Record) -> int:
        ready = threading.Event()
        outcome: list[int | Exception] = []

        def done(result: int | Exception) -> None:
            outcome.append(result)
            ready.set()

        self.submit(record, done)
        ready.wait()
        result = outcome[0]
        if isinstance(result, Exception):
            raise result
        return result

    def submit(self, record: Record, done: Done) -> None:
        encode_meta(record.tenant, record.headers)
        if record.signal not in SIGNALS:
            raise ValueError(f"no signal {record.signal!r}")
        size = len(record.body)

        def delivered(error: KafkaError | None, message: Any) -> None:
            with self._lock:
                self._pending_bytes -= size
                if error is None:
                    self._last = max(self._last, message.offset() + 1)
            done(message.offset() + 1 if error is None else QueueUnavailable(f"Kafka: {error.str()}"))

        with self._lock:
            if self._closed:
                raise QueueUnavailable("the collector is shutting down")
            if self._pending_bytes and self._pending_bytes + size > self._config.max_pending_bytes:
                raise QueueUnavailable("Kafka is slower than the senders")
            self._pending_bytes += size
        try:
            self._producer.produce(
                self._config.topic,
                record.body,
                partition=self._config.partition,
                headers=_headers(record),
                timestamp=record.received_ns // 1_000_000,
                on_delivery=delivered,
            )
        except (BufferError, KafkaException) as error:
            with self._lock:
                self._pending_bytes -= size
            if isinstance(error, KafkaException) and error.args[0].code() in _PERMANENT:
                raise ValueError(f"Kafka takes no record of {size} bytes (max_record_bytes)") from error
            raise QueueUnavailable(f"Kafka: {error}") from error

    def last(self) -> int:
        return self._last

    def size_bytes(self) -> int:
        """What is on its way; what Kafka keeps is Kafka's."""
        return self._pending_bytes

    def close(self) -> None:
        with self._lock:
            if self._closed:
                return
            self._closed = True
        self._producer.flush(float(self._config.timeout))
        self._thread.join()

    def _poll(self) -> None:
        """Delivery reports come in this thread."""
        while not self._closed:
            self._producer.poll(0.1)


class KafkaReader:
    """Raises `QueueUnavailable` if the cluster cannot be reached."""

    def __init__(self, config: Config, cursors: Collection[str]) -> None:
        self._config = config
        self._lock = threading.RLock()
        self._closed = False
        self._lost = 0
        self._gaps: deque[Gap] = deque(maxlen=_KEPT_GAPS)
        self._readers: OrderedDict[int, Consumer] = OrderedDict()
        """Consumers by the sequence number that they have read up to: lanes are at different places."""
        self._groups: dict[str, Consumer] = {}
        self._positions: dict[str, int] = {}
        _ensure_topic(config)
        self._watch = self._consumer(config.group)
        for name in cursors:
            self._groups[name] = self._consumer(f"{config.group}.{config.partition}.{name}")
            self._positions[name] = self._committed(name)

    @property
    def gaps(self) -> Sequence[Gap]:
        with self._lock:
            return tuple(self._gaps)

    @property
    def lost_records(self) -> int:
        return self._lost

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

    def cursor(self, name: str) -> int:
        with self._lock:
            return self._positions[name]

    def advance(self, name: str, sequence: int) -> None:
        with self._lock:
            if sequence <= self._positions[name]:
                return
            try:
                self._groups[name].commit(offsets=[self._place(sequence)], asynchronous=False)
            except KafkaException as error:
                raise OSError(f"Kafka: cursor {name}: {error}") from error
            self._positions[name] = sequence

    def last(self) -> int:
        with self._lock:
            return _watermarks(self._config, self._watch)[1]

    def scan(self) -> Iterator[Record]:
        with self._lock:
            after, last = _watermarks(self._config, self._watch)
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
            with self._lock:
                lost = sequence - before - 1
                self._lost += lost
                where = f"{self._config.topic}/{self._config.partition}"
                self._gaps.append(
                    Gap(first=before + 1, last=sequence - 1, segment=where, reason="deleted by Kafka's retention")
                )
            _log.error("records %d to %d of %s are lost: deleted by Kafka's retention", before + 1, sequence - 1, where)


def _headers(record: Record) -> list[tuple[str, bytes]]:
    own = [("signal", record.signal), ("tenant", record.tenant), ("received_ns", str(record.received_ns))]
    routing = [(_PREFIX + name, value) for name, value in record.headers.items()]
    return [(name, value.encode()) for name, value in own + routing if value]


def _record(message: Any) -> Record:
    headers = {name: value.decode(errors="replace") for name, value in message.headers() or () if value is not None}
    received_ns = headers.get("received_ns", "")
    return Record(
        sequence=message.offset() + 1,
        signal=headers.get("signal", "traces"),
        tenant=headers.get("tenant", ""),
        headers={name.removeprefix(_PREFIX): v for name, v in headers.items() if name.startswith(_PREFIX)},
        received_ns=int(received_ns) if received_ns.isdigit() else message.timestamp()[1] * 1_000_000,
        body=message.value() or b"",
    )


def _ensure_topic(config: Config) -> None:
    admin = AdminClient(config.client())
    timeout = float(config.timeout)
    try:
        topic = admin.list_topics(config.topic, timeout=timeout).topics[config.topic]
        if topic.error is None:
            if config.partition not in topic.partitions:
                raise QueueUnavailable(f"Kafka topic {config.topic} has no partition {config.partition}")
            return
        new = NewTopic(
            config.topic, config.partition + 1, config={"max.message.bytes": str(int(config.max_record_bytes))}
        )
        admin.create_topics([new])[config.topic].result(timeout)
    except KafkaException as error:
        if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
            raise QueueUnavailable(f"Kafka at {', '.join(config.brokers)}: {error.args[0].str()}") from error


def _watermarks(config: Config, consumer: Consumer) -> tuple[int, int]:
    """Sequence numbers: that before the oldest record, and that of the newest. Raises `QueueUnavailable`."""
    place = TopicPartition(config.topic, config.partition)
    try:
        low, high = consumer.get_watermark_offsets(place, timeout=float(config.timeout))
    except KafkaException as error:
        raise QueueUnavailable(f"Kafka at {', '.join(config.brokers)}: {error.args[0].str()}") from error
    return low, high


def _newest(config: Config) -> int:
    consumer = Consumer(config.client(**{"group.id": config.group}))
    try:
        return _watermarks(config, consumer)[1]
    finally:
        consumer.close()
