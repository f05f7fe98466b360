"""What the OTLP receiver does over either transport: what is acknowledged is in the queue, and answers decide loss."""

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest
from opentelemetry._logs import SeverityNumber
from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter as GrpcLogExporter
from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter as GrpcMetricExporter
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcSpanExporter
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter as HttpLogExporter
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter as HttpMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as HttpSpanExporter
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import SimpleLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor

from spanweir.collector.queue.api import Record
from spanweir.collector.queue.disk import Config as Disk
from spanweir.collector.receivers._auth import Auth, Limit
from spanweir.collector.receivers.api import Context, Receiver, ReceiverError
from spanweir.collector.receivers.otlp import Config, Grpc, Http, Protocols
from spanweir.instrumentation import transport
from spanweir.schemas.options import KIB, MIB, Secret, Size
from tests.benchmarks.load import make_requests
from tests.support.otlp_client import call, send, send_grpc

INVALID_ARGUMENT, RESOURCE_EXHAUSTED, INTERNAL, UNAVAILABLE, UNAUTHENTICATED = 3, 8, 13, 14, 16


class Counting:
    """An observer that keeps sums of items and numbers of calls."""

    def __init__(self) -> None:
        self.items: Counter[tuple[str, ...]] = Counter()
        self.calls: Counter[tuple[str, ...]] = Counter()

    def accepted(self, signal: str, transport: str, tenant: str, items: int, size_bytes: int) -> None:
        self._count(items, "accepted", signal, transport, tenant)

    def dropped(self, signal: str, transport: str, tenant: str, items: int) -> None:
        self._count(items, "dropped", signal, transport, tenant)

    def rejected(self, signal: str, transport: str, tenant: str, items: int, reason: str) -> None:
        self._count(items, "rejected", signal, transport, tenant, reason)

    def refused(self, signal: str, transport: str, tenant: str, items: int, reason: str) -> None:
        self._count(items, "refused", signal, transport, tenant, reason)

    def _count(self, items: int, *key: str) -> None:
        self.items[key] += items
        self.calls[key] += 1


class Intake:
    """A receiver with a disk queue behind it."""

    def __init__(self, directory: Path, transport: str) -> None:
        self.transport = transport
        self.queue = Disk(directory=str(directory), max_bytes=Size(64 * MIB))
        self.observer = Counting()
        self._stack: list[Callable[[], None]] = []

    def start(
        self, config: Config | None = None, *, signals: tuple[str, ...] = ("traces", "logs", "metrics")
    ) -> Receiver:
        self.writer = self.queue.open_writer()
        self._stack.append(self.writer.close)
        context = Context(name="otlp", writer=self.writer, signals=frozenset(signals), observer=self.observer)
        self.receiver = (config or local()).build(context)
        self.receiver.start()
        self._stack.append(lambda: self.receiver.stop(1))
        return self.receiver

    @property
    def endpoint(self) -> str:
        return self.receiver.endpoints[self.transport]

    def records(self) -> list[Record]:
        reader = self.queue.open_reader([])
        try:
            return list(reader.scan())
        finally:
            reader.close()

    def close(self) -> None:
        while self._stack:
            self._stack.pop()()


def local(*, limit_mib: int = 64, auth: Auth | None = None, limits: dict[str, Limit] | None = None) -> Config:
    return Config(
        protocols=Protocols(
            grpc=Grpc(endpoint="127.0.0.1:0", max_recv_msg_size_mib=limit_mib),
            http=Http(endpoint="127.0.0.1:0", max_request_body_size=Size(limit_mib * MIB)),
        ),
        auth=auth or Auth(),
        limits=limits or {},
    )


@pytest.fixture(params=["grpc", "grpc-threads", "http"])
def intake(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Intake]:
    if request.param == "grpc-threads":
        monkeypatch.setattr("spanweir.collector.receivers._grpc_loop.usable", lambda: False)
    one = Intake(tmp_path / "queue", request.param.partition("-")[0])
    yield one
    one.close()


