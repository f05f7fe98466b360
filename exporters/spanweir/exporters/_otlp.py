"""What the exporters that write OTLP share: services, what is sent, and which answers may be tried again.

Sources: the OTLP specification 1.7 ("Failures", "Retryable response codes", "Partial success"), and
opentelemetry-collector `exporter/otlpexporter/otlp.go`, `exporter/otlphttpexporter/otlp.go`.
"""

import logging
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from spanweir.exporters.api import CANONICAL, MAPPED, REQUESTS, Batch, Request
from spanweir.schemas import otel
from spanweir.schemas.trace import MappedSpan

log = logging.getLogger("spanweir.exporters.otlp")

WANTS = {False: frozenset({REQUESTS}), True: frozenset({MAPPED, REQUESTS, CANONICAL})}
"""By the option `normalize`."""
UNAUTHORISED_RETRY_S = 30.0
"""OTLP calls these answers final. Credentials expire and permissions are mended: the queue keeps what waits for them,
and the log says why, as in the exporter for MLflow's servers."""


class Service(NamedTuple):
    """The OTLP service of one signal."""

    module: str
    """Of `opentelemetry.proto.collector.<module>.v1`."""
    name: str
    rejected: str
    """Field of ExportPartialSuccess."""

    @property
    def grpc_method(self) -> str:
        return f"/opentelemetry.proto.collector.{self.module}.v1.{self.name}Service/Export"

    @property
    def http_path(self) -> str:
        return f"/v1/{'traces' if self.module == 'trace' else self.module}"

    def messages(self) -> Any:
        """The generated protobuf module."""
        from importlib import import_module

        return import_module(f"opentelemetry.proto.collector.{self.module}.v1.{self.module}_service_pb2")


SERVICES = {
    "traces": Service("trace", "Trace", "rejected_spans"),
    "logs": Service("logs", "Logs", "rejected_log_records"),
    "metrics": Service("metrics", "Metrics", "rejected_data_points"),
}


class Outgoing(NamedTuple):
    """A request to send, and what it was made from."""

    request: Request
    key: tuple[int, ...]
    """Identity of what it was made from: the same when the batch comes again after a failure."""
    made_from: list[Any]


def outgoing(batch: Batch, normalize: bool) -> Iterator[Outgoing]:
    """The requests to send."""
    if normalize and batch.spans:
        yield Outgoing(normalized(batch.spans), tuple(map(id, batch.spans)), batch.spans)
    for item in batch.requests:
        if not (normalize and item.signal == "traces"):
            yield Outgoing(item, (id(item),), [item])


def normalized(spans: Iterable[MappedSpan]) -> Request:
    """One traces request with every span in the newest OpenTelemetry GenAI conventions."""
    from spanweir.exporters.encode import spans_request

    return Request(signal="traces", body=spans_request((s.raw, otel.attributes(s.raw, s.canonical)) for s in spans))


class Sent:
    """What of a batch the destination has already taken, so that a retry does not send it twice.

    Kept while batches with the same last record come (retries, halves of a bisected batch), together with the objects
    whose identities make the keys: an `id` names an object only while it lives.
    """

    def __init__(self) -> None:
        self._last = -1
        self._taken: dict[tuple[int, ...], list[Any]] = {}

    def pending(self, batch: Batch, normalize: bool) -> list[Outgoing]:
        if batch.last != self._last:
            self._last = batch.last
            self._taken.clear()
        return [item for item in outgoing(batch, normalize) if item.key not in self._taken]

    def add(self, item: Outgoing) -> None:
        self._taken[item.key] = item.made_from


def check_files(tls: Any) -> None:
    """Raises ValueError for a certificate or key file that cannot be read."""
    for option in ("ca_file", "cert_file", "key_file"):
        path = getattr(tls, option)
        if path:
            try:
                with open(path, "rb"):
                    pass
            except OSError as error:
                raise ValueError(f"tls.{option} {path!r} cannot be read: {error.strerror}") from error


def warn_of_rejects(name: str, signal: str, body: bytes) -> int:
    """Log what a partial success says. The protocol forbids to send it again. Returns the number of rejected items."""
    if not body:
        return 0
    service = SERVICES[signal]
    response = getattr(service.messages(), f"Export{service.name}ServiceResponse")()
    try:
        response.ParseFromString(body)
    except Exception:  # the request was accepted; what the answer looks like changes nothing
        return 0
    rejected = int(getattr(response.partial_success, service.rejected))
    if rejected or response.partial_success.error_message:
        message = response.partial_success.error_message
        log.warning("%s: the destination rejected %d %s items: %s", name, rejected, signal, message)
    return rejected


def routing_headers(request: Request, own: dict[str, str]) -> dict[str, str]:
    """The headers a request came with that route it, under the exporter's own."""
    return {**{key.lower(): value for key, value in request.headers.items()}, **own}
