"""The export worker and `init` against a real OTLP/gRPC receiver."""

import json
import logging
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import grpc
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
from opentelemetry.sdk.trace import SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import spanweir.instrumentation as spanweir
from spanweir.instrumentation import setup, state, transport
from spanweir.instrumentation.worker import Limits, Worker
from tests.support.otlp_sink import Sink, attributes, sink


@pytest.fixture
def receiver() -> Iterator[Sink]:
    with sink() as running:
        yield running
        setup.reset()


def start(endpoint: str, **options: Any) -> Worker:
    setup.reset()
    spanweir.init(endpoint=endpoint, tracer_provider=TracerProvider(shutdown_on_exit=False), **options)
    worker = setup.worker()
    assert worker is not None
    return worker


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def test_a_collector_on_this_machine_is_not_behind_a_proxy(receiver: Sink, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "grpc_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{free_port()}")
    for name in ("no_proxy", "no_grpc_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    start(receiver.endpoint)
    with spanweir.workflow("w"):
        pass
    assert spanweir.flush(10)
    assert receiver.named("invoke_workflow w")


@pytest.mark.parametrize(
    ("target", "local"),
    [
        ("localhost:4317", True),
        ("127.1.2.3:4317", True),
        ("[::1]:4317", True),
        ("10.0.0.1:4317", False),
        ("x:1", False),
    ],
)
def test_what_is_on_this_machine(target: str, local: bool) -> None:
    assert transport.is_local(target) is local


def test_spans_arrive_with_their_content(receiver: Sink) -> None:
    worker = start(receiver.endpoint, headers={"X-Tenant": "t"})
    with spanweir.workflow("w", input="hi", session="s") as span:
        span.set_output("é" * 10)
    assert spanweir.flush(10)
    got = attributes(receiver.named("invoke_workflow w"))
    assert json.loads(got["gen_ai.output.messages"])[0]["parts"] == [{"type": "text", "content": "é" * 10}]
    assert got["gen_ai.conversation.id"] == "s"
    assert receiver.metadata[0]["x-tenant"] == "t"
    assert receiver.requests[0].resource_spans[0].scope_spans[0].scope.name == "spanweir.instrumentation"
    assert (worker.counters.sent, worker.counters.waiting) == (1, 0)


def test_a_ten_megabyte_trace_arrives_whole(receiver: Sink) -> None:
    start(receiver.endpoint)
    messages = [{"role": "user", "content": f"{n} " + "x" * 10_000} for n in range(1000)]
    with spanweir.chat("m", input=messages):
        pass
    assert spanweir.flush(30)
    recorded = json.loads(attributes(receiver.named("chat m"))["gen_ai.input.messages"])
    assert [part["parts"][0]["content"] for part in recorded] == [m["content"] for m in messages]


def test_requests_are_split_by_bytes(receiver: Sink) -> None:
    start(receiver.endpoint, limits=Limits(max_request_bytes=1_000_000))
    for _ in range(20):
        with spanweir.tool("t", arguments={"text": "x" * 300_000}):
            pass
    assert spanweir.flush(20)
    assert len(receiver.spans) == 20
    assert max(receiver.sizes) <= 1_000_000
    assert len(receiver.sizes) == 7


def test_refusals_are_retried_and_final_ones_cost_no_neighbour(receiver: Sink) -> None:
    worker = start(receiver.endpoint)
    receiver.refusals += [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.UNAVAILABLE]
    with spanweir.workflow("again"):
        pass
    assert spanweir.flush(20)
    receiver.refusals.append(grpc.StatusCode.INVALID_ARGUMENT)
    with spanweir.workflow("refused"):
        pass
    assert not spanweir.flush(20)
    with spanweir.workflow("after"):
        pass
    assert spanweir.flush(20)
    assert [span.name for span in receiver.spans] == ["invoke_workflow again", "invoke_workflow after"]
    assert (worker.counters.ended, worker.counters.sent, worker.counters.dropped_failed) == (3, 2, 1)


def test_a_receiver_with_a_smaller_limit_gets_smaller_requests(receiver: Sink) -> None:
    worker = start(receiver.endpoint)
    receiver.limit_bytes = 500_000
    for n in range(8):
        with spanweir.tool(f"t{n}", arguments="x" * 200_000):
            pass
    assert spanweir.flush(20)
    assert len({span.name for span in receiver.spans}) == len(receiver.spans) == 8
    assert worker.counters.waiting == 0


def test_a_dead_collector_costs_nothing_and_memory_is_bounded(caplog: pytest.LogCaptureFixture) -> None:
    worker = start(f"http://127.0.0.1:{free_port()}", limits=Limits(max_queued_bytes=1_000_000, shutdown_s=1.0))
    text = "x" * 100_000
    started = time.thread_time()
    with caplog.at_level(logging.WARNING):
        for _ in range(200):
            with spanweir.tool("t", arguments=text):
                pass
        spent = time.thread_time() - started
        assert worker.counters.dropped_full > 150
        assert not spanweir.flush(0.2)
        setup.reset()
    assert spent < 0.5
    assert worker.counters.waiting + worker.counters.sent + worker.counters.dropped_failed <= 12
    warnings = [record.getMessage() for record in caplog.records if record.name.startswith("spanweir")]
    assert 1 <= len(warnings) <= 3


def test_a_span_that_cannot_be_encoded_is_dropped_alone(receiver: Sink) -> None:
    worker = start(receiver.endpoint)
    for name in ("a", "\ud800", "good"):
        with spanweir.workflow(name):
            pass
    spanweir.workflow("before time").start(start_time_ns=-1).end()
    assert not spanweir.flush(10)
    assert receiver.named("invoke_workflow good")
    assert attributes(receiver.named("invoke_workflow ?"))["gen_ai.workflow.name"] == "?"
    assert len(receiver.spans) == 3
    assert worker.counters.dropped_failed == 1


def test_init_joins_an_existing_provider_and_is_idempotent(receiver: Sink) -> None:
    setup.reset()
    mine = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(mine))
    spanweir.init(endpoint=receiver.endpoint, tracer_provider=provider)
    first = setup.worker()
    spanweir.init(endpoint="http://127.0.0.1:1", tracer_provider=provider)
    assert setup.worker() is first
    with spanweir.workflow("w", input="hi"):
        pass
    provider.get_tracer("application").start_span("plain").end()
    assert spanweir.flush(10)
    assert sorted(span.name for span in receiver.spans) == ["invoke_workflow w", "plain"]
    assert "hi" in str((mine.get_finished_spans()[0].attributes or {})["gen_ai.input.messages"])
    assert "hi" in attributes(receiver.named("invoke_workflow w"))["gen_ai.input.messages"]


