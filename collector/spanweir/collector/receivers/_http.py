"""OTLP/HTTP: an event loop in a thread of its own, httptools for the protocol's syntax, and nothing between.

A general web server spends more on a small request than everything else here together (measured with uvicorn), and
leaves limits on bodies, streams and peers' certificates to the application anyway.

Requests of one connection are answered in order. A connection whose request is too large is still read for a while,
so that the sender sees the answer and not a reset.
Not here: HTTP/2, protocol upgrades. Senders of OTLP/HTTP use neither.
"""

import asyncio
import logging
import math
import socket
import threading
from collections import deque
from email.utils import formatdate
from typing import TYPE_CHECKING, Any

import httptools

from spanweir.collector.receivers._exchange import Exchange, Site
from spanweir.collector.receivers._intake import Answer, Intake
from spanweir.collector.receivers._tls import server_context

if TYPE_CHECKING:
    from spanweir.collector.receivers.otlp import Http

_log = logging.getLogger(__name__)
_HEAD_BYTES = 64 << 10
_PIPELINED = 8
_BACKLOG = 128
_SWEEP_S = 1.0
_LINGER_S = 2.0


class HttpServer:
    """Listens from its construction on. Raises OSError if it cannot."""

    def __init__(self, config: "Http", intake: Intake) -> None:
        host, _, port = config.endpoint.rpartition(":")
        self._tls = server_context(config.tls) if config.tls else None
        self._listening = _listen(host.strip("[]"), int(port), config.endpoint)
        self.endpoint = f"{host}:{self._listening.getsockname()[1]}"
        self._loop = asyncio.new_event_loop()
        self._site = Site(config, intake, self._loop)
        self._connections: set[_Connection] = set()
        self._opening: set[asyncio.Task[None]] = set()
        self._thread = threading.Thread(target=self._run, name="otlp-http", daemon=True)
        self._thread.start()

    def stop(self, grace_s: float) -> None:
        asyncio.run_coroutine_threadsafe(self._stop(grace_s), self._loop).result(grace_s + 5)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._site.thread = threading.get_ident()
        self._loop.add_reader(self._listening, self._accept)
        self._sweep()
        self._loop.run_forever()

    def _accept(self) -> None:
        # Not `create_server`: a server that is closed forgets connections that it accepted in the same moment.
        for _ in range(_BACKLOG):
            try:
                accepted, _ = self._listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                # Out of file descriptors, most likely: the next try must not come at once, and for ever.
                _log.error("cannot accept connections on %s: %s", self.endpoint, error)
                self._loop.remove_reader(self._listening)
                self._loop.call_later(_SWEEP_S, self._loop.add_reader, self._listening, self._accept)
                return
            task = self._loop.create_task(self._open(accepted))
            self._opening.add(task)
            task.add_done_callback(self._opening.discard)

    async def _open(self, accepted: socket.socket) -> None:
        accepted.setblocking(False)
        try:
            await self._loop.connect_accepted_socket(
                lambda: _Connection(self._site, self._connections), accepted, ssl=self._tls
            )
        except OSError:
            accepted.close()

    def _sweep(self) -> None:
        """Once a second: the date of responses, and connections on which nothing happens."""
        self._site.responses.date = formatdate(usegmt=True).encode()
        config, now = self._site.config, self._loop.time()
        for connection in list(self._connections):
            if connection.silent_since(now - config.idle_timeout):
                connection.close()
            elif connection.body_since < now - config.read_timeout:
                connection.give_up_body()
        self._loop.call_later(_SWEEP_S, self._sweep)

    async def _stop(self, grace_s: float) -> None:
        self._loop.remove_reader(self._listening)
        self._listening.close()
        deadline = self._loop.time() + grace_s
        while any(connection.busy for connection in self._connections) and self._loop.time() < deadline:
            await asyncio.sleep(0.01)
        if self._opening:
            await asyncio.wait(self._opening, timeout=1)
        for connection in list(self._connections):
            connection.close()
        await asyncio.sleep(0.01)


def _listen(host: str, port: int, endpoint: str) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(family, kind, protocol)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind(address)
            listening.listen(_BACKLOG)
            listening.setblocking(False)
        except OSError:
            listening.close()
            raise
    except OSError as error:
        raise OSError(f"cannot listen on {endpoint}: {error.strerror or error}; choose another endpoint") from error
    return listening


