"""Bad input at the sockets: each gets a clear answer, costs no neighbour, and the receiver lives."""

import contextlib
import gzip
import http.client
import json
import re
import socket
import threading
import time
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import zstandard
from google.rpc.status_pb2 import Status
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from spanweir.collector.queue.api import Record
from spanweir.collector.queue.disk import Config as Disk
from spanweir.collector.receivers._compression import TooLarge, decompress
from spanweir.collector.receivers.api import Context
from spanweir.collector.receivers.otlp import Config, Cors, Grpc, Http, Protocols
from spanweir.schemas.options import MIB, Duration, Size
from tests.benchmarks.load import make_requests
from tests.support.otlp_client import call, post, send, send_grpc

PROTOBUF = {"content-type": "application/x-protobuf"}


class Running:
    def __init__(self, directory: Path, read_timeout_s: float = 300) -> None:
        self.queue = Disk(directory=str(directory))
        self.writer = self.queue.open_writer()
        http = Http(
            endpoint="127.0.0.1:0",
            max_request_body_size=Size(4 * MIB),
            idle_timeout=Duration(1),
            read_timeout=Duration(read_timeout_s),
            max_connections=20,
            cors=Cors(allowed_origins=("https://app.example",), allowed_headers=("X-Team",)),
        )
        protocols = Protocols(grpc=Grpc(endpoint="127.0.0.1:0", max_recv_msg_size_mib=4), http=http)
        self.receiver = Config(protocols=protocols).build(Context(name="otlp", writer=self.writer))
        self.receiver.start()
        self.http = self.receiver.endpoints["http"]
        self.grpc = self.receiver.endpoints["grpc"]

    def records(self) -> list[Record]:
        reader = self.queue.open_reader([])
        try:
            return list(reader.scan())
        finally:
            reader.close()

    def socket(self) -> socket.socket:
        host, _, port = self.http.rpartition(":")
        return socket.create_connection((host, int(port)), timeout=20)

    def assert_alive(self) -> None:
        (body,) = make_requests(1, 1)
        assert send("http", self.http, body).code == 0
        assert send("grpc", self.grpc, body).code == 0


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    one = Running(tmp_path_factory.mktemp("bad-input") / "queue")
    yield one
    one.receiver.stop(1)
    one.writer.close()


def exchange(running: Running, data: bytes) -> bytes:
    """Everything that comes back until the connection is closed."""
    with running.socket() as connection:
        connection.sendall(data)
        received = b""
        while part := connection.recv(65536):
            received += part
    return received


COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "zstd": zstandard.compress,
}


@pytest.mark.parametrize("coding", COMPRESS)
@pytest.mark.parametrize("json_body", [False, True])
def test_content_codings(running: Running, coding: str, json_body: bool) -> None:
    body = b'{"resourceSpans":[]}' if json_body else make_requests(1, 20)[0]
    kind = "application/json" if json_body else "application/x-protobuf"
    before = len(running.records())
    status, headers, _ = post(
        running.http, COMPRESS[coding](body), headers={"content-type": kind, "content-encoding": coding}
    )
    assert (status, headers["content-type"]) == (200, kind)
    assert [record.body for record in running.records()[before:]] == ([] if json_body else [body])


def test_other_forms_of_the_same_codings() -> None:
    body = make_requests(1, 5)[0]
    raw = zlib.compressobj(wbits=-15)
    assert decompress("deflate", raw.compress(body) + raw.flush(), MIB) == body
    assert decompress("gzip", gzip.compress(body[:100]) + gzip.compress(body[100:]), MIB) == body
    assert decompress("zstd", zstandard.compress(body[:100]) + zstandard.compress(body[100:]), MIB) == body
    stream = zstandard.ZstdCompressor().compressobj()
    assert decompress("zstd", stream.compress(body) + stream.flush(), MIB) == body


@pytest.mark.parametrize("coding", COMPRESS)
def test_a_bomb_is_stopped_at_the_limit(running: Running, coding: str) -> None:
    bomb = COMPRESS[coding](bytes(50 * MIB))
    tracemalloc.start()
    with pytest.raises(TooLarge):
        decompress(coding, bomb, MIB)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 40 * MIB
    status, _, body = post(running.http, bomb, headers={**PROTOBUF, "content-encoding": coding})
    assert status == 413
    assert "decompressed" in Status.FromString(body).message
    running.assert_alive()


