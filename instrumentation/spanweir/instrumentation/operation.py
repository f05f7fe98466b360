"""An operation: what `chat(...)` and the others return. A context manager, a decorator and a factory of explicit spans.

Not here: the operations themselves (`operations`), streams (`streams`). opentelemetry-util-genai has similar ones, but
they write content as text in the calling thread (1.3b0), which is what this package exists to avoid.
"""

import functools
import inspect
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from time import time_ns
from types import CoroutineType, TracebackType
from typing import Any, ParamSpec, TypeVar

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import SpanKind
from opentelemetry.trace.propagation import _SPAN_KEY
from opentelemetry.util.types import AttributeValue

from spanweir.instrumentation import names, responses, streams
from spanweir.instrumentation.encode import tame
from spanweir.instrumentation.lazy import CLEAN
from spanweir.instrumentation.span import Span, handle, parent_context
from spanweir.instrumentation.state import TRACE_KEY, fixed, recorder
from spanweir.instrumentation.threads import attach, current, detach

P = ParamSpec("P")
R = TypeVar("R")

_QUERY = ("query", "question", "q", "text", "input")
_MESSAGES = ("messages", "input", "prompt", "contents", "texts")
_REQUEST = {
    "temperature": "gen_ai.request.temperature",
    "top_p": "gen_ai.request.top_p",
    "max_tokens": "gen_ai.request.max_tokens",
    "seed": "gen_ai.request.seed",
}
_SAID = frozenset({"model", "system", "instructions", "tools", *_REQUEST})
"""Arguments of a model call, beside its messages, that are recognised by name."""


class Operation:
    """One kind of work, described once. Use it in one of three ways:

    - `with chat("gpt-5") as span:` the span is the current one inside the block and ends with it (also `async with`);
    - `@chat("gpt-5")` on a function, coroutine, generator or async generator: arguments and return value are recorded;
    - `span = chat("gpt-5").start(parent=...)`: explicit, never touches the current context; `span.end()` ends it.
    """

    __slots__ = ("_attributes", "_clean", "_content", "_entered", "_forms", "_kind", "_name", "_op", "_target")

    def __init__(
        self,
        op: str,
        target: str | None,
        attributes: Mapping[str, AttributeValue | None],
        *,
        kind: SpanKind = SpanKind.INTERNAL,
        forms: tuple[tuple[str, str], tuple[str, str]] = (
            (names.INPUT_MESSAGES, "input"),
            (names.OUTPUT_MESSAGES, "output"),
        ),
        content: Mapping[str, tuple[str, Any]] | None = None,
        target_attribute: str = "",
    ) -> None:
        self._op = op
        self._target = target
        self._name = f"{op} {target}" if target else op
        self._attributes: dict[str, AttributeValue] = {names.OPERATION: op}
        self._attributes.update({key: tame(value) for key, value in attributes.items() if value is not None})
        if target and target_attribute:
            self._attributes[target_attribute] = target
        self._clean = CLEAN.issuperset(map(type, self._attributes.values()))
        self._kind = kind
        self._forms = forms
        self._content = {key: item for key, item in (content or {}).items() if item[1] is not None}
        self._entered: list[Span] = []

    def start(self, parent: Any = None, *, start_time_ns: int | None = None) -> Span:
        """Start a span under `parent` (a span of this API or of OpenTelemetry, a span context, a context, or headers
        from `Span.inject`); without one it begins a new trace. The current context is neither read nor changed.
        """
        return self._start(parent_context(parent), start_time_ns)[0]

    def __enter__(self) -> Span:
        span, context = self._start(current(), None)
        span._token = attach(context)
        self._entered.append(span)
        return span

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, stack: TracebackType | None
    ) -> None:
        span = self._leave()
        if span._token is not None:
            detach(span._token)
            span._token = None
        if error is not None and not isinstance(error, GeneratorExit):
            span.record_exception(error)
        span.end()

    def _leave(self) -> Span:
        """The span that this block entered: one operation may be entered by several threads or tasks at once."""
        here = trace.get_current_span()
        for index in range(len(self._entered) - 1, -1, -1):
            if self._entered[index]._otel is here:
                return self._entered.pop(index)
        return self._entered.pop()

    async def __aenter__(self) -> Span:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, stack: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, stack)

    def __call__(self, function: Callable[P, R], /) -> Callable[P, R]:
        """Decorate a function. Its name stands for a target that was not given."""
        if isinstance(function, (staticmethod, classmethod)):  # decorators may stand in either order
            return type(function)(self(function.__func__))
        operation = self._named(getattr(function, "__name__", "function"))
        call = Call(operation, function)
        wrapper: Any
        if inspect.isasyncgenfunction(function):
            wrapper = streams.async_generator(call, function)
        elif inspect.isgeneratorfunction(function):
            wrapper = streams.generator(call, function)
        elif inspect.iscoroutinefunction(function):
            wrapper = _coroutine(call, function)
        else:
            wrapper = _function(call, function)
        return functools.wraps(function)(wrapper)

    def _named(self, name: str) -> "Operation":
        if self._target or self._op in ("chat", "embeddings", "rerank"):
            return self
        attribute = TARGETS.get(self._op, "")
        return Operation(
            self._op,
            name,
            self._attributes,
            kind=self._kind,
            forms=self._forms,
            content=self._content,
            target_attribute=attribute,
        )

    def _start(self, context: Context, start_time_ns: int | None) -> tuple[Span, Context]:
        shared: Any = context.get(TRACE_KEY)
        attributes = self._attributes
        if shared is not None and shared.inherited:
            attributes = {**attributes, **shared.inherited}
        starter, policy = fixed.recorder or recorder()
        started_ns = time_ns() if start_time_ns is None else start_time_ns
        otel = starter.start(self._name, context, self._kind, attributes, started_ns, self._clean)
        span = handle(otel, self._forms, policy, started_ns, type(otel) is starter.quick, shared)
        # set_span_in_context and set_value at once: each copies the context
        own = {TRACE_KEY: shared or span, _SPAN_KEY: otel}
        context = Context({**context, **own} if context else own)
        if self._content:
            for key, (form, value) in self._content.items():
                span._content(key, form, value)
        return span, context


