"""Azure Blob Storage (Azurite) and Google Cloud Storage (fake-gcs-server) as processes on this machine.

Both are installed from their registries when the tool chain is there (`npm`, `go`); elsewhere `installed_*` skip.
"""

import base64
import email.utils
import hashlib
import hmac
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, quote, unquote, urlsplit
from urllib.request import Request, urlopen
from xml.etree import ElementTree

import pytest

from spanweir.collector.demo.process import free_ports
from tests.support.door import Door

ROOT = Path(__file__).parents[2]
ACCOUNT = "devstoreaccount1"
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
"""Azurite's own, the same everywhere."""
GCS_SERVER = "github.com/fsouza/fake-gcs-server@v1.56.1"


def installed(command: list[str], directory: Path, environment: Mapping[str, str] | None = None) -> None:
    """Run an installer in the directory, or skip the test where there is none."""
    if shutil.which(command[0]) is None:
        pytest.skip(f"needs {command[0]}")
    given = {**os.environ, **(environment or {})}
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=900, env=given)
    if done.returncode and any(word in done.stderr for word in ("dial tcp", "ENOTFOUND", "ECONNREFUSED")):
        pytest.skip(f"the registry of {command[0]} is not reachable")
    assert done.returncode == 0, done.stderr


def _wait(port: int, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return
        except OSError:
            assert process.poll() is None, "the store ended while it started"
            assert time.monotonic() < deadline
            time.sleep(0.05)


@contextmanager
def azurite(directory: Path) -> Iterator[str]:
    """Azurite, installed below the directory: its endpoint, while it runs. There is a container `tables`."""
    installed(["npm", "install", "--prefix", ".", "azurite"], directory)
    with _running("azure", str(directory / "node_modules" / ".bin" / "azurite-blob")) as address:
        yield f"{address}/{ACCOUNT}"


def _make_container(endpoint: str, name: str) -> None:
    date, version = email.utils.formatdate(usegmt=True), "2021-08-06"
    path = f"{urlsplit(endpoint).path}/{name}"
    signed = f"PUT{12 * chr(10)}x-ms-date:{date}\nx-ms-version:{version}\n/{ACCOUNT}{path}\nrestype:container"
    digest = hmac.new(base64.b64decode(KEY), signed.encode(), hashlib.sha256).digest()
    headers = {
        "x-ms-date": date, "x-ms-version": version, "content-length": "0",
        "authorization": f"SharedKey {ACCOUNT}:{base64.b64encode(digest).decode()}",
    }  # fmt: skip
    urlopen(Request(f"{endpoint}/{name}?restype=container", method="PUT", headers=headers)).read()


class StoreDoor(Door):
    """In front of a store: lists from where it is told to, which neither store does, and takes uploads of both kinds.

    Plain uploads of Google's XML interface, which fake-gcs-server does not take, become such of the JSON interface.
    """

    upstream = 0
    google = False
    token = ""
    """Requests without this bearer token are answered with 401, if there is one."""

    def handle_request(self, body: bytes) -> None:
        if self.token and self.headers.get("authorization") != f"Bearer {self.token}":
            self.reply(401, {}, b"<Error><Code>AuthenticationRequired</Code></Error>")
            return
        method, path = self.command, self.path
        if method == "PUT" and self.google:
            bucket, _, name = urlsplit(self.path).path.removeprefix("/").partition("/")
            path = f"/upload/storage/v1/b/{bucket}/o?uploadType=media&name={quote(unquote(name), safe='')}"
            if (generation := self.headers.get("x-goog-if-generation-match")) is not None:
                path += f"&ifGenerationMatch={generation}"
            method = "POST"
        withheld = "authorization" if self.google else ""
        response, kept, content = self.forward(f"127.0.0.1:{self.upstream}", method, path, body, without=withheld)
        if self.command == "PUT" and self.google and response.status == 200:
            made = json.loads(content)
            kept |= {"etag": f'"{made["etag"]}"', "x-goog-generation": made["generation"]}
        asked = parse_qs(urlsplit(self.path).query)
        after = asked.get("start-after") or asked.get("startFrom")
        if after and response.status == 200:
            content = _listed_after(content, after[0])
        status = response.status
        if b"no bucket named" in content:  # fake-gcs-server says 500
            status, content = 404, b"<Error><Code>NoSuchBucket</Code></Error>"
        self.reply(status, kept, content, self.size_of(response))


def _listed_after(listing: bytes, name: str) -> bytes:
    tree = ElementTree.fromstring(listing.removeprefix(b"\xef\xbb\xbf"))
    entries = tree.find("Blobs")
    for entry in list(tree if entries is None else entries):
        key = next((part.text or "" for part in entry if part.tag.endswith(("Key", "Name"))), None)
        if key is not None and key <= name:
            (tree if entries is None else entries).remove(entry)
    return ElementTree.tostring(tree)


@contextmanager
def gcs(directory: Path, token: str = "") -> Iterator[str]:
    """fake-gcs-server, built into the directory: its address, while it runs. There is a bucket `tables`.

    Requests need the bearer `token`, if there is one.
    """
    if not (directory / "fake-gcs-server").exists():
        installed(["go", "install", GCS_SERVER], directory, {"GOBIN": str(directory)})
    with _running("google", str(directory / "fake-gcs-server"), token) as address:
        yield address


@contextmanager
def _running(*arguments: str) -> Iterator[str]:
    """In a process of its own, as deltalake keeps the interpreter locked while it waits for an answer."""
    command = [sys.executable, "-m", "tests.support.object_stores", *arguments]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        assert address.startswith("http://")
        try:
            yield address
        finally:
            process.communicate("")


def main(kind: str, program: str, token: str = "") -> None:
    """Run the store and the door, print the door's address, and end when standard input does."""
    [port] = free_ports(1)
    parts = {"upstream": port, "google": kind == "google", "token": token}
    door = ThreadingHTTPServer(("127.0.0.1", 0), type("Opened", (StoreDoor,), parts))
    address = f"127.0.0.1:{door.server_address[1]}"
    options = {
        "azure": [
            "--blobPort", str(port), "--inMemoryPersistence", "--skipApiVersionCheck", "--disableTelemetry", "--silent"
        ],
        "google": [
            "-backend", "memory", "-host", "127.0.0.1", "-port", str(port), "-scheme", "http", "-log-level", "error",
            "-public-host", address, "-external-url", f"http://{address}",
        ],
    }[kind]  # fmt: skip
    process = subprocess.Popen([program, *options], stdout=subprocess.DEVNULL)
    try:
        _wait(port, process)
        _make_bucket(port) if kind == "google" else _make_container(f"http://127.0.0.1:{port}/{ACCOUNT}", "tables")
        threading.Thread(target=door.serve_forever, daemon=True).start()
        print(f"http://{address}", flush=True)
        sys.stdin.read()
    finally:
        process.terminate()
        process.wait(30)


def _make_bucket(port: int) -> None:
    made = Request(f"http://127.0.0.1:{port}/storage/v1/b?project=tests", data=b'{"name": "tables"}')
    made.add_header("content-type", "application/json")
    urlopen(made).read()


def gcs_key(address: str) -> str:
    """A service account key that sends requests to the address, without asking for a token first."""
    return json.dumps(
        {"gcs_base_url": address, "disable_oauth": True, "client_email": "", "private_key": "", "private_key_id": ""}
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