def test_the_redaction_hook_reaches_spans_of_other_instrumentations(receiver: Sink) -> None:
    def redact(key: str, value: Any) -> Any:
        return [{**message, "parts": []} for message in value] if "messages" in key else value

    worker = start(receiver.endpoint, redact=redact)
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(worker)
    content = json.dumps([{"role": "user", "parts": [{"type": "text", "content": "secret"}]}])
    provider.get_tracer("other").start_span("chat m", attributes={"gen_ai.input.messages": content}).end()
    assert spanweir.flush(10)
    assert attributes(receiver.named("chat m"))["gen_ai.input.messages"] == '[{"role":"user","parts":[]}]'


def test_content_off_holds_for_other_instrumentations_too(receiver: Sink) -> None:
    worker = start(receiver.endpoint, capture_content="NO_CONTENT")
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(worker)
    content = {
        "input.value": "secret",
        "llm.input_messages.0.message.content": "secret",
        "gen_ai.input.messages": "secret",
    }
    span = provider.get_tracer("other").start_span("chat m", attributes={**content, "llm.model_name": "m"})
    span.add_event("gen_ai.user.message", {"content": "secret"})
    span.add_event("kept")
    span.end()
    assert spanweir.flush(10)
    got = receiver.named("chat m")
    assert attributes(got) == {"llm.model_name": "m"}
    assert [event.name for event in got.events] == ["kept"]


def raising(worker: Worker) -> None:
    """A span of another instrumentation and one of ours, each with an exception that quotes content."""
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(worker)
    with suppress(ValueError), provider.get_tracer("other").start_as_current_span("theirs"):
        raise ValueError("cannot read: secret\n  File secret")
    with suppress(ValueError), spanweir.tool("ours", arguments={"key": "secret"}):
        raise ValueError("cannot read: secret")
    with spanweir.evaluation("judge") as judge:
        judge.set_score(0.0, explanation="secret")
    assert spanweir.flush(10)


@pytest.mark.parametrize("redact", [None, lambda key, value: value])
def test_content_off_holds_for_what_exceptions_say(receiver: Sink, redact: Any) -> None:
    raising(start(receiver.endpoint, capture_content=False, redact=redact))
    assert len(receiver.spans) == 3
    assert "secret" not in str(receiver.requests)
    theirs = receiver.named("theirs")
    said = {pair.key: pair.value.string_value for pair in theirs.events[0].attributes}
    assert said["exception.type"] == "ValueError"
    assert "in raising" in said["exception.stacktrace"]
    assert (theirs.status.code, receiver.named("execute_tool ours").status.message) == (2, "ValueError")


