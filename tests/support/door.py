"""A door in front of a real HTTP server: passes requests on, and lets a test change or refuse what goes through."""

from collections.abc import Mapping
from contextlib import suppress
from http.client import HTTPConnection, HTTPResponse
from http.server import BaseHTTPRequestHandler

_OWN = frozenset(("connection", "transfer-encoding", "content-length", "date", "server"))
"""Headers that each connection has for itself."""


class Door(BaseHTTPRequestHandler):
    """Subclasses answer a request in `handle_request`, by `forward` and `reply`."""

    protocol_version = "HTTP/1.1"

    def handle_request(self, body: bytes) -> None:
        raise NotImplementedError

    def forward(
        self, address: str, method: str, path: str, body: bytes, *, without: str = ""
    ) -> tuple[HTTPResponse, dict[str, str], bytes]:
        """The answer of the server at host:port: status, headers worth passing on, content.

        `without` names a request header that stays here.
        """
        left_out = {"connection", "transfer-encoding", "content-length", without}
        headers = {key: value for key, value in self.headers.items() if key.lower() not in left_out}
        connection = HTTPConnection(address)
        try:
            connection.request(method, path, body, headers)
            response = connection.getresponse()
            content = response.read()
        finally:
            connection.close()
        return response, {k: v for k, v in response.getheaders() if k.lower() not in _OWN}, content

    def reply(self, status: int, headers: Mapping[str, str], content: bytes, size: str | None = None) -> None:
        """`size` is what an answer to HEAD says of content that it does not have."""
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("content-length", size or str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            with suppress(OSError):  # the client has not waited
                self.wfile.write(content)

    def size_of(self, response: HTTPResponse) -> str | None:
        return response.getheader("content-length") if self.command == "HEAD" else None

    def _handle(self) -> None:
        self.handle_request(self.rfile.read(int(self.headers.get("content-length") or 0)))

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _handle  # noqa: N815 - names that http.server looks for

    def log_message(self, format: str, *args: object) -> None: ...
