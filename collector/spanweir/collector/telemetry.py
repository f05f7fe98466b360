"""What the collector counts about itself: one table of metrics, and the sums over both processes.

Names are the OpenTelemetry Collector's where it has one, so that its dashboards work; ours begin with `spanweir_`.
What was received is accounted for whole: accepted = answered + dropped (with a reason) + dead letters + queued.

Not here: serving the text (`spanweir.collector.service`).
"""

import os
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import msgspec


class Metric(NamedTuple):
    """One metric of the collector's own, as the metrics page describes it."""

    kind: str
    """`counter` or `gauge`."""
    help: str


METRICS: dict[str, Metric] = {
    "otelcol_receiver_accepted_spans": Metric("counter", "Spans that are durable in the queue."),
    "otelcol_receiver_accepted_log_records": Metric("counter", "Log records that are durable in the queue."),
    "otelcol_receiver_accepted_metric_points": Metric("counter", "Metric points that are durable in the queue."),
    "otelcol_receiver_refused_spans": Metric("counter", "Spans whose sender was told to come again."),
    "otelcol_receiver_refused_log_records": Metric("counter", "Log records whose sender was told to come again."),
    "otelcol_receiver_refused_metric_points": Metric("counter", "Metric points whose sender was told to come again."),
    "otelcol_receiver_failed_spans": Metric("counter", "Spans that were refused for ever, by reason."),
    "otelcol_receiver_failed_log_records": Metric("counter", "Log records that were refused for ever, by reason."),
    "otelcol_receiver_failed_metric_points": Metric("counter", "Metric points that were refused for ever, by reason."),
    "otelcol_receiver_requests": Metric("counter", "Requests, by outcome."),
    "otelcol_exporter_sent_spans": Metric("counter", "Spans that the destination has durably; again if amended."),
    "otelcol_exporter_sent_log_records": Metric("counter", "Log records that the destination has durably."),
    "otelcol_exporter_sent_metric_points": Metric("counter", "Metric requests that the destination has durably."),
    "otelcol_exporter_send_failed_spans": Metric("counter", "Spans of attempts that failed; they are tried again."),
    "otelcol_exporter_queue_size": Metric("gauge", "Queue records that the exporter has not done with."),
    "otelcol_exporter_queue_capacity": Metric("gauge", "Bound of the queue in bytes."),
    "otelcol_exporter_in_flight_requests": Metric("gauge", "Batches in the exporter's buffer."),
    "otelcol_processor_incoming_items": Metric("counter", "Spans that entered a processor."),
    "otelcol_processor_outgoing_items": Metric("counter", "Spans that left a processor."),
    "otelcol_process_uptime": Metric("counter", "Seconds since the start."),
    "otelcol_process_cpu_seconds": Metric("counter", "CPU seconds, by process."),
    "otelcol_process_memory_rss": Metric("gauge", "Resident memory in bytes, by process."),
    "spanweir_receiver_accepted_bytes": Metric("counter", "Decompressed bytes of accepted requests."),
    "spanweir_receiver_unrouted_items": Metric("counter", "Items acknowledged and dropped: no pipeline for them."),
    "spanweir_queue_size_bytes": Metric("gauge", "Bytes in the queue."),
    "spanweir_queue_lost_records": Metric("counter", "Acknowledged records that could not be read back."),
    "spanweir_exporter_answered_spans": Metric(
        "counter", "Accepted spans that the exporter is done with, each once: accepted = answered + dropped + refused."
    ),
    "spanweir_exporter_left_out_rows": Metric(
        "counter", "What was answered and a table goes without, by table and reason: rows, and spans of payload rows."
    ),
    "spanweir_exporter_repaired_spans": Metric(
        "counter", "Spans that an exporter of received spans repaired, by what was wrong."
    ),
    "spanweir_delivery_records": Metric("counter", "Queue records that were taken in, again after a restart."),
    "spanweir_delivery_spans": Metric("counter", "Spans that were decoded, again after a restart."),
    "spanweir_delivery_failed_records": Metric("counter", "Queue records set aside: this version cannot take them in."),
    "spanweir_delivery_undecodable_records": Metric("counter", "Queue records that are no OTLP."),
    "spanweir_delivery_restarts": Metric("counter", "Times the delivery process was started again."),
    "spanweir_delivery_detached_lanes": Metric("gauge", "Exporters that read the queue on their own, behind the rest."),
    "spanweir_dropped_spans": Metric("counter", "Spans that processors took out, by reason."),
    "spanweir_dead_letter_spans": Metric("counter", "Spans that a destination refuses, set aside in a folder."),
    "spanweir_dead_letter_items": Metric("counter", "Other items that a destination refuses, set aside in a folder."),
    "spanweir_assembly_open_traces": Metric("gauge", "Traces whose root has not ended, or with a parent missing."),
    "spanweir_assembly_kept_traces": Metric("gauge", "Complete traces whose state is kept for late spans."),
    "spanweir_assembly_finalised_traces": Metric("counter", "Traces that were finalised after their idle time."),
    "spanweir_assembly_finalised_for_room": Metric("counter", "Traces finalised because too many were open."),
    "spanweir_assembly_hydrated_traces": Metric("counter", "Traces whose state was read back from a destination."),
    "spanweir_assembly_repaired_spans": Metric("counter", "Spans that were repaired, by what was wrong."),
    "spanweir_filter_kept_parents": Metric("counter", "Filtered spans kept bare: children were stored already."),
    "spanweir_join_amended_spans": Metric("counter", "Spans written again because log records came for them."),
    "spanweir_join_expired_logs": Metric("counter", "Log records for which no span came in time."),
    "spanweir_join_unplaced_logs": Metric("counter", "Evaluations that name neither span nor response."),
    "spanweir_cost_unknown_models": Metric("counter", "Model calls with usage that no price is known for."),
    "spanweir_redaction_masked_values": Metric("counter", "Values that were masked."),
    "spanweir_agents_dropped_spans": Metric(
        "counter", "Coding agents' spans that were left out: internal, or merged into others."
    ),
    "spanweir_agents_turns": Metric(
        "counter", "Coding agents' turns that were amended late, or failed to be read and went on untouched, by reason."
    ),
}
"""Every metric there is. A name that is not here cannot be moved."""

