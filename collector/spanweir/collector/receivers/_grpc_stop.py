"""How a gRPC server stops so that each call gets its own answer, or the end of its connection, and nothing else.

grpc's own shutdown answers CANCELLED to each call that comes before the sender has heard of it (`KillZombie` of the
core's server.cc; 1.85.3), and has no way to hold calls back first. A connection that ends says UNAVAILABLE, which is
the truth: nothing of such a call was stored. What was answered before has left and arrives.
"""

import contextlib
import os
import select
import socket
import stat
import sys
import threading
from collections.abc import Callable

_IP_MINTTL, _IPV6_MINHOPCOUNT = 21, 73
"""Linux's numbers; the `socket` module has no names for them."""
_ACCEPT_MS = 200


class UnderWay:
    """How many calls were let in and have not ended, so that a server that stops knows when it has answered them."""

    def __init__(self) -> None:
        self._changed = threading.Condition(threading.Lock())
        self._calls = 0

    def begin(self) -> None:
        with self._changed:
            self._calls += 1

    def end(self) -> None:
        with self._changed:
            self._calls -= 1
            if not self._calls:
                self._changed.notify_all()

    def wait(self, timeout_s: float) -> None:
        """Until there are none."""
        with self._changed:
            self._changed.wait_for(lambda: not self._calls, timeout_s)


def hang_up(endpoint: str, shutdown: Callable[[], object]) -> None:
    """End all connections to `endpoint`, and call `shutdown`, which is grpc's, while there are none."""
    for listener in _sockets(endpoint, listening=True):
        _take_no_more(listener)
    _end(_sockets(endpoint, listening=False))
    shutdown()
    # Those that came meanwhile, where `_take_no_more` can do nothing.
    _end(_sockets(endpoint, listening=False))


def _take_no_more(listener: socket.socket) -> None:
    """Let grpc accept what waits, and the kernel drop what comes, as from senders too many routers away."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            listener.setsockopt(socket.IPPROTO_IP, _IP_MINTTL, 255)
            if listener.family == socket.AF_INET6:
                listener.setsockopt(socket.IPPROTO_IPV6, _IPV6_MINHOPCOUNT, 255)
    waiting = select.poll()
    waiting.register(listener, select.POLLIN)
    for _ in range(_ACCEPT_MS):
        if not waiting.poll(0):
            break
        threading.Event().wait(0.001)
    listener.close()


def _end(connections: list[socket.socket]) -> None:
    for connection in connections:
        with contextlib.suppress(OSError), connection:
            connection.shutdown(socket.SHUT_RDWR)


def _sockets(endpoint: str, *, listening: bool) -> list[socket.socket]:
    """Copies of this process's sockets at `endpoint`, those that listen or those that were accepted.

    Copies, because grpc may close its own at any moment.
    """
    port = int(endpoint.rpartition(":")[2])
    found = []
    for name in os.listdir("/dev/fd"):
        with contextlib.suppress(OSError):
            number = os.dup(int(name))
            if not stat.S_ISSOCK(os.fstat(number).st_mode):
                os.close(number)
                continue
            one = socket.socket(fileno=number)
            if (
                one.family in (socket.AF_INET, socket.AF_INET6)
                and one.getsockname()[1] == port
                and bool(one.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)) is listening
            ):
                found.append(one)
            else:
                one.close()
    return found
