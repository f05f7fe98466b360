"""One HTTP request and its response: what its head says, what is wrong with it, and where its body goes.

Not here: sockets, and limits of connections (`_http`).
"""

import asyncio
import threading
from collections import deque
from typing import TYPE_CHECKING

import httptools

from spanweir.collector.decode import Undecodable
from spanweir.collector.receivers._auth import Unauthenticated
from spanweir.collector.receivers._compression import CODINGS, TooLarge, decompress
from spanweir.collector.receivers._intake import (
    ACCEPTED,
    CLOSING,
    DEADLINE_EXCEEDED,
    INVALID_ARGUMENT,
    UNAVAILABLE,
    UNIMPLEMENTED,
    Answer,
    Intake,
    too_large,
    travels,
    unauthenticated,
    undecodable,
)
from spanweir.collector.receivers._responses import Responses

if TYPE_CHECKING:
    from collections.abc import Callable

    from spanweir.collector.receivers.otlp import Http

_UNKNOWN = "unknown"
_BODIES = 16
"""Bodies of the largest size that are held at the same time: as many as OTLP/gRPC has workers by default."""
_PARTS = 256
_REASONS = {401: "unauthenticated", 408: "too_slow", 413: "too_large"}


class Site:
    """What all exchanges of a server share. Used in the loop's thread, except `answered`."""

    def __init__(self, config: "Http", intake: Intake, loop: asyncio.AbstractEventLoop) -> None:
        self.config = config
        self.intake = intake
        self.loop = loop
        self.thread = 0
        """Of the loop."""
        self.limit = int(config.max_request_body_size)
        self.too_large = too_large(f"the body is larger than {self.limit} bytes (max_request_body_size)")
        late = f"the body did not come within {config.read_timeout:g} s (read_timeout)"
        self.too_slow = Answer(DEADLINE_EXCEEDED, 408, late)
        self.room = self.limit * _BODIES
        """How many more bytes of bodies may be held, of all connections."""
        self.no_room = Answer(UNAVAILABLE, 503, "too many bytes of requests are under way", 0, 1.0)
        self.paths = {path.encode(): signal for path, signal in config.paths().items()}
        metadata = config.include_metadata
        self.wanted = None if metadata is True else frozenset(name.lower() for name in metadata or ())
        self.responses = Responses(config.cors)
        self._answered: deque[tuple[Exchange, Answer]] = deque()
        self._waking = False

    def answered(self, exchange: "Exchange", answer: Answer) -> None:
        """From any thread. One wake-up of the loop takes all answers of a group commit."""
        self._answered.append((exchange, answer))
        if not self._waking:
            self._waking = True
            try:
                self.loop.call_soon_threadsafe(self._deliver)
            except RuntimeError:
                return  # The loop is closed: nobody waits for this answer any more.

    def _deliver(self) -> None:
        self._waking = False
        while self._answered:
            exchange, answer = self._answered.popleft()
            exchange.answer(answer)


