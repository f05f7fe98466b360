"""Spans that were stored as received, through the real stages: so they are read as they would have been stored mapped.

Called by `spanweir.exporters.delta.received_view`, through an entry point. Options of processors are their defaults.
"""

import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence

from spanweir.collector.delivery.stages import Drop, Made, Stages
from spanweir.collector.processors.api import Context, Processor
from spanweir.collector.processors.cost import Config as Cost
from spanweir.collector.processors.genai import Config as GenAI
from spanweir.collector.queue.api import Record
from spanweir.exporters.api import Batch
from spanweir.exporters.encode import spans_request
from spanweir.schemas.raw import RawSpan
from spanweir.schemas.trace import MappedSpan, TraceRow

_SETTLED_S = 10 * 86_400
"""After so long everything that waits for more has given up."""


def assemble(groups: Iterable[Sequence[RawSpan]]) -> Iterator[Batch]:
    """One batch for each group, which must have whole traces: all of them are finished."""
    with tempfile.TemporaryDirectory(prefix="spanweir-") as directory:
        stages = _stages(directory)
        now_s, now_ns = time.monotonic(), time.time_ns()
        for number, group in enumerate(groups, 1):
            body = spans_request((raw, raw.attributes) for raw in group)
            record = Record(sequence=number, signal="traces", received_ns=now_ns, body=body)
            made = [stages.run([record], now_s, now_ns)]
            now_s, now_ns = now_s + _SETTLED_S, now_ns + _SETTLED_S * 1_000_000_000
            made += [stages.tick(now_s, now_ns), stages.finalise(lambda _: False, now_s)]
            yield _together(number, made)


def _together(number: int, steps: Sequence[Made]) -> Batch:
    """What stands after all of the steps."""
    spans: dict[tuple[str, str], MappedSpan] = {}
    traces: dict[str, TraceRow] = {}
    for made in steps:
        for key in made.retracted:
            spans.pop(key, None)
        spans.update(((span.trace_id, span.span_id), span) for span in made.spans)
        traces.update((row.trace_id, row) for row in made.traces)
    standing = {trace_id for trace_id, _ in spans}
    rows = [row for row in traces.values() if row.trace_id in standing]
    return Batch(first=number, last=number, spans=list(spans.values()), traces=rows)


def _stages(directory: str) -> Stages:
    drops: list[Drop] = []
    context = Context(
        name="view",
        state_directory=directory,
        count=_uncounted,
        drop=lambda raw, reason: drops.append(Drop(raw, reason)),
        discard=lambda raw, reason: drops.append(Drop(raw, reason, True)),
    )
    genai = GenAI()
    processors: list[Processor] = [genai.build(context), Cost().build(context)]
    return Stages(processors, genai.renderer(), drops, _uncounted, agents=genai.agents())


def _uncounted(name: str, n: float = 1, **labels: str) -> None:
    """What is read was counted when it was stored."""
