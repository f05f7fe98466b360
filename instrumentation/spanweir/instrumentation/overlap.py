"""One span for one model call, where a framework's instrumentation and the client's both record it.

A model call directly below another one of the same kind and model is the same call seen twice. The outer span stays, is
given what only the inner one knows (response id, token details), and takes over the inner one's children.
util-genai does the same among instrumentations that are built on it; this covers the others.
"""

import copy
from collections.abc import Mapping, Sequence
from typing import Any

from opentelemetry.sdk.trace import ReadableSpan, Span

from spanweir.instrumentation import names

MAX_OPEN = 10_000
"""Open spans that are remembered; spans that never end must not add up."""
_FAMILIES = {
    "chat": "inference",
    "text_completion": "inference",
    "generate_content": "inference",
    "embeddings": "embeddings",
    "LLM": "inference",
    "EMBEDDING": "embeddings",
}
_MODELS = (names.REQUEST_MODEL, "llm.model_name", "embedding.model_name")
_LATE = "openinference.instrumentation.llama_index"
"""Sets its attributes only when a span ends (4.6), so what its children are can only be told then."""


class Overlap:
    """Called by the span processor for every span; keeps only open ones that matter."""

    def __init__(self) -> None:
        self._open: dict[int, Span] = {}
        self._inner: dict[int, Span] = {}
        self._held: dict[int, list[ReadableSpan]] = {}
        self._above: dict[int, frozenset[int]] = {}

    def started(self, span: Span) -> None:
        context, above = span._context, span._parent
        if context is None:
            return
        span_id, parent = context.span_id, 0 if above is None else above.span_id
        if _family(span._attributes):
            outer = self._open.get(parent)
            if outer is not None and (parent in self._held or _same_call(outer._attributes, span._attributes)):
                outer = self._inner.get(parent, outer)
                self._inner[span_id] = self._streaming(parent) or outer
            elif self._above and (outer := self._streaming(parent)) is not None:
                self._inner[span_id] = outer
        elif span.instrumentation_scope is not None and span.instrumentation_scope.name == _LATE:
            self._held[span_id] = []
            self._above[span_id] = self._above.get(parent, frozenset()) | {parent}
        else:
            return
        self._open[span_id] = span
        if len(self._open) > MAX_OPEN:
            self._forget(next(iter(self._open)))

    def _streaming(self, parent: int) -> Span | None:
        """The open span of a stream that a framework has begun below `parent`, and whose client's call only begins when
        the stream is read, outside that span. None if there are several that it could be."""
        below = [key for key, above in list(self._above.items()) if parent in above and key in self._open]
        inside = set().union(*(self._above[key] for key in below))
        leaves = [key for key in below if key not in inside]
        return self._open[leaves[0]] if len(leaves) == 1 else None

    def ended(self, span: ReadableSpan, span_id: int) -> Sequence[ReadableSpan]:
        """The spans to export now: this one, none if another stands for it, or more that were waiting for it."""
        outer = None
        if self._inner:
            outer = self._inner.pop(span_id, None)
            parent = 0 if span._parent is None else span._parent.span_id
            if outer is None and parent in self._inner:
                span._parent = self._inner[parent].context
        if self._open.pop(span_id, None) is None:
            return (span,)
        if self._held and (held := self._held.pop(span_id, None)) is not None:
            self._above.pop(span_id, None)
            return _decide(span, held)
        if outer is not None and outer.is_recording():
            waiting = self._held.get(outer.context.span_id) if outer.context is not None else None
            if waiting is not None:
                waiting.append(span)
            else:
                outer.set_attributes(_details(_raw(outer._attributes), span))
            return ()
        return (span,)

    def _forget(self, span_id: int) -> None:
        self._open.pop(span_id, None)
        self._inner.pop(span_id, None)
        self._held.pop(span_id, None)
        self._above.pop(span_id, None)


def _decide(outer: ReadableSpan, held: list[ReadableSpan]) -> list[ReadableSpan]:
    attributes = dict(outer.attributes or {})
    alone = [span for span in held if not _same_call(attributes, span.attributes or {})]
    for span in held:
        if span not in alone:
            attributes.update(_details(attributes, span))
    if len(alone) < len(held):
        outer = copy.copy(outer)
        outer._attributes = attributes
    return [*alone, outer]


def _details(have: Mapping[str, Any], inner: ReadableSpan) -> dict[str, Any]:
    """What only the inner span knows, content apart."""
    return {
        key: value
        for key, value in (inner.attributes or {}).items()
        if value is not None
        and key not in names.CONTENT
        and key not in have
        and not key.startswith(("llm.", "input.", "output.", "openinference."))
    }


def _family(attributes: Any) -> str | None:
    raw = getattr(attributes, "_dict", attributes)  # as `_raw` does, in a place where each call counts
    operation = raw.get(names.OPERATION) or raw.get(names.OPENINFERENCE_KIND)
    return _FAMILIES.get(operation) if isinstance(operation, str) else None


def _raw(attributes: Any) -> Mapping[str, Any]:
    """Live attributes, without the lock and the copy that reading them otherwise costs."""
    raw: Mapping[str, Any] = getattr(attributes, "_dict", attributes)
    return raw


def _same_call(outer: Any, inner: Any) -> bool:
    if _family(outer) is None or _family(outer) != _family(inner):
        return False
    models = [{str(found[key]) for key in _MODELS if key in found} for found in (_raw(outer), _raw(inner))]
    return not models[0] or not models[1] or bool(models[0] & models[1])
