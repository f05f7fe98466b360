"""An S3-speaking store in a process of its own, behind a door that can be told to answer 503 or 403 instead.

    python -m tests.support.s3_server

prints the address, and ends when its standard input does. `PUT /__answer/503` makes every request answered with 503,
`PUT /__answer/0` opens the door again. `PUT /__late/2` makes it answer two seconds late to what is put into a log.
"""

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

ROOT = Path(__file__).parents[2]


class Door(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    upstream: tuple[str, int] = ("", 0)
    answer = 0
    late_s = 0.0

    def _handle(self) -> None:
        length = int(self.headers.get("content-length") or 0)
        body = self.rfile.read(length) if length else None
        if self.path.startswith("/__answer/"):
            type(self).answer = int(self.path.rpartition("/")[2])
            self._reply(200, {}, b"")
        elif self.path.startswith("/__late/"):
            type(self).late_s = float(self.path.rpartition("/")[2])
            self._reply(200, {}, b"")
        elif self.answer:
            self._reply(self.answer, {}, b"<Error><Code>AccessDenied</Code></Error>" if self.answer == 403 else b"")
        else:
            self._pass_on(body)

    def _pass_on(self, body: bytes | None) -> None:
        connection = HTTPConnection(*self.upstream)
        headers = {k: v for k, v in self.headers.items() if k.lower() not in ("connection", "transfer-encoding")}
        connection.request(self.command, self.path, body, headers)
        response = connection.getresponse()
        content = response.read()
        own = ("transfer-encoding", "connection", "content-length", "date", "server")
        kept = {k: v for k, v in response.getheaders() if k.lower() not in own}
        size = response.getheader("content-length") if self.command == "HEAD" else None
        if self.command == "PUT" and "/_delta_log/" in self.path:
            time.sleep(self.late_s)
        self._reply(response.status, kept, content, size)
        connection.close()

    def _reply(self, status: int, headers: dict[str, str], content: bytes, size: str | None = None) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("content-length", size or str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            with suppress(OSError):  # the client has not waited
                self.wfile.write(content)

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _handle  # noqa: N815 - names that http.server looks for

    def log_message(self, format: str, *args: Any) -> None: ...


def main() -> None:
    from moto.server import ThreadedMotoServer

    store = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    store.start()
    Door.upstream = store.get_host_and_port()
    connection = HTTPConnection(*Door.upstream)
    connection.request("PUT", "/tables")
    connection.getresponse().read()
    door = ThreadingHTTPServer(("127.0.0.1", 0), Door)
    threading.Thread(target=door.serve_forever, daemon=True).start()
    print(f"http://127.0.0.1:{door.server_address[1]}", flush=True)
    sys.stdin.read()


@contextmanager
def running() -> Iterator[str]:
    """Its address, while it runs. There is a bucket `tables`."""
    command = [sys.executable, "-m", "tests.support.s3_server"]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        assert address.startswith("http://")
        try:
            yield address
        finally:
            process.terminate()


def answer(address: str, status: int) -> None:
    """Answer every request with `status`; 0 passes them on."""
    _tell(address, f"/__answer/{status}")


def late(address: str, seconds: float) -> None:
    """Answer so late to what is put into a log, which is stored at once."""
    _tell(address, f"/__late/{seconds}")


def _tell(address: str, path: str) -> None:
    connection = HTTPConnection(urlsplit(address).netloc)
    connection.request("PUT", path)
    connection.getresponse().read()


if __name__ == "__main__":
    main()
