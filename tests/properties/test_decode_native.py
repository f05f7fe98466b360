"""The native twin of `otlp_proto` reads what Python reads of what protobuf accepts, or leaves it to Python."""

import random
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
from google.protobuf.message import DecodeError
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord, ResourceLogs, ScopeLogs
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span, Status

from spanweir.collector.decode import otlp_proto
from spanweir.collector.receivers._check import _count_logs, _count_spans
from spanweir.schemas.raw import RawLog, RawSpan
from tests.benchmarks.load import make_requests

_native = pytest.importorskip("spanweir.collector.decode._native", reason="no C compiler where this was installed")

TWINS = settings(max_examples=100, deadline=None)
BODIES = make_requests(2, 2)
VARINT, I64, LEN, I32 = 0, 1, 2, 5
WIRES = {1: I64, 3: VARINT, 5: VARINT, 6: I64, 7: I32, 8: VARINT, 9: LEN, 11: LEN, 12: LEN, 13: VARINT, 14: VARINT}
"""Of the types in a descriptor, those that requests of traces and logs have."""


class Twins(NamedTuple):
    """The two that read one signal."""

    request: Any
    native: Callable[..., Any]
    flag: Callable[..., None]
    python: Callable[[Any, tuple[str, ...]], Any]
    count: Callable[[bytes], int | None]
    count_in_python: Callable[[Any], tuple[int, bool]]

    def natively(self, body: bytes) -> list[RawSpan] | list[RawLog] | None:
        found: list[RawSpan] | None = self.native(body, otlp_proto._resource_of, otlp_proto._scope_of, self.flag)
        return found

    def in_python(self, body: bytes) -> Any:
        return self.python(self.request.FromString(body), ())

    def assert_same(self, body: bytes) -> None:
        """Every field, its type and the order of keys; `nan` is like itself."""
        found = self.natively(body)
        assert found is not None
        assert repr(found) == repr(self.in_python(body))

    def same_or_left(self, body: bytes) -> bool:
        """Whether it was neither refused by protobuf, and then by both, nor left to Python."""
        self.assert_counted(body)
        try:
            self.request.FromString(body)
        except DecodeError:
            assert self.natively(body) is None
            return False
        return self.natively(body) is not None and self.assert_same(body) is None

    def assert_counted(self, body: bytes) -> bool:
        """Whether it was counted, and then as in Python; never what protobuf refuses or has a span without ids."""
        counted = self.count(body)
        if counted is None:
            return False
        try:
            items, bad = self.count_in_python(self.request.FromString(body))
        except DecodeError:
            raise AssertionError("protobuf refuses it") from None
        assert (counted, bad) == (items, False)
        return True


TRACES = Twins(
    ExportTraceServiceRequest, _native.spans, otlp_proto._flag, otlp_proto._spans, _native.count_spans, _count_spans
)
LOGS = Twins(
    ExportLogsServiceRequest, _native.logs, otlp_proto._flag_log, otlp_proto._logs, _native.count_logs, _count_logs
)


# Messages as senders make them.

TEXT = st.text(max_size=12) | st.sampled_from(["", "é", "a", "gen_ai.request.model", "x" * 64, "x" * 65, "ü" * 40])
KEY = st.sampled_from(["", "a", "b", "gen_ai.system", "llm.input_messages.0.message.content"]) | TEXT
UINT32, UINT64 = st.integers(0, 2**32 - 1), st.integers(0, 2**64 - 1)
TRACE_ID = st.sampled_from([b"\1" * 16, b"\xab" * 16, b"\0" * 16, b"", b"\1" * 15]) | st.binary(
    min_size=16, max_size=16
)
SPAN_ID = st.sampled_from([b"\2" * 8, b"\0" * 8, b"", b"\2" * 9]) | st.binary(min_size=8, max_size=8)
SCALARS = st.one_of(
    st.builds(AnyValue),
    st.builds(AnyValue, string_value=TEXT),
    st.builds(AnyValue, bool_value=st.booleans()),
    st.builds(AnyValue, int_value=st.integers(-(2**63), 2**63 - 1)),
    st.builds(AnyValue, double_value=st.floats()),
    st.builds(AnyValue, bytes_value=st.binary(max_size=8)),
)


