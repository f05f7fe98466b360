"""The span handle that applications hold: `workflow(...)`, `chat(...)` and the others give one.

Not here: which attributes an operation starts with (`operations`), what becomes of content (`policy`, `worker`).
"""

import contextvars
import logging
import time
import traceback
from collections.abc import Mapping, MutableMapping, Sequence
from typing import Any

from opentelemetry import context as otel_context
from opentelemetry import propagate, trace
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode
from opentelemetry.util.types import AttributeValue

from spanweir.instrumentation import lazy, names, state
from spanweir.instrumentation.encode import tame
from spanweir.instrumentation.freeze import Frozen, freeze
from spanweir.instrumentation.policy import Policy

_log = logging.getLogger(__name__)
Parent = "Span | SpanContext | otel_context.Context | Mapping[str, str] | None"
"""A handle, a span context, an OpenTelemetry context, or carrier headers that `Span.inject` has filled elsewhere."""


_MAX_MESSAGE = 16_384
_VERDICT = frozenset({names.EVALUATION_SCORE, names.EVALUATION_LABEL})


class Span(state.Trace):
    """One span that has started. Every method may be called from any thread until `end`, and none of them raises."""

    __slots__ = (
        "_attributes",
        "_captures",
        "_forms",
        "_frozen",
        "_policy",
        "_quick",
        "_scored",
        "_started_ns",
        "_token",
        "_trace",
    )

    _attributes: dict[str, AttributeValue]
    _captures: bool
    _forms: tuple[tuple[str, str], tuple[str, str]]
    _frozen: dict[str, Frozen]
    _policy: Policy | None
    _quick: bool
    """Whether it is a span of ours (`start.QuickSpan`), which takes frozen content as it is."""
    _scored: bool
    _started_ns: int
    _token: contextvars.Token[otel_context.Context] | None
    _trace: state.Trace | None
    """None: the trace begins with this span."""

    @property
    def trace_id(self) -> str:
        """32 hex digits."""
        return format(self._otel.get_span_context().trace_id, "032x")

    @property
    def span_id(self) -> str:
        """16 hex digits."""
        return format(self._otel.get_span_context().span_id, "016x")

    @property
    def context(self) -> SpanContext:
        context: SpanContext = self._otel.get_span_context()
        return context

    def inject(self, carrier: MutableMapping[str, str] | None = None) -> MutableMapping[str, str]:
        """Headers (W3C by default) that name this span as parent in another process; also usable as `parent=`."""
        carrier = {} if carrier is None else carrier
        propagate.inject(carrier, context=trace.set_span_in_context(self._otel, otel_context.Context()))
        return carrier

    def set_input(self, value: Any) -> None:
        """Record what went in.

        Emits `gen_ai.input.messages` (workflow, agent, chat, embeddings, guardrail, evaluation: a string or messages in
        the OpenAI, Anthropic or OpenTelemetry form), `gen_ai.tool.call.arguments` (tool) or
        `gen_ai.retrieval.query.text` (retrieval, rerank).
        """
        key, form = self._forms[0]
        self._content(key, form, value)

    def set_output(self, value: Any) -> None:
        """Record what came out.

        Emits `gen_ai.output.messages`, `gen_ai.tool.call.result` (tool) or `gen_ai.retrieval.documents` (retrieval,
        rerank: strings, dicts, LangChain or LlamaIndex documents, or pairs of a document and its score).
        A model response of OpenAI or Anthropic also gives id, model, finish reasons and token usage.
        """
        key, form = self._forms[1]
        self._content(key, form, value)

    def set_system(self, value: Any) -> None:
        """Emits `gen_ai.system_instructions`."""
        self._content(names.SYSTEM_INSTRUCTIONS, "system", value)

    def set_tools(self, value: Any) -> None:
        """Emits `gen_ai.tool.definitions` (OpenAI, Anthropic or OpenTelemetry form)."""
        self._content(names.TOOL_DEFINITIONS, "tools", value)

    def set_usage(
        self,
        input_tokens: int | None = None,
        output_tokens: int | None = None,
        *,
        cache_read: int | None = None,
        cache_write: int | None = None,
        reasoning: int | None = None,
    ) -> None:
        """Emits `gen_ai.usage.*`.

        `input_tokens` includes tokens read from and written to a cache, `output_tokens` includes reasoning.
        """
        self._set(
            {
                names.INPUT_TOKENS: input_tokens,
                names.OUTPUT_TOKENS: output_tokens,
                names.CACHE_READ_TOKENS: cache_read,
                names.CACHE_WRITE_TOKENS: cache_write,
                names.REASONING_TOKENS: reasoning,
            }
        )

    def set_response(
        self, *, id: str | None = None, model: str | None = None, finish_reasons: Sequence[str] | None = None
    ) -> None:
        """Emits `gen_ai.response.id`, `.model` and `.finish_reasons`."""
        reasons = None if finish_reasons is None else _texts(finish_reasons)
        self._set({names.RESPONSE_ID: id, names.RESPONSE_MODEL: model, names.FINISH_REASONS: reasons})

    def set_score(
        self, value: float | None = None, *, label: str | None = None, explanation: str | None = None
    ) -> None:
        """The verdict of an evaluation or guardrail: emits `gen_ai.evaluation.score.*` and `.explanation`."""
        self._set(
            {
                names.EVALUATION_SCORE: _number(value),
                names.EVALUATION_LABEL: label,
            }
        )
        self._content(names.EVALUATION_EXPLANATION, "text", explanation)
        self._scored = True

    def set_attribute(self, key: str, value: AttributeValue) -> None:
        """Any other attribute, as it stands."""
        self._set({key: value})

    def first_chunk(self) -> None:
        """The first chunk of a stream has come: emits `gen_ai.request.stream` and `.response.time_to_first_chunk`.

        Streams that a decorated function returns or yields are timed without this.
        """
        if self._policy is not None and names.TIME_TO_FIRST_CHUNK not in self._attributes:
            self._attributes[names.REQUEST_STREAM] = True
            self._attributes[names.TIME_TO_FIRST_CHUNK] = max(time.time_ns() - self._started_ns, 0) / 1e9

    def record_exception(self, error: BaseException) -> None:
        """Emits an `exception` event, `error.type` and the error status. The span stays open.

        Messages of exceptions often quote what could not be handled: where no content is recorded, they are not either.
        """
        if self._policy is None:
            return
        try:
            self._exception(error)
        except Exception:  # a class of the application's that misbehaves
            self._otel.set_status(Status(StatusCode.ERROR, type(error).__qualname__))

    def end(self, end_time_ns: int | None = None) -> None:
        """End the span. A second call does nothing."""
        policy, otel = self._policy, self._otel
        if policy is None or (otel._end_time is not None if self._quick else not otel.is_recording()):
            return
        frozen = self._frozen
        try:
            if self._attributes:
                lazy.put(otel, self._attributes.copy())  # another thread may still be adding to it
            if self._scored or (self._attributes and not _VERDICT.isdisjoint(self._attributes)):
                self._verdict()
            if frozen and policy.on_events:  # before the attributes are such that reading them makes text
                state.emit_details(otel, self._attributes, frozen, policy)
            if not policy.on_spans:
                frozen = {}
            elif frozen and not self._quick:
                lazy.attach(otel, frozen, policy)
        except Exception as error:  # a value or a logger of the application's that misbehaves
            _log.warning("a span was not recorded whole: %s", type(error).__name__)
        if self._quick:
            otel.end(end_time_ns, frozen, policy)
        else:
            otel.end(end_time_ns)

    # used by the operations

    def _content(self, key: str, form: str, value: Any) -> None:
        if self._captures and value is not None:
            self._frozen[key] = freeze(value, form)

    def _set(self, attributes: Mapping[str, AttributeValue | None]) -> None:
        if self._policy is not None:
            for key, value in attributes.items():
                if value is not None:
                    self._attributes[key] = tame(value)

    def _verdict(self) -> None:
        """An evaluation is an event in the conventions; the span carries the same attributes."""
        attributes = getattr(self._otel, "attributes", None) or {}
        name = attributes.get(names.EVALUATION_NAME)
        if name is not None:
            result = {key: value for key, value in self._attributes.items() if key in _VERDICT}
            explanation = self._frozen.get(names.EVALUATION_EXPLANATION)
            if explanation is not None and self._policy is not None and self._policy.on_spans:
                result[names.EVALUATION_EXPLANATION] = tame(explanation.value)
            self._otel.add_event(names.EVALUATION_EVENT, {names.EVALUATION_NAME: name, **result})

    def _exception(self, error: BaseException) -> None:
        kind = type(error)
        name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
        self._attributes[names.ERROR_TYPE] = name
        if not self._captures:
            stack = "".join(traceback.format_tb(error.__traceback__, limit=64))
            self._otel.add_event("exception", {"exception.type": name, "exception.stacktrace": stack})
            self._otel.set_status(Status(StatusCode.ERROR, kind.__qualname__))
            return
        message = _message(error)
        stack = "".join(traceback.format_exception(error, limit=64))
        self._otel.add_event(
            "exception",
            {"exception.type": name, "exception.message": message, "exception.stacktrace": stack},
        )
        self._otel.set_status(Status(StatusCode.ERROR, f"{kind.__qualname__}: {message}"[:1024]))


