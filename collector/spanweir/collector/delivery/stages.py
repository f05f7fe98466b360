"""Queue records through decoding, log join, processors and assembly, to what a batch holds. One instance a lane.

Not here: reading the queue, and who gets the batch (`lane`).
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple, Protocol

import msgspec

from spanweir.collector.assembly import Options
from spanweir.collector.assembly.assembler import Assembler, Emission
from spanweir.collector.assembly.join import Joiner
from spanweir.collector.assembly.repair import times_of
from spanweir.collector.decode import Undecodable
from spanweir.collector.decode.otlp_proto import decode_logs, decode_traces, readable
from spanweir.collector.delivery import Count
from spanweir.collector.delivery.metrics import processed
from spanweir.collector.delivery.slices import slices
from spanweir.collector.processors.api import HoldingProcessor, Item, LogProcessor, MetricProcessor, Processor
from spanweir.collector.queue.api import Record
from spanweir.exporters.api import KnownTrace, Request
from spanweir.exporters.encode import logs_request, spans_request
from spanweir.schemas.genai import GenAISpan
from spanweir.schemas.mlflow import Renderer
from spanweir.schemas.raw import RawLog, RawSpan
from spanweir.schemas.trace import Assessment, MappedSpan, TraceRow

EXPERIMENT_HEADERS = ("x-mlflow-experiment-id", "x-mlflow-experiment-name")
RUN_HEADER = "x-mlflow-run-id"
_SPAN_OVERHEAD = 2000
_AGENT_METRICS = dict.fromkeys(("internal", "merged"), "spanweir_agents_dropped_spans")
_BAD_IDS = frozenset({"invalid_trace_id", "invalid_span_id"})


class Made(msgspec.Struct):
    """What came of some records, or of the clock."""

    spans: list[MappedSpan] = []
    traces: list[TraceRow] = []
    logs: list[RawLog] = []
    requests: list[Request] = []
    retracted: list[tuple[str, str]] = []
    size_bytes: int = 0
    held: int = 0
    """The lowest queue position of a span that waits in a processor: no cursor may pass it. 0: none."""
    moved: bool = False
    """`held` is not what it was."""
    taken: int = 0
    """Spans of the records, less those that were dropped: what the destination answers for."""

    def __bool__(self) -> bool:
        return bool(self.spans or self.traces or self.logs or self.requests or self.retracted or self.moved)


class Regrouping(Protocol):
    """`spanweir.schemas.agents.Agents`: coding agents' records become spans in plain form, one trace a user turn."""

    def spans(
        self, spans: Sequence[RawSpan], now_ns: int, sequence: int = 0, tenant: str = "", route: object = None
    ) -> list[RawSpan]: ...
    def logs(
        self, logs: Sequence[RawLog], now_ns: int, sequence: int = 0, tenant: str = "", route: object = None
    ) -> list[RawLog]: ...
    def route_of(self, trace_id: str) -> object: ...
    def counted(self) -> dict[tuple[str, str], int]: ...
    def tick(self, now_ns: int) -> list[RawSpan]: ...
    def retractions(self) -> list[tuple[str, str]]: ...
    def low_water(self) -> int | None: ...


class Route(NamedTuple):
    """Where a request goes."""

    headers: dict[str, str]
    tenant: str
    experiment: str
    run_id: str | None


NO_ROUTE = Route({}, "", "", None)


class Drop(NamedTuple):
    """A span that a processor took out."""

    raw: RawSpan
    reason: str
    whole_trace: bool = False