def pairs(values: st.SearchStrategy[AnyValue]) -> st.SearchStrategy[list[KeyValue]]:
    return st.lists(st.builds(KeyValue, key=KEY, value=values) | st.builds(KeyValue, key=KEY), max_size=4)


def deeper(values: st.SearchStrategy[AnyValue]) -> st.SearchStrategy[AnyValue]:
    arrays = st.builds(lambda items: AnyValue(array_value={"values": items}), st.lists(values, max_size=3))
    return arrays | st.builds(lambda items: AnyValue(kvlist_value={"values": items}), pairs(values))


VALUES = st.recursive(SCALARS, deeper, max_leaves=6)
ATTRIBUTES = pairs(VALUES)
EVENTS = st.builds(Span.Event, time_unix_nano=UINT64, name=TEXT, attributes=ATTRIBUTES, dropped_attributes_count=UINT32)
LINKS = st.builds(
    Span.Link,
    trace_id=TRACE_ID,
    span_id=SPAN_ID,
    trace_state=TEXT,
    attributes=ATTRIBUTES,
    dropped_attributes_count=UINT32,
    flags=UINT32,
)
SPANS = st.builds(
    Span,
    trace_id=TRACE_ID,
    span_id=SPAN_ID,
    parent_span_id=SPAN_ID,
    name=TEXT,
    kind=st.integers(-(2**31), 2**31 - 1),
    trace_state=TEXT,
    flags=UINT32,
    start_time_unix_nano=UINT64,
    end_time_unix_nano=UINT64,
    attributes=ATTRIBUTES,
    events=st.lists(EVENTS, max_size=2),
    links=st.lists(LINKS, max_size=2),
    status=st.none() | st.builds(Status, code=st.integers(-1, 4), message=TEXT),
    dropped_attributes_count=UINT32,
    dropped_events_count=UINT32,
    dropped_links_count=UINT32,
)
SHARED = st.none() | st.fixed_dictionaries({"attributes": ATTRIBUTES, "dropped_attributes_count": UINT32})
SCOPE_SPANS = st.builds(ScopeSpans, scope=SHARED, spans=st.lists(SPANS, max_size=3), schema_url=TEXT)
RESOURCE_SPANS = st.builds(
    ResourceSpans, resource=SHARED, scope_spans=st.lists(SCOPE_SPANS, max_size=2), schema_url=TEXT
)


@TWINS
@given(st.lists(RESOURCE_SPANS, max_size=2))
def test_both_read_the_same(resource_spans: list[ResourceSpans]) -> None:
    TRACES.assert_same(ExportTraceServiceRequest(resource_spans=resource_spans).SerializeToString())


RECORDS = st.builds(
    LogRecord,
    time_unix_nano=UINT64,
    observed_time_unix_nano=UINT64,
    severity_number=st.integers(-1, 30),
    severity_text=TEXT,
    body=st.none() | VALUES,
    attributes=ATTRIBUTES,
    dropped_attributes_count=UINT32,
    flags=UINT32,
    trace_id=TRACE_ID,
    span_id=SPAN_ID,
    event_name=TEXT,
)
SCOPE_LOGS = st.builds(ScopeLogs, scope=SHARED, log_records=st.lists(RECORDS, max_size=3), schema_url=TEXT)
RESOURCE_LOGS = st.builds(ResourceLogs, resource=SHARED, scope_logs=st.lists(SCOPE_LOGS, max_size=2), schema_url=TEXT)


@TWINS
@given(st.lists(RESOURCE_LOGS, max_size=2))
def test_both_read_the_same_records(resource_logs: list[ResourceLogs]) -> None:
    LOGS.assert_same(ExportLogsServiceRequest(resource_logs=resource_logs).SerializeToString())


@TWINS
@given(st.lists(SPANS, min_size=1, max_size=3))
def test_both_read_the_same_spans(spans: list[Span]) -> None:
    TRACES.assert_same(
        ExportTraceServiceRequest(resource_spans=[{"scope_spans": [{"spans": spans}]}]).SerializeToString()
    )


