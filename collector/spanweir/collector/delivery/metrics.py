"""Metrics requests through processors: the attributes of resources, scopes, metrics, data points and exemplars.

Not here: values, and names of metrics; they are what a metric is.
"""

from collections.abc import Sequence
from typing import Any

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

from spanweir.collector.decode.otlp_proto import attributes_of
from spanweir.collector.processors.api import MetricProcessor, Place
from spanweir.exporters.encode import fill


def processed(body: bytes, processors: Sequence[MetricProcessor]) -> bytes:
    """The request with all its attributes through `processors`, in order. Raises protobuf's DecodeError."""
    request = ExportMetricsServiceRequest.FromString(body)
    for resource_metrics in request.resource_metrics:
        _pass(resource_metrics.resource.attributes, "resource", processors)
        for scope_metrics in resource_metrics.scope_metrics:
            _pass(scope_metrics.scope.attributes, "scope", processors)
            for metric in scope_metrics.metrics:
                _metric(metric, processors)
    changed: bytes = request.SerializeToString()
    return changed


def _metric(metric: Any, processors: Sequence[MetricProcessor]) -> None:
    _pass(metric.metadata, "metric", processors)
    kind = metric.WhichOneof("data")
    for point in getattr(metric, kind).data_points if kind else ():
        _pass(point.attributes, "point", processors)
        # Summaries have none.
        for exemplar in getattr(point, "exemplars", ()):
            _pass(exemplar.filtered_attributes, "exemplar", processors)


def _pass(pairs: Any, place: Place, processors: Sequence[MetricProcessor]) -> None:
    before = attributes = attributes_of(pairs)
    for processor in processors:
        attributes = processor.process_metric_attributes(attributes, place)
    if attributes != before or len(before) != len(pairs):
        del pairs[:]
        fill(pairs, attributes)
