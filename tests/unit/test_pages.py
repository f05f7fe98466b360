"""The pages for metrics and health: where they listen, and what they answer."""

import http.client
import socket
from collections.abc import Iterator

import pytest

from spanweir.collector.pages import Page, Pages


@pytest.fixture(params=["127.0.0.1:0", "localhost:0", "[::1]:0", "[::]:0", "0.0.0.0:0"])
def pages(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pages]:
    if "::" in request.param:
        try:
            socket.create_server(("::1", 0), family=socket.AF_INET6).close()
        except OSError:
            pytest.skip("this machine has no IPv6")

    def slow(*arguments: object) -> str:
        raise AssertionError("asked for the machine's name")

    monkeypatch.setattr(socket, "getfqdn", slow)
    one = Pages(request.param, {"/health": lambda: Page(200, "text/plain", b"well\n")}, "extensions.x.endpoint")
    one.start()
    yield one
    one.stop()


def ask(pages: Pages, method: str, path: str) -> tuple[int, bytes, str]:
    host, _, port = pages.address.rpartition(":")
    connection = http.client.HTTPConnection(host.strip("[]").replace("0.0.0.0", "127.0.0.1"), int(port), timeout=20)
    try:
        connection.request(method, path)
        answer = connection.getresponse()
        return answer.status, answer.read(), answer.headers["content-length"]
    finally:
        connection.close()


def test_pages(pages: Pages) -> None:
    assert ask(pages, "GET", "/health?verbose=1") == (200, b"well\n", "5")
    assert ask(pages, "HEAD", "/health") == (200, b"", "5")
    assert ask(pages, "GET", "/other")[0] == 404
    assert ask(pages, "POST", "/health")[0] == 501


def test_an_address_in_use_is_named(pages: Pages) -> None:
    second = Pages(pages.address, {}, "extensions.x.endpoint")
    with pytest.raises(OSError, match=r"extensions\.x\.endpoint: cannot listen on .*; choose another host:port"):
        second.start()