# Any order and number of fields, known and unknown, of their wire type and of others: what protobuf accepts.


def varint(value: int, spare: int = 0) -> bytes:
    """With `spare` bytes more than it needs."""
    found = b""
    while value > 0x7F or spare:
        found += bytes([value & 0x7F | 0x80])
        value >>= 7
        spare -= spare > 0 and value == 0
    return found + bytes([value])


def field(number: int, wire: int, content: bytes, spare: int = 0) -> bytes:
    tag = varint(number << 3 | wire, spare)
    return tag + varint(len(content), spare) + content if wire == LEN else tag + content


def content_of(rng: random.Random, wire: int) -> bytes:
    if wire == VARINT:
        return varint(rng.choice([0, 1, 2, 127, 128, 2**31, 2**32, 2**32 + 1, 2**63, 2**64 - 1]), rng.choice([0, 0, 1]))
    if wire == LEN:
        return rng.choice([b"", b"a", b"key", "ä".encode(), b"\0" * 8, b"\1" * 16, b"\x0a\x01b", b"x" * 200])
    return rng.randbytes(8 if wire == I64 else 4)


INVALID_UTF8 = [
    b"\xff",
    b"ab\xc3",
    b"\xc0\xaf",
    b"\xe0\x9f\xbf",
    b"\xed\xa0\x80",
    b"\xf4\x90\x80\x80",
    b"a" * 40 + b"\x80",
]


def any_message(rng: random.Random, descriptor: Any, depth: int = 0, invalid: float = 0.0) -> bytes:
    """`invalid` is how often a field of the wire type LEN has bytes that are no text: some of them are texts."""
    parts, seen = [], set()
    one = descriptor.name == "AnyValue" and rng.random() < 0.97
    for known in rng.choices(descriptor.fields, k=1 if one else rng.randint(0, 8 if depth < 6 else 2)):
        wire, number = WIRES[known.type], known.number
        if known.has_presence and number in seen and rng.random() < 0.97:
            continue
        seen.add(number)
        if rng.random() < 0.06:
            wire = rng.choice([VARINT, I64, LEN, I32])
        elif rng.random() < 0.06:
            number = rng.choice([9, 17, 18, 19, 20, 21, 22, 1000, 2**29 - 1])
        elif known.message_type is not None and depth < 12:
            parts.append(field(number, LEN, any_message(rng, known.message_type, depth + 1, invalid)))
            continue
        content = rng.choice(INVALID_UTF8) if wire == LEN and rng.random() < invalid else content_of(rng, wire)
        parts.append(field(number, wire, content, rng.random() < 0.05))
    return b"".join(parts)


SIGNALS = pytest.mark.parametrize(
    ("twins", "messages", "attributes"),
    [
        (TRACES, [ExportTraceServiceRequest, ScopeSpans, Span, KeyValue], 9),
        (LOGS, [ExportLogsServiceRequest, ScopeLogs, LogRecord, KeyValue], 6),
    ],
    ids=["traces", "logs"],
)


@SIGNALS
@pytest.mark.parametrize("seed", range(8))
def test_fields_in_any_order_and_number(twins: Twins, messages: list[Any], attributes: int, seed: int) -> None:
    rng = random.Random(seed)
    read = 0
    for turn in range(1000):
        read += twins.same_or_left(within(rng, messages, attributes, turn))
    assert read > 400


def within(rng: random.Random, messages: list[Any], attributes: int, turn: int, invalid: float = 0.0) -> bytes:
    """A request whose content is random from one of `messages` on: a whole one seldom gets as far as a value."""
    start = turn % 4
    body = any_message(rng, messages[start].DESCRIPTOR, invalid=invalid)
    for number in ([], [2, 1], [2, 2, 1], [attributes, 2, 2, 1])[start]:
        body = field(number, LEN, body)
    return body


@SIGNALS
@pytest.mark.parametrize("seed", range(8))
def test_texts_that_are_none_are_read_by_nobody(twins: Twins, messages: list[Any], attributes: int, seed: int) -> None:
    rng = random.Random(seed)
    bodies = [within(rng, messages, attributes, turn, invalid=0.1) for turn in range(1000)]
    refused = 0
    for body in bodies:
        read = twins.same_or_left(body)
        refused += not read and twins.natively(body) is None
    assert 50 < refused < 950


