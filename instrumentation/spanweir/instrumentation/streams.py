"""Generators and streams as spans: the span lasts until the stream does, and knows when its first chunk came.

The span is the current one only while the producer runs, never in the consumer between two chunks. A stream that is
never finished ends its span when it is closed or collected.
"""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from opentelemetry import context as otel_context

from spanweir.instrumentation import responses
from spanweir.instrumentation.span import Span
from spanweir.instrumentation.threads import attach, detach

if TYPE_CHECKING:
    from spanweir.instrumentation.operation import Call

MAX_CHUNKS = 20_000
"""Chunks kept for the recorded output; later ones pass through unrecorded."""


WHOLE = (str, bytes, dict, list, tuple, type(None))
"""Types of results that are no streams."""


class Chunks:
    """What has come through a stream, and the end of its span."""

    __slots__ = ("_call", "_chunks", "_done", "span")

    def __init__(self, call: "Call", span: Span) -> None:
        self._call = call
        self._chunks: list[Any] = []
        self._done = False
        self.span = span

    def add(self, chunk: Any) -> None:
        self.span.first_chunk()
        if len(self._chunks) < MAX_CHUNKS and self.span._captures:
            self._chunks.append(chunk)

    def end(self, error: BaseException | None = None) -> None:
        """Once; every later call does nothing."""
        if self._done:
            return
        self._done = True
        if error is not None and not isinstance(error, (GeneratorExit, StopIteration, StopAsyncIteration)):
            self.span.record_exception(error)
        chunks, self._chunks = self._chunks, []
        with suppress(Exception):  # a chunk that misbehaves must not reach the application
            found = map(responses.attributes_of, reversed(chunks[-3:]))
            self.span._set(next(filter(None, found), {}))
        texts = all(type(chunk) is str for chunk in chunks)
        self._call.finish(self.span, ("".join(chunks) if texts else chunks) if chunks else None)


def generator(call: "Call", function: Callable[..., Any]) -> Callable[..., Any]:
    """A generator function that runs `function` in a span."""

    def wrapper(*args: Any, **kwargs: Any) -> Any:
        span, context = call.begin(args, kwargs)
        chunks = Chunks(call, span)
        inner = function(*args, **kwargs)
        step: Callable[[], Any] = partial(next, inner)
        try:
            while True:
                token = attach(context)
                try:
                    item = step()
                except StopIteration as stop:
                    return stop.value
                finally:
                    detach(token)
                chunks.add(item)
                try:
                    sent = yield item
                    step = partial(inner.send, sent)
                except GeneratorExit:
                    inner.close()
                    raise
                except BaseException as error:
                    step = partial(inner.throw, error)
        except BaseException as error:
            chunks.end(error)
            raise
        finally:
            chunks.end()

    return wrapper


def async_generator(call: "Call", function: Callable[..., Any]) -> Callable[..., Any]:
    """An async generator function that runs `function` in a span."""

    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        span, context = call.begin(args, kwargs)
        chunks = Chunks(call, span)
        inner = function(*args, **kwargs)
        step: Callable[[], Any] = inner.__anext__
        try:
            while True:
                token = attach(context)
                try:
                    item = await step()
                except StopAsyncIteration:
                    return
                finally:
                    detach(token)
                chunks.add(item)
                try:
                    sent = yield item
                    step = partial(inner.asend, sent)
                except GeneratorExit:
                    chunks.end()
                    await inner.aclose()
                    raise
                except BaseException as error:
                    step = partial(inner.athrow, error)
        except BaseException as error:
            chunks.end(error)
            raise
        finally:
            chunks.end()

    return wrapper


def wrap(call: "Call", span: Span, context: otel_context.Context, result: Any) -> Any:
    """The stream that a function returned, observed; None if the result is no stream."""
    kind = type(result)
    if issubclass(kind, WHOLE):
        return None
    try:
        if hasattr(kind, "__len__"):
            return None
        if hasattr(kind, "__anext__") or (hasattr(kind, "__aiter__") and call.operation._op == "chat"):
            return AsyncStream(result, Chunks(call, span), context)
        is_stream = hasattr(kind, "__next__") and hasattr(kind, "__iter__") and not hasattr(kind, "readline")
        if is_stream or (hasattr(kind, "__iter__") and hasattr(kind, "close") and call.operation._op == "chat"):
            return Stream(result, Chunks(call, span), context)
    except Exception:  # a metaclass that misbehaves must not reach the application
        return None
    return None


class _Proxy:
    """Everything but iteration is the application's own object."""

    def __init__(self, inner: Any, chunks: Chunks, context: otel_context.Context) -> None:
        self._inner = inner
        self._chunks = chunks
        self._context = context
        self._iterator: Any = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def __bool__(self) -> bool:
        return bool(self._inner)

    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        """`isinstance` says of the stream what it would say without us."""
        return type(self._inner)

    def __del__(self) -> None:
        chunks = self.__dict__.get("_chunks")
        if chunks is not None:
            chunks.end()


class Stream(_Proxy):
    """A synchronous stream."""

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        token = attach(self._context)
        try:
            if self._iterator is None:
                self._iterator = iter(self._inner)
            item = next(self._iterator)
        except BaseException as error:
            self._chunks.end(error)
            raise
        finally:
            detach(token)
        self._chunks.add(item)
        return item

    def __enter__(self) -> "Stream":
        if hasattr(self._inner, "__enter__"):
            self._inner.__enter__()
        return self

    def __exit__(self, *error: Any) -> Any:
        self._chunks.end(error[1])
        return self._inner.__exit__(*error) if hasattr(self._inner, "__exit__") else None

    def close(self) -> None:
        self._chunks.end()
        if hasattr(self._inner, "close"):
            self._inner.close()


class AsyncStream(_Proxy):
    """An asynchronous stream."""

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> Any:
        token = attach(self._context)
        try:
            if self._iterator is None:
                self._iterator = self._inner.__aiter__()
            item = await self._iterator.__anext__()
        except BaseException as error:
            self._chunks.end(error)
            raise
        finally:
            detach(token)
        self._chunks.add(item)
        return item

    async def __aenter__(self) -> "AsyncStream":
        if hasattr(self._inner, "__aenter__"):
            await self._inner.__aenter__()
        return self

    async def __aexit__(self, *error: Any) -> Any:
        self._chunks.end(error[1])
        return await self._inner.__aexit__(*error) if hasattr(self._inner, "__aexit__") else None

    async def close(self) -> None:
        self._chunks.end()
        if hasattr(self._inner, "close"):
            await self._inner.close()

    async def aclose(self) -> None:
        self._chunks.end()
        if hasattr(self._inner, "aclose"):
            await self._inner.aclose()