def test_a_grpc_bomb_is_refused(running: Running) -> None:
    reply = send_grpc(running.grpc, bytes(50 * MIB), compression=grpc.Compression.Gzip)
    assert (reply.code, reply.retry_after_s) == (8, 0)
    running.assert_alive()


@pytest.mark.parametrize("coding", COMPRESS)
@pytest.mark.parametrize("damage", ["garbage", "cut"])
def test_what_does_not_decompress_is_refused(running: Running, coding: str, damage: str) -> None:
    data = b"garbage" * 100 if damage == "garbage" else COMPRESS[coding](make_requests(1, 1)[0])[:-20]
    status, _, body = post(running.http, data, headers={**PROTOBUF, "content-encoding": coding})
    assert status == 400
    assert coding in Status.FromString(body).message


@pytest.mark.parametrize(
    ("change", "status", "text"),
    [
        ({"method": "GET"}, 405, b"405 method not allowed, supported: [POST]"),
        ({"method": "PUT"}, 405, b"405 method not allowed, supported: [POST]"),
        ({"path": "/v1/spans"}, 404, b"OTLP is posted to /v1/traces /v1/logs /v1/metrics"),
        ({"headers": {"content-type": "text/plain"}}, 415, b"415 unsupported media type"),
        ({"headers": {}}, 415, b"415 unsupported media type"),
        ({"headers": {**PROTOBUF, "content-encoding": "br"}}, 415, b"415 unsupported content encoding"),
    ],
)
def test_wrong_requests_are_told_what_is_right(
    running: Running, change: dict[str, Any], status: int, text: bytes
) -> None:
    got, headers, body = post(running.http, b"x", **{"headers": PROTOBUF, **change})
    assert (got, body[: len(text)]) == (status, text)
    assert status != 405 or headers["allow"] == "POST"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'{"resourceSpans": 1}',
        b"\xff\xfe",
        b'{"resourceSpans": [{"scopeSpans": [{"spans": 1}]}]}',
    ],
)
def test_json_that_is_no_request_gets_a_json_status(running: Running, body: bytes) -> None:
    status, headers, answer = post(running.http, body, headers={"content-type": "application/json"})
    assert (status, headers["content-type"]) == (400, "application/json")
    assert json.loads(answer)["code"] == 3
    assert json.loads(answer)["message"]


def test_json_with_wrong_ids_keeps_the_good_ones(running: Running) -> None:
    good = {"traceId": "5b8efff798038103d269b633813fc60c", "spanId": "eee19b7ec3c1b174", "name": "good"}
    spans = [good, {**good, "traceId": "xyz"}, {**good, "spanId": ""}, {**good, "startTimeUnixNano": "soon"}]
    body = json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": spans}]}]}).encode()
    status, _, answer = post(running.http, body, headers={"content-type": "application/json; charset=utf-8"})
    assert status == 200
    assert json.loads(answer)["partialSuccess"]["rejectedSpans"] == "3"
    kept = ExportTraceServiceRequest.FromString(running.records()[-1].body).resource_spans[0].scope_spans[0].spans
    assert [span.name for span in kept] == ["good"]


def test_a_json_success_is_an_object(running: Running) -> None:
    assert post(running.http, b"{}", headers={"content-type": "application/json"})[2] == b"{}"


@pytest.mark.parametrize("transport", ["grpc", "http"])
def test_invalid_utf8_and_deep_nesting_are_accepted_as_they_are(running: Running, transport: str) -> None:
    request = ExportTraceServiceRequest.FromString(make_requests(1, 1)[0])
    spans = request.resource_spans[0].scope_spans[0].spans
    spans[0].name = "broken@"
    value = spans[1].attributes.add(key="deep").value
    for _ in range(40):
        value = value.array_value.values.add()
    body = request.SerializeToString().replace(b"broken@", b"broken\xff")
    reply = send(transport, running.http if transport == "http" else running.grpc, body)
    assert (reply.code, reply.rejected) == (0, 0)
    assert running.records()[-1].body == body


