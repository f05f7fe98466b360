"""OTLP trace requests -> record batches of the spans table, with attributes as they were sent, column by column.

ptars decodes protobuf into Arrow and pyarrow computes; Python looks at single values only where these cannot: numbers
with a fraction, arrays, maps and bytes within attributes. What is wrong with spans is repaired as decoding and assembly
do, and rows are those that a span with the same attributes has in the mapped table.

Not here: what the attributes mean (they are mapped when they are read), and when rows are committed (`received`).
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from typing import Any, Final

import msgspec
import ptars
import pyarrow as pa
import pyarrow.compute as pc
from arro3.core import RecordBatch
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue

from spanweir.exporters.delta.arrow import Layout
from spanweir.exporters.delta.cells import DAY_NS, KINDS, record_ids, text
from spanweir.exporters.delta.origins import UNKNOWN_SERVICE
from spanweir.schemas.raw import Value

_LONG_MAX: Final = (1 << 63) - 1
_INT_MAX: Final = (1 << 31) - 1
_NO_TRACE, _NO_SPAN = bytes(16), bytes(8)
_KINDS: Final = pa.array(KINDS)
_DAY, _MICRO, _NEVER = (pa.scalar(number, pa.uint64()) for number in (DAY_NS, 1000, 0))
_CODES: Final = pa.array(["STATUS_CODE_UNSET", "STATUS_CODE_OK", "STATUS_CODE_ERROR"])
_handlers: Final = ptars.HandlerPool([ExportTraceServiceRequest.DESCRIPTOR.file])
_decode: Final = _handlers.get_for_message(ExportTraceServiceRequest.DESCRIPTOR).list_to_record_batch


class Received(msgspec.Struct):
    """Rows of the spans table, and what is not seen from them."""

    batch: RecordBatch | None = None
    """None if not one span has ids that are some."""
    trace_ids: list[str] = []
    span_ids: list[str] = []
    days: set[int] = set()
    """Since 1970, in whose partitions the rows stand."""
    times: tuple[int, ...] = (0, 0)
    """First and last start (ns)."""
    dropped: int = 0
    """Spans with an id that is none."""
    repaired: Counter[str] = msgspec.field(default_factory=Counter)
    """How many spans, by what was repaired."""


class Requests(msgspec.Struct):
    """Decoded requests."""

    bodies: Sequence[bytes]
    lists: pa.ListArray
    """Of each request its `resource_spans`."""

    @property
    def spans(self) -> int:
        return len(self.lists.flatten().field("scope_spans").flatten().field("spans").flatten())


def decode(bodies: Sequence[bytes]) -> Requests:
    """Of serialized `ExportTraceServiceRequest`s. Raises ValueError if one of them is no such request."""
    return Requests(bodies, _decode(list(bodies)).column(0))


def _joined(requests: Sequence[Requests]) -> pa.StructArray:
    """Their `ResourceSpans`.

    Of a oneof that was sent twice protobuf keeps the last, and ptars 0.0.25 all: decoded and encoded again, it is one.
    """
    lists = requests[0].lists if len(requests) == 1 else pa.concat_arrays([each.lists for each in requests])
    of_resources = lists.flatten()
    if any(map(_is_twofold, _values(of_resources))):
        bodies = [body for each in requests for body in each.bodies]
        bodies = [ExportTraceServiceRequest.FromString(body).SerializeToString() for body in bodies]
        of_resources = _decode(bodies).column(0).flatten()
    return of_resources


def _values(of_resources: pa.StructArray) -> Iterable[pa.StructArray]:
    """All attribute values below."""
    scopes = of_resources.field("scope_spans").flatten()
    spans = scopes.field("spans").flatten()
    owners = [of_resources.field("resource"), scopes.field("scope"), spans]
    owners += [spans.field("events").flatten(), spans.field("links").flatten()]
    for owner in owners:
        yield owner.field("attributes").flatten().field("value")


def _is_twofold(values: pa.StructArray) -> bool:
    seen = None
    for child in values.flatten() if len(values) else ():
        if child.null_count == len(child):
            continue
        known = child.is_valid()
        if seen is not None and pc.any(pc.and_(seen, known)).as_py():
            return True
        seen = known if seen is None else pc.or_(seen, known)
    return False


class ReceivedRows:
    """Makes rows of version 1 of `{prefix}_otel_spans`."""

    def __init__(self, layout: Layout) -> None:
        self._schema = pa.schema(layout.schema)
        self._bag = self._type("attributes")

    def rows(self, requests: Sequence[Requests]) -> Received:
        """Of one or more, in order."""
        of_resources = _joined(requests)
        scope_lists = of_resources.field("scope_spans")
        of_scopes = scope_lists.flatten()
        span_lists = of_scopes.field("spans")
        spans, scope_of = span_lists.flatten(), pc.list_parent_indices(span_lists)
        valid = _valid_ids(spans)
        found = Received(dropped=len(spans) - valid.true_count)
        if found.dropped:
            spans, scope_of = spans.filter(valid), scope_of.filter(valid)
        if len(spans):
            resource_of = pc.list_parent_indices(scope_lists).take(scope_of)
            columns = self._own(spans, found)
            columns |= self._resources(of_resources, resource_of) | self._scopes(of_scopes, scope_of)
            arrays = [_of(field.type, columns[field.name]) for field in self._schema]
            found.batch = RecordBatch.from_arrow(pa.record_batch(arrays, schema=self._schema))
        return found

    def _type(self, name: str) -> Any:
        return self._schema.field(name).type

    def _own(self, spans: pa.StructArray, found: Received) -> dict[str, pa.Array]:
        """Columns that spans have themselves."""
        starts, ends = _times(spans, found.repaired)
        days = pc.divide(starts, _DAY).cast(pa.int32())
        traces, ids = _hex(spans.field("trace_id")), _hex(spans.field("span_id"))
        found.trace_ids, found.span_ids = traces.to_pylist(), ids.to_pylist()
        found.days = set(days.unique().to_pylist())
        found.times = tuple(pc.min_max(starts).as_py().values())
        return {
            "record_id": pa.array(record_ids(starts.to_pylist(), found.trace_ids, found.span_ids)),
            "time": pc.divide(starts, _MICRO).cast(pa.int64()),
            "date": days,
            "trace_id": traces,
            "span_id": ids,
            "trace_state": spans.field("trace_state"),
            "parent_span_id": _parents(spans.field("parent_span_id"), found.repaired),
            "flags": _int(spans.field("flags")),
            "name": spans.field("name"),
            "kind": _named(_KINDS, spans.field("kind")),
            "start_time_unix_nano": _long(starts),
            "end_time_unix_nano": _long(pc.if_else(pc.equal(ends, _NEVER), None, ends)),
            "attributes": self._map(spans.field("attributes"), found.repaired),
            "dropped_attributes_count": _int(spans.field("dropped_attributes_count")),
            "events": self._events(spans.field("events")),
            "dropped_events_count": _int(spans.field("dropped_events_count")),
            "links": self._links(spans.field("links")),
            "dropped_links_count": _int(spans.field("dropped_links_count")),
            "status": self._status(spans.field("status")),
        }

    def _resources(self, of_resources: pa.StructArray, rows: pa.Array) -> dict[str, pa.Array]:
        resource = of_resources.field("resource")
        bags = self._map(resource.field("attributes"))
        cells = [bags, _int(resource.field("dropped_attributes_count"))]
        return {
            "resource": _structs(cells, self._type("resource")).take(rows),
            "resource_schema_url": of_resources.field("schema_url").take(rows),
            "service_name": _services(bags).take(rows),
        }

    def _scopes(self, of_scopes: pa.StructArray, rows: pa.Array) -> dict[str, pa.Array]:
        scope = of_scopes.field("scope")
        cells = [
            scope.field("name"), scope.field("version"), self._map(scope.field("attributes")),
            _int(scope.field("dropped_attributes_count")),
        ]  # fmt: skip
        return {
            "instrumentation_scope": _structs(cells, self._type("instrumentation_scope")).take(rows),
            "span_schema_url": of_scopes.field("schema_url").take(rows),
        }

    def _events(self, lists: pa.ListArray) -> pa.Array:
        events, kind = lists.flatten(), self._type("events")
        if not len(events):
            return _empty(lists, kind)
        cells = [
            _long(events.field("time_unix_nano")), events.field("name"), self._map(events.field("attributes")),
            _int(events.field("dropped_attributes_count")),
        ]  # fmt: skip
        return pa.ListArray.from_arrays(_offsets(lists), _structs(cells, kind.value_type), type=kind)

    def _links(self, lists: pa.ListArray) -> pa.Array:
        links, kind = lists.flatten(), self._type("links")
        if not len(links):
            return _empty(lists, kind)
        cells = [
            _hex(links.field("trace_id")), _hex(links.field("span_id")), links.field("trace_state"),
            self._map(links.field("attributes")), _int(links.field("dropped_attributes_count")),
            _int(links.field("flags")),
        ]  # fmt: skip
        return pa.ListArray.from_arrays(_offsets(lists), _structs(cells, kind.value_type), type=kind)

    def _status(self, status: pa.StructArray) -> pa.Array:
        return _structs([status.field("message"), _named(_CODES, status.field("code"))], self._type("status"))

    def _map(self, lists: pa.ListArray, repaired: Counter[str] | None = None) -> pa.MapArray:
        """Attributes, as `cells.texts` makes them."""
        entries, offsets = lists.flatten(), _offsets(lists)
        doubled = _doubled(lists, entries.field("key"))
        if doubled:
            kept, lengths, owners = _last_of_each(offsets.to_pylist(), entries.field("key").to_pylist())
            entries, offsets = entries.take(pa.array(kept, pa.int64())), pa.array(lengths, pa.int32())
            if repaired is not None:
                repaired["duplicate_keys"] += owners
        return pa.MapArray.from_arrays(offsets, entries.field("key"), _texts(entries.field("value")), type=self._bag)


def _empty(lists: pa.ListArray, kind: pa.ListType) -> pa.ListArray:
    return pa.ListArray.from_arrays(_offsets(lists), pa.array([], kind.value_type), type=kind)


def _offsets(lists: pa.ListArray) -> pa.Array:
    """Of the lists in `lists.flatten()`."""
    offsets = lists.offsets
    first = offsets[0].as_py()
    return pc.subtract(offsets, pa.scalar(first, pa.int32())) if first else offsets


def _structs(arrays: Sequence[pa.Array], kind: pa.StructType) -> pa.StructArray:
    return pa.StructArray.from_arrays(arrays, fields=list(kind))


def _valid_ids(spans: pa.StructArray) -> pa.Array:
    traces, ids = spans.field("trace_id"), spans.field("span_id")
    right = pc.and_(pc.equal(pc.binary_length(traces), 16), pc.equal(pc.binary_length(ids), 8))
    return pc.and_(right, pc.and_(pc.not_equal(traces, _NO_TRACE), pc.not_equal(ids, _NO_SPAN)))


def _hex(ids: pa.BinaryArray) -> pa.StringArray:
    """Lower-case digits."""
    _, offsets, data = ids.buffers()
    places = pa.Array.from_buffers(pa.int32(), len(ids) + 1, [None, offsets], offset=ids.offset)
    digits = data.to_pybytes().hex().encode() if data is not None else b""
    return pa.StringArray.from_buffers(
        len(ids), pc.multiply(places, pa.scalar(2, pa.int32())).buffers()[1], pa.py_buffer(digits)
    )


def _parents(ids: pa.BinaryArray, repaired: Counter[str]) -> pa.StringArray:
    """An all-zero parent means none, and so does one that is no id."""
    odd = pc.and_(pc.not_equal(pc.binary_length(ids), 8), pc.not_equal(ids, b""))
    repaired["invalid_parent_id"] += odd.true_count
    none = pc.or_(odd, pc.equal(ids, _NO_SPAN))
    return _hex(pc.if_else(none, b"", ids) if none.true_count else ids)


def _times(spans: pa.StructArray, repaired: Counter[str]) -> tuple[pa.Array, pa.Array]:
    """Starts and ends; a missing start is the end, and an end before its start is the start. No end stays 0."""
    starts, ends = spans.field("start_time_unix_nano"), spans.field("end_time_unix_nano")
    ended = pc.greater(ends, _NEVER)
    startless = pc.and_(pc.equal(starts, _NEVER), ended)
    if startless.true_count:
        repaired["no_start"] += startless.true_count
        starts = pc.if_else(startless, ends, starts)
    early = pc.and_(pc.less(ends, starts), ended)
    if early.true_count:
        repaired["end_before_start"] += early.true_count
        ends = pc.if_else(early, starts, ends)
    return starts, ends


def _of(kind: pa.DataType, array: pa.Array) -> pa.Array:
    return array if array.type == kind else array.cast(kind)


def _long(values: pa.UInt64Array) -> pa.Int64Array:
    return _clamped(values, _LONG_MAX, pa.int64())


def _int(values: pa.UInt32Array) -> pa.Int32Array:
    return _clamped(values, _INT_MAX, pa.int32())


def _clamped(values: pa.Array, most: int, kind: pa.DataType) -> pa.Array:
    try:
        return values.cast(kind)
    except pa.ArrowInvalid:
        return pc.min_element_wise(values, pa.scalar(most, values.type), skip_nulls=False).cast(kind)


def _named(names: pa.StringArray, numbers: pa.Int32Array) -> pa.StringArray:
    """Names of an enum; a number it does not have is called like 0."""
    try:
        return names.take(numbers)
    except pa.ArrowIndexError:
        known = pc.and_(pc.greater_equal(numbers, 0), pc.less(numbers, len(names)))
        return names.take(pc.if_else(known, numbers, 0))


def _services(bags: pa.MapArray) -> pa.StringArray:
    places = pc.indices_nonzero(pc.equal(bags.keys, "service.name"))
    owners = pc.list_parent_indices(bags.cast(pa.list_(bags.type.field(0).type))).take(places).to_pylist()
    named = dict(zip(owners, bags.items.take(places).to_pylist(), strict=True))
    return pa.array([named.get(row) or UNKNOWN_SERVICE for row in range(len(bags))], pa.string())


def _doubled(lists: pa.ListArray, keys: pa.StringArray) -> bool:
    """Whether some list has a key twice."""
    encoded = keys.dictionary_encode()
    places = pc.add(pc.multiply(pc.list_parent_indices(lists), len(encoded.dictionary)), encoded.indices)
    return bool(pc.count_distinct(places).as_py() < len(keys))


def _last_of_each(offsets: Sequence[int], keys: Sequence[str]) -> tuple[list[int], list[int], int]:
    """Which entries stand, where each list's begin, and how many lists had a key twice.

    Of a key that was sent twice the last value stands, at the first one's place.
    """
    kept: list[int] = []
    starts, doubled = [0], 0
    for first, last in pairwise(offsets):
        places = {keys[place]: place for place in range(first, last)}
        doubled += len(places) < last - first
        kept += places.values()
        starts.append(len(kept))
    return kept, starts, doubled


def _texts(values: pa.StructArray) -> pa.StringArray:
    """Attribute values as `cells.text` makes them."""
    strings = values.field("string_value")
    if not strings.null_count:
        return strings
    others = strings.is_null()
    return pc.replace_with_mask(strings, others, _other_texts(values.filter(others)))


def _other_texts(values: pa.StructArray) -> pa.StringArray:
    """Of values that are no strings."""
    texts: list[str | None] = [None] * len(values)
    for name, read in _READ.items():
        part = values.field(name)
        if part.null_count < len(part):
            known = part.is_valid()
            for place, value in zip(pc.indices_nonzero(known).to_pylist(), part.filter(known), strict=True):
                texts[place] = read(value)
    return pa.array(texts, pa.string())


def _array(value: Any) -> str | None:
    return text([_value(AnyValue.FromString(item.as_py())) for item in value["values"]])


def _members(value: Any) -> str | None:
    members = (KeyValue.FromString(item.as_py()) for item in value["values"])
    return text({member.key: _value(member.value) for member in members})


def _value(value: Any) -> Value:
    match value.WhichOneof("value"):
        case "array_value":
            return [_value(item) for item in value.array_value.values]
        case "kvlist_value":
            return {member.key: _value(member.value) for member in value.kvlist_value.values}
        case None | "string_value_strindex":
            return None
        case kind:
            scalar: Value = getattr(value, kind)
            return scalar


_READ: Final[dict[str, Callable[[Any], str | None]]] = {
    "int_value": str,
    "bool_value": lambda value: text(value.as_py()),
    "double_value": lambda value: text(value.as_py()),
    "array_value": _array,
    "kvlist_value": _members,
    "bytes_value": lambda value: text(value.as_py()),
}
"""What of an AnyValue Python makes text of."""
