"""What only gRPC's servers can get wrong: calls that are given up, that wait for others, or that meet the end."""

import socket
import struct
import threading
import zlib
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest

from spanweir.collector.queue.api import Done, Record
from spanweir.collector.queue.disk import Config as Disk
from spanweir.collector.queue.disk import DiskWriter
from spanweir.collector.receivers import _grpc_loop
from spanweir.collector.receivers.api import Context, Receiver
from spanweir.collector.receivers.otlp import Config, Grpc, Protocols
from tests.benchmarks.load import make_requests
from tests.support.otlp_client import GRPC_METHODS, call, send_grpc

UNAVAILABLE = 14


class SlowQueue(DiskWriter):
    """A disk queue that answers when it is let."""

    def __init__(self, config: Disk) -> None:
        super().__init__(config)
        self.held = threading.Event()
        self.let = threading.Event()
        self.let.set()

    def submit(self, record: Record, done: Done) -> None:
        def later(result: int | Exception) -> None:
            if not self.let.is_set():
                self.held.set()
            self.let.wait(30)
            done(result)

        super().submit(record, later)


@pytest.fixture
def queue(tmp_path: Path) -> Iterator[SlowQueue]:
    one = SlowQueue(Disk(directory=str(tmp_path / "queue")))
    yield one
    one.let.set()
    one.close()


@pytest.fixture(params=["loop", "threads"])
def receiver(request: pytest.FixtureRequest, queue: SlowQueue, monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    if request.param == "threads":
        monkeypatch.setattr(_grpc_loop, "usable", lambda: False)
    config = Config(protocols=Protocols(grpc=Grpc(endpoint="127.0.0.1:0", workers=2)))
    one = config.build(Context(name="otlp", writer=queue))
    one.start()
    yield one
    queue.let.set()
    one.stop(2)


def test_calls_beyond_the_workers_wait_and_are_answered(receiver: Receiver, queue: SlowQueue) -> None:
    bodies = make_requests(12, 1)
    queue.let.clear()
    with ThreadPoolExecutor(12) as pool:
        replies = [pool.submit(send_grpc, receiver.endpoints["grpc"], body) for body in bodies]
        assert queue.held.wait(10)
        assert queue.last() <= 2
        queue.let.set()
        assert {reply.result().code for reply in replies} == {0}
    assert queue.last() == 12


def test_calls_that_are_given_up_take_no_room(receiver: Receiver, queue: SlowQueue) -> None:
    body = make_requests(1, 1)[0]
    queue.let.clear()
    with grpc.insecure_channel(receiver.endpoints["grpc"]) as channel:
        method = channel.unary_unary(GRPC_METHODS["traces"])
        calls = [method.future(body, timeout=30) for _ in range(6)]
        assert queue.held.wait(10)
        for one in calls:
            one.cancel()
        queue.let.set()
        for _ in range(6):
            assert call(channel, body).code == 0


def test_calls_that_wait_at_the_end_are_told_to_come_again(receiver: Receiver, queue: SlowQueue) -> None:
    bodies = make_requests(6, 1)
    queue.let.clear()
    with ThreadPoolExecutor(6) as pool:
        replies = [pool.submit(send_grpc, receiver.endpoints["grpc"], body) for body in bodies]
        assert queue.held.wait(10)
        stopping = pool.submit(receiver.stop, 5)
        threading.Event().wait(0.2)
        queue.let.set()
        codes = [reply.result().code for reply in replies]
        stopping.result()
    assert set(codes) <= {0, UNAVAILABLE}
    assert codes.count(0) == queue.last()


def test_the_end_does_not_wait_for_a_call_that_never_sends_its_message(receiver: Receiver) -> None:
    with grpc.insecure_channel(receiver.endpoints["grpc"]) as channel:
        begun = threading.Event()

        def nothing() -> Iterator[bytes]:
            begun.set()
            threading.Event().wait(5)
            yield b""

        pending = channel.stream_unary(GRPC_METHODS["traces"]).future(nothing(), timeout=20)
        assert begun.wait(5)
        receiver.stop(0.2)
        assert pending.exception(10) is not None


def test_grpcio_has_what_the_loop_needs() -> None:
    assert _grpc_loop.usable(), "grpcio has changed: the slower server would listen"


def test_another_core_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(_grpc_loop._NAMES, "CompletionQueue", ("poll_another_way",))
    assert not _grpc_loop.usable()


@pytest.mark.parametrize("server", ["loop", "threads"])
def test_busy_connections_are_answered_in_full(queue: SlowQueue, server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """More requests than may be under way on a connection, and more of them than grpc's server lets wait unread."""
    if server == "threads":
        monkeypatch.setattr(_grpc_loop, "usable", lambda: False)
    one = Config(protocols=Protocols(grpc=Grpc(endpoint="127.0.0.1:0"))).build(Context(name="otlp", writer=queue))
    one.start()
    (body,) = make_requests(1, 1)
    own_connection = [("grpc.use_local_subchannel_pool", 1)]
    channels = [grpc.insecure_channel(one.endpoints["grpc"], options=own_connection) for _ in range(16)]
    exports = [channel.unary_unary(GRPC_METHODS["traces"]) for channel in channels]
    calls = [export.future(body, timeout=60) for export in exports for _ in range(150)]
    assert Counter(each.code() for each in calls) == {grpc.StatusCode.OK: 16 * 150}
    for channel in channels:
        channel.close()
    one.stop(2)


def test_codings_that_grpc_does_not_know_are_told_of_and_cost_no_neighbour(
    receiver: Receiver, queue: SlowQueue
) -> None:
    """The core answers zstd itself, before anything of the request is seen here. OTLP takes INTERNAL as final."""
    body = make_requests(1, 1)[0]
    assert b"grpc-encoding" in compressed(receiver.endpoints["grpc"], b"zstd", b"whatever")
    assert queue.last() == 0
    assert b"grpc-status\x010" in compressed(receiver.endpoints["grpc"], b"deflate", zlib.compress(body))
    assert queue.last() == 1


def compressed(endpoint: str, coding: bytes, message: bytes) -> bytes:
    """The frames that answer an export of traces; grpcio's own client has no such codings."""
    headers = {
        b":method": b"POST",
        b":scheme": b"http",
        b":path": GRPC_METHODS["traces"].encode(),
        b":authority": b"test",
        b"te": b"trailers",
        b"content-type": b"application/grpc",
        b"grpc-encoding": coding,
    }
    block = b"".join(
        b"\x00%c%b%c%b" % (len(name), name, len(value), value) for name, value in headers.items()
    )  # HPACK: literals without indexing
    prefixed = b"\x01" + struct.pack(">I", len(message)) + message
    host, _, port = endpoint.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + _frame(4, 0, 0, b""))
        connection.sendall(_frame(1, 4, 1, block) + _frame(0, 1, 1, prefixed))
        answer = b""
        while b"grpc-status" not in answer and (more := connection.recv(65536)):
            answer += more
    return answer


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload
