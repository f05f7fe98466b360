"""Dead letters through a collector's door once more: to which address, as whom, with which routing headers.

By default the door is the configuration's own receiver, and each letter goes in as the tenant that sent it, with the
credentials that the receiver's options name; so it is routed as the first time. Credentials go nowhere else.
Not here: what is set aside, and where (`delivery.deadletters`).
"""

import base64
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec

from spanweir.collector.config import Component, Configuration
from spanweir.collector.delivery.deadletters import DeadLetter, Origin
from spanweir.collector.receivers.otlp import Config as Receiver
from spanweir.exporters import otlp_grpc, otlp_http
from spanweir.exporters.api import Batch, Context, Exporter, Permanent, Request, Retry
from spanweir.schemas.options import Duration, Secret

_TIMEOUT_S = 30
_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]", "": "127.0.0.1"}
_INSTEAD = "name an exporter that can send there with --through"


class ResendError(Exception):
    """It cannot be sent; the message says what to do."""


class Door:
    """Where letters are sent. To be entered."""

    def __init__(self, name: str, exporter_for: Callable[[str], Exporter]) -> None:
        """`exporter_for` makes what sends for a tenant, not entered. Raises `ResendError`."""
        self._name = name
        self._exporter_for = exporter_for
        self._exporters: dict[str, Exporter] = {}
        self._stack = ExitStack()
        self._sent = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        self._stack.close()

    def send(self, path: Path, letter: DeadLetter) -> bool:
        """Send the letter at `path`; whether there was anything to send. Raises `ResendError`."""
        requests = list(_requests(path, letter))
        for request in requests:
            exporter = self._exporters.get(request.tenant)
            if exporter is None:
                exporter = self._stack.enter_context(self._exporter_for(request.tenant))
                self._exporters[request.tenant] = exporter
            self._sent += 1
            try:
                exporter.export(Batch(first=self._sent, last=self._sent, requests=[request]))
            except (Permanent, Retry, OSError) as error:
                raise ResendError(f"{self._name}: {error}") from error
        return bool(requests)


def to_endpoint(endpoint: str) -> Door:
    """An OTLP/gRPC receiver that asks for nothing: host:port, or with `https://` before it."""
    whole = endpoint if "://" in endpoint else f"http://{endpoint}"
    config = otlp_grpc.Config(endpoint=whole, timeout=Duration(_TIMEOUT_S))
    return Door(endpoint, lambda tenant: _built(config))


def through(component: Component) -> Door:
    """As an exporter of the configuration sends. Raises `ResendError` if it does not send OTLP."""
    config = component.config
    if not isinstance(config, otlp_grpc.Config | otlp_http.Config):
        raise ResendError(f"exporters.{component.id} sends no OTLP; name one of the type otlp_grpc or otlp_http")
    plain = msgspec.structs.replace(config, normalize=False)
    return Door(f"exporters.{component.id}", lambda tenant: _built(plain))


def to_receiver(configuration: Configuration, exporter: str) -> Door:
    """The OTLP receiver of the configuration whose traces `exporter` gets. Raises `ResendError`."""
    used = configuration.used("receivers")
    pipelines = configuration.service.pipelines.values()
    feeding = {name for pipeline in pipelines if exporter in pipeline.exporters for name in pipeline.receivers}
    found = [component for name, component in used.items() if isinstance(component.config, Receiver)]
    found.sort(key=lambda component: component.id not in feeding)
    if not found:
        raise ResendError(f"no otlp receiver is configured; say where to send with --endpoint, or {_INSTEAD}")
    component, config = found[0], found[0].config
    protocol = config.protocols.grpc or config.protocols.http
    host, _, port = protocol.endpoint.rpartition(":")
    address = f"{_EVERYWHERE.get(host, host)}:{port}"
    where = f"receivers.{component.id}"
    if port == "0":
        raise ResendError(f"{where} listens on any free port; say on which with --endpoint")
    if protocol.tls and (protocol.tls.client_ca_file or not config.protocols.grpc):
        raise ResendError(f"{where} wants a client certificate or HTTPS; {_INSTEAD}")

    def exporter_for(tenant: str) -> Exporter:
        headers = _credentials(config, tenant, where)
        if not config.protocols.grpc:
            return _built(otlp_http.Config(endpoint=f"http://{address}", headers=headers))
        tls = otlp_grpc.Tls(insecure=True)
        if protocol.tls:
            tls = otlp_grpc.Tls(
                ca_file=protocol.tls.cert_file,
                server_name_override=_name_in(protocol.tls.cert_file, _EVERYWHERE.get(host, host), int(port)),
            )
        return _built(otlp_grpc.Config(endpoint=address, tls=tls, headers=headers, timeout=Duration(_TIMEOUT_S)))

    return Door(address, exporter_for)