Key = tuple[str, tuple[tuple[str, str], ...]]
Values = dict[Key, float]


def key_of(name: str, **labels: str) -> Key:
    return name, tuple(sorted(labels.items()))


class Counters:
    """The values of one process. Thread-safe."""

    def __init__(self) -> None:
        self._values: Values = {}
        self._lock = threading.Lock()

    def add(self, name: str, n: float = 1, **labels: str) -> None:
        self.add_all(((key_of(name, **labels), n),))

    def add_all(self, amounts: Iterable[tuple[Key, float]]) -> None:
        """Several at once, for who counts each request."""
        values = self._values
        with self._lock:
            for key, n in amounts:
                values[key] = values.get(key, 0) + n

    def set(self, name: str, value: float, **labels: str) -> None:
        with self._lock:
            self._values[key_of(name, **labels)] = value

    def get(self, name: str, **labels: str) -> float:
        """The sum over all label values that are not given."""
        wanted = set(labels.items())
        with self._lock:
            return sum(v for (n, pairs), v in self._values.items() if n == name and wanted <= set(pairs))

    def values(self) -> Values:
        with self._lock:
            return dict(self._values)


_Frame = list[tuple[str, list[tuple[str, str]], float]]


def encode(values: Mapping[Key, float]) -> bytes:
    return msgspec.msgpack.encode([(name, list(labels), value) for (name, labels), value in values.items()])


def decode(data: bytes) -> Values:
    """Raises msgspec.MsgspecError."""
    frame = msgspec.msgpack.decode(data, type=_Frame)
    return {(name, tuple((k, v) for k, v in labels)): value for name, labels, value in frame}


def measure_process(counters: Counters, process: str) -> None:
    """CPU and memory of this process."""
    times = os.times()
    counters.set("otelcol_process_cpu_seconds", times.user + times.system, process=process)
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except (OSError, IndexError, ValueError):
        return
    counters.set("otelcol_process_memory_rss", pages * os.sysconf("SC_PAGE_SIZE"), process=process)


class Sums:
    """The delivery process's values over all its lives: a new one starts at zero, the sums do not."""

    def __init__(self) -> None:
        self._past: Values = {}
        self._now: Values = {}
        self._lock = threading.Lock()

    def update(self, values: Values) -> None:
        with self._lock:
            self._now = values

    def restarted(self) -> None:
        with self._lock:
            for key, value in self._now.items():
                if METRICS[key[0]].kind == "counter":
                    self._past[key] = self._past.get(key, 0) + value
            self._now = {}

    def values(self) -> Values:
        with self._lock:
            return merge((self._past, self._now))


def merge(parts: Iterable[Mapping[Key, float]]) -> Values:
    merged: Values = {}
    for part in parts:
        for key, value in part.items():
            merged[key] = merged.get(key, 0) + value
    return merged


def exposition(values: Mapping[Key, float]) -> str:
    """Prometheus text format 0.0.4. By hand: client libraries append `_total`, and the Collector's names have none."""
    by_name: dict[str, list[tuple[tuple[tuple[str, str], ...], float]]] = {}
    for (name, labels), value in values.items():
        by_name.setdefault(name, []).append((labels, value))
    lines: list[str] = []
    for name, metric in METRICS.items():
        lines.append(f"# HELP {name} {metric.help}")
        lines.append(f"# TYPE {name} {metric.kind}")
        for labels, value in sorted(by_name.get(name, ())):
            pairs = ",".join(f'{key}="{_escape(text)}"' for key, text in labels)
            lines.append(f"{name}{{{pairs}}} {value:.15g}" if pairs else f"{name} {value:.15g}")
    return "\n".join(lines) + "\n"


def _escape(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
