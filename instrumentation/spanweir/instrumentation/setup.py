"""`init`: the OpenTelemetry SDK set up against a collector, once per process."""

import atexit
import logging
import os
import threading
from collections.abc import Mapping
from importlib.metadata import entry_points
from typing import TYPE_CHECKING

from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.util.types import AttributeValue

from spanweir.instrumentation import notebook, policy, state, transport
from spanweir.instrumentation.worker import Limits, Worker

if TYPE_CHECKING:
    from opentelemetry.sdk._logs.export import LogRecordExporter

_log = logging.getLogger(__name__)
_lock = threading.Lock()
_worker: Worker | None = None


def init(
    *,
    endpoint: str | None = None,
    protocol: str | None = None,
    headers: Mapping[str, str] | None = None,
    service_name: str | None = None,
    resource: Mapping[str, AttributeValue] | None = None,
    capture_content: bool | str | None = None,
    redact: policy.Redact | None = None,
    max_content_bytes: int = 16 << 20,
    limits: Limits | None = None,
    tracer_provider: TracerProvider | None = None,
) -> None:
    """Send this process's spans to a collector: gRPC to localhost:4317 unless told otherwise.

    A second call does nothing. If the application has set up OpenTelemetry already, its tracer provider (or
    `tracer_provider`) gets one more span processor and keeps everything else. Forked children send for themselves.

    Args:
        endpoint: `http(s)://host:port`. Default: `OTEL_EXPORTER_OTLP_[TRACES_]ENDPOINT`, else `http://localhost:4317`.
        protocol: `grpc` or `http/protobuf`. Default: `OTEL_EXPORTER_OTLP_[TRACES_]PROTOCOL`, else by the port.
        headers: Added to `OTEL_EXPORTER_OTLP_[TRACES_]HEADERS`.
        service_name: `service.name`. Default: `OTEL_SERVICE_NAME`.
        resource: More resource attributes.
        capture_content: True, False, or a mode of `OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT` (`NO_CONTENT`,
            `SPAN_ONLY`, `EVENT_ONLY`, `SPAN_AND_EVENT`). Default: that variable; where it is unset too, content is
            recorded on spans, because whoever decorates a function with this API wants to see what it did.
        redact: `redact(attribute_name, value)` gives what to record instead, None for nothing. It runs off the calling
            thread, also on content that other instrumentations wrote; if it raises, the content is left out.
        max_content_bytes: Of one attribute; what is longer is cut inside its longest strings.
        limits: Bounds of the export worker.
        tracer_provider: Use this one instead of the global one.

    Raises:
        ValueError: an unknown protocol or capture mode.
    """
    global _worker
    with _lock:
        if _worker is not None or os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
            return
        content = policy.from_environment(capture=capture_content, redact=redact, max_content_bytes=max_content_bytes)
        settings = transport.settings(endpoint, protocol, headers)
        state.set_policy(content)
        provider = tracer_provider or _provider(service_name, resource)
        state.set_provider(provider)
        exporters = [name.strip().lower() for name in os.environ.get("OTEL_TRACES_EXPORTER", "otlp").split(",")]
        _add_others(provider, exporters)
        if not {"otlp", "otlp_proto_grpc", "otlp_proto_http"} & set(exporters):
            return
        _worker = Worker(settings, content, limits or Limits.of_environment())
        provider.add_span_processor(_worker)
        if content.on_events:
            send_logs(provider.resource)
            state.set_defer(_worker.defer)
        atexit.register(_worker.shutdown)
        notebook.enable(_worker)
        if settings.protocol == "grpc":
            import grpc  # noqa: F401 - now, not in the worker, where 0.1 s of importing would stall the application


def flush(timeout_s: float = 30.0) -> bool:
    """Wait until everything that has ended is sent. False: the time was up, or spans had to be dropped."""
    worker = _worker
    if worker is None:
        return True
    before = worker.counters.dropped_failed
    done = worker.force_flush(int(timeout_s * 1000)) and worker.counters.dropped_failed == before
    if state.policy().on_events:
        from opentelemetry._logs import get_logger_provider

        flush_logs = getattr(get_logger_provider(), "force_flush", None)
        done = (flush_logs is None or flush_logs(int(timeout_s * 1000)) is not False) and done
    return done


def worker() -> Worker | None:
    """The export worker, for `doctor` and tests."""
    return _worker


def reset() -> None:
    """Undo `init` so that it can be called again (tests, notebooks). Spans that wait are sent first."""
    global _worker
    with _lock:
        if _worker is not None:
            _worker.shutdown()
            atexit.unregister(_worker.shutdown)
        _worker = None
        state.set_policy(None)
        state.set_provider(None)
        state.set_defer(None)


def _provider(service_name: str | None, extra: Mapping[str, AttributeValue] | None) -> TracerProvider:
    current = trace.get_tracer_provider()
    if isinstance(current, TracerProvider):
        return current
    attributes = dict(extra or {})
    if service_name:
        attributes["service.name"] = service_name
    # The worker has an exit handler with a deadline of its own.
    provider = TracerProvider(resource=Resource.create(attributes), shutdown_on_exit=False)
    trace.set_tracer_provider(provider)
    return provider


def _add_others(provider: TracerProvider, exporters: list[str]) -> None:
    """What `OTEL_TRACES_EXPORTER` names beside `otlp` (`console`, or any installed one), as the SDK would add it."""
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    for name in exporters:
        if name in ("none", "") or name.startswith("otlp"):
            continue
        found = list(entry_points(group="opentelemetry_traces_exporter", name=name))
        if not found:
            _log.warning("OTEL_TRACES_EXPORTER: no exporter %r is installed", name)
            continue
        provider.add_span_processor(BatchSpanProcessor(found[0].load()()))


def send_logs(resource: Resource | None = None) -> None:
    """Log records (modes with EVENT) to the same collector, through the SDK's own batch processor."""
    from opentelemetry._logs import get_logger_provider, set_logger_provider
    from opentelemetry.sdk._logs import LoggerProvider

    if isinstance(get_logger_provider(), LoggerProvider):
        return
    from opentelemetry.sdk._logs.export import BatchLogRecordProcessor

    from spanweir.instrumentation import records

    logs = LoggerProvider(resource=resource or _resource())
    logs.add_log_record_processor(BatchLogRecordProcessor(records.Governed(_log_exporter())))
    set_logger_provider(logs)


def send_metrics() -> None:
    """Metrics of instrumentations to the same collector, through the SDK's own periodic reader."""
    from opentelemetry import metrics
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import MetricExporter, PeriodicExportingMetricReader

    exporter: MetricExporter
    if _protocol("METRICS") == "http/protobuf":
        from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter as HttpExporter

        exporter = HttpExporter()
    else:
        from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter as GrpcExporter

        exporter = GrpcExporter()
    reader = PeriodicExportingMetricReader(exporter)
    metrics.set_meter_provider(MeterProvider([reader], resource=_resource()))


def _resource() -> Resource:
    provider = trace.get_tracer_provider()
    return provider.resource if isinstance(provider, TracerProvider) else Resource.create()


def _protocol(signal: str) -> str | None:
    own = os.environ.get(f"OTEL_EXPORTER_OTLP_{signal}_PROTOCOL")
    return own or os.environ.get("OTEL_EXPORTER_OTLP_PROTOCOL")


def _log_exporter() -> "LogRecordExporter":
    if _protocol("LOGS") == "http/protobuf":
        from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter as HttpExporter

        return HttpExporter()
    from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter as GrpcExporter

    return GrpcExporter()
