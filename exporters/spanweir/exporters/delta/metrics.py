"""OTLP metrics -> columns of `{prefix}_otel_metrics`: one row a data point."""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

from spanweir.exporters.delta.cells import DAY_NS, record_id, text
from spanweir.exporters.delta.origins import UNKNOWN_SERVICE
from spanweir.schemas.inference_table import Version
from spanweir.schemas.raw import Value

_TEMPORALITY: Final = (
    "AGGREGATION_TEMPORALITY_UNSPECIFIED",
    "AGGREGATION_TEMPORALITY_DELTA",
    "AGGREGATION_TEMPORALITY_CUMULATIVE",
)
_Bag = Callable[[Iterable[Any]], dict[str, Any]]


def metric_columns(body: bytes, version: Version) -> list[tuple[Any, ...]]:
    """The table's columns of one `ExportMetricsServiceRequest`; none if it has no data point.

    Raises ValueError for a body that is no such request.
    """
    try:
        request = ExportMetricsServiceRequest.FromString(body)
    except Exception as error:  # protobuf's DecodeError has no common base across its implementations
        raise ValueError(f"not an ExportMetricsServiceRequest: {error}") from error
    bag: _Bag = _texts if version == "v1" else _values
    return list(zip(*_rows(request, bag), strict=True))


def _rows(request: Any, bag: _Bag) -> Iterator[tuple[Any, ...]]:
    for of_resource in request.resource_metrics:
        resource = of_resource.resource
        attributes = _values(resource.attributes)
        service = text(attributes.get("service.name")) or UNKNOWN_SERVICE
        resource_cell = (bag(resource.attributes), resource.dropped_attributes_count)
        identity = hashlib.blake2b(resource.SerializeToString(deterministic=True))
        for of_scope in of_resource.scope_metrics:
            scope = of_scope.scope
            tail = (
                resource_cell,
                of_resource.schema_url,
                (scope.name, scope.version, bag(scope.attributes), scope.dropped_attributes_count),
                of_scope.schema_url,
            )
            for metric in of_scope.metrics:
                yield from _points(metric, service, identity, scope.name, tail, bag)


def _points(
    metric: Any, service: str, identity: Any, scope: str, tail: tuple[Any, ...], bag: _Bag
) -> Iterator[tuple[Any, ...]]:
    kind = metric.WhichOneof("data")
    if kind is None:
        return
    data = getattr(metric, kind)
    for point in data.data_points:
        hashed = identity.copy()
        hashed.update(f"\0{scope}\0{metric.name}\0{kind}\0".encode())
        hashed.update(point.SerializeToString(deterministic=True))
        digest = hashed.hexdigest()
        time = point.time_unix_nano
        cells = {kind: _CELLS[kind](data, point, bag)}
        yield (
            record_id(time, digest[:4], digest[4:20]), time // 1000, time // DAY_NS, service,
            point.start_time_unix_nano, time, metric.name, metric.description, metric.unit, kind.upper(),
            *(cells.get(name) for name in _CELLS), bag(metric.metadata), *tail,
        )  # fmt: skip


def _number(point: Any) -> float | None:
    which = point.WhichOneof("value")
    return float(getattr(point, which)) if which else None


def _exemplars(point: Any, bag: _Bag) -> list[tuple[Any, ...]]:
    return [
        (e.time_unix_nano, _number(e), e.span_id.hex(), e.trace_id.hex(), bag(e.filtered_attributes))
        for e in point.exemplars
    ]


def _optional(point: Any, name: str) -> float | None:
    return float(getattr(point, name)) if point.HasField(name) else None


def _gauge(data: Any, point: Any, bag: _Bag) -> tuple[Any, ...]:
    return (_number(point), _exemplars(point, bag), bag(point.attributes), point.flags)


def _sum(data: Any, point: Any, bag: _Bag) -> tuple[Any, ...]:
    return (*_gauge(data, point, bag), _temporality(data), data.is_monotonic)


def _histogram(data: Any, point: Any, bag: _Bag) -> tuple[Any, ...]:
    return (
        point.count, _optional(point, "sum"), list(point.bucket_counts), list(point.explicit_bounds),
        _exemplars(point, bag), bag(point.attributes), point.flags,
        _optional(point, "min"), _optional(point, "max"), _temporality(data),
    )  # fmt: skip


def _exponential(data: Any, point: Any, bag: _Bag) -> tuple[Any, ...]:
    positive = (point.positive.offset, list(point.positive.bucket_counts))
    negative = (point.negative.offset, list(point.negative.bucket_counts))
    return (
        bag(point.attributes), point.count, _optional(point, "sum"), point.scale, point.zero_count, positive, negative,
        point.flags, _exemplars(point, bag), _optional(point, "min"), _optional(point, "max"), point.zero_threshold,
        _temporality(data),
    )  # fmt: skip


def _summary(data: Any, point: Any, bag: _Bag) -> tuple[Any, ...]:
    quantiles = [(q.quantile, q.value) for q in point.quantile_values]
    return (point.count, point.sum, quantiles, bag(point.attributes), point.flags)


def _temporality(data: Any) -> str:
    number = data.aggregation_temporality
    return _TEMPORALITY[number] if 0 <= number < 3 else _TEMPORALITY[0]


_CELLS: Final[dict[str, Callable[[Any, Any, _Bag], tuple[Any, ...]]]] = {
    "gauge": _gauge,
    "sum": _sum,
    "histogram": _histogram,
    "exponential_histogram": _exponential,
    "summary": _summary,
}
"""In the order of the columns."""


def _values(pairs: Iterable[Any]) -> dict[str, Any]:
    return {pair.key: _any(pair.value) for pair in pairs}


def _texts(pairs: Iterable[Any]) -> dict[str, Any]:
    return {pair.key: text(_any(pair.value)) for pair in pairs}


def _any(value: Any) -> Value:
    which = value.WhichOneof("value")
    if which is None:
        return None
    if which == "array_value":
        return [_any(item) for item in value.array_value.values]
    if which == "kvlist_value":
        return {pair.key: _any(pair.value) for pair in value.kvlist_value.values}
    result: Value = getattr(value, which)
    return result
