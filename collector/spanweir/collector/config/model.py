"""What a configuration is once it has been read and checked. Not here: how it is read (`load`)."""

from typing import Any

import msgspec

from spanweir.collector.assembly.options import Options as Assembly
from spanweir.collector.delivery import Options as Delivery
from spanweir.schemas.options import Duration, check_endpoint

SIGNALS = ("traces", "logs", "metrics")


class Component(msgspec.Struct, frozen=True, kw_only=True):
    """One `type/name` of the file, with the frozen `Config` struct of its module."""

    kind: str
    """`receivers`, `processors`, `exporters`, `extensions` or `queue`."""
    id: str
    """As written in the file: `mlflow` or `mlflow/prod`."""
    type: str
    """Module name, aliases resolved: `otlp` under exporters is `otlp_grpc`."""
    config: Any
    origin: str = ""
    """`file:line` of its key."""

    @property
    def path(self) -> str:
        """Where it stands in the configuration, for messages."""
        place = "service.queue" if self.kind == "queue" else f"{self.kind}.{self.id}"
        return f"{self.origin}: {place}" if self.origin else place


class Pipeline(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The options of one entry of `service.pipelines`."""

    receivers: tuple[str, ...] = ()
    """Ids of the receivers whose data enters here."""
    processors: tuple[str, ...] = ()
    """Ids of processors, in the order in which they run."""
    exporters: tuple[str, ...] = ()
    """Ids of the exporters that all get the same data, each with a cursor of its own."""


class Metrics(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The options of `service.telemetry.metrics`."""

    endpoint: str = "127.0.0.1:8888"
    """host:port of the Prometheus endpoint with the collector's own metrics; empty switches it off."""

    def __post_init__(self) -> None:
        if self.endpoint:
            check_endpoint(self.endpoint)


class Logs(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The options of `service.telemetry.logs`."""

    level: str = "info"
    """`debug`, `info`, `warning` or `error`."""

    def __post_init__(self) -> None:
        if self.level not in ("debug", "info", "warning", "error"):
            raise ValueError(f"level must be debug, info, warning or error, not {self.level!r}")


class Telemetry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The options of `service.telemetry`."""

    metrics: Metrics = Metrics()
    """The collector's own metrics."""
    logs: Logs = Logs()
    """The collector's own log, on standard error."""


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The keys of `service` that are plain options."""

    telemetry: Telemetry = Telemetry()
    """What the collector says about itself."""
    shutdown_timeout: Duration = Duration(10)
    """How long SIGTERM and SIGINT wait for the queue to drain; what is left stays queued on disk. A destination that
    hangs is cut off then."""
    assembly: Assembly = Assembly()
    """How long traces wait for their spans, and how much is kept of them."""
    delivery: Delivery = Delivery()
    """Batches, retries and buffers on the way from the queue to the exporters."""


class Service(msgspec.Struct, frozen=True, kw_only=True):
    """The section `service`, checked: its queue, pipelines and extensions, and its plain options."""

    queue: Component
    pipelines: dict[str, Pipeline]
    """Keyed `traces`, `logs`, `metrics`, or `traces/name`."""
    extensions: tuple[str, ...] = ()
    settings: Settings = Settings()


class Configuration(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that `spanweir run` needs. Picklable: the delivery process gets the same object."""

    receivers: dict[str, Component] = {}
    processors: dict[str, Component] = {}
    exporters: dict[str, Component] = {}
    extensions: dict[str, Component] = {}
    service: Service
    sources: tuple[str, ...] = ()
    """Files it was read from."""

    def used(self, kind: str) -> dict[str, Component]:
        """The components of `kind` that some pipeline (or, for extensions, the service) names, in file order."""
        if kind == "extensions":
            wanted = set(self.service.extensions)
        else:
            wanted = {name for pipeline in self.service.pipelines.values() for name in getattr(pipeline, kind)}
        components: dict[str, Component] = getattr(self, kind)
        return {name: component for name, component in components.items() if name in wanted}


def signal_of(pipeline: str) -> str:
    """`traces/eu` is a pipeline of the signal `traces`."""
    return pipeline.partition("/")[0]
