"""Encryption, and senders known by their certificates, over both transports with real SDK exporters."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcSpanExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as HttpSpanExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from spanweir.collector.queue.disk import Config as Disk
from spanweir.collector.receivers._auth import Auth
from spanweir.collector.receivers.api import Context, Receiver
from spanweir.collector.receivers.otlp import Config, Grpc, Http, Protocols, Tls
from tests.support.certificates import Authority


class Secure:
    """Both transports with TLS; `client_ca` makes it mTLS, with the common name as the tenant."""

    def __init__(self, directory: Path, *, mutual: bool) -> None:
        self.authority = Authority(directory)
        certificate, key = self.authority.issue("server")
        tls = Tls(
            cert_file=str(certificate), key_file=str(key), client_ca_file=str(self.authority.file) if mutual else ""
        )
        protocols = Protocols(grpc=Grpc(endpoint="127.0.0.1:0", tls=tls), http=Http(endpoint="127.0.0.1:0", tls=tls))
        self.queue = Disk(directory=str(directory / "queue"))
        self.writer = self.queue.open_writer()
        config = Config(protocols=protocols, auth=Auth(client_certificate=mutual))
        self.receiver: Receiver = config.build(Context(name="otlp", writer=self.writer))
        self.receiver.start()

    def export(self, transport: str, authority: Path, certificate: tuple[Path, Path] | None = None) -> bool:
        """Whether a span got through."""
        endpoint = f"https://{self.receiver.endpoints[transport]}"
        exporter: Any
        if transport == "grpc":
            pair = (certificate[1].read_bytes(), certificate[0].read_bytes()) if certificate else (None, None)
            credentials = grpc.ssl_channel_credentials(authority.read_bytes(), *pair)
            exporter = GrpcSpanExporter(endpoint, credentials=credentials, timeout=2)
        else:
            files = (
                {"client_certificate_file": str(certificate[0]), "client_key_file": str(certificate[1])}
                if certificate
                else {}
            )
            exporter = HttpSpanExporter(f"{endpoint}/v1/traces", certificate_file=str(authority), timeout=2, **files)
        memory = InMemorySpanExporter()
        provider = TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(memory))
        provider.get_tracer("test").start_span("secret").end()
        try:
            return bool(exporter.export(memory.get_finished_spans()) is SpanExportResult.SUCCESS)
        finally:
            exporter.shutdown()

    def tenants(self) -> list[str]:
        reader = self.queue.open_reader([])
        try:
            return [record.tenant for record in reader.scan()]
        finally:
            reader.close()

    def close(self) -> None:
        self.receiver.stop(1)
        self.writer.close()


@pytest.fixture(autouse=True)
def only_the_given_authority(monkeypatch: pytest.MonkeyPatch) -> None:
    """`requests` prefers these to the authority that the exporter is given."""
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def tls(tmp_path: Path) -> Iterator[Secure]:
    one = Secure(tmp_path, mutual=False)
    yield one
    one.close()


@pytest.fixture
def mtls(tmp_path: Path) -> Iterator[Secure]:
    one = Secure(tmp_path, mutual=True)
    yield one
    one.close()


@pytest.mark.parametrize("transport", ["grpc", "http"])
def test_encrypted_and_only_for_who_trusts_the_server(tls: Secure, transport: str, tmp_path: Path) -> None:
    assert tls.export(transport, tls.authority.file)
    assert not tls.export(transport, Authority(tmp_path, "stranger").file)
    assert tls.tenants() == [""]


@pytest.mark.parametrize("transport", ["grpc", "http"])
def test_the_common_name_of_the_client_is_the_tenant(mtls: Secure, transport: str, tmp_path: Path) -> None:
    assert mtls.export(transport, mtls.authority.file, mtls.authority.issue("team-a"))
    assert not mtls.export(transport, mtls.authority.file)
    assert not mtls.export(transport, mtls.authority.file, Authority(tmp_path, "stranger").issue("team-a2"))
    assert mtls.tenants() == ["team-a"]


@pytest.mark.parametrize("transport", ["grpc", "http"])
@pytest.mark.parametrize("missing", ["cert_file", "key_file", "client_ca_file"])
def test_a_file_that_is_not_there_is_named(tmp_path: Path, transport: str, missing: str) -> None:
    certificate, key = Authority(tmp_path).issue("server")
    files = {"cert_file": str(certificate), "key_file": str(key), "client_ca_file": str(certificate)}
    tls = Tls(**{**files, missing: str(tmp_path / "gone.pem")})
    protocols = {
        "grpc": Protocols(grpc=Grpc(endpoint="127.0.0.1:0", tls=tls)),
        "http": Protocols(http=Http(endpoint="127.0.0.1:0", tls=tls)),
    }
    writer = Disk(directory=str(tmp_path / "queue")).open_writer()
    with pytest.raises(OSError, match=rf"protocols.{transport}.*tls.{missing}.*gone.pem"):
        Config(protocols=protocols[transport]).build(Context(name="otlp", writer=writer))
    writer.close()


def test_a_key_of_another_certificate_is_said(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    tls = Tls(cert_file=str(authority.issue("one")[0]), key_file=str(authority.issue("two")[1]))
    writer = Disk(directory=str(tmp_path / "queue")).open_writer()
    for protocols in (
        Protocols(grpc=Grpc(endpoint="127.0.0.1:0", tls=tls)),
        Protocols(http=Http(endpoint="127.0.0.1:0", tls=tls)),
    ):
        with pytest.raises(OSError, match=r"tls.key_file.*does not belong to|key values mismatch"):
            Config(protocols=protocols).build(Context(name="otlp", writer=writer))
    writer.close()
