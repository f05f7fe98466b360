"""The OTLP receiver: traces, logs and metrics over gRPC and HTTP, answered when the queue has them durably.

Options have the names and the shape of the OpenTelemetry Collector's `otlp` receiver where it has them. Defaults
differ where its defaults lose data: messages up to 64 MiB instead of 4 and 20, because one trace can have 10 MB.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import msgspec

from spanweir.collector.receivers._auth import Auth, Authenticator, Limit, Limiter
from spanweir.collector.receivers._tls import server_context
from spanweir.collector.receivers.api import Context, Receiver, ReceiverError
from spanweir.schemas.options import MIB, Duration, Size, check_endpoint

if TYPE_CHECKING:
    from spanweir.collector.receivers._grpc import GrpcServer
    from spanweir.collector.receivers._http import HttpServer


class Tls(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    cert_file: str
    """PEM file with the server's certificate, and the chain to its issuer."""
    key_file: str
    """PEM file with its private key."""
    client_ca_file: str = ""
    """PEM file of the authorities whose client certificates are accepted; senders must then show one (mTLS)."""


class ServerParameters(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    max_connection_idle: Duration | None = None
    """Close a connection without requests after this time; by default never."""
    max_connection_age: Duration | None = None
    """Ask senders to connect again after this time, so that load balancers can spread them; by default never."""
    max_connection_age_grace: Duration | None = None
    """How long requests under way may go on after that; by default without limit."""
    time: Duration | None = None
    """Ping a connection that is silent for this long; by default 2h."""
    timeout: Duration | None = None
    """Close a connection whose ping is not answered after this time; by default 20s."""


class EnforcementPolicy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    min_time: Duration = Duration(10)
    """Senders that ping more often than this are disconnected."""
    permit_without_stream: bool = True
    """Whether senders may ping while they have no request under way."""


class Keepalive(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    server_parameters: ServerParameters = ServerParameters()
    """When this end closes or pings connections."""
    enforcement_policy: EnforcementPolicy = EnforcementPolicy()
    """What pings of senders are tolerated."""


class Grpc(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    endpoint: str = "127.0.0.1:4317"
    """host:port to listen on; 0.0.0.0:4317 for every interface, port 0 for any free port."""
    max_recv_msg_size_mib: int = 64
    """Largest request, decompressed. Larger ones get RESOURCE_EXHAUSTED, which senders do not repeat."""
    max_concurrent_streams: int = 100
    """Requests under way on one connection; further ones wait at the sender."""
    workers: int = 16
    """Requests that are read or wait for the disk at the same time; further ones wait in their connections."""
    include_metadata: bool | tuple[str, ...] = ()
    """Names of metadata that stay with the request, besides x-mlflow-*; true for all but credentials."""
    tls: Tls | None = None
    """Encryption; without it the connection is plain text."""
    keepalive: Keepalive = Keepalive()
    """Pings and connection age."""

    def __post_init__(self) -> None:
        check_endpoint(self.endpoint)
        if not 1 <= self.max_recv_msg_size_mib <= 2047:
            raise ValueError(f"max_recv_msg_size_mib must be 1 to 2047, not {self.max_recv_msg_size_mib}")
        if not 1 <= self.workers <= 1000:
            raise ValueError(f"workers must be 1 to 1000, not {self.workers}")
        if self.max_concurrent_streams < 1:
            raise ValueError("max_concurrent_streams must be at least 1")


class Cors(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    allowed_origins: tuple[str, ...] = ()
    """Origins of web pages that may send, such as https://app.example.com; * allows all. None by default."""
    allowed_headers: tuple[str, ...] = ()
    """Request headers that such pages may set besides Content-Type and Content-Encoding; * allows all."""
    max_age: Duration = Duration(7200)
    """How long browsers remember the answer."""


class Http(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    endpoint: str = "127.0.0.1:4318"
    """host:port to listen on; 0.0.0.0:4318 for every interface, port 0 for any free port."""
    max_request_body_size: Size = Size(64 * MIB)
    """Largest body, compressed and decompressed. Larger ones get 413, which senders do not repeat."""
    traces_url_path: str = "/v1/traces"
    """Where traces are posted to."""
    logs_url_path: str = "/v1/logs"
    """Where log records are posted to."""
    metrics_url_path: str = "/v1/metrics"
    """Where metrics are posted to."""
    include_metadata: bool | tuple[str, ...] = ()
    """Names of headers that stay with the request, besides x-mlflow-*; true for all but credentials."""
    idle_timeout: Duration = Duration(60)
    """Close a connection on which nothing was received for this long."""
    read_timeout: Duration = Duration(300)
    """How long a body may take to come whole, however slowly; then it gets 408 and the connection is closed."""
    max_connections: int = 1024
    """Connections open at the same time; further ones get 503."""
    tls: Tls | None = None
    """Encryption; without it the connection is plain text."""
    cors: Cors = Cors()
    """Web pages that may send from browsers."""

    def __post_init__(self) -> None:
        check_endpoint(self.endpoint)
        if self.max_request_body_size < 1:
            raise ValueError("max_request_body_size must be at least 1 byte; leave it out for 64MiB")
        paths = self.paths()
        if len(paths) < 3:
            raise ValueError("traces_url_path, logs_url_path and metrics_url_path must differ")
        for path in paths:
            if not path.startswith("/"):
                raise ValueError(f"a URL path begins with /: {path!r}")

    def paths(self) -> dict[str, str]:
        """Path -> signal."""
        return {
            self.traces_url_path: "traces",
            self.logs_url_path: "logs",
            self.metrics_url_path: "metrics",
        }


class Protocols(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Only the protocols that are named are served; `grpc:` with nothing behind it takes all defaults."""

    grpc: Grpc | msgspec.UnsetType = msgspec.UNSET
    """OTLP/gRPC, plain, gzip or deflate. Senders set to zstd or snappy, which gRPC's own library does not know, get
    INTERNAL and drop what they sent: set them to gzip, or send zstd over HTTP."""
    http: Http | msgspec.UnsetType = msgspec.UNSET
    """OTLP/HTTP, protobuf and JSON; gzip, deflate and zstd."""

    def __post_init__(self) -> None:
        if not isinstance(self.grpc, Grpc) and not isinstance(self.http, Http):
            raise ValueError("name at least one of grpc and http")


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    protocols: Protocols = Protocols(grpc=Grpc(), http=Http())
    """What is listened for."""
    auth: Auth = Auth()
    """Who may send. Everybody by default, which is why the default endpoints are local."""
    limits: dict[str, Limit] = {}
    """How much each tenant may send; `*` is the limit of each tenant that is not named."""

    def __post_init__(self) -> None:
        if self.auth.client_certificate:
            for name, protocol in (("grpc", self.protocols.grpc), ("http", self.protocols.http)):
                if isinstance(protocol, Grpc | Http) and not (protocol.tls and protocol.tls.client_ca_file):
                    raise ValueError(f"auth.client_certificate needs protocols.{name}.tls.client_ca_file")

    def build(self, context: Context, /) -> Receiver:
        """Raises OSError for certificates that cannot be used."""
        for name, protocol in (("grpc", self.protocols.grpc), ("http", self.protocols.http)):
            if isinstance(protocol, Grpc | Http) and protocol.tls:
                try:
                    server_context(protocol.tls)
                except OSError as error:
                    raise OSError(f"protocols.{name}: {error}") from error
        return OtlpReceiver(self, context)


class OtlpReceiver:
    """Both transports around one intake."""

    def __init__(self, config: Config, context: Context) -> None:
        self._config = config
        self._context = context
        self._servers: dict[str, GrpcServer | HttpServer] = {}

    @property
    def endpoints(self) -> Mapping[str, str]:
        return {name: server.endpoint for name, server in self._servers.items()}

    def start(self) -> None:
        # What is not listened for is not imported: grpc alone is 12 MB.
        from spanweir.collector.receivers._intake import Intake

        config = self._config
        self._intake = Intake(self._context, Authenticator(config.auth), Limiter(config.limits))
        for transport, protocol in (("grpc", config.protocols.grpc), ("http", config.protocols.http)):
            if isinstance(protocol, msgspec.UnsetType):
                continue
            try:
                self._servers[transport] = self._serve(protocol)
            except OSError as error:
                self.stop(0)
                where = f"receivers.{self._context.name}.protocols.{transport}"
                raise ReceiverError(f"{where}: {error}") from error

    def _serve(self, protocol: Grpc | Http) -> "GrpcServer | HttpServer":
        if isinstance(protocol, Grpc):
            from spanweir.collector.receivers._grpc_core import prefer_one_thread

            prefer_one_thread()
            from spanweir.collector.receivers._grpc import serve

            return serve(protocol, self._intake)
        from spanweir.collector.receivers._http import HttpServer

        return HttpServer(protocol, self._intake)

    def stop(self, grace_s: float) -> None:
        self._intake.close()
        for server in self._servers.values():
            server.stop(grace_s)
        self._servers.clear()