class _Connection(asyncio.Protocol):
    """Parses, and sees to limits. Not thread-safe; lives in the loop's thread."""

    def __init__(self, site: Site, connections: "set[_Connection]") -> None:
        self.last_heard = site.loop.time()
        self._site = site
        self._connections = connections
        self._exchanges: deque[Exchange] = deque()
        """Requests that are complete and not answered, in order."""
        self._current: Exchange | None = None
        self._upgrading = False
        """The current request asks for another protocol, and its body comes when the parser has been told otherwise."""
        self._head_since = math.inf
        self.body_since = math.inf
        """When the body began that is not there yet."""
        self._head_bytes = 0
        """Received since the last piece of a body, or of a whole request."""
        self._closing = False
        self._paused = False
        self._parser = httptools.HttpRequestParser(self)

    @property
    def busy(self) -> bool:
        """Whether an answer is under way."""
        return bool(self._exchanges)

    def silent_since(self, oldest: float) -> bool:
        """Whether nothing was heard since, or the head of a request does not come to its end."""
        return not self.busy and (self.last_heard < oldest or self._head_since < oldest)

    def give_up_body(self) -> None:
        """It comes so slowly that it would hold the connection for ever."""
        if self._current is not None:
            self._stop_reading(self._current, self._current.refusal or self._site.too_slow)

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._connections.add(self)
        if len(self._connections) > self._site.config.max_connections:
            self._fail(503, "too many connections (max_connections)")

    def connection_lost(self, exc: Exception | None) -> None:
        self._connections.discard(self)
        self._closing = True
        self._exchanges.clear()
        self._give_up()

    def close(self) -> None:
        self._closing = True
        self._transport.close()

    def data_received(self, data: bytes) -> None:
        if self._closing:
            return
        self.last_heard = self._site.loop.time()
        self._head_bytes += len(data)
        try:
            self._parse(data)
        except httptools.HttpParserError as error:
            self._fail(400, f"not HTTP/1.1: {error}")
        else:
            if self._current is not None and self._head_bytes > _HEAD_BYTES:
                self._fail(431, f"more than {_HEAD_BYTES} bytes of {'trailers' if self._current.method else 'headers'}")

    def _parse(self, data: bytes) -> None:
        while True:
            try:
                self._parser.feed_data(data)
                return
            except httptools.HttpParserUpgrade as upgrade:
                exchange, self._upgrading = self._current, False
                if exchange is None:
                    return  # CONNECT, which was answered, and what follows is for another server.
                # Nobody has to follow a wish for another protocol (RFC 9110, 7.8), and JDK's client has one with each
                # request. This parser takes the body for the other protocol's; the next one has it behind a new head.
                data = exchange.head_without_upgrade(self._parser) + data[upgrade.args[0] :]
                self._parser = httptools.HttpRequestParser(self)

    def eof_received(self) -> bool:
        """Half-closed: answers under way still go out."""
        self._closing = True
        return bool(self._exchanges)

    # What httptools calls.

    def on_message_begin(self) -> None:
        if self._current is None:
            self._current = Exchange(self._site, self._flush)
            self._head_since = self.last_heard

    def on_url(self, url: bytes) -> None:
        if self._current is not None:
            self._current.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        # What follows a body says nothing about it any more.
        if self._current is not None and not self._current.method:
            self._current.header(name, value)

    def on_headers_complete(self) -> None:
        exchange = self._current
        if exchange is None:
            return
        method = self._parser.get_method()
        self._upgrading = self._parser.should_upgrade() and method != b"CONNECT"
        if self._upgrading:
            return
        self._head_since = math.inf
        self.body_since = self.last_heard
        exchange.head_complete(method, self._parser.should_keep_alive() and method != b"CONNECT", self._common_name)
        if exchange.refusal is self._site.too_large:
            self._stop_reading(exchange, exchange.refusal)
        elif exchange.expects and exchange.refusal is None and self._parser.get_http_version() != "1.0":
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        exchange = self._current
        self._head_bytes = 0
        if exchange is None:
            return
        exchange.size += len(body)
        if exchange.size > self._site.limit:
            self._stop_reading(exchange, self._site.too_large)
        elif exchange.refusal is None and not exchange.keep(body):
            self._stop_reading(exchange, self._site.no_room)

    def on_message_complete(self) -> None:
        if self._upgrading:
            return
        exchange, self._current = self._current, None
        self._head_bytes, self.body_since = 0, math.inf
        if exchange is None:
            return
        self._exchanges.append(exchange)
        if len(self._exchanges) > _PIPELINED and not self._paused:
            self._paused = True
            self._transport.pause_reading()
        exchange.complete()

    def _common_name(self) -> str:
        certificate = self._transport.get_extra_info("peercert") or {}
        names = (pair for part in certificate.get("subject", ()) for pair in part)
        return next((value for key, value in names if key == "commonName"), "")

    def _flush(self) -> None:
        """Write what can be written in order."""
        exchanges = self._exchanges
        while exchanges and exchanges[0].response is not None:
            exchange = exchanges.popleft()
            self._transport.write(exchange.response)
            if exchange.wants_close:
                self._linger()
                return
        if exchanges:
            return
        if self._closing:
            self._transport.close()
        elif self._paused:
            self._paused = False
            self._transport.resume_reading()

    def _stop_reading(self, exchange: Exchange, answer: Answer) -> None:
        """Answer now, whatever is still coming of it."""
        self._current, self.body_since = None, math.inf
        exchange.wants_close = True
        self._exchanges.append(exchange)
        exchange.refuse(answer)

    def _fail(self, status: int, message: str) -> None:
        """For what is not even a request."""
        if self._closing:
            return
        self._give_up()
        self._transport.write(self._site.responses.plain(status, message))
        self._linger()

    def _give_up(self) -> None:
        """The request that is being read, if any."""
        if self._current is not None:
            self._current.release()
            self._current = None

    def _linger(self) -> None:
        """Throw away what is still coming, for a while: closing at once would reset the connection."""
        self._closing = True
        self._exchanges.clear()
        if self._transport.can_write_eof():
            self._transport.write_eof()
        self._site.loop.call_later(_LINGER_S, self._transport.close)
