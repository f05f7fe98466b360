"""An HTTP answer (ASGI messages) that the trace of its request is put into, because the request asked for it.

A JSON object gets a member `databricks_output`. Of a stream of server-sent events the last `response.output_item.done`
gets it, where Databricks' agents have it, or else an event of its own before the end; of lines of JSON a line of its
own. Any other answer passes as it is. Only what the trace may have to go into is held back, so a stream stays one.
Not here: the trace (`returned`).
"""

import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

KEY = "databricks_output"
MAX_BODY_BYTES = 16 << 20
"""A JSON answer that is larger passes without its trace."""
_ENDS = (b"[DONE]", b'"response.completed"', b'"response.failed"', b'"response.incomplete"')
_ITEM = b'"response.output_item.done"'

Message = MutableMapping[str, Any]
Send = Callable[[Message], Awaitable[None]]
Output = Callable[[], Awaitable[Any]]
"""Called once, when the answer is complete: gives the value of `databricks_output`."""


class Answer:
    """Passes the messages of one answer on."""

    def __init__(self, send: Send, output: Output) -> None:
        self._send = send
        self._output = output
        self._start: Message | None = None
        self._body: list[bytes] = []
        self._size = 0
        self._then: Send = self._pass

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            await self._begin(message)
        elif message["type"] == "http.response.body":
            await self._then(message)
        else:
            await self._pass(message)

    async def _pass(self, message: Message) -> None:
        await self._send(message)

    async def _begin(self, message: Message) -> None:
        headers = [(name.lower(), value) for name, value in message.get("headers") or ()]
        kind = next((value.partition(b";")[0].strip() for name, value in headers if name == b"content-type"), b"")
        if any(name == b"content-encoding" for name, _ in headers):
            kind = b""
        if kind in (b"text/event-stream", b"application/x-ndjson"):
            lines = Lines() if kind == b"application/x-ndjson" else Events()
            self._then = lambda body: self._stream(lines, body)
            await self._send({**message, "headers": _without_length(message)})
        elif kind == b"application/json" or kind.endswith(b"+json"):
            self._start, self._then = message, self._whole
        else:
            await self._send(message)

    async def _whole(self, message: Message) -> None:
        """Collect a JSON answer, then send it with the trace in it."""
        self._body.append(bytes(message.get("body") or b""))
        self._size += len(self._body[-1])
        more = bool(message.get("more_body"))
        if more and self._size <= MAX_BODY_BYTES:
            return
        start, body = self._start, b"".join(self._body)
        assert start is not None
        self._body, self._then = [], self._pass
        if not more and self._size <= MAX_BODY_BYTES and (text := body.strip())[:1] == b"{" and text[-1:] == b"}":
            body = spliced(text, await self._output())
            start = {**start, "headers": [*_without_length(start), (b"content-length", str(len(body)).encode())]}
        await self._send(start)
        await self._send({**message, "body": body})

    async def _stream(self, events: "Events", message: Message) -> None:
        body = events.take(bytes(message.get("body") or b""))
        if message.get("more_body"):
            if body:
                await self._send({**message, "body": body})
            return
        await self._send({**message, "body": body + events.end(await self._output())})


def _without_length(message: Message) -> list[tuple[bytes, bytes]]:
    return [(name, value) for name, value in message.get("headers") or () if name.lower() != b"content-length"]


def spliced(text: bytes, output: Any) -> bytes:
    """A JSON object with one more member at its end. What stands in it already is left as it is, to the byte."""
    head = text[:-1].rstrip()
    return head + (b"" if head == b"{" else b",") + f'"{KEY}":{_json(output)}}}'.encode("utf-8", "replace")


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=str)


class Events:
    """A stream of server-sent events: what may be the end of it is held back until more comes."""

    _SEPARATORS = (b"\r\n\r\n", b"\n\n")

    def __init__(self) -> None:
        self._part = b""
        self._held: list[bytes] = []

    def take(self, body: bytes) -> bytes:
        """What can be sent on now."""
        self._part += body
        out: list[bytes] = []
        while (event := self._next()) is not None:
            if self._is_end(event) or _ITEM in event:
                if _ITEM in event:
                    out += self._held
                    self._held = []
                self._held.append(event)
            else:
                out += [*self._held, event]
                self._held = []
        return b"".join(out)

    def end(self, output: Any) -> bytes:
        """The rest of the stream, with the output in it."""
        held = [*self._held, self._part] if self._part else self._held
        if held and _ITEM in held[0] and (item := self._with(held[0], output)) is not None:
            return b"".join([item, *held[1:]])
        return self._own(output) + b"".join(held)

    def _next(self) -> bytes | None:
        found = [(at, len(end)) for end in self._SEPARATORS if (at := self._part.find(end)) >= 0]
        if not found:
            return None
        at, size = min(found)
        event, self._part = self._part[: at + size], self._part[at + size :]
        return event

    def _is_end(self, event: bytes) -> bool:
        return any(end in event for end in _ENDS)

    def _with(self, event: bytes, output: Any) -> bytes | None:
        """The event with the output in its data; None if that is not one JSON object on one line."""
        lines = event.splitlines(keepends=True)
        at = [index for index, line in enumerate(lines) if line.startswith(b"data:")]
        text = lines[at[0]][5:].strip() if len(at) == 1 else b""
        if text[:1] != b"{" or text[-1:] != b"}":
            return None
        end = lines[at[0]][len(lines[at[0]].rstrip(b"\r\n")) :]
        lines[at[0]] = b"data: " + spliced(text, output) + end
        return b"".join(lines)

    def _own(self, output: Any) -> bytes:
        return b"data: " + spliced(b"{}", output) + b"\n\n"


class Lines(Events):
    """Lines of JSON: the output comes as the last one."""

    def take(self, body: bytes) -> bytes:
        return body

    def _own(self, output: Any) -> bytes:
        return spliced(b"{}", output) + b"\n"
