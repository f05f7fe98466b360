"""A processor outside of a pipeline."""

from collections import Counter
from typing import Any

from spanweir.collector.processors.api import Context, Item, Processor
from spanweir.schemas.mapping import Mapper
from spanweir.schemas.raw import RawSpan

MAPPER = Mapper()


class Bench:
    """`counted` and `dropped` are what the processor said beside its result."""

    def __init__(self, config: Any, directory: str = "") -> None:
        self.counted: Counter[str] = Counter()
        self.dropped: list[tuple[str, str]] = []
        context = Context(
            name="test", state_directory=directory, count=self._count, drop=self._drop, discard=self._drop
        )
        self.processor: Processor = config.build(context)

    def _count(self, name: str, n: int = 1) -> None:
        self.counted[name] += n

    def _drop(self, raw: RawSpan, reason: str) -> None:
        self.dropped.append((raw.name, reason))

    def __call__(self, *spans: RawSpan, **route: Any) -> list[Item]:
        return self.processor.process([Item(raw, MAPPER.map(raw), **route) for raw in spans])