def handle(
    otel: trace.Span,
    forms: tuple[tuple[str, str], tuple[str, str]],
    policy: Policy,
    started_ns: int,
    quick: bool,
    shared: state.Trace | None,
) -> Span:
    """The handle of a span that was just started. No `__init__`: that is called by way of C, which touches more."""
    span = Span()
    span._otel = otel
    span._quick = quick
    span._forms = forms
    span._policy = policy if quick or otel.is_recording() else None
    span._captures = policy.captures and span._policy is not None
    span._attributes = {}
    span._frozen = {}
    span._started_ns = started_ns
    span._trace = shared
    span._scored = False
    span._token = span.inherited = span.metadata = None
    span.tags = ()
    return span


def parent_context(parent: Any) -> otel_context.Context:
    """The OpenTelemetry context that a `parent=` argument stands for; None is a new trace, not the current span."""
    empty = otel_context.Context()
    if parent is None:
        return empty
    if isinstance(parent, Span):
        context = trace.set_span_in_context(parent._otel, empty)
        return otel_context.set_value(state.TRACE_KEY, parent._trace or parent, context)
    if isinstance(parent, SpanContext):
        return trace.set_span_in_context(trace.NonRecordingSpan(parent), empty)
    if isinstance(parent, trace.Span):
        return trace.set_span_in_context(parent, empty)
    if isinstance(parent, otel_context.Context):
        return parent
    return propagate.extract(parent, context=empty) if isinstance(parent, Mapping) else empty


def _message(error: BaseException) -> str:
    try:
        return str(error)[:_MAX_MESSAGE]
    except Exception as failed:
        return f"<__str__ failed, {type(failed).__name__}>"


def _number(value: Any) -> float | None:
    try:
        return float(value) if isinstance(value, (int, float)) else None
    except Exception:  # an integer that no float can hold
        return None


def _texts(value: Any) -> list[str] | None:
    try:
        return [str(item) for item in value] if isinstance(value, (list, tuple)) else [str(value)]
    except Exception:
        return None


CLIENT = SpanKind.CLIENT
INTERNAL = SpanKind.INTERNAL
