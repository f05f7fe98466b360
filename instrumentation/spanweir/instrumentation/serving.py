"""Model serving: one trace a request, with the request and response as they were, for inference tables.

Active only with `ENABLE_MLFLOW_TRACING=true`; without it nothing is imported, wrapped or patched.

- any ASGI application: `app = TraceMiddleware(app)`, or `app.add_middleware(TraceMiddleware)` in Starlette and FastAPI;
- a custom MLflow PyFunc model under `mlflow models serve`, or MLflow's agent server: `enable()` in the model's code, or
  `opentelemetry-instrument mlflow models serve ...` with no code at all.

The collector makes an inference-table row of each trace: its response holds the trace under `databricks_output`. A
request that says `"databricks_options": {"return_trace": true}` finds it in the HTTP answer too, unless
`SPANWEIR_RETURN_TRACE=false`: whoever may call the model then sees prompts and documents that went into the answer.
"""

import asyncio
import json
import os
import re
import sys
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

from opentelemetry import context as otel_context
from opentelemetry import propagate, trace
from opentelemetry.trace import SpanKind

from spanweir.instrumentation import returned, setup
from spanweir.instrumentation.answer import Answer
from spanweir.instrumentation.operation import Operation
from spanweir.instrumentation.span import Span
from spanweir.instrumentation.threads import detach

FLAG = "ENABLE_MLFLOW_TRACING"
RETURN_FLAG = "SPANWEIR_RETURN_TRACE"
Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

_REQUEST_ID_HEADERS = ("x-client-request-id", "x-request-id", "databricks-request-id")
_REQUESTER_HEADERS = ("x-databricks-user", "x-forwarded-email", "x-forwarded-user", "x-user-id")
_MAX_BODY_BYTES = 16 << 20
_FORMS = (("mlflow.spanInputs", "body"), ("mlflow.spanOutputs", "body"))
_SERVERS = ("mlflow.pyfunc.scoring_server", "mlflow.genai.agent_server.server")
_MODEL_PATHS = frozenset({"/invocations", "/responses"})
_ROOT_ATTRIBUTES = ("mlflow.clientRequestId", "user.id")
_STREAMS = (b"text/event-stream", b"application/x-ndjson")
_RETURN_TRACE = re.compile(rb'"return_trace"\s*:\s*true')
_SEEN = "spanweir.traced"
"""In the scope of a request that another middleware of ours has already taken."""
_QUIET = frozenset({"GET", "HEAD", "OPTIONS"})


def enabled() -> bool:
    """Whether `ENABLE_MLFLOW_TRACING` is set to true."""
    return os.environ.get(FLAG, "").strip().lower() in ("true", "1")


def enable() -> bool:
    """Trace the requests of MLflow's model and agent servers in this process, once one of them is imported.

    Call it in the model's code, any number of times. Returns whether the flag is on.
    """
    if not enabled():
        return False
    setup.init()
    if any(module in sys.modules for module in _SERVERS):
        _patch()
    return True


def on_import() -> None:
    """The same without a line in the model's code, for the distro: waits until MLflow's scoring server is imported."""
    if enabled():
        import wrapt

        for module in _SERVERS:
            wrapt.register_post_import_hook(_patch, module)


class TraceMiddleware:
    """A trace for each request of an ASGI application (except GET, HEAD and OPTIONS).

    The root span is named `invoke_workflow <path>` and carries the bodies (`mlflow.spanInputs`, `mlflow.spanOutputs`; a
    stream of server-sent events is put together), `http.request.method`, `url.path`, `http.response.status_code`,
    `mlflow.clientRequestId` (`client_request_id` in the body, else the header `x-client-request-id` or `x-request-id`)
    and `user.id`, the requester (header `x-databricks-user`, `x-forwarded-email`, `x-forwarded-user` or `x-user-id`).
    The answer has the trace's id in `x-mlflow-trace-id`, and on request the trace itself (see the module), with the
    spans that have ended in this process by then.

    With the flag off, `TraceMiddleware(app)` is `app`.
    """

    def __new__(cls, app: App, **_: Any) -> Any:
        return super().__new__(cls) if enabled() else app

    def __init__(self, app: App, *, paths: Iterable[str] | None = None, return_trace: bool | None = None) -> None:
        """`paths`: only these. `return_trace`: whether a request may ask for its trace, instead of the variable."""
        self._app = app
        allowed = os.environ.get(RETURN_FLAG, "").strip().lower() not in ("false", "0", "off")
        self._return_trace = allowed if return_trace is None else return_trace
        self._paths = frozenset(paths) if paths is not None else None
        setup.init()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["_app"], name)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not self._wanted(scope):
            await self._app(scope, receive, send)
            return
        scope[_SEEN] = True
        headers = {k.decode("latin-1").lower(): v.decode("latin-1") for k, v in scope.get("headers") or ()}
        parent = propagate.extract(headers, context=otel_context.get_current())
        attributes = {
            "http.request.method": scope["method"],
            "url.path": scope["path"],
            "mlflow.clientRequestId": _first(headers, _REQUEST_ID_HEADERS),
            "user.id": _first(headers, _REQUESTER_HEADERS),
        }
        operation = Operation("invoke_workflow", scope["path"], attributes, kind=SpanKind.SERVER, forms=_FORMS)
        span, context = operation._start(parent, None)
        # FastAPI from 0.16x on has a span of its own around the whole application, which is then the trace's root.
        server = trace.get_current_span()
        if server.is_recording():
            known = {key: value for key, value in attributes.items() if value and key in _ROOT_ATTRIBUTES}
            server.set_attributes(known)
        token = otel_context.attach(context)
        exchange = Exchange(span, server, receive, send, return_trace=self._return_trace)
        try:
            await self._app(scope, exchange.receive, exchange.send)
        except BaseException as error:
            span.record_exception(error)
            raise
        finally:
            detach(token)
            exchange.close()

    def _wanted(self, scope: Scope) -> bool:
        if scope["method"] in _QUIET or _SEEN in scope:
            return False
        return self._paths is None or scope["path"] in self._paths