class Stages:
    """Not thread-safe. `processors` begin with `genai`; `drops` is where processors' `Context.drop` puts spans."""

    def __init__(
        self,
        processors: Sequence[Processor],
        renderer: Renderer,
        drops: list[Drop],
        count: Count,
        *,
        names: Sequence[str] = (),
        options: Options | None = None,
        hydrate: Callable[[Sequence[str]], Mapping[str, KnownTrace]] | None = None,
        agents: Regrouping | None = None,
        mapped: bool = True,
        requests: bool = False,
        canonical: bool = True,
        rewrite: bool = False,
        log_processors: Sequence[object] | None = None,
        metric_processors: Sequence[object] = (),
    ) -> None:
        """`names` are the processors' ids. `mapped`, `requests` and `canonical` say what some exporter reads; with
        `rewrite` the requests of traces and logs are made anew from what was processed, as a processor changes content
        that must not leave unchanged. Log records pass `log_processors` (default: `processors`)."""
        self._processors = processors
        self._names = list(names) or [type(processor).__name__.lower() for processor in processors]
        self._holding = [(i, p) for i, p in enumerate(processors) if isinstance(p, HoldingProcessor)]
        looking = processors if log_processors is None else log_processors
        self._log_processors = [processor for processor in looking if isinstance(processor, LogProcessor)]
        self._metric_processors = [each for each in metric_processors if isinstance(each, MetricProcessor)]
        self._drops = drops
        self._count = count
        self._agents = agents
        self._mapped = mapped
        self._requests = requests
        self._rewrite = rewrite
        self._decoded = 0
        """Spans that are not counted yet."""
        self.joiner = Joiner(options, count=count)
        self.assembler = Assembler(renderer, self._remap, options, hydrate=hydrate, count=count, canonical=canonical)

    def run(self, records: Sequence[Record], now_s: float, now_ns: int) -> Made:
        """What comes of `records`."""
        made = Made()
        self._count_records(records)
        for some in slices(records):
            items: list[Item] = []
            logs: list[RawLog] = []
            for record in some:
                self._take(record, made, items, logs, now_ns)
            if self._mapped or self._rewrite:
                self._advance(items, logs, now_s, now_ns, some[0].sequence, made)
        self._count_spans()
        made.held = self._held()
        return made

    def relearn(self, records: Sequence[Record], now_s: float, now_ns: int) -> None:
        """Take in records whose traces a snapshot knows, and that every exporter has: only what is held beside the
        traces is built up again."""
        items: list[Item] = []
        logs: list[RawLog] = []
        self._count_records(records)
        for record in records:
            self._take(record, Made(), items, logs, now_ns)
        self._count_spans()
        sequence = records[0].sequence if records else 0
        joined = self.joiner.join([item.raw for item in items], logs, now_s, sequence)
        found = [Item(raw, GenAISpan(kind="llm"), logs) for raw, logs in joined.spans if logs]
        self.joiner.note(found, now_s, sequence)

    def tick(self, now_s: float, now_ns: int) -> Made:
        """What the clock makes: turns that settled, traces decided or finalised."""
        made = Made()
        self.joiner.tick(now_s)
        agents = self._agents
        if agents is not None:
            spans = agents.tick(now_ns)
            items = [_routed(raw, agents.route_of(raw.trace_id)) for raw in spans]
            retracted = agents.retractions()
            for (reason, agent), n in agents.counted().items():
                self._count(_AGENT_METRICS.get(reason, "spanweir_agents_turns"), n, agent=agent, reason=reason)
            if items or retracted:
                self._advance(items, [], now_s, now_ns, 0, made, retracted)
        held = self._held()
        self._release(now_s, now_ns, made)
        emission = self.assembler.tick(now_s)
        _extend(made, emission)
        made.held = self._held()
        made.moved = made.held != held
        return made

    def finalise(self, keep: Callable[[str], bool], now_s: float) -> Made:
        """Finalise every open trace but those that `keep` names."""
        made = Made()
        _extend(made, self.assembler.finalise(keep, now_s))
        return made

    def failed(self, signal: str) -> None:
        """Count a record that could not be taken in."""
        self._count("spanweir_delivery_failed_records", 1, signal=signal)

    def low(self) -> int:
        """The lowest queue position that has to be read again to build up what is held beside the traces; 0: none."""
        lows = [self.joiner.low(), self._held(), (self._agents.low_water() or 0) if self._agents is not None else 0]
        return min((low for low in lows if low), default=0)

    # ---------------------------------------------------------------------------------------- steps

    def _count_records(self, records: Sequence[Record]) -> None:
        for signal, n in Counter([record.signal for record in records]).items():
            self._count("spanweir_delivery_records", n, signal=signal)

    def _count_spans(self) -> None:
        if self._decoded:
            self._count("spanweir_delivery_spans", self._decoded)
            self._decoded = 0

    def _take(self, record: Record, made: Made, items: list[Item], logs: list[RawLog], now_ns: int) -> None:
        """Decode a record; coding agents' spans and log records are held back."""
        signal = record.signal
        made.size_bytes += len(record.body)
        if signal == "metrics" or (self._requests and not self._rewrite):
            body = readable(signal, record.body)
            if signal == "metrics" and self._metric_processors:
                body = processed(body, self._metric_processors)
            made.requests.append(
                Request(
                    signal=signal,
                    body=body,
                    headers=record.headers,
                    tenant=record.tenant,
                    received_ns=record.received_ns,
                )
            )
        if signal == "metrics" or not (self._mapped or self._rewrite):
            return
        try:
            if signal == "traces":
                self._take_spans(record, made, items, now_ns)
            else:
                self._take_logs(record, made, logs, now_ns)
        except Undecodable:
            self._count("spanweir_delivery_undecodable_records", 1)

    def _take_spans(self, record: Record, made: Made, items: list[Item], now_ns: int) -> None:
        spans = []
        decoded = decode_traces(record.body)
        self._decoded += len(decoded)
        made.taken += len(decoded)
        for raw in decoded:
            if raw.issues and not _BAD_IDS.isdisjoint(raw.issues):
                self._count("spanweir_dropped_spans", 1, reason="invalid_id")
                made.taken -= 1
                continue
            if raw.end_ns < raw.start_ns or not raw.start_ns:
                raw = times_of(raw)
            for issue in raw.issues:
                self._count("spanweir_assembly_repaired_spans", 1, issue=issue)
            spans.append(raw)
        route = _route_of(record)
        if self._agents is not None:
            spans = self._agents.spans(spans, now_ns, record.sequence, record.tenant, route)
        headers, tenant, experiment, run_id = route
        items += [Item(raw, None, (), headers, tenant, experiment, run_id, record.sequence) for raw in spans]

    def _take_logs(self, record: Record, made: Made, logs: list[RawLog], now_ns: int) -> None:
        decoded = decode_logs(record.body)
        for processor in self._log_processors:
            decoded = processor.process_logs(decoded)
        if self._rewrite and self._requests and decoded:
            made.requests.append(Request(signal="logs", body=logs_request(decoded)))
        made.logs += decoded
        if self._agents is not None:
            decoded = self._agents.logs(decoded, now_ns, record.sequence, record.tenant, _route_of(record))
        logs += decoded

    def _advance(
        self,
        items: list[Item],
        logs: list[RawLog],
        now_s: float,
        now_ns: int,
        sequence: int,
        made: Made,
        retracted: Sequence[tuple[str, str]] = (),
    ) -> None:
        """Join, map, process, assemble."""
        items, assessments = self._join(items, logs, now_s, sequence)
        first_holding = self._holding[0][0] if self._holding else len(self._processors)
        items = self._through(items, 0, first_holding)
        self.joiner.note(items, now_s, sequence)
        items = self._through(items, first_holding, len(self._processors))
        assessments += self.joiner.settled()
        self._assemble(items, now_s, now_ns, made, assessments, retracted)

    def _through(self, items: list[Item], start: int, stop: int) -> list[Item]:
        """Through the processors from `start` up to `stop`."""
        for processor, name in zip(self._processors[start:stop], self._names[start:stop], strict=True):
            self._count("otelcol_processor_incoming_items", len(items), processor=name)
            items = processor.process(items)
            self._count("otelcol_processor_outgoing_items", len(items), processor=name)
        return items

    def _assemble(
        self,
        items: list[Item],
        now_s: float,
        now_ns: int,
        made: Made,
        assessments: Sequence[tuple[str, Assessment]] = (),
        retracted: Sequence[tuple[str, str]] = (),
    ) -> None:
        dropped = self._dropped(made)
        if self._rewrite and self._requests and items:
            made.requests.append(_rewritten(items))
        if not self._mapped:
            return
        emission = self.assembler.process(
            items, now_s, now_ns, dropped=dropped, assessments=assessments, retracted=retracted
        )
        _extend(made, emission)
        made.retracted += retracted

    def _release(self, now_s: float, now_ns: int, made: Made) -> None:
        """Take in what processors held back and give on now."""
        for i, holding in self._holding:
            items = holding.tick(now_s)
            items = self._through(items, i + 1, len(self._processors))
            if items or self._drops:
                self._assemble(items, now_s, now_ns, made)

    def _held(self) -> int:
        """The lowest queue position of a span that waits in a processor; 0 if none does."""
        return min((low for _, holding in self._holding if (low := holding.low())), default=0)

    def _join(
        self, items: list[Item], logs: list[RawLog], now_s: float, sequence: int
    ) -> tuple[list[Item], list[tuple[str, Assessment]]]:
        joiner = self.joiner
        if not logs and not joiner.busy:
            return items, []
        joined = joiner.join([item.raw for item in items], logs, now_s, sequence)
        for item, (_, found) in zip(items, joined.spans, strict=False):
            item.logs = found
        amended = [Item(raw, None, found, sequence=sequence) for raw, found in joined.spans[len(items) :]]
        return items + amended, joined.assessments

    def _dropped(self, made: Made) -> list[RawSpan]:
        """Those whose children move up; all are counted."""
        drops = self._drops
        if not drops:
            return []
        for reason, n in Counter(drop.reason for drop in drops).items():
            self._count("spanweir_dropped_spans", n, reason=reason)
        dropped = [drop.raw for drop in drops if not drop.whole_trace]
        made.taken -= len(drops)
        drops.clear()
        return dropped

    def _remap(self, raw: RawSpan) -> GenAISpan | None:
        """The canonical span of one that is written again: through the processors once more."""
        items = [Item(raw)]
        span = None
        for processor in self._processors:
            if isinstance(processor, HoldingProcessor):
                continue
            items = processor.process(items)
            if not items:
                break
            span = items[0].span
        self._drops.clear()
        return span