@pytest.mark.parametrize("transport", ["grpc", "http"])
def test_a_span_that_is_broken_inside_costs_no_neighbour(running: Running, transport: str) -> None:
    request = ExportTraceServiceRequest.FromString(make_requests(1, 1)[0])
    request.resource_spans[0].scope_spans[0].spans[2].name = "0123456789"
    # The name's length now reaches beyond its span, and the span's own length is right.
    body = request.SerializeToString().replace(b"\x0a0123456789", b"\x7f0123456789")
    reply = send(transport, running.http if transport == "http" else running.grpc, body)
    assert (reply.code, reply.rejected) == (0, 1)
    kept = ExportTraceServiceRequest.FromString(running.records()[-1].body).resource_spans[0].scope_spans[0].spans
    assert [span.span_id for span in kept] == [
        span.span_id for index, span in enumerate(request.resource_spans[0].scope_spans[0].spans) if index != 2
    ]


@pytest.mark.parametrize("transport", ["grpc", "http"])
def test_a_hundred_thousand_attributes(running: Running, transport: str) -> None:
    request = ExportTraceServiceRequest.FromString(make_requests(1, 1)[0])
    attributes = request.resource_spans[0].scope_spans[0].spans[0].attributes
    for number in range(100_000):
        attributes.add(key=f"k{number}").value.int_value = number
    body = request.SerializeToString()
    assert send(transport, running.http if transport == "http" else running.grpc, body).code == 0
    assert running.records()[-1].body == body