class Exchange:
    """`flush` is called when the response is there."""

    __slots__ = (
        "authorization", "body", "coding", "content_type", "expects", "flush", "headers", "held", "joined", "json",
        "length", "method", "origin", "refusal", "requested_headers", "response", "signal", "site", "size",
        "tenant", "transfer_coding", "url", "wants_close",
    )  # fmt: skip

    def __init__(self, site: Site, flush: "Callable[[], None]") -> None:
        self.site = site
        self.flush = flush
        self.method = self.url = self.content_type = self.origin = self.requested_headers = b""
        self.signal = self.tenant = self.authorization = self.coding = ""
        self.expects = self.json = self.wants_close = False
        self.transfer_coding = b""
        self.length = self.size = self.held = 0
        self.headers: dict[str, str] = {}
        self.body: list[bytes] = []
        self.joined = bytearray()
        """What came before `body`."""
        self.refusal: Answer | None = None
        self.response: bytes | None = None

    def header(self, name: bytes, value: bytes) -> None:
        name = name.lower()
        if name == b"content-type":
            self.content_type = value.partition(b";")[0].strip().lower()
        elif name == b"content-encoding":
            self.coding = value.strip().lower().decode("latin-1")
        elif name == b"content-length":
            self.length = int(value) if value.isdigit() else 0
        elif name == b"transfer-encoding":
            self.transfer_coding = value
        elif name == b"authorization":
            self.authorization = value.decode("latin-1")
        elif name == b"expect":
            self.expects = value.lower() == b"100-continue"
        elif name == b"origin":
            self.origin = value
        elif name == b"access-control-request-headers":
            self.requested_headers = value
        elif travels(text := name.decode("latin-1"), self.site.wanted):
            self.headers[text] = value.decode("latin-1")

    def head_without_upgrade(self, parser: httptools.HttpRequestParser) -> bytes:
        """A head that frames the body as the request's own did. The headers that have been seen stay."""
        url, self.url = self.url, b""
        framing = b"transfer-encoding: %b" % self.transfer_coding
        return b"%b %b HTTP/%b\r\n%b\r\nconnection: %b\r\n\r\n" % (
            parser.get_method(),
            url,
            parser.get_http_version().encode(),
            framing if self.transfer_coding else b"content-length: %d" % self.length,
            b"keep-alive" if parser.should_keep_alive() else b"close",
        )

    def keep(self, part: bytes) -> bool:
        """A part of the body; False if there is no room for it."""
        if self.site.room < len(part):
            return False
        self.site.room -= len(part)
        self.held += len(part)
        self.body.append(part)
        if len(self.body) == _PARTS:
            # A body in chunks of a few bytes would need many times its size.
            self.joined += b"".join(self.body)
            self.body.clear()
        return True

    def release(self) -> None:
        """The room that its body had."""
        self.site.room += self.held
        self.held = 0

    def head_complete(self, method: bytes, keep_alive: bool, common_name: "Callable[[], str]") -> None:
        """Judge the request as far as its head tells; `refusal` is set when its body need not be kept."""
        self.method = method
        self.wants_close = not keep_alive
        self.signal = self.site.paths.get(self.url.partition(b"?")[0], _UNKNOWN)
        self.refusal = self._judge(common_name)

    def _judge(self, common_name: "Callable[[], str]") -> Answer | None:
        site = self.site
        if self.method == b"OPTIONS" and self.origin:
            return ACCEPTED
        if self.signal == _UNKNOWN:
            return Answer(UNIMPLEMENTED, 404, f"OTLP is posted to {' '.join(site.config.paths())}")
        if self.method != b"POST":
            return Answer(UNIMPLEMENTED, 405, "405 method not allowed, supported: [POST]")
        try:
            self.tenant = site.intake.authenticator.tenant(self.authorization, common_name())
        except Unauthenticated as error:
            return unauthenticated(str(error))
        self.json = self.content_type == b"application/json"
        if not self.json and self.content_type != b"application/x-protobuf":
            supported = "[application/json, application/x-protobuf]"
            return Answer(INVALID_ARGUMENT, 415, f"415 unsupported media type, supported: {supported}")
        if self.coding and self.coding not in CODINGS:
            message = f"415 unsupported content encoding, supported: [{', '.join(CODINGS)}]"
            return Answer(INVALID_ARGUMENT, 415, message)
        if self.length > site.limit:
            return site.too_large
        return CLOSING if site.intake.closing else None

    def complete(self) -> None:
        """The body is there: answer a refusal, or take the body in."""
        body = self._decoded() if self.refusal is None else None
        if self.refusal is not None:
            self.refuse(self.refusal)
        elif body is not None:
            protobuf, rejected, why = body
            self.site.intake.receive(
                self.signal, "http", self.tenant, self.headers, protobuf, self.done, rejected=rejected, why=why
            )

    def _decoded(self) -> tuple[bytes, int, str] | None:
        """Decompressed protobuf, and what was left out of it; None, with `refusal` or an answer, where that fails."""
        single = len(self.body) == 1 and not self.joined
        body = self.body[0] if single else b"".join((self.joined, *self.body))
        self._forget()
        try:
            body = decompress(self.coding, body, self.site.limit)
            if not self.json:
                return body, 0, ""
            # Its tables are made when the first JSON comes.
            from spanweir.collector.receivers._json import to_protobuf

            return to_protobuf(self.signal, body)
        except TooLarge as error:
            self.refusal = too_large(str(error))
        except Undecodable as error:
            self.refusal = undecodable(str(error))
        except Exception:
            self.answer(self.site.intake.failed(self.signal, "http", self.tenant))
        return None

    def refuse(self, answer: Answer) -> None:
        """Count and answer it."""
        self.refusal = answer
        self._forget()
        observer = self.site.intake.observer
        if answer.retry_after_s:
            reason = "shutting_down" if answer is CLOSING else "no_room"
            observer.refused(self.signal, "http", self.tenant, 0, reason)
        elif self.signal != _UNKNOWN and self.method == b"POST":
            observer.rejected(self.signal, "http", self.tenant, 0, _REASONS.get(answer.http_status, "undecodable"))
        self.answer(answer)

    def _forget(self) -> None:
        self.body, self.joined = [], bytearray()

    def done(self, answer: Answer) -> None:
        """From any thread."""
        if threading.get_ident() == self.site.thread:
            self.answer(answer)
        else:
            self.site.answered(self, answer)

    def answer(self, answer: Answer) -> None:
        """In the loop's thread."""
        self.release()
        self.wants_close = self.wants_close or self.site.intake.closing
        self.response = self.site.responses.encode(self, answer)
        self.flush()
