"""A headless Chromium, driven over its DevTools protocol: enough to open a page, wait, click and take a picture."""

import base64
import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import time
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

from tests.support.servers import die_with_parent

START_S = 60.0


def find() -> str | None:
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


class Browser:
    """One page."""

    def __init__(self, *, width: int = 1600, height: int = 1000) -> None:
        self._size = f"--window-size={width},{height}"
        self._number = 0
        self._buffer = b""

    def __enter__(self) -> Self:
        program = find()
        assert program, "Chromium is not installed"
        self._directory = tempfile.mkdtemp(prefix="spanweir-browser-")
        self._process = subprocess.Popen(
            [program, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
             "--remote-debugging-port=0", f"--user-data-dir={self._directory}", self._size, "about:blank"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
            preexec_fn=die_with_parent,
        )  # fmt: skip
        self._socket = self._connect(self._page())
        self._ask("Page.enable")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        self._socket.close()
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        shutil.rmtree(self._directory, ignore_errors=True)

    def open(self, url: str) -> None:
        # Only the part behind # may differ, which would not load the page anew.
        self._ask("Page.navigate", url="about:blank")
        self._ask("Page.navigate", url=url)

    def run(self, script: str) -> Any:
        """The value of a JavaScript expression."""
        answer = self._ask("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def text(self) -> str:
        return str(self.run("document.body ? document.body.innerText : ''"))

    def wait(self, *texts: str, seconds: float = 60) -> str:
        """The page's text, once all `texts` stand in it."""
        shown = ""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            shown = self.text()
            if all(text in shown for text in texts):
                return shown
            time.sleep(0.2)
        missing = [text for text in texts if text not in shown]
        raise AssertionError(f"the page does not show {missing}; it shows:\n{shown[:3000]}")

    def click(self, text: str) -> None:
        """The innermost element whose text is exactly this."""
        script = """(text => {
            const all = [...document.querySelectorAll('body *')].filter(
                e => e.innerText && e.innerText.trim() === text && e.offsetParent !== null);
            const inner = all.filter(e => !all.some(o => o !== e && e.contains(o)));
            if (!inner.length) return false;
            inner[0].scrollIntoView({block: 'center'});
            inner[0].click();
            return true;
        })"""
        deadline = time.monotonic() + 20
        while not self.run(f"{script}({json.dumps(text)})"):
            assert time.monotonic() < deadline, f"nothing says {text!r}:\n{self.text()[:2000]}"
            time.sleep(0.2)

    def picture(self, path: Path) -> None:
        answer = self._ask("Page.captureScreenshot", format="png")
        path.write_bytes(base64.b64decode(answer["data"]))

    def _page(self) -> str:
        """The address of the page's socket."""
        said = Path(self._directory) / "DevToolsActivePort"
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline:
            try:
                port = said.read_text().split()[0]
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/json") as answer:
                    pages = [page for page in json.load(answer) if page["type"] == "page"]
                if pages:
                    return str(pages[0]["webSocketDebuggerUrl"])
            except (OSError, IndexError):
                pass
            time.sleep(0.1)
        raise RuntimeError("Chromium did not start")

    def _connect(self, url: str) -> socket.socket:
        parts = urlsplit(url)
        assert parts.hostname
        connection = socket.create_connection((parts.hostname, parts.port or 80), 60)
        key = base64.b64encode(os.urandom(16)).decode()
        connection.sendall(
            f"GET {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        while b"\r\n\r\n" not in self._buffer:
            self._buffer += connection.recv(4096)
        head, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
        assert b" 101 " in head, head
        return connection

    def _ask(self, method: str, **parameters: object) -> Any:
        self._number += 1
        self._send(json.dumps({"id": self._number, "method": method, "params": parameters}).encode())
        while True:
            message = json.loads(self._receive())
            if message.get("id") == self._number:
                assert "error" not in message, message["error"]
                return message["result"]

    def _send(self, payload: bytes) -> None:
        mask = os.urandom(4)
        size = len(payload)
        short = struct.pack(">BB", 0x81, 0x80 | size) if size < 126 else struct.pack(">BBH", 0x81, 0x80 | 126, size)
        masked = bytes(byte ^ mask[index % 4] for index, byte in enumerate(payload))
        self._socket.sendall(short + mask + masked)

    def _receive(self) -> bytes:
        """One message, of as many frames as it takes."""
        message = b""
        while True:
            head, length = self._exactly(2)
            if length == 126:
                (length,) = struct.unpack(">H", self._exactly(2))
            elif length == 127:
                (length,) = struct.unpack(">Q", self._exactly(8))
            message += self._exactly(length)
            if head & 0x80:
                return message

    def _exactly(self, count: int) -> bytes:
        while len(self._buffer) < count:
            received = self._socket.recv(1 << 16)
            assert received, "Chromium closed the connection"
            self._buffer += received
        taken, self._buffer = self._buffer[:count], self._buffer[count:]
        return taken
