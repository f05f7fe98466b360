"""OTLP requests through the real stages (decode, conventions, cost, assembly) into batches for exporters."""

import tempfile
from collections.abc import Iterable, Iterator

from spanweir.collector.delivery import Options
from spanweir.collector.delivery.stages import Drop, Stages
from spanweir.collector.processors.api import Context
from spanweir.collector.processors.cost import Config as Cost
from spanweir.collector.processors.genai import Config as GenAI
from spanweir.collector.queue.api import Record
from spanweir.exporters.api import Batch


def stages(*, mapped: bool = True, requests: bool = False, agents: bool = False) -> Stages:
    """With the processors that every pipeline has. What is made is what some exporter reads."""
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
        return Stages(
            [genai.build(context), Cost().build(context)],
            genai.renderer(),
            drops,
            count,
            mapped=mapped,
            requests=requests,
            agents=genai.agents() if agents else None,
        )


def batches(
    bodies: Iterable[bytes], *, now_s: float = 1_000.0, headers: dict[str, str] | None = None, read_max_bytes: int = 0
) -> list[Batch]:
    """One batch a request; or as many requests as the delivery reads at once while it is behind."""
    made = stages()
    found = []
    for records in _read(bodies, headers or {}, read_max_bytes):
        result = made.run(records, now_s, int(now_s * 1e9))
        first, last = records[0].sequence, records[-1].sequence
        found.append(Batch(first=first, last=last, spans=result.spans, traces=result.traces))
    return found


def _read(bodies: Iterable[bytes], headers: dict[str, str], max_bytes: int) -> Iterator[list[Record]]:
    read: list[Record] = []
    size = 0
    for sequence, body in enumerate(bodies, 1):
        read.append(Record(sequence=sequence, signal="traces", received_ns=1, body=body, headers=headers))
        size += len(body)
        if size >= max_bytes or len(read) >= Options().read_max_records:
            yield read
            read, size = [], 0
    if read:
        yield read