UTF8 = ["", "a", "é", "ß" * 20, "€", "\ud7ff\ue000", "\U00010000", "\U0010ffff", "a" * 31 + "é", "x" * 100 + "€"]


@pytest.mark.parametrize("around", [0, 1, 7, 8, 31, 32, 33])
@pytest.mark.parametrize("text", [*[text.encode() for text in UTF8], *INVALID_UTF8])
def test_texts_are_judged_as_protobuf_does(text: bytes, around: int) -> None:
    for content in (b"a" * around + text, text + b"a" * around, text * 9):
        for body in (
            wrapped(field(5, LEN, content)),
            valued(field(2, LEN, field(1, LEN, content))),
            valued(b"") + wrapped(field(5, LEN, content) + field(5, LEN, b"the last one counts")),
            field(1, LEN, field(1, LEN, field(1, LEN, field(1, LEN, content)))),
            field(1, LEN, field(2, LEN, field(1, LEN, field(1, LEN, content)) + field(3, LEN, content))),
        ):
            assert TRACES.same_or_left(body) == TRACES.assert_counted(body) == accepts(TRACES, body)


@pytest.mark.parametrize("seed", range(8))
def test_damaged_requests(seed: int) -> None:
    rng = random.Random(seed)
    read = 0
    for _ in range(300):
        damaged = bytearray(rng.choice(BODIES))
        for _ in range(rng.choice([1, 1, 1, 3])):
            at = rng.randrange(len(damaged))
            damaged[at : at + rng.choice([0, 1, 1, 1, 2])] = rng.randbytes(rng.choice([0, 1, 1, 1, 2]))
        read += TRACES.same_or_left(bytes(damaged))
    assert read > 30


# What is left to Python.


def wrapped(span: bytes) -> bytes:
    return field(1, LEN, field(2, LEN, field(2, LEN, field(1, LEN, b"\1" * 16) + field(2, LEN, b"\2" * 8) + span)))


def valued(value: bytes) -> bytes:
    return wrapped(field(9, LEN, field(1, LEN, b"key") + value))


STRING = field(2, LEN, field(1, LEN, b"text"))
RARE = {
    "a group": wrapped(b"\xa3\x06\xa4\x06"),
    "a status in two parts": wrapped(field(15, LEN, field(2, LEN, b"no")) + field(15, LEN, field(3, VARINT, b"\2"))),
    "a value in two parts": valued(STRING + STRING),
    "a value of two kinds": valued(field(2, LEN, field(1, LEN, b"text") + field(3, VARINT, b"\1"))),
    "a list in two parts": valued(field(2, LEN, 2 * field(5, LEN, field(1, LEN, field(3, VARINT, b"\1"))))),
    "a resource in two parts": field(1, LEN, 2 * field(1, LEN, field(2, VARINT, b"\1"))),
    "a scope in two parts": field(1, LEN, field(2, LEN, 2 * field(1, LEN, field(1, LEN, b"lib")))),
}


@pytest.mark.parametrize("body", RARE.values(), ids=RARE)
def test_what_is_rare_is_left_to_python(body: bytes) -> None:
    assert TRACES.natively(body) is None
    assert repr(otlp_proto.decode_traces(body)) == repr(TRACES.in_python(body))


def test_what_is_cut_short_is_not_read_beyond() -> None:
    parts = [BODIES[0][:cut] for cut in range(1, len(BODIES[0]))]
    assert [len(part) for part in parts if TRACES.natively(part) is not None or TRACES.count(part) is not None] == []


@pytest.mark.parametrize(
    "end",
    [b"\x39\1\2\3\4\5\6\7", b"\x85\1\1\2\3", b"\x30\xff", b"\x30" + b"\xff" * 10 + b"\1", b"\x2a\2a", b"\x2a", b"\xff"],
)
def test_a_field_does_not_reach_beyond_its_message(end: bytes) -> None:
    body = wrapped(end) + wrapped(b"")
    assert TRACES.natively(body) is None
    assert TRACES.count(body) is None