def test_the_redaction_hook_reads_what_exceptions_and_judges_say(receiver: Sink) -> None:
    def redact(key: str, value: Any) -> Any:
        return json.loads(json.dumps(value).replace("secret", "***"))

    raising(start(receiver.endpoint, redact=redact))
    assert "secret" not in str(receiver.requests)
    for name in ("theirs", "execute_tool ours"):
        assert receiver.named(name).status.message.startswith("ValueError: cannot read: ***")
    judged = receiver.named("evaluate judge")
    assert attributes(judged)["gen_ai.evaluation.explanation"] == "***"
    assert "***" in str(judged.events[0])


@pytest.mark.parametrize("mode", ["EVENT_ONLY", "SPAN_AND_EVENT"])
def test_details_records_are_written_off_the_calling_thread(
    receiver: Sink, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    threads = set()

    def redact(key: str, value: Any) -> Any:
        threads.add(threading.current_thread().name)
        return value

    kept = InMemoryLogRecordExporter()
    provider = LoggerProvider(shutdown_on_exit=False)
    provider.add_log_record_processor(SimpleLogRecordProcessor(kept))
    monkeypatch.setattr(setup, "send_logs", lambda resource: state.set_logger_provider(provider))
    worker = start(receiver.endpoint, capture_content=mode, redact=redact)
    for n in range(3):
        with spanweir.chat("m", input="hi") as span:
            span.set_output(f"answer {n}")
    assert spanweir.flush(10)
    state.set_logger_provider(None)
    records = [record.log_record for record in kept.get_finished_logs()]
    assert [dict(r.attributes or {})["gen_ai.output.messages"][0]["parts"][0]["content"] for r in records] == [
        f"answer {n}" for n in range(3)
    ]
    assert {r.span_id for r in records} == {int.from_bytes(span.span_id, "big") for span in receiver.spans}
    assert all(r.timestamp for r in records)
    assert threads == {"spanweir-export"}
    assert worker.counters.dropped_records == worker._queued_bytes == 0
    assert ("hi" in str(receiver.requests)) == (mode == "SPAN_AND_EVENT")


def test_the_length_limit_of_the_sdk(receiver: Sink) -> None:
    setup.reset()
    mine = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False, span_limits=SpanLimits(max_span_attribute_length=20))
    provider.add_span_processor(SimpleSpanProcessor(mine))
    spanweir.init(endpoint=receiver.endpoint, tracer_provider=provider)
    with spanweir.workflow("w", input="x" * 100):
        pass
    assert spanweir.flush(10)
    assert len(attributes(receiver.named("invoke_workflow w"))["gen_ai.input.messages"]) == 20
    assert len(str((mine.get_finished_spans()[0].attributes or {})["gen_ai.input.messages"])) == 20


def test_http_protobuf() -> None:
    bodies: list[tuple[str, str | None, bytes]] = []
    answers = [503, 200]

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            bodies.append((self.path, self.headers["authorization"], body))
            self.send_response(answers.pop(0))
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        address = f"http://127.0.0.1:{server.server_port}"
        start(address, protocol="http/protobuf", headers={"Authorization": "Bearer t"})
        with spanweir.workflow("w"):
            pass
        assert spanweir.flush(10)
    finally:
        setup.reset()
        server.shutdown()
        server.server_close()
    assert [(path, token) for path, token, _ in bodies] == [("/v1/traces", "Bearer t")] * 2
    assert ExportTraceServiceRequest.FromString(bodies[1][2]).resource_spans[0].scope_spans[0].spans[0].name


@pytest.mark.parametrize(
    ("variables", "endpoint", "protocol"),
    [
        ({}, "http://localhost:4317", "grpc"),
        ({"ENDPOINT": "http://a:4317"}, "http://a:4317", "grpc"),
        ({"ENDPOINT": "http://a:4318"}, "http://a:4318/v1/traces", "http/protobuf"),
        ({"ENDPOINT": "http://a:1", "TRACES_ENDPOINT": "http://b:2"}, "http://b:2", "grpc"),
        ({"ENDPOINT": "https://a/x/", "PROTOCOL": "http/protobuf"}, "https://a/x/v1/traces", "http/protobuf"),
        ({"TRACES_ENDPOINT": "https://a/own", "PROTOCOL": "http/protobuf"}, "https://a/own", "http/protobuf"),
        ({"PROTOCOL": "http/protobuf"}, "http://localhost:4318/v1/traces", "http/protobuf"),
        ({"ENDPOINT": "a:4317", "INSECURE": "true"}, "http://a:4317", "grpc"),
    ],
)
def test_the_standard_variables(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], endpoint: str, protocol: str
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(f"OTEL_EXPORTER_OTLP_{name}", value)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "a=b%20c,D=e")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "3")
    found = transport.settings()
    assert (found.endpoint, found.protocol) == (endpoint, protocol)
    assert (dict(found.headers), found.timeout_s) == ({"a": "b c", "d": "e"}, 3.0)


