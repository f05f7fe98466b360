"""Inputs that were sent as a continuation of another span's (LiveKit 2: `lk.input.delta`), made whole again.

A long conversation is then sent once and not once more with every turn. What a base said is remembered for a bounded
number of spans; a span whose base is not known keeps what it has and says so.
"""

from spanweir.schemas.genai import GenAISpan, Message
from spanweir.schemas.raw import RawSpan

MAX_BASES = 1024


class Deltas:
    """Remembers what spans that may be continued had for input."""

    def __init__(self, limit: int = MAX_BASES) -> None:
        self._limit = limit
        self._inputs: dict[tuple[str, str], list[Message]] = {}

    def resolve(self, raw: RawSpan, span: GenAISpan) -> None:
        """Put the base's messages, less the last `dropped` of them, before the span's own."""
        base = span.base
        if base is not None:
            found = self._inputs.get((raw.trace_id, base.span_id))
            if found is None:
                span.content_state = {**(span.content_state or {}), "input": "partial"}
            else:
                span.input = found[: len(found) - base.dropped] + span.input if base.dropped else found + span.input
        if span.input:
            key = (raw.trace_id, raw.span_id)
            self._inputs.pop(key, None)
            if len(self._inputs) >= self._limit:
                del self._inputs[next(iter(self._inputs))]
            self._inputs[key] = span.input