def test_sdk_spans_logs_and_metrics_arrive(intake: Intake) -> None:
    intake.start()
    endpoint, over_grpc = intake.endpoint, intake.transport == "grpc"
    spans = TracerProvider()
    spans.add_span_processor(
        SimpleSpanProcessor(
            GrpcSpanExporter(f"http://{endpoint}", insecure=True)
            if over_grpc
            else HttpSpanExporter(f"http://{endpoint}/v1/traces", compression=Compression.Gzip)
        )
    )
    with spans.get_tracer("test").start_as_current_span("chat") as span:
        span.set_attribute("gen_ai.operation.name", "chat")
    logs = LoggerProvider()
    logs.add_log_record_processor(
        SimpleLogRecordProcessor(
            GrpcLogExporter(f"http://{endpoint}", insecure=True)
            if over_grpc
            else HttpLogExporter(f"http://{endpoint}/v1/logs")
        )
    )
    logs.get_logger("test").emit(body="said", severity_number=SeverityNumber.INFO, event_name="gen_ai.choice")
    exporter = (
        GrpcMetricExporter(f"http://{endpoint}", insecure=True)
        if over_grpc
        else HttpMetricExporter(f"http://{endpoint}/v1/metrics", compression=Compression.Deflate)
    )
    meter = MeterProvider([PeriodicExportingMetricReader(exporter, export_interval_millis=3_600_000)])
    meter.get_meter("test").create_histogram("gen_ai.client.token.usage").record(5)
    for provider in (spans, logs, meter):
        provider.shutdown()

    traces, log, metrics = intake.records()
    request = ExportTraceServiceRequest.FromString(traces.body)
    assert request.resource_spans[0].scope_spans[0].spans[0].name == "chat"
    assert (
        ExportLogsServiceRequest.FromString(log.body).resource_logs[0].scope_logs[0].log_records[0].body.string_value
        == "said"
    )
    assert ExportMetricsServiceRequest.FromString(metrics.body).resource_metrics[0].scope_metrics[0].metrics[0].name
    assert [one.signal for one in (traces, log, metrics)] == ["traces", "logs", "metrics"]
    assert intake.observer.items == Counter(
        {("accepted", signal, intake.transport, ""): 1 for signal in ("traces", "logs", "metrics")}
    )


def test_a_request_is_kept_byte_for_byte_with_routing_headers_only(intake: Intake) -> None:
    intake.start()
    (body,) = make_requests(1, 3)
    headers = {"x-mlflow-experiment-id": "7", "x-other": "1", "authorization": "Bearer secret"}
    assert send(intake.transport, intake.endpoint, body, headers=headers).code == 0
    (record,) = intake.records()
    assert record.body == body
    assert record.headers == {"x-mlflow-experiment-id": "7"}
    assert record.received_ns > 1_700_000_000_000_000_000
    assert intake.observer.items[("accepted", "traces", intake.transport, "")] == 15


def test_named_metadata_travels_too_but_credentials_never(intake: Intake) -> None:
    intake.start(
        Config(
            protocols=Protocols(
                grpc=Grpc(endpoint="127.0.0.1:0", include_metadata=True),
                http=Http(endpoint="127.0.0.1:0", include_metadata=("X-Team", "x-mlflow-run")),
            )
        )
    )
    headers = {"x-team": "blue", "authorization": "Bearer secret"}
    send(intake.transport, intake.endpoint, make_requests(1, 1)[0], headers=headers)
    (record,) = intake.records()
    assert record.headers["x-team"] == "blue"
    assert "secret" not in str(record.headers)