def test_variables_that_say_nothing_known_warn(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "soon")
    found = transport.settings()
    assert (found.protocol, found.endpoint) == ("http/protobuf", "http://localhost:4318/v1/traces")
    assert found.timeout_s == 10
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "carrier pigeon")
    assert transport.settings().protocol == "grpc"
    assert [record.levelname for record in caplog.records] == ["WARNING"] * 4


def test_the_bounds_of_the_standard_variables(monkeypatch: pytest.MonkeyPatch, receiver: Sink) -> None:
    for name, value in {"SCHEDULE_DELAY": "60000", "MAX_EXPORT_BATCH_SIZE": "2", "MAX_QUEUE_SIZE": "5"}.items():
        monkeypatch.setenv(f"OTEL_BSP_{name}", value)
    monkeypatch.setenv("OTEL_BSP_EXPORT_TIMEOUT", "never")
    limits = Limits.of_environment()
    assert (limits.interval_s, limits.shutdown_s) == (60.0, Limits().shutdown_s)
    worker = start(receiver.endpoint, limits=limits)
    for n in range(7):
        with spanweir.tool(f"t{n}"):
            pass
    assert spanweir.flush(30)
    assert (worker.counters.sent, worker.counters.dropped_full, len(receiver.requests)) == (5, 2, 3)


def test_an_unknown_protocol_is_an_error() -> None:
    with pytest.raises(ValueError, match="there are 'grpc' and 'http/protobuf'"):
        transport.settings(protocol="http/json")


