"""Forward over OTLP/HTTP (protobuf), as received or normalised to the newest OpenTelemetry GenAI conventions.

Not here: queueing and retries, which are the delivery's.
"""

import base64
import gzip
from types import TracebackType
from typing import Any, Literal, Self
from urllib.parse import unquote, urlsplit, urlunsplit

import msgspec

from spanweir.exporters import _otlp
from spanweir.exporters._http import retry_after_s
from spanweir.exporters.api import Batch, Context, Permanent, Request, Retry
from spanweir.schemas.options import Duration, Secret

RETRYABLE = frozenset({429, 502, 503, 504})
"""OTLP 1.7, "Retryable response codes"."""
UNAUTHORISED = frozenset({401, 403, 407})


class Tls(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    ca_file: str = ""
    """PEM file of the authorities to trust instead of the system's."""
    cert_file: str = ""
    """PEM file of the client certificate (mutual TLS)."""
    key_file: str = ""
    """PEM file of the client certificate's key."""


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    endpoint: str = ""
    """Base URL of the destination; `/v1/traces`, `/v1/logs` or `/v1/metrics` is added to it."""
    traces_endpoint: str = ""
    """Whole URL for traces, instead of the one made from `endpoint`."""
    logs_endpoint: str = ""
    """Whole URL for logs, likewise."""
    metrics_endpoint: str = ""
    """Whole URL for metrics, likewise."""
    tls: Tls = Tls()
    """Transport security, for https URLs."""
    headers: dict[str, Secret] = {}
    """Sent with every request, over the routing headers that a request came with."""
    compression: Literal["gzip", "none"] = "gzip"
    """`gzip` or `none`."""
    timeout: Duration = Duration(30)
    """For one request."""
    normalize: bool = False
    """Send spans in the newest OpenTelemetry GenAI conventions instead of as they came. Logs and metrics are sent as
    they came."""

    def __post_init__(self) -> None:
        for url in (self.endpoint, self.traces_endpoint, self.logs_endpoint, self.metrics_endpoint):
            if url and not url.startswith(("http://", "https://")):
                raise ValueError(f"{url!r} is not a URL; begin with http:// or https://")
        if bool(self.tls.cert_file) != bool(self.tls.key_file):
            raise ValueError("tls: cert_file and key_file go together; name both or none")

    def url(self, signal: str) -> str:
        whole: str = getattr(self, f"{signal}_endpoint")
        return whole or (self.endpoint.rstrip("/") + _otlp.SERVICES[signal].http_path if self.endpoint else "")

    def build(self, context: Context) -> "OtlpHttp":
        if not any(self.url(signal) for signal in _otlp.SERVICES):
            raise ValueError("endpoint is missing; write the destination's URL, such as http://tempo:4318")
        _otlp.check_files(self.tls)
        return OtlpHttp(self, context.name)


class OtlpHttp:
    """An `Exporter`."""

    def __init__(self, config: Config, name: str) -> None:
        self._config = config
        self._name = name
        self._pool: Any = None
        self._sent = _otlp.Sent()
        self.wants = _otlp.WANTS[config.normalize]

    def __enter__(self) -> Self:
        import urllib3

        tls = self._config.tls
        self._pool = urllib3.PoolManager(
            ca_certs=tls.ca_file or None, cert_file=tls.cert_file or None, key_file=tls.key_file or None, retries=False
        )
        return self

    def export(self, batch: Batch) -> None:
        refused: Permanent | None = None
        for item in self._sent.pending(batch, self._config.normalize):
            try:
                self._post(item.request)
            except Permanent as error:
                refused = error  # its neighbours are sent before the batch is bisected
            else:
                self._sent.add(item)
        if refused is not None:
            raise refused

    def _post(self, request: Request) -> None:
        import urllib3

        url = self._config.url(request.signal)
        if not url:
            raise Permanent(f"no endpoint for {request.signal}; set endpoint or {request.signal}_endpoint")
        url, own = _without_user(url)
        own.update((key.lower(), value.reveal()) for key, value in self._config.headers.items())
        headers = {"content-type": "application/x-protobuf", **_otlp.routing_headers(request, own)}
        body = request.body
        if self._config.compression == "gzip":
            headers["content-encoding"] = "gzip"
            body = gzip.compress(body, compresslevel=1)
        try:
            answer = self._pool.request("POST", url, body=body, headers=headers, timeout=float(self._config.timeout))
        except urllib3.exceptions.HTTPError as error:
            raise Retry(f"{url}: {error}") from error
        if 200 <= answer.status < 300:
            if "protobuf" in answer.headers.get("content-type", ""):
                _otlp.warn_of_rejects(self._name, request.signal, answer.data)
            return
        reason = f"{url}: HTTP {answer.status} {answer.reason or ''}: {_excerpt(answer.data)}"
        if answer.status in RETRYABLE:
            raise Retry(reason, after_s=retry_after_s(answer.headers.get("retry-after", "")))
        if answer.status in UNAUTHORISED:
            raise Retry(reason, after_s=_otlp.UNAUTHORISED_RETRY_S)
        raise Permanent(reason)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        if self._pool is not None:
            self._pool.clear()
            self._pool = None


def _without_user(url: str) -> tuple[str, dict[str, str]]:
    """`https://user:password@host` as a URL and the header that says the same: urllib3 leaves it out."""
    parts = urlsplit(url)
    user, at, host = parts.netloc.rpartition("@")
    if not at:
        return url, {}
    encoded = base64.b64encode(unquote(user).encode()).decode()
    return urlunsplit(parts._replace(netloc=host)), {"authorization": f"Basic {encoded}"}


def _excerpt(data: bytes) -> str:
    """The start of an error body: a `google.rpc.Status` message where it is one."""
    try:
        from google.rpc import status_pb2

        message = str(status_pb2.Status.FromString(data).message)
        if message:
            return message[:300]
    except Exception:  # not protobuf: shown as text
        pass
    return data[:300].decode(errors="replace").strip()
