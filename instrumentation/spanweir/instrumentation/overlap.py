"""One span for one model call, where a framework's instrumentation and the client's both record it.

A model call directly below another one of the same kind and model is the same call seen twice. The outer span stays, is
given what only the inner one knows (response id, token details), and takes over the inner one's children.
util-genai does the same among instrumentations that are built on it; this covers the others.
"""

import copy
from collections.abc import Mapping, Sequence
from typing import Any

from opentelemetry import trace
from opentelemetry.context import Context
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
        self.open: dict[int, Span] = {}
        self.inner: dict[int, Span] = {}
        self._held: dict[int, list[ReadableSpan]] = {}
        self.streams: dict[int, frozenset[int]] = {}
        """What is above each open span that a stream may belong to."""

    def started(self, span: Span, parent_context: Context | None = None) -> None:
        """Spans of ours (`start.QuickSpan`) are not remembered when they start: their children find them in the
        context, and to be asked for its id costs such a span more than to start."""
        above, ours = span._parent, given(span) is not None
        if above is None and ours and not self.streams:
            return
        parent = 0 if above is None else above.span_id
        outer: Span | None = None
        if _family(raw(span)):
            found = self._outer(parent, parent_context)
            if found is not None and (parent in self._held or _same_call(raw(found), raw(span))):
                outer = self._streaming(parent) or self.inner.get(parent, found)
            elif self.streams:
                outer = self._streaming(parent)
            if ours and outer is None:
                return
        elif span.instrumentation_scope is None or span.instrumentation_scope.name != _LATE:
            return
        if span._context is None:
            return
        span_id = span._context.span_id
        if outer is not None:
            self.inner[span_id] = outer
        elif not _family(raw(span)):
            self._held[span_id] = []
            self.streams[span_id] = self.streams.get(parent, frozenset()) | {parent}
        self._remember(span_id, span)

    def _outer(self, parent: int, context: Context | None) -> Span | None:
        """The open span of a model call that has the id `parent`."""
        known = self.open.get(parent)
        if known is None and parent:
            here: Any = trace.get_current_span(context)
            ours = given(here) is not None and here.is_recording() and here.get_span_context().span_id == parent
            if ours and _family(raw(here)):
                known = here
                self._remember(parent, here)
        return known

    def _remember(self, span_id: int, span: Span) -> None:
        self.open[span_id] = span
        if len(self.open) > MAX_OPEN:
            self._forget(next(iter(self.open)))

    def _streaming(self, parent: int) -> Span | None:
        """The open span of a stream that a framework has begun below `parent`, and whose client's call only begins when
        the stream is read, outside that span. None if there are several that it could be."""
        below = [key for key, above in list(self.streams.items()) if parent in above and key in self.open]
        inside = set().union(*(self.streams[key] for key in below))
        leaves = [key for key in below if key not in inside]
        return self.open[leaves[0]] if len(leaves) == 1 else None

    def ended(self, span: ReadableSpan, span_id: int) -> Sequence[ReadableSpan]:
        """The spans to export now: this one, none if another stands for it, or more that were waiting for it."""
        outer = None
        if self.inner:
            outer = self.inner.pop(span_id, None)
            parent = 0 if span._parent is None else span._parent.span_id
            if outer is None and parent in self.inner:
                span._parent = self.inner[parent].context
        if self.open.pop(span_id, None) is None:
            return (span,)
        if self._held and (held := self._held.pop(span_id, None)) is not None:
            self.streams.pop(span_id, None)
            return _decide(span, held)
        if outer is not None and outer.is_recording():
            waiting = self._held.get(outer.context.span_id) if outer.context is not None else None
            if waiting is not None:
                waiting.append(span)
            else:
                outer.set_attributes(_details(raw(outer), span))
            return ()
        return (span,)

    def _forget(self, span_id: int) -> None:
        self.open.pop(span_id, None)
        self.inner.pop(span_id, None)
        self._held.pop(span_id, None)
        self.streams.pop(span_id, None)


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


def given(span: Any) -> dict[str, Any] | None:
    """What a span of ours was started with; None for those of others."""
    try:
        found: dict[str, Any] = span._given
    except AttributeError:
        return None
    return found


def raw(span: Any) -> Mapping[str, Any]:
    """Live attributes, without the lock and the copy that reading them otherwise costs."""
    attributes = given(span)
    if attributes is None or span._held is not None:
        attributes = getattr(span._attributes, "_dict", span._attributes)
    return attributes


def _family(attributes: Mapping[str, Any]) -> str | None:
    operation = attributes.get(names.OPERATION) or attributes.get(names.OPENINFERENCE_KIND)
    return _FAMILIES.get(operation) if isinstance(operation, str) else None


def _same_call(outer: Any, inner: Any) -> bool:
    if _family(outer) is None or _family(outer) != _family(inner):
        return False
    models = [{str(found[key]) for key in _MODELS if key in found} for found in (outer, inner)]
    return not models[0] or not models[1] or bool(models[0] & models[1])