@pytest.mark.parametrize("kind", [5, 6], ids=["arrays", "lists of pairs"])
@pytest.mark.parametrize("place", ["span", "event", "link", "resource", "scope", "body", "record"])
def test_nesting_is_as_deep_as_protobuf_accepts(place: str, kind: int) -> None:
    """One more message than it accepts is not read, wherever it stands; nor is one of another kind inside."""
    twins = LOGS if place in ("body", "record") else TRACES
    outcomes = set()
    for depth in range(25, 60):
        for inside in (b"", field(1, LEN, b"text"), field(5, LEN, b""), field(6, LEN, field(1, LEN, b""))):
            value = inside
            for _ in range(depth):
                pair = field(1, LEN, b"key") + field(2, LEN, value)
                value = field(kind, LEN, field(1, LEN, value if kind == 5 else pair))
            body = placed(place, value)
            read = twins.same_or_left(body)
            assert read == accepts(twins, body)
            outcomes.add(read)
    assert outcomes == {True, False}


def placed(place: str, value: bytes) -> bytes:
    """A request with the value there."""
    pair = field(1, LEN, b"key") + field(2, LEN, value)
    if place in ("body", "record"):
        record = field(5, LEN, value) if place == "body" else field(6, LEN, pair)
        return field(1, LEN, field(2, LEN, field(2, LEN, record)))
    if place == "resource":
        return field(1, LEN, field(1, LEN, field(1, LEN, pair)))
    if place == "scope":
        return field(1, LEN, field(2, LEN, field(1, LEN, field(3, LEN, pair))))
    span = {"span": field(9, LEN, pair), "event": field(11, LEN, field(3, LEN, pair))}
    return wrapped(span.get(place) or field(13, LEN, field(4, LEN, pair)))


def accepts(twins: Twins, body: bytes) -> bool:
    try:
        twins.request.FromString(body)
    except DecodeError:
        return False
    return True


@pytest.mark.parametrize("depth", [1, 40, 47])
def test_values_as_deep_as_protobuf_accepts(depth: int) -> None:
    value = field(1, LEN, b"bottom")
    for _ in range(depth):
        value = field(5, LEN, field(1, LEN, value))
    TRACES.assert_same(valued(field(2, LEN, value)))


def test_values_deeper_than_protobuf_accepts_are_not_followed() -> None:
    value = b""
    for _ in range(2_000):
        value = field(5, LEN, field(1, LEN, value))
    assert TRACES.natively(valued(field(2, LEN, value))) is None


def test_a_body_in_two_parts_is_left_to_python() -> None:
    record = 2 * field(5, LEN, field(1, LEN, b"text"))
    assert LOGS.natively(field(1, LEN, field(2, LEN, field(2, LEN, record)))) is None


def test_what_a_callback_raises_is_raised() -> None:
    def refuse(*_: Any) -> Any:
        raise RuntimeError("callback")

    flagged = wrapped(field(2, LEN, b"\0" * 8))
    known = [otlp_proto._resource_of, otlp_proto._scope_of, otlp_proto._flag]
    for place in range(3):
        given_ = [*known[:place], refuse, *known[place + 1 :]]
        with pytest.raises(RuntimeError, match="callback"):
            _native.spans(flagged, *given_)
    with pytest.raises(TypeError):
        _native.spans("text", *known)
    with pytest.raises(TypeError):
        _native.spans(b"")


def test_nothing_is_kept_of_a_request_but_known_texts() -> None:
    watched: list[object] = [otlp_proto.NO_RESOURCE, otlp_proto.NO_SCOPE, RawSpan]
    if sys.version_info < (3, 12):
        watched.append(None)  # from then on immortal, and its count means nothing
    bodies = [*RARE.values(), wrapped(STRING), wrapped(field(2, LEN, b"\0" * 8))]
    for body in bodies:
        TRACES.natively(body)
    before = [sys.getrefcount(each) for each in watched]
    for body in bodies * 50:
        TRACES.natively(body)
    after = [sys.getrefcount(each) for each in watched]
    # Others may hold one more or less meanwhile; a leak would be 50 at least.
    assert all(abs(now - then) < 25 for now, then in zip(after, before, strict=True))
