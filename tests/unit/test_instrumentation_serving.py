"""The ASGI middleware, driven by the ASGI protocol itself."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlflow
import pytest
from mlflow.tracing.utils.copy import copy_trace_to_experiment
from opentelemetry.sdk.trace import TracerProvider

import spanweir.instrumentation as spanweir
from spanweir.instrumentation import policy, returned, setup, state
from spanweir.instrumentation.serving import FLAG, RETURN_FLAG, TraceMiddleware, enable
from tests.support.otlp_sink import Sink, attributes, sink
from tests.support.stores import sqlite_store


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
    return asyncio.run(asked(app, body, headers, method))


async def asked(app: Any, body: bytes, headers: dict[str, str] | None = None, method: str = "POST") -> list[Any]:
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
    await app(scope, receive, send)
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


RETURN = b'{"messages": [{"role": "user", "content": "hi"}], "databricks_options": {"return_trace": true}}'


async def agent(scope: Any, receive: Any, send: Any) -> None:
    """A JSON answer in two pieces, after a retrieval and a model call."""
    await receive()
    await receive()
    with spanweir.agent("served"):
        with spanweir.retrieval("kb", query="weir") as search:
            search.set_output([{"id": "d1", "content": "A weir meters a river.", "score": 0.5}])
        with spanweir.chat("gpt-4o-mini", system="Be brief", input="hi") as call:
            call.set_output("a weir")
            call.set_usage(3, 2)
    headers = [(b"content-type", b"application/json"), (b"Content-Length", b"21")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b'{"answer": ', "more_body": True})
    await send({"type": "http.response.body", "body": b'"a weir"}\n'})


def answer_of(sent: list[Any]) -> bytes:
    assert sent[0]["type"] == "http.response.start"
    body = b"".join(message.get("body", b"") for message in sent[1:])
    lengths = [value for name, value in sent[0]["headers"] if name.lower() == b"content-length"]
    assert lengths in ([], [str(len(body)).encode()])
    return body


def test_the_trace_in_the_answer(receiver: Sink) -> None:
    headers = {"x-client-request-id": "r-1", "x-forwarded-user": "ada"}
    answer = json.loads(answer_of(call(TraceMiddleware(agent), RETURN, headers=headers)))
    assert answer.pop("answer") == "a weir"
    output = answer.pop("databricks_output")
    assert answer == {}
    found = mlflow.entities.Trace.from_dict(output["trace"])
    assert output["databricks_request_id"] == found.info.trace_id
    assert found.info.client_request_id == "r-1"
    assert found.info.token_usage == {"input_tokens": 3, "output_tokens": 2, "total_tokens": 5}
    assert found.info.trace_metadata["mlflow.trace.user"] == "ada"
    root, *below = found.data.spans
    assert [(span.name, span.span_type) for span in found.data.spans] == [
        ("invoke_workflow /invocations", "WORKFLOW"),
        ("invoke_agent served", "AGENT"),
        ("retrieval kb", "RETRIEVER"),
        ("chat gpt-4o-mini", "CHAT_MODEL"),
    ]
    assert root.parent_id is None
    assert below[1].outputs == [{"page_content": "A weir meters a river.", "metadata": {"id": "d1", "score": 0.5}}]
    assert [message["content"] for message in below[2].inputs["messages"]] == ["Be brief", "hi"]
    assert below[2].outputs["choices"][0]["message"]["content"] == "a weir"
    assert root.outputs == {"answer": "a weir"}
    # What is stored of it is the application's answer, and the same trace.
    assert spanweir.flush(10)
    stored = receiver.named("invoke_workflow /invocations")
    assert json.loads(attributes(stored)["mlflow.spanOutputs"]) == {"answer": "a weir"}
    assert "tr-" + stored.trace_id.hex() == found.info.trace_id


def test_mlflow_copies_a_returned_trace(receiver: Sink, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As `mlflow.genai.evaluate` does with the answer of an endpoint."""
    output = json.loads(answer_of(call(TraceMiddleware(agent), RETURN)))["databricks_output"]
    monkeypatch.setenv("MLFLOW_ENABLE_ASYNC_TRACE_LOGGING", "false")
    mlflow.set_tracking_uri(sqlite_store(tmp_path / "mlflow.db"))
    mlflow.set_experiment("copied")
    copied = mlflow.get_trace(copy_trace_to_experiment(output["trace"]))
    assert copied is not None
    assert [span.span_type for span in copied.data.spans] == ["WORKFLOW", "AGENT", "RETRIEVER", "CHAT_MODEL"]


def test_nothing_is_returned_that_nobody_asked_for(receiver: Sink, monkeypatch: pytest.MonkeyPatch) -> None:
    quoting = b'{"messages": [{"content": "\\"return_trace\\": true"}], "databricks_options": {"return_trace": false}}'
    for body in (b"{}", b'{"return_trace": true}', b'{"databricks_options": {"return_trace": "no"}}', quoting):
        assert answer_of(call(TraceMiddleware(agent), body)) == b'{"answer": "a weir"}\n'
    assert answer_of(call(TraceMiddleware(agent, return_trace=False), RETURN)) == b'{"answer": "a weir"}\n'
    monkeypatch.setenv(RETURN_FLAG, "false")
    assert answer_of(call(TraceMiddleware(agent), RETURN)) == b'{"answer": "a weir"}\n'


