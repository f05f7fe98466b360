"""The ASGI middleware, driven by the ASGI protocol itself."""

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider

import spanweir.instrumentation as spanweir
from spanweir.instrumentation import setup
from spanweir.instrumentation.serving import FLAG, TraceMiddleware, enable
from tests.support.otlp_sink import Sink, attributes, sink


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Sink]:
    monkeypatch.setenv(FLAG, "True")
    setup.reset()
    with sink() as running:
        spanweir.init(endpoint=running.endpoint, tracer_provider=TracerProvider(shutdown_on_exit=False))
        yield running
        setup.reset()


async def echo(scope: Any, receive: Any, send: Any) -> None:
    body, more = b"", True
    while more:
        message = await receive()
        body, more = body + message.get("body", b""), message.get("more_body", False)
    with spanweir.tool("inside"):
        pass
    if b"explode" in body:
        raise RuntimeError("exploded")
    answer = json.dumps({"got": json.loads(body)}).encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
    await send({"type": "http.response.body", "body": answer})


async def stream(scope: Any, receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
    for word in ("one ", "two"):
        chunk = {"choices": [{"index": 0, "delta": {"content": word}}]}
        body = f"data: {json.dumps(chunk)}\n\n".encode()
        await send({"type": "http.response.body", "body": body, "more_body": True})
    await send({"type": "http.response.body", "body": b"data: [DONE]\n\n"})


def call(app: Any, body: bytes, *, headers: dict[str, str] | None = None, method: str = "POST") -> list[Any]:
    sent: list[Any] = []
    half = len(body) // 2
    incoming = [{"type": "http.request", "body": body[:half], "more_body": True}]
    incoming += [{"type": "http.request", "body": body[half:], "more_body": False}]

    async def receive() -> Any:
        return incoming.pop(0)

    async def send(message: Any) -> None:
        sent.append(message)

    raw = [(k.encode(), v.encode()) for k, v in (headers or {}).items()]
    scope = {"type": "http", "method": method, "path": "/invocations", "headers": raw}
    asyncio.run(app(scope, receive, send))
    return sent


def test_a_request_is_a_trace(receiver: Sink) -> None:
    app = TraceMiddleware(echo)
    headers = {"X-Client-Request-Id": "r-1", "x-forwarded-email": "ada@example.org"}
    sent = call(app, b'{"messages": [{"role": "user", "content": "hi"}], "extra": 1}', headers=headers)
    assert spanweir.flush(10)
    root = receiver.named("invoke_workflow /invocations")
    got = attributes(root)
    assert json.loads(got["mlflow.spanInputs"]) == {"messages": [{"role": "user", "content": "hi"}], "extra": 1}
    assert json.loads(got["mlflow.spanOutputs"])["got"]["extra"] == 1
    assert got["mlflow.clientRequestId"] == "r-1"
    assert got["user.id"] == "ada@example.org"
    assert got["http.response.status_code"] == 200
    assert receiver.named("execute_tool inside").parent_span_id == root.span_id
    assert (b"x-mlflow-trace-id", b"tr-" + root.trace_id.hex().encode()) in sent[0]["headers"]


def test_an_id_in_the_body_wins(receiver: Sink) -> None:
    call(TraceMiddleware(echo), b'{"client_request_id": "in-body"}', headers={"x-request-id": "r-1"})
    assert spanweir.flush(10)
    assert attributes(receiver.named("invoke_workflow /invocations"))["mlflow.clientRequestId"] == "in-body"


def test_a_stream_is_put_together(receiver: Sink) -> None:
    sent = call(TraceMiddleware(stream), b"{}")
    assert len(sent) == 4
    assert spanweir.flush(10)
    got = attributes(receiver.named("invoke_workflow /invocations"))
    message = {"role": "assistant", "content": "one two"}
    assert json.loads(got["mlflow.spanOutputs"])["choices"][0]["message"] == message
    assert got["gen_ai.response.time_to_first_chunk"] > 0


def test_an_exception_passes_and_is_recorded(receiver: Sink) -> None:
    with pytest.raises(RuntimeError):
        call(TraceMiddleware(echo), b'"explode"')
    assert spanweir.flush(10)
    assert receiver.named("invoke_workflow /invocations").status.message == "RuntimeError: exploded"


def test_a_remote_parent(receiver: Sink) -> None:
    parent = f"00-{'a' * 32}-{'b' * 16}-01"
    call(TraceMiddleware(echo), b"{}", headers={"traceparent": parent})
    assert spanweir.flush(10)
    assert receiver.named("invoke_workflow /invocations").parent_span_id == bytes.fromhex("b" * 16)


def test_what_is_not_a_model_request_passes(receiver: Sink) -> None:
    call(TraceMiddleware(echo, paths=["/other"]), b"{}")
    call(TraceMiddleware(echo), b"{}", method="GET")
    assert spanweir.flush(10)
    assert {span.name for span in receiver.spans} == {"execute_tool inside"}


@pytest.mark.parametrize("flag", ["", "false", "0"])
def test_the_flag_off_leaves_the_application_alone(monkeypatch: pytest.MonkeyPatch, flag: str) -> None:
    setup.reset()
    monkeypatch.setenv(FLAG, flag)
    assert TraceMiddleware(echo) is echo
    assert enable() is False
    assert setup.worker() is None