def test_garbage_instead_of_http(running: Running) -> None:
    assert exchange(running, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 hello").startswith(b"HTTP/1.1 400 ")
    assert exchange(running, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").startswith(b"HTTP/1.1 400 ")
    running.assert_alive()


def test_garbage_instead_of_grpc(running: Running) -> None:
    host, _, port = running.grpc.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\n\r\n" + b"\xff" * 1000)
        while connection.recv(65536):
            pass
    running.assert_alive()


def test_endless_headers_are_cut_off(running: Running) -> None:
    assert exchange(running, b"POST /v1/traces HTTP/1.1\r\nx: " + b"y" * 200_000).startswith(b"HTTP/1.1 431 ")
    running.assert_alive()


def test_too_large_a_body_is_answered_before_it_is_sent(running: Running) -> None:
    head = b"POST /v1/traces HTTP/1.1\r\nhost: x\r\ncontent-type: application/x-protobuf\r\ncontent-length: %d\r\n\r\n"
    answer = exchange(running, head % (5 * MIB))
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"connection: close" in answer
    running.assert_alive()


def test_a_chunked_body_without_end_is_stopped_at_the_limit(running: Running) -> None:
    head = b"POST /v1/traces HTTP/1.1\r\nhost: x\r\ncontent-type: application/x-protobuf\r\n"
    with running.socket() as connection:
        connection.sendall(head + b"transfer-encoding: chunked\r\n\r\n")
        chunk = b"100000\r\n" + b"x" * MIB + b"\r\n"
        for _ in range(6):
            connection.sendall(chunk)
        assert connection.recv(65536).startswith(b"HTTP/1.1 413 ")
    running.assert_alive()


def test_a_chunked_body_arrives(running: Running) -> None:
    (body,) = make_requests(1, 2)
    parts = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (body[:10], body[10:20_000], body[20_000:]))
    head = b"POST /v1/traces HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/x-protobuf\r\n"
    answer = exchange(running, head + b"transfer-encoding: chunked\r\n\r\n" + parts + b"0\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert running.records()[-1].body == body


def test_a_sender_that_waits_for_100_continue(running: Running) -> None:
    (body,) = make_requests(1, 1)
    head = b"POST /v1/traces HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\nconnection: close\r\ncontent-length: %d\r\n"
    with running.socket() as connection:
        connection.sendall(head % len(body) + b"content-type: application/x-protobuf\r\n\r\n")
        assert connection.recv(65536) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(body)
        assert connection.recv(65536).startswith(b"HTTP/1.1 200 OK\r\n")


@pytest.mark.parametrize("framing", ["content-length", "chunked"])
@pytest.mark.parametrize("repeat", [1, 3])
def test_a_wish_for_http2_is_no_reason_to_lose_the_body(running: Running, framing: str, repeat: int) -> None:
    """JDK's HttpClient asks for h2c with each request to an http:// address."""
    (body,) = make_requests(1, 2)
    before = len(running.records())
    head = (
        b"POST /v1/traces HTTP/1.1\r\nConnection: Upgrade, HTTP2-Settings\r\nhost: x\r\n"
        b"HTTP2-Settings: AAEAAEAAAAIAAAAB\r\nUpgrade: h2c\r\ncontent-type: application/x-protobuf\r\n"
    )
    if framing == "chunked":
        request = head + b"transfer-encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    else:
        request = head + b"content-length: %d\r\n\r\n%b" % (len(body), body)
    answer = exchange(running, request * repeat)
    assert re.findall(rb"HTTP/1.1 (\d+)", answer) == [b"200"] * repeat
    assert b"connection: close" not in answer
    assert [record.body for record in running.records()[before:]] == [body] * repeat


def test_other_wishes_for_another_protocol(running: Running) -> None:
    upgrade = b"GET /v1/traces HTTP/1.1\r\nhost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
    assert re.findall(rb"HTTP/1.1 (\d+)", exchange(running, upgrade * 2)) == [b"405", b"405"]
    closing = upgrade.replace(b"Connection: Upgrade", b"Connection: close, Upgrade")
    assert re.findall(rb"HTTP/1.1 (\d+)", exchange(running, closing * 2)) == [b"405"]
    tunnel = b"CONNECT example.com:443 HTTP/1.1\r\nhost: example.com\r\n\r\n\x16\x03\x01"
    assert re.findall(rb"HTTP/1.1 (\d+)", exchange(running, tunnel)) == [b"404"]
    running.assert_alive()


def test_the_answer_to_head_has_no_body(running: Running) -> None:
    (body,) = make_requests(1, 1)
    host, _, port = running.http.rpartition(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=20)
    for method, path, expected in (("HEAD", "/v1/traces", 405), ("HEAD", "/", 404), ("POST", "/v1/traces", 200)):
        connection.request(method, path, body if method == "POST" else None, PROTOBUF)
        response = connection.getresponse()
        response.read()
        assert response.status == expected
    connection.close()


def test_what_follows_a_body_says_nothing_about_it(running: Running) -> None:
    (body,) = make_requests(1, 2)
    head = b"POST /v1/traces HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/x-protobuf\r\n"
    chunks = b"transfer-encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\ncontent-encoding: zstd\r\n\r\n" % (len(body), body)
    assert exchange(running, head + chunks).startswith(b"HTTP/1.1 200 OK\r\n")
    assert running.records()[-1].body == body


@pytest.mark.parametrize("endless", [b"0\r\nx: ", b"5;x="])
def test_what_is_no_body_has_a_limit_too(running: Running, endless: bytes) -> None:
    head = b"POST /v1/traces HTTP/1.1\r\nhost: x\r\ncontent-type: application/x-protobuf\r\n"
    answer = exchange(running, head + b"transfer-encoding: chunked\r\n\r\n" + endless + b"y" * 300_000)
    assert answer.startswith(b"HTTP/1.1 431 ")
    running.assert_alive()


def test_a_body_in_tiny_chunks_needs_no_more_than_its_size(running: Running) -> None:
    head = b"POST /v1/traces HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/x-protobuf\r\n"
    chunks = b"2\r\nxx\r\n" * 100_000
    tracemalloc.start()
    answer = exchange(running, head + b"transfer-encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # Unknown fields, all of them.
    assert answer.startswith(b"HTTP/1.1 200 ")
    # Two bytes are an object of 35; what is sent is here, too.
    assert peak < len(chunks) + 2 * MIB


def test_bodies_that_are_under_way_have_a_limit_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("spanweir.collector.receivers._exchange._BODIES", 1)
    one = Running(tmp_path / "queue")
    body = make_requests(1, 100)[0]
    head = b"POST /v1/traces HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/x-protobuf\r\n"
    request = head + b"content-length: %d\r\n\r\n%b" % (4 * MIB, bytes(3 * MIB))
    with one.socket() as slow, one.socket() as gone:
        slow.sendall(head + b"content-length: %d\r\n\r\n" % len(body) + body[:-1])
        gone.sendall(request)
        answered = exchange(one, request)
        assert answered.startswith(b"HTTP/1.1 503 ")
        assert b"retry-after: 1\r\n" in answered
        slow.sendall(body[-1:])
        assert slow.recv(65536).startswith(b"HTTP/1.1 200 ")
    for _ in range(3):
        assert send("http", one.http, body).code == 0
    assert [record.body for record in one.records()] == [body] * 4
    one.receiver.stop(1)
    one.writer.close()


def test_a_head_that_does_not_end_is_given_up_however_often_a_byte_of_it_comes(running: Running) -> None:
    with running.socket() as connection:
        connection.settimeout(0.2)
        for byte in b"POST /v1/traces HTTP/1.1\r\nhost: " + b"x" * 100:
            try:
                connection.sendall(bytes([byte]))
                assert connection.recv(1) == b""
                break
            except TimeoutError:
                continue
            except OSError:
                break
        else:
            pytest.fail("it was read for 20 seconds")


def test_a_body_that_trickles_is_answered_in_its_turn_and_given_up(tmp_path: Path) -> None:
    one = Running(tmp_path / "queue", read_timeout_s=1.5)
    (body,) = make_requests(1, 1)
    head = b"POST /v1/traces HTTP/1.1\r\nhost: x\r\ncontent-type: application/x-protobuf\r\ncontent-length: %d\r\n\r\n"
    received = b""
    with one.socket() as connection:
        connection.sendall(head % len(body) + body + head % len(body))
        connection.settimeout(0.2)
        for byte in body[:200]:
            with contextlib.suppress(TimeoutError):
                connection.sendall(bytes([byte]))
                if not (more := connection.recv(4096)):
                    break
                received += more
        else:
            pytest.fail("it was read for 40 seconds")
    first, _, second = received.partition(b"HTTP/1.1 408 Request Timeout\r\n")
    assert first.startswith(b"HTTP/1.1 200 ")
    assert b"the body did not come within 1.5 s (read_timeout)" in second
    one.assert_alive()
    one.receiver.stop(1)
    one.writer.close()


def test_pipelined_requests_are_answered_in_order(running: Running) -> None:
    bodies = make_requests(20, 1)
    head = b"POST /v1/traces HTTP/1.1\r\nhost: x\r\ncontent-type: %b\r\ncontent-length: %d\r\n\r\n%b"
    data = b"".join(
        head % (b"text/plain" if index % 3 == 1 else b"application/x-protobuf", len(body), body)
        for index, body in enumerate(bodies)
    )
    answer = exchange(running, data + b"GET / HTTP/1.1\r\nconnection: close\r\n\r\n")
    statuses = [int(status) for status in re.findall(rb"HTTP/1.1 (\d+) ", answer)]
    assert statuses == [415 if index % 3 == 1 else 200 for index in range(20)] + [404]


def test_a_silent_connection_is_closed(running: Running) -> None:
    with running.socket() as connection:
        connection.sendall(b"POST /v1/traces HTTP/1.1\r\nhost:")
        began = time.monotonic()
        assert connection.recv(100) == b""
        assert time.monotonic() - began > 0.5


def test_too_many_connections_are_told_so_and_the_others_stay(running: Running) -> None:
    connections = [running.socket() for _ in range(20)]
    try:
        with running.socket() as one_more:
            assert one_more.recv(1000).startswith(b"HTTP/1.1 503 ")
    finally:
        for connection in connections:
            connection.close()
    threading.Event().wait(0.1)
    running.assert_alive()


def test_senders_that_vanish_in_the_middle(running: Running) -> None:
    for _ in range(10):
        with running.socket() as connection:
            connection.sendall(b"POST /v1/traces HTTP/1.1\r\ncontent-length: 1000\r\n\r\nabc")
    running.assert_alive()


def test_web_pages_of_allowed_origins_may_send(running: Running) -> None:
    ask = {"origin": "https://app.example", "access-control-request-headers": "content-type, x-team, x-secret"}
    status, headers, _ = post(running.http, b"", method="OPTIONS", headers=ask)
    assert status == 204
    assert headers["access-control-allow-origin"] == "https://app.example"
    assert headers["access-control-allow-headers"] == "content-type, x-team"
    sent = post(running.http, b"{}", headers={"content-type": "application/json", "origin": "https://app.example"})
    assert sent[1]["access-control-allow-origin"] == "https://app.example"
    other = post(running.http, b"", method="OPTIONS", headers={**ask, "origin": "https://evil.example"})
    assert "access-control-allow-origin" not in other[1]


def test_one_grpc_connection_survives_its_bad_requests(running: Running) -> None:
    (body,) = make_requests(1, 1)
    with grpc.insecure_channel(running.grpc, options=[("grpc.max_send_message_length", -1)]) as channel:
        assert call(channel, b"garbage").code == 3
        assert call(channel, bytes(5 * MIB)).code == 8
        assert call(channel, body).code == 0