def run(script: str, endpoint: str, **environment: str) -> subprocess.CompletedProcess[str]:
    variables = {"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, "OTEL_SERVICE_NAME": "a-script", **environment}
    code = "import spanweir.instrumentation as spanweir\n" + textwrap.dedent(script)
    return subprocess.run(
        [sys.executable, "-c", code], env=variables, capture_output=True, text=True, timeout=60, check=False
    )


def test_a_program_that_ends_at_once_has_sent_its_spans(receiver: Sink) -> None:
    done = run(
        """
        spanweir.init()
        spanweir.init()
        with spanweir.workflow("w", input="x"):
            pass
        """,
        receiver.endpoint,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert receiver.named("invoke_workflow w")
    assert attributes(receiver.requests[0].resource_spans[0].resource)["service.name"] == "a-script"


def test_spans_and_streams_that_are_open_when_the_program_ends(receiver: Sink) -> None:
    done = run(
        """
        spanweir.init()
        forever = spanweir.workflow("never ended").start()
        stream = spanweir.chat("m")(lambda: (n for n in range(10)))()
        next(stream)
        numbers = spanweir.tool("numbers")(lambda: (yield 1))()
        next(numbers)
        block = spanweir.agent("never left")
        block.__enter__()
        spanweir.tool("done").start(parent=forever).end()
        """,
        receiver.endpoint,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert receiver.named("execute_tool done")


def test_a_dead_collector_does_not_hold_up_the_end_of_a_program() -> None:
    started = time.monotonic()
    done = run(
        """
        spanweir.init()
        with spanweir.workflow("w"):
            pass
        """,
        f"http://127.0.0.1:{free_port()}",
    )
    assert done.returncode == 0
    assert time.monotonic() - started < 30
    assert "Traceback" not in done.stderr


def test_forked_children_send_for_themselves(receiver: Sink) -> None:
    done = run(
        """
        import multiprocessing, os, threading
        spanweir.init()
        with spanweir.workflow("before"):
            pass
        spanweir.flush(10)
        with spanweir.workflow("queued"):
            pass
        pid = os.fork()
        if pid == 0:
            with spanweir.workflow("child"):
                pass
            os._exit(0 if spanweir.flush(10) else 1)
        assert os.waitpid(pid, 0)[1] == 0

        def work():
            with spanweir.workflow("worker"):
                pass

        process = multiprocessing.get_context("fork").Process(target=work)
        process.start()
        process.join(20)
        assert process.exitcode == 0, process.exitcode
        with spanweir.workflow("after"):
            pass
        """,
        receiver.endpoint,
    )
    assert done.returncode == 0, done.stderr
    names = sorted(span.name.removeprefix("invoke_workflow ") for span in receiver.wait_for(5))
    assert names == ["after", "before", "child", "queued", "worker"]


def test_spans_that_end_while_the_interpreter_shuts_down_do_no_harm(receiver: Sink) -> None:
    done = run(
        """
        import atexit
        def late():
            with spanweir.workflow("late"):
                pass
        class Holder:
            def __init__(self): self.span = spanweir.workflow("held").start()
            def __del__(self): self.span.end()
        spanweir.init()
        holder = Holder()
        never_ended = spanweir.agent("open").start()
        atexit.register(late)
        """,
        receiver.endpoint,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert receiver.named("invoke_workflow late")


def test_a_signal_handler_may_end_spans_anywhere(receiver: Sink) -> None:
    """In the middle of what the interrupted thread holds, which would then wait for itself; finalisers come so, too."""
    done = run(
        """
        import signal
        from spanweir.instrumentation.worker import Limits
        spanweir.init(limits=Limits(interval_s=0.01, max_request_bytes=20_000, max_queued_bytes=100_000))
        work = spanweir.tool("t")(lambda x: x)
        interrupted = 0
        def handler(*_):
            global interrupted
            interrupted += 1
            work("in the handler")
            signal.setitimer(signal.ITIMER_REAL, 0.0005 if interrupted < 500 else 0)
        signal.signal(signal.SIGALRM, handler)
        signal.setitimer(signal.ITIMER_REAL, 0.0005)
        while interrupted < 500:
            work("before")
        """,
        receiver.endpoint,
    )
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.parametrize("variable", [{"OTEL_SDK_DISABLED": "true"}, {"OTEL_TRACES_EXPORTER": "none"}])
def test_switched_off(receiver: Sink, variable: dict[str, str]) -> None:
    done = run(
        """
        spanweir.init()
        with spanweir.workflow("w"):
            pass
        assert spanweir.flush(5)
        """,
        receiver.endpoint,
        **variable,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert receiver.spans == []


def test_a_console_exporter_beside_ours(receiver: Sink) -> None:
    done = run(
        """
        spanweir.init()
        with spanweir.workflow("w", input="hi"):
            pass
        from opentelemetry import trace
        trace.get_tracer_provider().force_flush()
        """,
        receiver.endpoint,
        OTEL_TRACES_EXPORTER="otlp,console",
    )
    assert done.returncode == 0, done.stderr
    assert '"name": "invoke_workflow w"' in done.stdout
    assert '\\"content\\":\\"hi\\"' in done.stdout
    assert receiver.named("invoke_workflow w")


def test_the_calling_thread_serialises_nothing(receiver: Sink) -> None:
    threads: list[str] = []

    class Watched:
        def __repr__(self) -> str:
            threads.append(threading.current_thread().name)
            return "watched"

    def redact(key: str, value: Any) -> Any:
        threads.append(threading.current_thread().name)
        return value

    start(receiver.endpoint, redact=redact)
    spanweir.tool("t")(lambda **arguments: Watched())(given=[Watched()], image=b"x" * 1000)
    assert threads == []
    assert spanweir.flush(10)
    assert set(threads) == {"spanweir-export"}
    got = attributes(receiver.named("execute_tool t"))
    assert json.loads(got["gen_ai.tool.call.arguments"])["given"] == ["watched"]


def test_many_threads_and_a_receiver_that_refuses_now_and_then(receiver: Sink) -> None:
    worker = start(receiver.endpoint, limits=Limits(interval_s=0.05, max_request_bytes=200_000))
    receiver.refusals += [grpc.StatusCode.UNAVAILABLE] * 2
    text = "x" * 5_000

    def work(thread: int) -> None:
        for n in range(60):
            with spanweir.workflow(f"{thread}-{n}", input=text), spanweir.tool("t", arguments={"n": n}):
                pass
            if n == 30:
                receiver.refusals.append(grpc.StatusCode.UNAVAILABLE)

    threads = [threading.Thread(target=work, args=(thread,)) for thread in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert spanweir.flush(60)
    assert len({span.span_id for span in receiver.spans}) == len(receiver.spans) == 720
    assert max(receiver.sizes) <= 200_000
    counters = worker.counters
    assert (counters.ended, counters.sent, counters.waiting) == (720, 720, 0)
