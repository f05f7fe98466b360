"""Log records joined to their spans by trace and span id, in whatever order and requests they come.

Instrumentations may send prompts and answers as log records beside a span. A record that comes first is held for its
span, a span that came without content is held for its records: it is mapped again when they come, also after it was
written. Evaluations become assessments of the span, or of the call whose `gen_ai.response.id` they name.

Not here: records that say nothing about a span's content (an application's own log lines); coding agents, whose
records become spans of their own (`spanweir.schemas.agents`).
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator

import msgspec

from spanweir.collector.assembly.assessments import assessment_of
from spanweir.collector.assembly.options import Options
from spanweir.collector.processors.api import Item
from spanweir.schemas.genai import Evaluation, GenAISpan
from spanweir.schemas.raw import Attributes, RawLog, RawSpan, Value
from spanweir.schemas.sizes import attributes_bytes, content_bytes, value_bytes
from spanweir.schemas.trace import Assessment

EVALUATION = "gen_ai.evaluation.result"
CONTENT_KINDS = frozenset({"llm", "agent", "workflow", "tool", "retrieval", "chain"})
_RESPONSES_MAX = 20_000
_OVERHEAD = 400
_SPAN_OVERHEAD = 1500
_UNSEEN_MAX = 4 * 1024 * 1024
"""While no record with content has come, spans without content are most likely complete."""


class _Held(msgspec.Struct):
    logs: list[RawLog]
    size_bytes: int
    since_s: float
    sequence: int
    raw: RawSpan | None = None


class _Waiting(msgspec.Struct):
    """An evaluation of a response whose span has not come."""

    evaluation: Evaluation
    size_bytes: int
    since_s: float
    sequence: int


class Joined(msgspec.Struct):
    """What `Joiner.join` found."""

    spans: list[tuple[RawSpan, list[RawLog]]] = []
    assessments: list[tuple[str, Assessment]] = []


class _Responses:
    """Which spans gave the newest responses. Half of them are let go at a time: one by one costs more than the rest."""

    def __init__(self) -> None:
        self._new: dict[str, str] = {}
        self._old: dict[str, str] = {}

    def put(self, response_id: str, trace_id: str, span_id: str) -> None:
        self._new[response_id] = f"{trace_id}/{span_id}"
        if len(self._new) >= _RESPONSES_MAX // 2:
            self._new, self._old = {}, self._new

    def get(self, response_id: str) -> tuple[str, str] | None:
        """Trace id and span id."""
        place = self._new.get(response_id) or self._old.get(response_id)
        if place is None:
            return None
        trace_id, _, span_id = place.partition("/")
        return trace_id, span_id


class Joiner:
    """Not thread-safe. `count` moves a counter by its name."""

    def __init__(
        self, options: Options | None = None, *, count: Callable[[str, int], None] = lambda name, n: None
    ) -> None:
        self._options = options or Options()
        self._count = count
        self._logs: OrderedDict[str, _Held] = OrderedDict()
        self._spans: OrderedDict[str, _Held] = OrderedDict()
        self._bytes = 0
        self._max = min(int(self._options.join_max), _UNSEEN_MAX)
        self._responses = _Responses()
        self._evaluations: OrderedDict[str, list[_Waiting]] = OrderedDict()

    def join(self, spans: Iterable[RawSpan], logs: Iterable[RawLog], now_s: float, sequence: int = 0) -> Joined:
        """Every span with the records that belong to it, in the order of `spans`, then spans of earlier calls for
        which records came now. `sequence` is the position in the queue, for `low`."""
        joined = Joined()
        new: dict[str, list[RawLog]] = {}
        for log in logs:
            if is_evaluation(log):
                self._evaluate(log, now_s, sequence, joined)
            elif log.span_id and is_content(log):
                new.setdefault(log.trace_id + log.span_id, []).append(log)
                self._max = int(self._options.join_max)
        if not (new or self._logs or self._spans):
            joined.spans = [(raw, []) for raw in spans]
            return joined
        for raw in spans:
            key = raw.trace_id + raw.span_id
            found = new.pop(key, [])
            for held in (self._logs.pop(key, None), self._spans.get(key)):
                if held is not None:
                    found = _merge(held.logs, found)
                    if held.raw is None:
                        self._bytes -= held.size_bytes
            joined.spans.append((raw, found))
        for key, found in new.items():
            held = self._spans.get(key)
            if held is None or held.raw is None:
                self._hold(self._logs, key, _Held(found, sum(map(_log_size, found)), now_s, sequence))
            else:
                joined.spans.append((held.raw, _merge(held.logs, found)))
                self._count("spanweir_join_amended_spans", 1)
        return joined

    def note(self, items: Iterable[Item], now_s: float, sequence: int = 0) -> None:
        """Tell the joiner how spans were mapped, so that it holds what may still get content."""
        responses = self._responses
        for item in items:
            span, logs = item.span, item.logs
            if span is None:
                continue
            if span.response is not None and span.response.id:
                responses.put(span.response.id, item.raw.trace_id, item.raw.span_id)
            if logs or (span.kind in CONTENT_KINDS and not (span.input and span.output) and not _has_own(span)):
                raw = item.raw
                size = _SPAN_OVERHEAD + sum(map(_log_size, logs)) + content_bytes(raw)
                self._hold(self._spans, raw.trace_id + raw.span_id, _Held(list(logs), size, now_s, sequence, raw))

    def settled(self) -> Iterator[tuple[str, Assessment]]:
        """Assessments of responses whose spans have come since."""
        for response_id in list(self._evaluations):
            place = self._responses.get(response_id)
            if place is None:
                continue
            for waiting in self._forget(response_id):
                yield place[0], assessment_of(waiting.evaluation, *place)

    def tick(self, now_s: float) -> None:
        """Let go of what has been held for too long."""
        until = now_s - self._options.join_wait
        for held in (self._logs, self._spans):
            while held and next(iter(held.values())).since_s <= until:
                self._let_go(held)
        while self._evaluations and next(iter(self._evaluations.values()))[0].since_s <= until:
            self._give_up_evaluations()

    def low(self) -> int:
        """The lowest position in the queue of anything held; 0 if nothing is."""
        firsts = [next(iter(held.values())).sequence for held in (self._logs, self._spans) if held]
        if self._evaluations:
            firsts.append(next(iter(self._evaluations.values()))[0].sequence)
        return min(firsts, default=0)

    @property
    def busy(self) -> bool:
        """Something is held that a span may belong to."""
        return bool(self._logs or self._spans)

    @property
    def size_bytes(self) -> int:
        return self._bytes

    def _evaluate(self, log: RawLog, now_s: float, sequence: int, joined: Joined) -> None:
        evaluation = evaluation_of(log)
        place = self._responses.get(evaluation.response_id) if evaluation.response_id else None
        if place is None and log.trace_id:
            place = (log.trace_id, log.span_id)
        if place is not None:
            joined.assessments.append((place[0], assessment_of(evaluation, place[0], place[1])))
        elif evaluation.response_id:
            waiting = _Waiting(evaluation, _log_size(log), now_s, sequence)
            self._evaluations.setdefault(evaluation.response_id, []).append(waiting)
            self._bytes += waiting.size_bytes
            self._bound()
        else:
            self._count("spanweir_join_unplaced_logs", 1)

    def _hold(self, into: OrderedDict[str, _Held], key: str, held: _Held) -> None:
        old = into.pop(key, None)
        if old is not None:
            self._bytes -= old.size_bytes
            held.since_s, held.sequence = old.since_s, old.sequence
            if held.raw is None:
                held.logs = _merge(old.logs, held.logs)
                held.size_bytes += old.size_bytes
            into[key] = held
            into.move_to_end(key, last=False)
        else:
            into[key] = held
        self._bytes += held.size_bytes
        self._bound()

    def _bound(self) -> None:
        while self._bytes > self._max:
            if held := self._spans or self._logs:
                self._let_go(held)
            elif self._evaluations:
                self._give_up_evaluations()
            else:
                return

    def _give_up_evaluations(self) -> None:
        """Of the response that has waited longest."""
        self._count("spanweir_join_expired_logs", len(self._forget(next(iter(self._evaluations)))))

    def _forget(self, response_id: str) -> list[_Waiting]:
        """Evaluations that wait for this response no longer."""
        waiting = self._evaluations.pop(response_id)
        self._bytes -= sum(one.size_bytes for one in waiting)
        return waiting

    def _let_go(self, held: OrderedDict[str, _Held]) -> None:
        _, oldest = held.popitem(last=False)
        self._bytes -= oldest.size_bytes
        if oldest.raw is None:
            self._count("spanweir_join_expired_logs", len(oldest.logs))


def is_evaluation(log: RawLog) -> bool:
    return log.event_name == EVALUATION or log.attributes.get("event.name") == EVALUATION


def is_content(log: RawLog) -> bool:
    """The record may hold content of its span: it has a structured body or speaks GenAI. A line of text does not."""
    if isinstance(log.body, dict | list) or log.event_name.startswith("gen_ai."):
        return True
    return any(key.startswith("gen_ai.") for key in log.attributes) or "event.name" in log.attributes


def evaluation_of(log: RawLog) -> Evaluation:
    """`gen_ai.evaluation.result` (OTel GenAI events): attributes, or the same keys in the body."""
    values: Attributes = dict(log.attributes)
    if isinstance(log.body, dict):
        values = {**log.body, **values}

    def text(key: str) -> str | None:
        value = values.get(key)
        return value if isinstance(value, str) else None

    return Evaluation(
        name=text("gen_ai.evaluation.name") or "evaluation",
        score=_number(values.get("gen_ai.evaluation.score.value")),
        label=text("gen_ai.evaluation.score.label"),
        explanation=text("gen_ai.evaluation.explanation"),
        response_id=text("gen_ai.response.id"),
        evaluator=text("gen_ai.evaluation.evaluator") or log.scope.name or None,
        error=text("error.type"),
        scope="span" if log.span_id or text("gen_ai.response.id") else "trace",
        time_ns=log.time_ns or log.observed_ns,
    )


def _number(value: Value) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        return float(value)
    except ValueError:
        return None


def _has_own(span: GenAISpan) -> bool:
    """Content that stands in no message."""
    if span.tool is not None:
        return span.tool.arguments is not None and span.tool.result is not None
    return bool(span.documents or span.embeddings) or (
        span.io is not None and span.io.input is not None and span.io.output is not None
    )


def _merge(old: list[RawLog], new: list[RawLog]) -> list[RawLog]:
    """In time order, and a record that came twice once."""
    merged = [*old, *(log for log in new if log not in old)]
    merged.sort(key=lambda log: (log.time_ns or log.observed_ns, log.event_name))
    return merged


def _log_size(log: RawLog) -> int:
    return _OVERHEAD + value_bytes(log.body) + attributes_bytes(log.attributes)
