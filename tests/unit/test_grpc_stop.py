"""What `hang_up` ends, and what it leaves alone."""

import os
import socket
import threading

import pytest

from spanweir.collector.receivers._grpc_stop import UnderWay, hang_up


def _has_ipv6() -> bool:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "::"])
def test_all_connections_to_the_endpoint_end_and_no_other(host: str) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    if family == socket.AF_INET6 and not _has_ipv6():
        pytest.skip("this machine has no IPv6")
    with (
        socket.create_server((host, 0), family=family) as server,
        socket.create_server(("127.0.0.1", 0)) as other,
        socket.create_connection(("::1" if family == socket.AF_INET6 else host, server.getsockname()[1])) as sender,
        socket.create_connection(other.getsockname()) as neighbour,
    ):
        accepted, kept = server.accept()[0], other.accept()[0]
        opened = len(os.listdir("/dev/fd"))
        calls: list[str] = []
        accepted.sendall(b"answered before")
        hang_up(f"{host}:{server.getsockname()[1]}", lambda: calls.append("shutdown"))
        assert calls == ["shutdown"]
        assert sender.recv(100) == b"answered before"
        assert sender.recv(100) == b""
        with pytest.raises(BrokenPipeError):
            accepted.sendall(b"too late")
        kept.sendall(b"still here")
        assert neighbour.recv(100) == b"still here"
        assert len(os.listdir("/dev/fd")) == opened
        accepted.close()
        kept.close()


def test_a_connection_that_waits_to_be_accepted_is_ended_too() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection(server.getsockname()) as sender,
    ):
        accepted: list[socket.socket] = []
        thread = threading.Timer(0.05, lambda: accepted.append(server.accept()[0]))
        thread.start()
        hang_up(f"127.0.0.1:{server.getsockname()[1]}", lambda: None)
        assert sender.recv(100) == b""
        thread.join()
        accepted[0].close()


def test_under_way_waits_for_the_last_call_and_no_longer_than_told() -> None:
    calls, ended = UnderWay(), threading.Event()
    calls.wait(60)
    calls.begin()
    calls.begin()
    calls.wait(0.01)
    calls.end()

    def end() -> None:
        ended.set()
        calls.end()

    thread = threading.Timer(0.05, end)
    thread.start()
    calls.wait(60)
    assert ended.is_set()
    thread.join()
