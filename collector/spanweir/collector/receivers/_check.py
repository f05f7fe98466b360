"""The validating pass over a request: how many items, and none that no store could keep.

A span needs a trace id of 16 bytes and a span id of 8, neither all zero (OTLP, trace.proto). Spans without are taken
out and told to the sender; the rest of the request stays byte for byte as it was received unless something is taken
out. Cost: the native twin of decode goes once through the bytes, 0.3 us a span of the standard load; without it, and
where it finds something amiss, one parse by protobuf and a look at each span.

A body that protobuf refuses is looked at more closely: what decode can repair (invalid UTF-8, nesting over 100) is
accepted as it is, an item that is broken inside is taken out, and only a body without readable framing is refused.
Not here: log records and metrics may have any ids, or none.
"""

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

from google.protobuf.message import DecodeError

from spanweir.collector.decode import Undecodable

try:
    from spanweir.collector.decode._native import count_logs, count_spans
except ImportError:  # installed where no C compiler was
    _NATIVE: dict[str, Callable[[bytes], int | None]] = {}
else:
    _NATIVE = {"traces": count_spans, "logs": count_logs}

_NO_TRACE_ID, _NO_SPAN_ID = bytes(16), bytes(8)


class Checked(NamedTuple):
    """A request without its invalid items."""

    body: bytes
    items: int
    """Spans, log records or data points that are left in it."""
    rejected: int = 0
    why: str = ""
    """For the sender: why items were taken out."""


def check(signal: str, body: bytes) -> Checked:
    """`body` is a serialized Export*ServiceRequest of `signal`. Raises `Undecodable`."""
    if not body:
        return Checked(body, 0)
    native = _NATIVE.get(signal)
    if native is not None and (good := native(body)) is not None:
        return Checked(body, good)
    message, count = _kind(signal)
    try:
        request = message.FromString(body)
    except DecodeError:
        return _salvage(signal, message, body)
    items, bad = count(request)
    return _without_bad_spans(request, items) if bad else Checked(body, items)


def _count_spans(request: Any) -> tuple[int, bool]:
    items, bad = 0, False
    for resource_spans in request.resource_spans:
        for scope_spans in resource_spans.scope_spans:
            spans = scope_spans.spans
            items += len(spans)
            for span in spans:
                trace_id, span_id = span.trace_id, span.span_id
                if len(trace_id) != 16 or len(span_id) != 8 or trace_id == _NO_TRACE_ID or span_id == _NO_SPAN_ID:
                    bad = True
    return items, bad


def _count_logs(request: Any) -> tuple[int, bool]:
    return sum(len(scope.log_records) for resource in request.resource_logs for scope in resource.scope_logs), False


def _count_points(request: Any) -> tuple[int, bool]:
    points = 0
    for resource in request.resource_metrics:
        for scope in resource.scope_metrics:
            for metric in scope.metrics:
                data = metric.WhichOneof("data")
                points += len(getattr(metric, data).data_points) if data else 0
    return points, False


@cache
def _kind(signal: str) -> tuple[Any, Callable[[Any], tuple[int, bool]]]:
    """The request message of a signal and how to count it. Imported when the first request of the signal comes."""
    if signal == "traces":
        from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

        return ExportTraceServiceRequest, _count_spans
    if signal == "logs":
        from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

        return ExportLogsServiceRequest, _count_logs
    from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

    return ExportMetricsServiceRequest, _count_points


def request_type(signal: str) -> Any:
    """The message class of a request of `traces`, `logs` or `metrics`."""
    return _kind(signal)[0]


def _without_bad_spans(request: Any, items: int) -> Checked:
    rejected = 0
    why = ""
    for resource_spans in request.resource_spans:
        for scope_spans in resource_spans.scope_spans:
            good = []
            for span in scope_spans.spans:
                problem = _id_problem(span)
                if problem:
                    rejected += 1
                    why = why or f"span {span.name!r:.80}: {problem}"
                else:
                    good.append(span)
            if len(good) < len(scope_spans.spans):
                kept = [type(span).FromString(span.SerializeToString()) for span in good]
                del scope_spans.spans[:]
                scope_spans.spans.extend(kept)
    return Checked(request.SerializeToString(), items - rejected, rejected, why)


def _id_problem(span: Any) -> str:
    if len(span.trace_id) != 16:
        return f"trace_id has {len(span.trace_id)} bytes, not 16"
    if len(span.span_id) != 8:
        return f"span_id has {len(span.span_id)} bytes, not 8"
    if span.trace_id == _NO_TRACE_ID:
        return "trace_id is all zeros"
    return "span_id is all zeros" if span.span_id == _NO_SPAN_ID else ""


def _salvage(signal: str, message: Any, body: bytes) -> Checked:
    from spanweir.collector.decode.repair import repair

    repaired, issues = repair(message.DESCRIPTOR, body)
    if issues:
        try:
            request = message.FromString(repaired)
        except DecodeError:
            pass
        else:
            items, bad = _kind(signal)[1](request)
            # As it was received: decode repairs it again, and notes on the spans what was repaired.
            return _without_bad_spans(request, items) if bad else Checked(body, items)
    try:
        kept, rejected = _without_broken_items(message.DESCRIPTOR, body)
        request = message.FromString(kept)
    except DecodeError:
        raise Undecodable(f"{len(body)} bytes are not an {message.DESCRIPTOR.name}") from None
    items, bad = _kind(signal)[1](request)
    if not items:
        raise Undecodable(f"{len(body)} bytes are not an {message.DESCRIPTOR.name} with anything in it")
    why = f"{rejected} not readable as protobuf"
    if not bad:
        return Checked(kept, items, rejected, why)
    rest = _without_bad_spans(request, items)
    return rest._replace(rejected=rest.rejected + rejected, why=f"{why}; {rest.why}")


def _without_broken_items(descriptor: Any, body: bytes) -> tuple[bytes, int]:
    """`body` without the items that do not parse by themselves, and how many those were. Raises DecodeError."""
    from google.protobuf import message_factory

    from spanweir.collector.decode.repair import repair

    kind = descriptor
    for number in (1, 2, 2):
        kind = kind.fields_by_number[number].message_type
    item_type = message_factory.GetMessageClass(kind)
    skeleton = _skeleton().FromString(body)
    rejected = 0
    for resource in skeleton.resources:
        for scope in resource.scopes:
            good = []
            for item in scope.items:
                try:
                    item_type.FromString(item)
                    good.append(item)
                except DecodeError:
                    repaired, issues = repair(kind, item)
                    if issues and _parses(item_type, repaired):
                        good.append(repaired)
                    else:
                        rejected += 1
            del scope.items[:]
            scope.items.extend(good)
    return skeleton.SerializeToString(), rejected


def _parses(kind: Any, body: bytes) -> bool:
    try:
        kind.FromString(body)
    except DecodeError:
        return False
    return True


@cache
def _skeleton() -> Any:
    """What requests of all signals have in common on the wire, with items as bytes; other fields pass as unknown."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    field = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="skeleton.proto", package="skeleton", syntax="proto3")
    for name, field_name, number, of in (
        ("Scope", "items", 2, ""),
        ("Resource", "scopes", 2, ".skeleton.Scope"),
        ("Request", "resources", 1, ".skeleton.Resource"),
    ):
        file.message_type.add(name=name).field.add(
            name=field_name,
            number=number,
            label=field.LABEL_REPEATED,
            type=field.TYPE_MESSAGE if of else field.TYPE_BYTES,
            type_name=of or None,
        )
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("skeleton.Request"))
