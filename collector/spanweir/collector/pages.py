"""A few pages over HTTP, for metrics and health. Not a web server: no more than machines ask for is answered."""

import socket
import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from typing import Any, NamedTuple


class Page(NamedTuple):
    """An HTTP answer."""

    status: int
    content_type: str
    body: bytes


class Pages:
    """Serves `pages` (path -> what makes the page) on `endpoint` (host:port, port 0 for any)."""

    def __init__(self, endpoint: str, pages: Mapping[str, Callable[[], Page]], option: str) -> None:
        """`option` is the configuration path of `endpoint`, for messages."""
        self._endpoint = endpoint
        self._pages = pages
        self._option = option
        self._server: ThreadingHTTPServer | None = None

    def start(self) -> None:
        """Raises OSError with a message that names the option."""
        host, _, port = self._endpoint.rpartition(":")
        try:
            server = _Server((host.strip("[]") or "127.0.0.1", int(port)), _handler(self._pages))
        except (OSError, ValueError, OverflowError) as error:
            raise OSError(
                f"{self._option}: cannot listen on {self._endpoint}: {error}; choose another host:port"
            ) from error
        self._server = server
        threading.Thread(target=server.serve_forever, name=f"pages-{port}", daemon=True).start()

    @property
    def address(self) -> str:
        """host:port once started."""
        assert self._server is not None, "not started"
        host, port = str(self._server.server_address[0]), self._server.server_address[1]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    def stop(self) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        self.address_family = socket.getaddrinfo(*address, type=socket.SOCK_STREAM)[0][0]
        super().__init__(address, handler)

    def server_bind(self) -> None:
        # Not HTTPServer's, which asks the name service for the machine's name: without a network that takes seconds.
        TCPServer.server_bind(self)


def _handler(pages: Mapping[str, Callable[[], Page]]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = 10
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            make = pages.get(self.path.partition("?")[0])
            page = make() if make else Page(404, "text/plain; charset=utf-8", b"not found\n")
            self.send_response(page.status)
            self.send_header("Content-Type", page.content_type)
            self.send_header("Content-Length", str(len(page.body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(page.body)

        def do_HEAD(self) -> None:
            self.do_GET()

        def log_message(self, format: str, *args: Any) -> None:
            """Not logged: a prober asks every few seconds."""

    return Handler