def test_a_returned_trace_withholds_what_the_policy_withholds(receiver: Sink) -> None:
    state.set_policy(policy.Policy(on_spans=False))
    sent = call(TraceMiddleware(agent), RETURN[:-1] + b', "client_request_id": "r-2"}')
    output = json.loads(answer_of(sent))["databricks_output"]
    assert "a weir" not in json.dumps(output)
    assert "river" not in json.dumps(output)
    assert output["trace"]["info"]["client_request_id"] == "r-2"  # no content, so it is kept
    state.set_policy(policy.Policy(redact=lambda key, value: json.loads(json.dumps(value).replace("weir", "*"))))
    output = json.loads(answer_of(call(TraceMiddleware(agent), RETURN)))["databricks_output"]
    assert "a * meters" in json.dumps(output).lower()
    assert "weir" not in json.dumps(output).replace("spanweir", "")


def test_two_requests_of_one_trace_get_their_own_spans(receiver: Sink) -> None:
    headers = {"traceparent": f"00-{'a' * 32}-{'b' * 16}-01"}

    async def slow(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.sleep(0.01)
        await agent(scope, receive, send)

    async def both() -> list[list[Any]]:
        return list(await asyncio.gather(*(asked(TraceMiddleware(slow), RETURN, headers) for _ in range(2))))

    outputs = [json.loads(answer_of(sent))["databricks_output"]["trace"] for sent in asyncio.run(both())]
    ids = [{span["span_id"] for span in output["data"]["spans"]} for output in outputs]
    assert [len(found) for found in ids] == [4, 4]
    assert not ids[0] & ids[1]
    assert outputs[0]["data"]["spans"][0]["parent_span_id"] is None


def test_what_cannot_hold_a_trace_passes_as_it_is(receiver: Sink) -> None:
    def answering(body: bytes, *headers: tuple[bytes, bytes]) -> Any:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            await receive()
            await receive()
            await send({"type": "http.response.start", "status": 200, "headers": list(headers)})
            await send({"type": "http.response.body", "body": body})

        return TraceMiddleware(app)

    json_type = (b"content-type", b"application/json")
    for body, *headers in (
        (b"[1]", json_type),
        (b"{}", json_type, (b"content-encoding", b"gzip")),
        (b"{}", (b"content-type", b"text/plain")),
        (b"{}",),
    ):
        assert answer_of(call(answering(body, *headers), RETURN)) == body  # type: ignore[arg-type]
    assert answer_of(call(answering(b" { } ", json_type), RETURN)).startswith(b'{"databricks_output":{"trace"')


def streaming(*pieces: bytes, kind: bytes = b"text/event-stream") -> Any:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", kind)]})
        for piece in pieces:
            with spanweir.tool("step"):
                pass
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    return TraceMiddleware(app)


def events_of(body: bytes) -> list[Any]:
    texts = [line[5:].strip() for line in body.decode().splitlines() if line.startswith("data:")]
    return [text if text == "[DONE]" else json.loads(text) for text in texts]


DELTA = b'data: {"type": "response.output_text.delta", "delta": "a weir"}\n\n'
ITEM = b'data: {"type": "response.output_item.done", "item": {"id": "m"}}\n\n'
COMPLETED = b'event: response.completed\ndata: {"type": "response.completed", "response": {}}\n\n'
DONE = b"data: [DONE]\n\n"


def test_the_last_item_of_a_stream_has_the_trace(receiver: Sink) -> None:
    sent = call(streaming(DELTA, ITEM, DELTA, ITEM[:20], ITEM[20:] + COMPLETED, DONE), RETURN)
    events = events_of(answer_of(sent))
    kinds = [event if event == "[DONE]" else event["type"].removeprefix("response.") for event in events]
    item, delta = "output_item.done", "output_text.delta"
    assert kinds == [delta, item, delta, item, "completed", "[DONE]"]
    assert ["databricks_output" in event for event in events[:-1]] == [False, False, False, True, False]
    assert events[3]["item"] == {"id": "m"}
    spans = events[3]["databricks_output"]["trace"]["data"]["spans"]
    assert [span["name"] for span in spans] == ["invoke_workflow /invocations"] + ["execute_tool step"] * 6
    assert [message.get("body") for message in sent[1:3]] == [DELTA, ITEM + DELTA]  # nothing waits that need not


@pytest.mark.parametrize("rest", [[DONE], [], [COMPLETED], [b"data: {}"]])
def test_a_stream_without_items_has_an_event_of_its_own(receiver: Sink, rest: list[bytes]) -> None:
    events = events_of(answer_of(call(streaming(DELTA, *rest), RETURN)))
    own = [index for index, event in enumerate(events) if event != "[DONE]" and "databricks_output" in event]
    assert len(own) == 1
    assert len(events[own[0]]["databricks_output"]["trace"]["data"]["spans"]) == 2 + len(rest)
    assert own == [1]


def test_lines_of_json_have_a_last_line(receiver: Sink) -> None:
    sent = call(streaming(b'{"n": 1}\n', b'{"n": 2}\n', kind=b"application/x-ndjson"), RETURN)
    lines = [json.loads(line) for line in answer_of(sent).splitlines()]
    assert lines[:2] == [{"n": 1}, {"n": 2}]
    assert list(lines[2]) == ["databricks_output"]


def test_nothing_stays_behind_of_requests_that_are_done(receiver: Sink) -> None:
    call(TraceMiddleware(agent), RETURN)
    with pytest.raises(RuntimeError):
        call(TraceMiddleware(echo), b'{"explode": 1, "databricks_options": {"return_trace": true}}')
    assert returned.waiting._traces == {}