def _route_of(record: Record) -> Route:
    headers = record.headers
    if not headers:
        return Route(headers, record.tenant, "", None)
    experiment = headers.get(EXPERIMENT_HEADERS[0]) or headers.get(EXPERIMENT_HEADERS[1]) or ""
    return Route(headers, record.tenant, experiment, headers.get(RUN_HEADER))


def _routed(raw: RawSpan, route: object) -> Item:
    return Item(raw, None, (), *(route if isinstance(route, Route) else NO_ROUTE))


def _extend(made: Made, emission: Emission) -> None:
    """A span and a trace occur once in a batch; what came later stands. Every span comes with its trace's row."""
    rows = {row.trace_id for row in emission.traces}
    if not rows.isdisjoint([row.trace_id for row in made.traces]):
        again = {(span.trace_id, span.span_id) for span in emission.spans}
        made.spans = [span for span in made.spans if (span.trace_id, span.span_id) not in again]
        made.traces = [row for row in made.traces if row.trace_id not in rows]
    made.spans += emission.spans
    made.traces += emission.traces
    made.size_bytes += 3 * sum([len(span.content) for span in emission.spans]) + _SPAN_OVERHEAD * len(emission.spans)


def _rewritten(items: Iterable[Item]) -> Request:
    return Request(signal="traces", body=spans_request((item.raw, item.raw.attributes) for item in items))
