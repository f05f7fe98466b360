"""Spans in the newest OTel GenAI convention, short to write, and an assembler around the real mapper and renderer."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from spanweir.collector.assembly import Options
from spanweir.collector.assembly.assembler import Assembler, Emission
from spanweir.collector.processors.api import Item
from spanweir.exporters.api import KnownTrace
from spanweir.schemas.mapping import Mapper
from spanweir.schemas.mlflow import Renderer
from spanweir.schemas.raw import RawLog, RawSpan
from spanweir.schemas.trace import MappedSpan, TraceRow

TRACE = "0af7651916cd43dd8448eb211c80319c"
T0 = 1_795_000_000_000_000_000
MS = 1_000_000


def messages(role: str, text: str) -> str:
    return json.dumps([{"role": role, "parts": [{"type": "text", "content": text}]}])


def span(
    span_id: str,
    parent: str = "",
    *,
    op: str = "",
    start: int = 0,
    end: int | None = None,
    asked: str = "",
    said: str = "",
    tokens: tuple[int, int] | None = None,
    trace: str = TRACE,
    **more: Any,
) -> RawSpan:
    """`span_id` and `parent` are short names; `start` and `end` milliseconds. `asked`, `said`: message texts."""
    attributes: dict[str, Any] = {}
    if op:
        attributes["gen_ai.operation.name"] = op
    if asked:
        attributes["gen_ai.input.messages"] = messages("user", asked)
    if said:
        attributes["gen_ai.output.messages"] = messages("assistant", said)
    if tokens:
        attributes["gen_ai.usage.input_tokens"], attributes["gen_ai.usage.output_tokens"] = tokens
    attributes |= more.pop("attributes", {})
    return RawSpan(
        trace_id=trace,
        span_id=identity(span_id),
        parent_id=identity(parent),
        name=more.pop("name", span_id),
        start_ns=T0 + start * MS,
        end_ns=0 if end == 0 else T0 + (start + 10 if end is None else end) * MS,
        attributes=attributes,
        **more,
    )


def identity(name: str) -> str:
    """A span id that shows the name."""
    return name.encode().hex().ljust(16, "0")[:16] if name else ""


class Bench:
    """An assembler with a clock of its own; `rows` and `spans` are what a store would hold."""

    def __init__(self, options: Options | None = None, known: Mapping[str, KnownTrace] | None = None) -> None:
        self.mapper = Mapper()
        self.now_s = 1000.0
        self.rows: dict[str, TraceRow] = {}
        self.spans: dict[tuple[str, str], MappedSpan] = {}
        self.counted: dict[str, int] = {}
        self.asked: list[Sequence[str]] = []
        self._known = known
        self.assembler = Assembler(
            Renderer(),
            self.mapper.map,
            options,
            hydrate=self._hydrate if known is not None else None,
            count=self._count,
        )

    def _hydrate(self, trace_ids: Sequence[str]) -> Mapping[str, KnownTrace]:
        self.asked.append(trace_ids)
        return {key: value for key, value in (self._known or {}).items() if key in trace_ids}

    def _count(self, name: str, n: int) -> None:
        self.counted[name] = self.counted.get(name, 0) + n

    def send(self, *spans: RawSpan, logs: Mapping[str, Sequence[RawLog]] | None = None, **more: Any) -> Emission:
        """Spans that arrive together."""
        items = [Item(raw, self.mapper.map(raw, (logs or {}).get(raw.span_id, ()))) for raw in spans]
        return self.store(self.assembler.process(items, self.now_s, T0 + 60_000 * MS, **more))

    def wait(self, seconds: float) -> Emission:
        self.now_s += seconds
        return self.store(self.assembler.tick(self.now_s))

    def store(self, emission: Emission) -> Emission:
        keys = [(mapped.trace_id, mapped.span_id) for mapped in emission.spans]
        assert len(keys) == len(set(keys)), "a span occurs once in a batch"
        assert len({row.trace_id for row in emission.traces}) == len(emission.traces)
        self.spans |= dict(zip(keys, emission.spans, strict=True))
        self.rows |= {row.trace_id: row for row in emission.traces}
        return emission

    @property
    def row(self) -> TraceRow:
        return self.rows[TRACE]

    def stored(self, name: str) -> MappedSpan:
        return self.spans[(TRACE, identity(name))]

    def roots(self) -> list[str]:
        """Names of spans without a parent."""
        return [mapped.name for mapped in self.spans.values() if mapped.parent_id is None]


def attribute(mapped: MappedSpan, key: str) -> Any:
    """A decoded attribute of a stored span."""
    return json.loads(mapped.attributes[key]) if key in mapped.attributes else None