def test_many_senders_at_once(intake: Intake) -> None:
    intake.start()
    bodies = make_requests(40, 2)
    replies: list[int] = []

    def work(share: list[bytes]) -> None:
        replies.extend(send(intake.transport, intake.endpoint, body).code for body in share)

    threads = [threading.Thread(target=work, args=[bodies[start::8]]) for start in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert replies == [0] * 40
    assert sorted(record.body for record in intake.records()) == sorted(bodies)


def test_an_empty_request_is_a_success_and_is_not_queued(intake: Intake) -> None:
    intake.start()
    for signal in ("traces", "logs", "metrics"):
        assert send(intake.transport, intake.endpoint, b"", signal=signal).code == 0
    assert intake.records() == []


@pytest.mark.parametrize("body", [b"garbage", b"\xff" * 100, make_requests(1, 1)[0][:-7], b"\x0a\x05\x12\x03\x12\x01"])
def test_what_is_no_otlp_is_refused_for_ever(intake: Intake, body: bytes) -> None:
    intake.start()
    reply = send(intake.transport, intake.endpoint, body)
    assert (reply.code, reply.retry_after_s) == (INVALID_ARGUMENT, 0)
    assert "ExportTraceServiceRequest" in reply.message
    assert send(intake.transport, intake.endpoint, make_requests(1, 1)[0]).code == 0
    assert len(intake.records()) == 1
    assert intake.observer.calls[("rejected", "traces", intake.transport, "", "undecodable")] == 1


@pytest.mark.parametrize(
    ("trace_id", "span_id", "message"),
    [
        (b"", b"12345678", "trace_id has 0 bytes"),
        (b"1" * 15, b"12345678", "trace_id has 15 bytes"),
        (bytes(16), b"12345678", "trace_id is all zeros"),
        (b"1" * 16, b"", "span_id has 0 bytes"),
        (b"1" * 16, b"1" * 16, "span_id has 16 bytes"),
        (b"1" * 16, bytes(8), "span_id is all zeros"),
    ],
)
def test_a_span_with_a_bad_id_costs_no_neighbour(intake: Intake, trace_id: bytes, span_id: bytes, message: str) -> None:
    intake.start()
    request = ExportTraceServiceRequest.FromString(make_requests(1, 2)[0])
    spans = request.resource_spans[0].scope_spans[0].spans
    spans[3].trace_id, spans[3].span_id = trace_id, span_id
    good = [span.span_id for index, span in enumerate(spans) if index != 3]
    reply = send(intake.transport, intake.endpoint, request.SerializeToString())
    assert (reply.code, reply.rejected) == (0, 1)
    assert message in reply.message
    assert "chat gpt-4o-mini" in reply.message
    (record,) = intake.records()
    kept = ExportTraceServiceRequest.FromString(record.body).resource_spans[0]
    assert [span.span_id for span in kept.scope_spans[0].spans] == good
    assert kept.resource == request.resource_spans[0].resource
    assert intake.observer.items[("accepted", "traces", intake.transport, "")] == 9
    assert intake.observer.items[("rejected", "traces", intake.transport, "", "invalid_id")] == 1


def test_only_bad_spans_leave_nothing_to_queue(intake: Intake) -> None:
    intake.start()
    request = ExportTraceServiceRequest()
    request.resource_spans.add().scope_spans.add().spans.add(name="lost")
    assert send(intake.transport, intake.endpoint, request.SerializeToString()).rejected == 1
    assert intake.records() == []


def test_log_records_need_no_ids(intake: Intake) -> None:
    intake.start()
    request = ExportLogsServiceRequest()
    request.resource_logs.add().scope_logs.add().log_records.add(event_name="x")
    reply = send(intake.transport, intake.endpoint, request.SerializeToString(), signal="logs")
    assert (reply.code, reply.rejected) == (0, 0)
    assert len(intake.records()) == 1


def test_a_large_trace_arrives_whole(intake: Intake) -> None:
    intake.start()
    request = ExportTraceServiceRequest.FromString(make_requests(1, 1)[0])
    request.resource_spans[0].scope_spans[0].spans[0].attributes.add(key="big").value.string_value = "x" * (16 * MIB)
    body = request.SerializeToString()
    assert send(intake.transport, intake.endpoint, body).code == 0
    assert [record.body for record in intake.records()] == [body]


def test_over_the_limit_is_permanent(intake: Intake) -> None:
    intake.start(local(limit_mib=1))
    reply = send(intake.transport, intake.endpoint, b"\x0a" + b"x" * (3 * MIB))
    assert (reply.code, reply.retry_after_s) == (RESOURCE_EXHAUSTED, 0)
    assert send(intake.transport, intake.endpoint, make_requests(1, 1)[0]).code == 0


def test_a_full_queue_makes_senders_try_again_and_takes_more_when_there_is_room(intake: Intake) -> None:
    intake.queue = Disk(directory=intake.queue.directory, max_bytes=Size(MIB), segment_bytes=Size(64 * KIB))
    intake.start()
    bodies = make_requests(20, 5)
    replies = [send(intake.transport, intake.endpoint, body) for body in bodies]
    accepted = sum(reply.code == 0 for reply in replies)
    assert 10 < accepted < 20
    assert {reply.code for reply in replies[accepted:]} == {UNAVAILABLE}
    assert all(reply.retry_after_s > 0 for reply in replies[accepted:])
    assert "exporters are behind" in replies[-1].message
    assert intake.observer.items[("refused", "traces", intake.transport, "", "queue_full")] == 25 * (20 - accepted)
    reader = intake.queue.open_reader(["a"])
    reader.advance("a", accepted)
    reader.close()
    threading.Event().wait(0.06)
    assert send(intake.transport, intake.endpoint, bodies[-1]).code == 0


def test_a_closed_queue_makes_senders_try_again(intake: Intake) -> None:
    intake.start()
    intake.writer.close()
    reply = send(intake.transport, intake.endpoint, make_requests(1, 1)[0])
    assert reply.code == UNAVAILABLE
    assert reply.retry_after_s > 0


def test_a_signal_without_a_pipeline_is_taken_counted_and_dropped(
    intake: Intake, caplog: pytest.LogCaptureFixture
) -> None:
    intake.start(signals=("logs",))
    for body in make_requests(2, 1):
        assert send(intake.transport, intake.endpoint, body).code == 0
    assert intake.records() == []
    assert intake.observer.items[("dropped", "traces", intake.transport, "")] == 10
    assert [record.message for record in caplog.records].count(
        "receiver otlp gets traces, and no pipeline takes them: they are dropped"
    ) == 1


@pytest.mark.parametrize(
    ("authorization", "tenant"),
    [
        ("Bearer token-of-a", "team-a"),
        ("bearer token-of-b", "team-b"),
        ("Basic dGVhbS1jOnBhc3M6d29yZA==", "team-c"),
        ("Bearer nonsense", None),
        ("Bearer ", None),
        ("Basic !!!", None),
        ("Basic dGVhbS1jOndyb25n", None),
        ("", None),
    ],
)
def test_who_sends_is_known_before_what_is_sent_is_read(intake: Intake, authorization: str, tenant: str | None) -> None:
    auth = Auth(
        bearer={"team-a": Secret("token-of-a"), "team-b": Secret("token-of-b")}, basic={"team-c": Secret("pass:word")}
    )
    intake.start(local(auth=auth))
    headers = {"authorization": authorization} if authorization else {}
    reply = send(intake.transport, intake.endpoint, make_requests(1, 1)[0], headers=headers)
    if tenant is None:
        assert reply.code == UNAUTHENTICATED
        assert reply.message == "this receiver wants a bearer token or a user name and password"
        assert intake.records() == []
        # Not even whether the body is OTLP is looked at.
        assert send(intake.transport, intake.endpoint, b"garbage", headers=headers).code == UNAUTHENTICATED
        assert intake.observer.calls[("rejected", "traces", intake.transport, "", "unauthenticated")] == 2
    else:
        assert reply.code == 0
        assert [record.tenant for record in intake.records()] == [tenant]
        assert intake.observer.items[("accepted", "traces", intake.transport, tenant)] == 5


def test_a_tenant_over_its_limit_waits_and_the_others_do_not(intake: Intake) -> None:
    auth = Auth(bearer={"busy": Secret("1"), "calm": Secret("2")})
    intake.start(local(auth=auth, limits={"busy": Limit(requests_per_s=2.0)}))
    (body,) = make_requests(1, 1)
    replies = [send(intake.transport, intake.endpoint, body, headers={"authorization": "Bearer 1"}) for _ in range(8)]
    refused = [reply for reply in replies if reply.code]
    assert 0 < len(refused) < 8
    assert {reply.code for reply in refused} == {RESOURCE_EXHAUSTED}
    assert all(0 < reply.retry_after_s <= 1 for reply in refused)
    assert refused[0].message == "busy sends more than its limit"
    assert send(intake.transport, intake.endpoint, body, headers={"authorization": "Bearer 2"}).code == 0


def test_the_instrumentation_knows_a_limit_from_a_request_that_is_too_large(intake: Intake) -> None:
    auth = Auth(bearer={"busy": Secret("1")})
    intake.start(local(auth=auth, limits={"busy": Limit(requests_per_s=2.0)}))
    settings = transport.Settings(
        endpoint=f"http://{intake.endpoint}",
        protocol="grpc" if intake.transport == "grpc" else "http/protobuf",
        headers={"authorization": "Bearer 1"},
        insecure=True,
    )
    sender = settings.open()
    answers = [sender.send(make_requests(1, 1)[0], 30) for _ in range(8)]
    sender.close()
    refused = [answer for answer in answers if not answer.accepted]
    assert 0 < len(refused) < 8
    assert all(0 < (answer.retry_after_s or 0) <= 1 and not answer.too_large for answer in refused)


@pytest.mark.parametrize(
    ("taken", "reason"), [(True, "Address already in use"), (False, "Cannot assign requested address")]
)
def test_an_address_that_cannot_be_had_is_named_with_the_reason(intake: Intake, taken: bool, reason: str) -> None:
    intake.start()
    # The other one is of those that stand in documentation only (RFC 5737).
    address = intake.endpoint if taken else "192.0.2.1:4317"
    other = {"grpc": Protocols(grpc=Grpc(endpoint=address)), "http": Protocols(http=Http(endpoint=address))}
    second = Config(protocols=other[intake.transport]).build(Context(name="otlp/two", writer=intake.writer))
    place = rf"receivers.otlp/two.protocols.{intake.transport}: cannot listen on {address}"
    with pytest.raises(ReceiverError, match=f"{place}: {reason}"):
        second.start()


def test_a_fault_of_the_collector_is_not_repeated_for_ever(intake: Intake, monkeypatch: pytest.MonkeyPatch) -> None:
    intake.start()

    def fault(signal: str, body: bytes) -> None:
        raise RuntimeError("a mistake in the program")

    monkeypatch.setattr("spanweir.collector.receivers._intake.check", fault)
    reply = send(intake.transport, intake.endpoint, make_requests(1, 1)[0])
    assert (reply.code, reply.retry_after_s) == (INTERNAL, 0)
    assert "mistake" not in reply.message
    monkeypatch.undo()
    assert send(intake.transport, intake.endpoint, make_requests(1, 1)[0]).code == 0


def test_stopping_answers_what_is_under_way_and_ends_in_time(intake: Intake) -> None:
    intake.start()
    bodies = make_requests(30, 5)
    replies: list[int] = []

    def work() -> None:
        for body in bodies:
            try:
                replies.append(send(intake.transport, intake.endpoint, body).code)
            except (OSError, KeyError):
                return

    thread = threading.Thread(target=work)
    thread.start()
    while len(replies) < 3:
        threading.Event().wait(0.002)
    intake.receiver.stop(2)
    thread.join(20)
    assert not thread.is_alive()
    assert set(replies) <= {0, UNAVAILABLE}
    assert len(intake.records()) == replies.count(0)


@pytest.mark.parametrize("intake", ["grpc", "grpc-threads"], indirect=True)
@pytest.mark.parametrize("attempt", range(5))
def test_senders_that_never_pause_hear_only_ok_or_unavailable_when_it_stops(intake: Intake, attempt: int) -> None:
    """grpc's own shutdown cancels what comes while it runs: about every second stop here did, before `_grpc_stop`."""
    intake.start()
    bodies = make_requests(3, 2)
    replies: list[int] = []
    stopped = threading.Event()

    def keep_one_connection() -> None:
        with grpc.insecure_channel(intake.endpoint, options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
            while not stopped.is_set():
                replies.append(call(channel, bodies[0]).code)

    def connect_each_time() -> None:
        while not stopped.is_set():
            replies.append(send(intake.transport, intake.endpoint, bodies[1]).code)

    senders = [threading.Thread(target=work) for work in (keep_one_connection, keep_one_connection, connect_each_time)]
    for sender in senders:
        sender.start()
    while len(replies) < 5 + attempt:
        threading.Event().wait(0.001)
    intake.receiver.stop(10)
    stopped.set()
    for sender in senders:
        sender.join(20)
    assert set(replies) <= {0, UNAVAILABLE}
    assert len(intake.records()) == replies.count(0)


def test_grpc_compression(tmp_path: Path) -> None:
    one = Intake(tmp_path / "queue", "grpc")
    one.start()
    (body,) = make_requests(1, 3)
    for compression in (grpc.Compression.Gzip, grpc.Compression.Deflate):
        assert send_grpc(one.endpoint, body, compression=compression).code == 0
    assert [record.body for record in one.records()] == [body, body]
    one.close()


def test_an_unknown_grpc_method_is_unimplemented(tmp_path: Path) -> None:
    one = Intake(tmp_path / "queue", "grpc")
    one.start()
    with grpc.insecure_channel(one.endpoint) as channel, pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary("/opentelemetry.proto.collector.profiles.v1.ProfilesService/Export")(b"", timeout=10)
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
    one.close()