TARGETS = {
    "invoke_workflow": names.WORKFLOW_NAME,
    "invoke_agent": names.AGENT_NAME,
    "execute_tool": names.TOOL_NAME,
    "retrieval": names.DATA_SOURCE_ID,
    "evaluate": names.EVALUATION_NAME,
}


class Call:
    """A decorated function's calls: which argument goes where, and what is made of the result."""

    __slots__ = (
        "_defaults",
        "_judges",
        "_keeps",
        "_names",
        "_op",
        "_positional",
        "_reads",
        "_record",
        "_sole",
        "operation",
    )

    def __init__(self, operation: Operation, function: Callable[..., Any]) -> None:
        self.operation = operation
        self._op = operation._op
        self._record = RECORDED.get(self._op, _record_any)
        try:
            parameters = list(inspect.signature(function).parameters.values())
        except (TypeError, ValueError):
            parameters = []
        positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
        found = [p.name for p in parameters if p.kind in positional]
        self._names = [(n, name) for n, name in enumerate(found) if n or name not in ("self", "cls")]
        self._positional = len(found)
        # Where arguments are told apart by name, what a call leaves out counts as well: the model, the number of hits.
        named = parameters if self._op in RECORDED else []
        self._defaults = {p.name: p.default for p in named if p.default is not inspect.Parameter.empty}
        asks = self._op in ("chat", "embeddings")
        # The common call: a model is given its messages and nothing else.
        self._sole = asks and len(self._names) == 1 and not self._defaults and self._names[0][1] not in _SAID
        self._reads = asks or self._op == "invoke_agent"
        self._judges = self._op in ("evaluate", "apply_guardrail")
        self._keeps = self._op != "embeddings"

    def begin(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Span, Context]:
        span, context = self.operation._start(current(), None)
        if span._captures:
            try:
                if self._sole and not kwargs and len(args) == self._positional:
                    key, form = span._forms[0]
                    span._content(key, form, args[self._names[0][0]])
                else:
                    self._record(span, self._given(args, kwargs))
            except Exception as error:  # an argument that misbehaves must not reach the application
                span.set_attribute("spanweir.capture_error", type(error).__name__)
        return span, context

    def _given(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        """The arguments by name."""
        given = {}
        for index, name in self._names:
            if index == len(args):
                break
            given[name] = args[index]
        if len(args) > self._positional:
            given["args"] = args[self._positional :]
        given.update(kwargs)
        if self._defaults:
            given.update({name: value for name, value in self._defaults.items() if name not in given})
        return given

    def returned(self, span: Span, context: Context, result: Any) -> Any:
        """The result for the caller. A stream, coroutine, task or future is observed, all else ends the span."""
        if type(result) is CoroutineType:
            return self.awaited(span, context, result)
        stream = streams.wrap(self, span, context, result)
        if stream is not None:
            return stream
        with suppress(Exception):  # what misbehaves, or looks like a future and is none
            if hasattr(type(result), "add_done_callback"):
                result.add_done_callback(functools.partial(self.done, span))
                return result
        self.finish(span, result)
        return result

    async def awaited(self, span: Span, context: Context, coroutine: Awaitable[Any]) -> Any:
        """What the coroutine gives; it runs in the span, which lasts as long."""
        token = attach(context)
        try:
            result = await coroutine
        except BaseException as error:
            span.record_exception(error)
            span.end()
            raise
        finally:
            detach(token)
        return self.returned(span, context, result)

    def done(self, span: Span, future: Any) -> None:
        """End the span with what the future of asyncio or `concurrent.futures` holds."""
        try:
            # `exception()` would count as the application's having seen it: asyncio would no longer log it
            error = None if future.cancelled() else getattr(future, "_exception", None)
            if error is None:
                self.finish(span, future.result())
                return
        except BaseException as cancelled:
            error = cancelled
        span.record_exception(error)
        span.end()

    def finish(self, span: Span, result: Any) -> None:
        try:
            if self._reads and type(result) is not str:
                span._set(responses.attributes_of(result))
            if self._judges:
                _record_verdict(span, result)
            if self._keeps:
                key, form = span._forms[1]
                span._content(key, form, result)
        except Exception as error:
            span.set_attribute("spanweir.capture_error", type(error).__name__)
        span.end()


def _is_context(value: Any) -> bool:
    """What MLflow passes to the `predict` of a PyFunc model beside the input."""
    return type(value).__name__ == "PythonModelContext"


def _first(given: dict[str, Any], wanted: tuple[str, ...]) -> Any:
    for name in wanted:
        if name in given:
            return given[name]
    return next(iter(given.values()), None)


def _record_any(span: Span, given: dict[str, Any]) -> None:
    if given := {key: value for key, value in given.items() if value is not None and not _is_context(value)}:
        span.set_input(next(iter(given.values())) if len(given) == 1 else given)


def _record_tool(span: Span, given: dict[str, Any]) -> None:
    span.set_input(given)


def _record_search(top_k_name: str, span: Span, given: dict[str, Any]) -> None:
    span.set_input(_first(given, _QUERY))
    top_k = given.get("top_k", given.get("k"))
    if isinstance(top_k, int):
        span.set_attribute(top_k_name, top_k)


def _record_model_call(op: str, span: Span, given: dict[str, Any]) -> None:
    if not _SAID.isdisjoint(given):
        _record_options(span, op, given)
        given = {key: value for key, value in given.items() if key not in _SAID}
    if given:
        value = next(iter(given.values())) if len(given) == 1 else _first(given, _MESSAGES)
        span._content(*span._forms[0], value)


RECORDED: dict[str, Callable[[Span, dict[str, Any]], None]] = {
    "chat": functools.partial(_record_model_call, "chat"),
    "embeddings": functools.partial(_record_model_call, "embeddings"),
    "execute_tool": _record_tool,
    "rerank": functools.partial(_record_search, names.RERANK_TOP_K),
    "retrieval": functools.partial(_record_search, names.TOP_K),
}
"""What is made of the arguments, by name, of a decorated function; `_record_any` for all other operations."""


def _record_options(span: Span, op: str, given: dict[str, Any]) -> None:
    model = given.get("model")
    if isinstance(model, str):
        span.set_attribute(names.REQUEST_MODEL, model)
        span._otel.update_name(f"{op} {model}")
    for name, attribute in _REQUEST.items():
        if isinstance(given.get(name), (int, float)):
            span.set_attribute(attribute, given[name])
    for name in ("system", "instructions"):
        if given.get(name) is not None:
            span.set_system(given[name])
    if given.get("tools") is not None:
        span.set_tools(given["tools"])


def _record_verdict(span: Span, result: Any) -> None:
    score = responses.get(result, "score")
    label = responses.get(result, "label")
    if isinstance(result, bool):
        label = "pass" if result else "fail"
    elif isinstance(result, (int, float)):
        score = result
    elif isinstance(result, str):
        label = result
    explanation = responses.get(result, "explanation") or responses.get(result, "rationale")
    span.set_score(
        float(score) if isinstance(score, (int, float)) else None,
        label=label if isinstance(label, str) else None,
        explanation=explanation if isinstance(explanation, str) else None,
    )


def _function(call: Call, function: Callable[..., Any]) -> Callable[..., Any]:
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        span, context = call.begin(args, kwargs)
        token = attach(context)
        try:
            result = function(*args, **kwargs)
        except BaseException as error:
            span.record_exception(error)
            span.end()
            raise
        finally:
            detach(token)
        if type(result) is not str and type(result) not in streams.WHOLE:
            return call.returned(span, context, result)
        call.finish(span, result)
        return result

    return wrapper


def _coroutine(call: Call, function: Callable[..., Any]) -> Callable[..., Any]:
    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        span, context = call.begin(args, kwargs)
        return await call.awaited(span, context, function(*args, **kwargs))

    return wrapper
