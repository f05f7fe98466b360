"""The engine that turns a raw span into a canonical one by the tables in `conventions`."""

from collections.abc import Sequence

from spanweir.schemas.genai import GenAISpan
from spanweir.schemas.raw import RawLog, RawSpan


class Mapper:
    """Maps spans. Not thread-safe: one for each thread that maps (it holds the plan caches)."""

    def __init__(self, order: Sequence[str] = ()) -> None:
        self.order = tuple(order)

    def map(self, raw: RawSpan, logs: Sequence[RawLog] = ()) -> GenAISpan | None:
        """The canonical span, from the span and the log records that carry its ids; `None` for a span that says
        nothing about generative AI, a session, a user or an evaluation (HTTP, databases). Never raises."""
        return None