def _built(config: otlp_grpc.Config | otlp_http.Config) -> Exporter:
    try:
        return config.build(Context(name="resend", state_directory=""))
    except ValueError as error:
        raise ResendError(str(error)) from error


def _credentials(config: Receiver, tenant: str, where: str) -> dict[str, Secret]:
    auth = config.auth
    if not (auth.bearer or auth.basic or auth.client_certificate):
        return {}
    if tenant in auth.bearer:
        return {"authorization": Secret(f"Bearer {auth.bearer[tenant].reveal()}")}
    if tenant in auth.basic:
        pair = f"{tenant}:{auth.basic[tenant].reveal()}".encode()
        return {"authorization": Secret(f"Basic {base64.b64encode(pair).decode()}")}
    known = f"the tenant {tenant!r} is none of {where}.auth" if tenant else f"no tenant is known, and {where} wants one"
    raise ResendError(f"{known}; {_INSTEAD}")


def _name_in(cert_file: str, host: str, port: int) -> str:
    """A name in the certificate that the server at the address shows, which must be the one in `cert_file`.

    It is seldom the address: a collector is reached from here by that of this machine.
    """
    context = ssl.create_default_context(cafile=cert_file)
    context.check_hostname = False
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.set_alpn_protocols(["h2"])
    try:
        with (
            socket.create_connection((host.strip("[]"), port), _TIMEOUT_S) as connection,
            context.wrap_socket(connection) as shown,
        ):
            certificate: dict[str, Any] = shown.getpeercert() or {}
    except OSError as error:
        raise ResendError(f"{host}:{port}: {error}") from error
    return next((str(name) for _, name in certificate.get("subjectAltName", ())), host)


def _requests(path: Path, letter: DeadLetter) -> Iterator[Request]:
    """What to send of a letter: spans and log records, and requests as they came in of what is not among these."""
    mapped = {signal: path.with_suffix(f".{signal}.otlp") for signal in ("traces", "logs")}
    mapped = {signal: body for signal, body in mapped.items() if body.exists()}
    for signal, body in mapped.items():
        origin = _origin_of(letter)
        yield Request(signal=signal, body=body.read_bytes(), headers=origin.headers, tenant=origin.tenant)
    for number, signal in enumerate(letter.requests):
        body = path.with_suffix(f".{signal}-{number}.otlp")
        if body.exists() and signal not in mapped:
            origin = letter.origins[number] if letter.origins else Origin()
            yield Request(signal=signal, body=body.read_bytes(), headers=origin.headers, tenant=origin.tenant)


def _origin_of(letter: DeadLetter) -> Origin:
    """Of spans that are set aside: where their traces were routed, if all went to one place."""
    headers = {}
    for header, field in (("x-mlflow-experiment-id", "experiment"), ("x-mlflow-run-id", "run_id")):
        values = {str(row[field]) for row in letter.rows if row.get(field)}
        if len(values) == 1:
            headers[header] = values.pop()
    tenants = {str(row.get("tenant", "")) for row in letter.rows}
    return Origin(tenant=tenants.pop() if len(tenants) == 1 else "", headers=headers)
