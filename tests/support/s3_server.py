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
from contextlib import contextmanager
from http.client import HTTPConnection
from http.server import ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

from tests.support.door import Door

ROOT = Path(__file__).parents[2]


class S3Door(Door):
    """Answers as it is told to, or passes on."""

    upstream = ""
    answer = 0
    late_s = 0.0

    def handle_request(self, body: bytes) -> None:
        if self.path.startswith("/__answer/"):
            type(self).answer = int(self.path.rpartition("/")[2])
            self.reply(200, {}, b"")
        elif self.path.startswith("/__late/"):
            type(self).late_s = float(self.path.rpartition("/")[2])
            self.reply(200, {}, b"")
        elif self.answer:
            self.reply(self.answer, {}, b"<Error><Code>AccessDenied</Code></Error>" if self.answer == 403 else b"")
        else:
            response, headers, content = self.forward(self.upstream, self.command, self.path, body)
            if self.command == "PUT" and "/_delta_log/" in self.path:
                time.sleep(self.late_s)
            self.reply(response.status, headers, content, self.size_of(response))


def main() -> None:
    from moto.server import ThreadedMotoServer

    store = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    store.start()
    host, port = store.get_host_and_port()
    S3Door.upstream = f"{host}:{port}"
    connection = HTTPConnection(S3Door.upstream)
    connection.request("PUT", "/tables")
    connection.getresponse().read()
    door = ThreadingHTTPServer(("127.0.0.1", 0), S3Door)
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
