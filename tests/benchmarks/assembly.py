"""CPU of log join and trace assembly alone, on the standard load: mapping and rendering are done before the clock runs.

python -m tests.benchmarks.assembly [--requests 40] [--traces 20]
"""

import argparse
import gc
import time

from spanweir.collector.assembly import work
from spanweir.collector.assembly.assembler import Assembler
from spanweir.collector.assembly.join import Joiner
from spanweir.collector.decode.otlp_proto import decode_traces
from spanweir.collector.processors.api import Item
from spanweir.schemas.genai import GenAISpan
from spanweir.schemas.mapping import Mapper
from spanweir.schemas.mlflow import Renderer
from spanweir.schemas.raw import RawSpan
from spanweir.schemas.summary import Summary
from spanweir.schemas.trace import MappedSpan
from tests.benchmarks.load import make_requests

BATCH = 500


class Rendered(Renderer):
    """Gives out what was rendered before."""

    def __init__(self, items: list[Item]) -> None:
        super().__init__()
        real = Renderer()
        self.mapped = {id(item.raw): real.render(item.raw, item.span) for item in items}
        self.summaries = {
            id(item.raw): work.summarise(item.raw, item.span, self.mapped[id(item.raw)]) for item in items
        }

    def render(self, raw: RawSpan, span: GenAISpan | None) -> MappedSpan:
        return self.mapped[id(raw)]

    def summarise(self, raw: RawSpan, span: GenAISpan | None, mapped: MappedSpan) -> Summary:
        return self.summaries[id(raw)]


def measure(items: list[Item], mapper: Mapper, rendered: Rendered) -> float:
    """Microseconds of CPU a span."""
    joiner, assembler = Joiner(), Assembler(rendered, mapper.map)
    began = time.process_time()
    for at in range(0, len(items), BATCH):
        batch = items[at : at + BATCH]
        joiner.note(batch, 0.0, at)
        joiner.join([item.raw for item in batch], [], 0.0, at)
        assembler.process(batch, 0.0, time.time_ns())
    return (time.process_time() - began) / len(items) * 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description="CPU of log join and trace assembly.")
    parser.add_argument("--requests", type=int, default=40)
    parser.add_argument("--traces", type=int, default=20)
    options = parser.parse_args()
    mapper = Mapper()
    raws = [raw for body in make_requests(options.requests, options.traces) for raw in decode_traces(body)]
    items = [Item(raw, mapper.map(raw)) for raw in raws]
    rendered = Rendered(items)
    real, work.summarise = work.summarise, rendered.summarise
    gc.disable()  # as in the delivery process
    try:
        best = min(measure(items, mapper, rendered) for _ in range(7))
    finally:
        work.summarise = real
    print(f"{len(items)} spans: {best:.1f} us of CPU a span for join and assembly")


if __name__ == "__main__":
    main()