class Exchange:
    """The bodies of one request and its response, as they pass by: references only."""

    __slots__ = (
        "_finished",
        "_may_return",
        "_next",
        "_receive",
        "_request",
        "_response",
        "_send",
        "_server",
        "_size",
        "_span",
        "_spans",
        "_streams",
    )

    def __init__(self, span: Span, server: trace.Span, receive: Receive, send: Send, *, return_trace: bool) -> None:
        self._span = span
        self._server = server
        self._receive = receive
        self._send = self._next = send
        self._may_return = return_trace
        self._request: list[bytes] = []
        self._response: list[bytes] = []
        self._size = 0
        self._streams = self._finished = False
        self._spans: returned.Spans | None = None

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.request":
            self._keep(self._request, message.get("body") or b"")
            if not message.get("more_body"):
                self._read_options()
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._span.set_attribute("http.response.status_code", message["status"])
            if message["status"] >= 500:
                self._span.set_attribute("error.type", str(message["status"]))
            given = list(message.get("headers") or ())
            self._streams = any(k.lower() == b"content-type" and v.startswith(_STREAMS) for k, v in given)
            headers = [*given, (b"x-mlflow-trace-id", f"tr-{self._span.trace_id}".encode())]
            message = {**message, "headers": headers}
        elif message["type"] == "http.response.body":
            if self._streams and message.get("more_body"):
                self._span.first_chunk()
            if self._span._captures:
                self._keep(self._response, message.get("body") or b"")
        await self._next(message)

    def finish(self) -> None:
        """End the span; every later call does nothing."""
        if self._finished:
            return
        self._finished = True
        if self._request:
            self._span.set_input(b"".join(self._request))
        if self._response:
            self._span.set_output(b"".join(self._response))
        self._span.end()

    def close(self) -> None:
        self.finish()
        if self._spans is not None:
            returned.waiting.forget(self._span.context.trace_id, self._spans)

    def _keep(self, parts: list[bytes], body: bytes) -> None:
        self._size += len(body)
        if body and self._size <= 2 * _MAX_BODY_BYTES:
            parts.append(bytes(body))

    def _read_options(self) -> None:
        """What the request says about itself: no content, so it is looked at whether content is recorded or not."""
        body = _options(b"".join(self._request))
        options = body.get("databricks_options")
        options = options if isinstance(options, dict) else {}
        identifier = body.get("client_request_id", options.get("client_request_id"))
        if isinstance(identifier, str) and identifier:
            self._span.set_attribute("mlflow.clientRequestId", identifier)
            if self._server.is_recording():
                self._server.set_attribute("mlflow.clientRequestId", identifier)
        sampled = self._span.context.trace_flags.sampled
        if options.get("return_trace") is True and self._may_return and sampled and self._spans is None:
            self._spans = returned.waiting.watch(self._span.context.trace_id)
            if self._spans is not None:
                self._next = Answer(self._send, self._output).send

    async def _output(self) -> Any:
        self.finish()
        arguments = (list(self._spans or ()), self._span.context.span_id)
        try:
            asyncio.get_running_loop()
        except RuntimeError:  # another event loop than asyncio's
            return returned.output(*arguments)
        return await asyncio.to_thread(returned.output, *arguments)


def _first(headers: dict[str, str], names: tuple[str, ...]) -> str | None:
    return next((headers[name] for name in names if headers.get(name)), None)


def _options(request: bytes) -> dict[str, Any]:
    """The request, if it says something about itself; empty otherwise. A large one is only read to return its trace."""
    named = len(request) < 1 << 16 and b'"client_request_id"' in request
    if not named and not _RETURN_TRACE.search(request):
        return {}
    try:
        body = json.loads(request)
    except (ValueError, RecursionError):
        return {}
    return body if isinstance(body, dict) else {}


def _patch(*_: Any) -> None:
    """Put the middleware around the application of MLflow's scoring server or agent server.

    The model's code is loaded after `scoring_server.init` has been looked up (MLflow 3.17), but before the application
    builds its middleware, which happens on the first request.
    """
    try:
        from fastapi import FastAPI
    except ImportError:
        return
    build = FastAPI.build_middleware_stack
    if getattr(build, "spanweir", False):
        return

    def with_trace(self: Any) -> Any:
        stack = build(self)
        served = {getattr(route, "path", "") for route in self.routes} & _MODEL_PATHS
        return TraceMiddleware(stack, paths=served) if served else stack

    with_trace.spanweir = True  # type: ignore[attr-defined]
    FastAPI.build_middleware_stack = with_trace
