"""The forwarding exporters into the receiver: encrypted, known by certificate or token, whole or to be tried again."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from spanweir.collector.queue.disk import Config as Disk
from spanweir.collector.receivers._auth import Auth
from spanweir.collector.receivers.api import Context as ReceiverContext
from spanweir.collector.receivers.otlp import Config, Grpc, Http, Protocols, Tls
from spanweir.exporters import otlp_grpc, otlp_http
from spanweir.exporters.api import Batch, Request, Retry
from spanweir.schemas.options import Duration, Secret
from tests.benchmarks.load import make_requests
from tests.support.batches import context
from tests.support.certificates import Authority


class Destination:
    """A receiver of ours with TLS, that knows senders by certificate or by bearer token."""

    def __init__(self, directory: Path, *, mutual: bool, token: str = "", user: tuple[str, str] | None = None) -> None:
        self.authority = Authority(directory)
        certificate, key = self.authority.issue("server")
        tls = Tls(
            cert_file=str(certificate), key_file=str(key), client_ca_file=str(self.authority.file) if mutual else ""
        )
        protocols = Protocols(grpc=Grpc(endpoint="127.0.0.1:0", tls=tls), http=Http(endpoint="127.0.0.1:0", tls=tls))
        auth = Auth(
            client_certificate=mutual,
            bearer={"team": Secret(token)} if token else {},
            basic={user[0]: Secret(user[1])} if user else {},
        )
        self._queue = Disk(directory=str(directory / "queue"))
        self._writer = self._queue.open_writer()
        self._receiver = Config(protocols=protocols, auth=auth).build(ReceiverContext(name="otlp", writer=self._writer))
        self._receiver.start()

    def endpoint(self, transport: str) -> str:
        return f"https://{self._receiver.endpoints[transport]}"

    def exporter(self, transport: str, authority: Authority | None = None, **options: Any) -> Any:
        endpoint = options.pop("endpoint", self.endpoint(transport))
        module = otlp_grpc if transport == "grpc" else otlp_http
        tls = module.Tls(ca_file=str((authority or self.authority).file), **options.pop("tls", {}))
        config = module.Config(endpoint=endpoint, timeout=Duration(3), tls=tls, **options)
        return config.build(context("forward", "unused"))

    def records(self) -> list[tuple[str, bytes, dict[str, str]]]:
        reader = self._queue.open_reader([])
        try:
            return [(record.tenant, record.body, record.headers) for record in reader.scan()]
        finally:
            reader.close()

    def close(self) -> None:
        self._receiver.stop(1)
        self._writer.close()


@pytest.fixture(params=["grpc", "http"])
def transport(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def open_destination(tmp_path: Path) -> Iterator[Destination]:
    destination = Destination(tmp_path, mutual=False)
    yield destination
    destination.close()


def batch() -> Batch:
    body = make_requests(1, 1, seed=3)[0]
    return Batch(first=1, last=1, requests=[Request(signal="traces", body=body, headers={"x-mlflow-run-id": "r1"})])


def test_it_arrives_byte_for_byte_with_its_routing_headers(open_destination: Destination, transport: str) -> None:
    item = batch()
    with open_destination.exporter(transport) as exporter:
        exporter.export(item)
    ((_, body, headers),) = open_destination.records()
    assert body == item.requests[0].body
    assert headers["x-mlflow-run-id"] == "r1"


def test_what_is_on_this_machine_is_not_behind_a_proxy(
    open_destination: Destination, transport: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "https_proxy", "grpc_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("no_proxy", "no_grpc_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    item = batch()
    with open_destination.exporter(transport) as exporter:
        exporter.export(item)
    assert [body for _, body, _ in open_destination.records()] == [item.requests[0].body]


def test_an_authority_that_is_not_trusted_is_tried_again(
    open_destination: Destination, transport: str, tmp_path: Path
) -> None:
    """A certificate may be renewed: what could not be sent stays queued."""
    (tmp_path / "other").mkdir()
    stranger = Authority(tmp_path / "other")
    with open_destination.exporter(transport, authority=stranger) as exporter, pytest.raises(Retry):
        exporter.export(batch())
    assert open_destination.records() == []


def test_a_client_certificate_names_the_tenant(tmp_path: Path, transport: str) -> None:
    destination = Destination(tmp_path, mutual=True)
    try:
        certificate, key = destination.authority.issue("edge-1")
        tls = {"cert_file": str(certificate), "key_file": str(key)}
        with destination.exporter(transport, tls=tls) as exporter:
            exporter.export(batch())
        assert [tenant for tenant, _, _ in destination.records()] == ["edge-1"]
    finally:
        destination.close()


def test_a_token_in_the_headers(tmp_path: Path, transport: str) -> None:
    destination = Destination(tmp_path, mutual=False, token="t0ken")
    try:
        headers = {"Authorization": Secret("Bearer t0ken")}
        with destination.exporter(transport, headers=headers) as exporter:
            exporter.export(batch())
        wrong = {"Authorization": Secret("Bearer wrong")}
        with destination.exporter(transport, headers=wrong) as exporter, pytest.raises(Retry) as raised:
            exporter.export(batch())
        assert "wrong" not in str(raised.value)
        assert [tenant for tenant, _, _ in destination.records()] == ["team"]
    finally:
        destination.close()


def test_a_user_and_a_password_in_the_url(tmp_path: Path) -> None:
    """As the Collector and curl send them; gRPC has no such thing and says what to write."""
    destination = Destination(tmp_path, mutual=False, user=("me", "p@ss word"))
    try:
        endpoint = destination.endpoint("http").replace("//", "//me:p%40ss%20word@")
        with destination.exporter("http", endpoint=endpoint) as exporter:
            exporter.export(batch())
        stranger = endpoint.replace("me:", "you:")
        with destination.exporter("http", endpoint=stranger) as exporter, pytest.raises(Retry) as raised:
            exporter.export(batch())
        assert "p%40ss" not in str(raised.value)
        assert [tenant for tenant, _, _ in destination.records()] == ["me"]
    finally:
        destination.close()
    with pytest.raises(ValueError, match="gRPC takes credentials in headers: authorization"):
        otlp_grpc.Config(endpoint="https://me:password@127.0.0.1:1")


def test_a_certificate_file_that_is_not_there_is_said(tmp_path: Path, transport: str) -> None:
    module = otlp_grpc if transport == "grpc" else otlp_http
    endpoint = "https://127.0.0.1:1"
    config = module.Config(endpoint=endpoint, tls=module.Tls(ca_file=str(tmp_path / "nowhere.pem")))
    with pytest.raises(ValueError, match=r"tls\.ca_file '.*nowhere\.pem' cannot be read: No such file or directory"):
        config.build(context("forward", "unused"))
