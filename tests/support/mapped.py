"""OTLP requests through the real stages (decode, conventions, cost, assembly) into batches for exporters."""

import tempfile
from collections.abc import Iterable

from spanweir.collector.delivery.stages import Drop, Stages
from spanweir.collector.processors.api import Context
from spanweir.collector.processors.cost import Config as Cost
from spanweir.collector.processors.genai import Config as GenAI
from spanweir.collector.queue.api import Record
from spanweir.exporters.api import Batch


def stages() -> Stages:
    """With the processors that every pipeline has."""
    drops: list[Drop] = []

    def count(metric: str, n: float = 1, **labels: str) -> None:
        pass

    with tempfile.TemporaryDirectory() as directory:
        context = Context(
            name="test",
            state_directory=directory,
            count=count,
            drop=lambda raw, reason: drops.append(Drop(raw, reason)),
            discard=lambda raw, reason: drops.append(Drop(raw, reason, True)),
        )
        genai = GenAI()
        return Stages([genai.build(context), Cost().build(context)], genai.renderer(), drops, count)


def batches(bodies: Iterable[bytes], *, now_s: float = 1_000.0, headers: dict[str, str] | None = None) -> list[Batch]:
    """One batch a request."""
    made = stages()
    found = []
    for sequence, body in enumerate(bodies, 1):
        record = Record(sequence=sequence, signal="traces", received_ns=1, body=body, headers=headers or {})
        result = made.run([record], now_s, int(now_s * 1e9))
        found.append(Batch(first=sequence, last=sequence, spans=result.spans, traces=result.traces))
    return found
