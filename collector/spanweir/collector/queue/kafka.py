"""The queue on Apache Kafka: the contract of `disk` on an engine that several machines keep, for who has one already.

A record is a Kafka message whose value is the plain OTLP protobuf request, as the OpenTelemetry Collector's Kafka
components read and write it; signal, tenant, receive time and routing headers are message headers. A queue is one
partition: a record's sequence number is its offset plus one, and an exporter's cursor is the committed offset of a
consumer group of its own, so Kafka's tools show what each exporter still has to do.

A topic with several partitions takes as many collectors, each with its `partition` and its `state_directory`. Whatever
collector takes a span in, its trace id says which one delivers it (`kafka_parts`), so that one sees the whole trace
behind any load balancer. The OpenTelemetry Collector's Kafka exporter with `partition_traces_by_id` agrees: its
partitioner (Sarama's) and `fnv1a_random` of librdkafka are the same. A request for several partitions is acknowledged
when all have their parts; if one fails, its sender tries all again, and stores write a span that comes twice once.
What lies in a partition that no collector reads stays there, which is why the others are named in the log at the start.

Room is Kafka's: what its retention deletes before every exporter had it is lost, and is reported as a `Gap`.
Bugs: nothing keeps two collectors from one partition; give each a partition or a topic of its own.
"""

import logging
import threading
import time
from collections.abc import Collection
from typing import Any

import msgspec

# Imported here, so that the configuration says what to install where it is missing.
from confluent_kafka import KafkaError, KafkaException, Producer

from spanweir.collector.queue.api import Done, QueueUnavailable, Reader, Record, Writer
from spanweir.collector.queue.kafka_parts import Part, parts
from spanweir.collector.queue.kafka_topic import HEADER_PREFIX, ensure_topic, name_others, newest
from spanweir.collector.queue.segment import SIGNALS, encode_meta
from spanweir.schemas.options import MIB, Duration, Secret, Size

_log = logging.getLogger(__name__)
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
    """Where records are kept; created if it does not exist, with partitions up to this collector's."""
    partition: int = 0
    """The partition that this collector delivers. Each collector needs one of its own, and each partition a collector:
    all collectors write to all, by trace id. With a number at the end of host names, `${env:...}` can give it."""
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
        # The receiving process has no use for it.
        from spanweir.collector.queue.kafka_reader import KafkaReader

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
        partitions = ensure_topic(config)
        name_others(config, partitions)
        self._shared = len(partitions) > 1
        self._producer = Producer(
            config.client(
                **{
                    "acks": "all",
                    "partitioner": "fnv1a_random",
                    "enable.idempotence": True,
                    "linger.ms": 2,
                    "message.max.bytes": int(config.max_record_bytes),
                    "queue.buffering.max.kbytes": max(int(config.max_pending_bytes) // 1024 * 2, 1024),
                    "delivery.timeout.ms": int(config.timeout * 1000),
                }
            )
        )
        self._last = newest(config)
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
        # The largest first: if Kafka takes it, it takes the others, and none is under way when it does not.
        shares = parts(record.signal, record.body) if self._shared else [Part(None, record.body)]
        shares.sort(key=lambda share: len(share.body), reverse=True)
        size = sum(len(share.body) for share in shares)
        with self._lock:
            if self._closed:
                raise QueueUnavailable("the collector is shutting down")
            if self._pending_bytes and self._pending_bytes + size > self._config.max_pending_bytes:
                raise QueueUnavailable("Kafka is slower than the senders")
            self._pending_bytes += size
        pending = _Pending(len(shares), done)
        left = size
        for number, share in enumerate(shares):
            try:
                self._produce(share, record, pending)
            except (QueueUnavailable, ValueError) as error:
                with self._lock:
                    self._pending_bytes -= left
                if not number:
                    raise
                pending.answered(error, len(shares) - number)
                return
            left -= len(share.body)

    def _produce(self, share: Part, record: Record, pending: "_Pending") -> None:
        """Raises `QueueUnavailable`, or ValueError for a part that is too large."""
        size = len(share.body)

        def delivered(error: KafkaError | None, message: Any) -> None:
            sequence = 0
            with self._lock:
                self._pending_bytes -= size
                if error is None and message.partition() == self._config.partition:
                    sequence = message.offset() + 1
                    self._last = max(self._last, sequence)
            pending.answered(sequence if error is None else QueueUnavailable(f"Kafka: {error.str()}"))

        place = {"partition": self._config.partition} if share.key is None else {"key": share.key}
        try:
            self._producer.produce(
                self._config.topic,
                share.body,
                headers=_headers(record),
                timestamp=record.received_ns // 1_000_000,
                on_delivery=delivered,
                **place,
            )
        except (BufferError, KafkaException) as error:
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


class _Pending:
    """A record whose parts are on their way. Thread-safe: Kafka's delivery reports come in a thread of their own."""

    def __init__(self, parts: int, done: Done) -> None:
        self._left = parts
        self._done = done
        self._sequence = 0
        self._error: Exception | None = None
        self._lock = threading.Lock()

    def answered(self, result: int | Exception, parts: int = 1) -> None:
        """`result` of a part: its sequence number, 0 in another collector's partition; an exception may end several."""
        with self._lock:
            self._left -= parts
            if isinstance(result, Exception):
                self._error = result
            else:
                self._sequence = max(self._sequence, result)
            if self._left:
                return
        self._done(self._error or self._sequence)


def _headers(record: Record) -> list[tuple[str, bytes]]:
    own = [("signal", record.signal), ("tenant", record.tenant), ("received_ns", str(record.received_ns))]
    routing = [(HEADER_PREFIX + name, value) for name, value in record.headers.items()]
    return [(name, value.encode()) for name, value in own + routing if value]
