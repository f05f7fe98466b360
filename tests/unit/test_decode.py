"""Protobuf requests become raw spans and logs; what is wrong with one value costs no other."""

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from spanweir.collector.decode import Undecodable, otlp_proto
from spanweir.collector.decode.otlp_proto import decode_logs, decode_traces


@pytest.fixture(autouse=True, params=["native", "python"])
def twin(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test is run with both that read requests, of which an installation without a C compiler has one."""
    if request.param == "python":
        monkeypatch.setattr(otlp_proto, "_native_spans", otlp_proto._left_to_python)
        monkeypatch.setattr(otlp_proto, "_native_logs", otlp_proto._left_to_python)
    elif otlp_proto._native_spans is otlp_proto._left_to_python:
        pytest.skip("no C compiler where this was installed")


def request(**ids: bytes) -> ExportTraceServiceRequest:
    message = ExportTraceServiceRequest()
    span = message.resource_spans.add().scope_spans.add().spans.add()
    span.trace_id, span.span_id = ids.get("trace_id", b"\x01" * 16), ids.get("span_id", b"\x02" * 8)
    span.parent_span_id = ids.get("parent", b"")
    return message


def test_every_field_and_kind_of_value() -> None:
    message = request(parent=b"\x03" * 8)
    resource_spans = message.resource_spans[0]
    resource_spans.schema_url = "https://x.test/1"
    resource_spans.resource.attributes.add(key="service.name").value.string_value = "app"
    scope_spans = resource_spans.scope_spans[0]
    scope_spans.scope.name, scope_spans.scope.version = "lib", "2"
    span = scope_spans.spans[0]
    span.name, span.kind, span.flags, span.trace_state = "chat", 3, 257, "a=b"
    span.start_time_unix_nano, span.end_time_unix_nano = 10, 2**63
    span.status.code, span.status.message = 2, "no"
    span.attributes.add(key="text").value.string_value = "é"
    span.attributes.add(key="yes").value.bool_value = True
    span.attributes.add(key="int").value.int_value = -(2**63)
    span.attributes.add(key="double").value.double_value = 1.0
    span.attributes.add(key="bytes").value.bytes_value = b"\xff"
    span.attributes.add(key="list").value.array_value.values.add().int_value = 1
    span.attributes.add(key="dict").value.kvlist_value.values.add(key="k").value.string_value = "v"
    span.attributes.add(key="nothing")
    span.events.add(name="event", time_unix_nano=11).attributes.add(key="a").value.int_value = 1
    span.links.add(trace_id=b"\x04" * 16, span_id=b"\x05" * 8, trace_state="c=d")
    (raw,) = decode_traces(message.SerializeToString())
    assert (raw.trace_id, raw.span_id, raw.parent_id) == ("01" * 16, "02" * 8, "03" * 8)
    assert (raw.name, raw.kind, raw.flags, raw.trace_state) == ("chat", 3, 257, "a=b")
    assert (raw.start_ns, raw.end_ns, raw.status_code, raw.status_message) == (10, 2**63, 2, "no")
    assert raw.attributes == {
        "text": "é",
        "yes": True,
        "int": -(2**63),
        "double": 1.0,
        "bytes": b"\xff",
        "list": [1],
        "dict": {"k": "v"},
        "nothing": None,
    }
    assert (raw.events[0].name, raw.events[0].time_ns, raw.events[0].attributes) == ("event", 11, {"a": 1})
    assert (raw.links[0].trace_id, raw.links[0].trace_state) == ("04" * 16, "c=d")
    assert (raw.resource.attributes, raw.resource.schema_url) == ({"service.name": "app"}, "https://x.test/1")
    assert (raw.scope.name, raw.scope.version, raw.issues) == ("lib", "2", ())


@pytest.mark.parametrize(
    ("ids", "issues", "parent"),
    [
        ({"trace_id": b""}, ("invalid_trace_id",), ""),
        ({"trace_id": b"\0" * 16}, ("invalid_trace_id",), ""),
        ({"span_id": b"\x01\x02"}, ("invalid_span_id",), ""),
        ({"span_id": b"\0" * 8}, ("invalid_span_id",), ""),
        ({"parent": b"\0" * 8}, (), ""),
        ({"parent": b"\x01"}, ("invalid_parent_id",), ""),
    ],
)
def test_bad_ids_are_flagged(ids: dict[str, bytes], issues: tuple[str, ...], parent: str) -> None:
    (raw,) = decode_traces(request(**ids).SerializeToString())
    assert (raw.issues, raw.parent_id) == (issues, parent)


def test_of_a_key_that_was_sent_twice_the_last_stands() -> None:
    message = request()
    span = message.resource_spans[0].scope_spans[0].spans[0]
    span.attributes.add(key="a").value.int_value = 1
    span.attributes.add(key="a").value.int_value = 2
    (raw,) = decode_traces(message.SerializeToString())
    assert (raw.attributes, raw.issues) == ({"a": 2}, ("duplicate_keys",))


def test_text_that_was_cut_within_a_character_costs_that_character_only() -> None:
    """Rust and Go SDKs cut attribute values at a number of bytes; protobuf then refuses the whole request."""
    message = request()
    span = message.resource_spans[0].scope_spans[0].spans[0]
    span.attributes.add(key="cut").value.string_value = "Zürich"
    span.attributes.add(key="whole").value.string_value = "Köln"
    body = message.SerializeToString().replace("ü".encode(), b"\xc3r")
    (raw,) = decode_traces(body)
    assert (raw.attributes, raw.issues) == ({"cut": "Z?rrich", "whole": "Köln"}, ("invalid_utf8",))


def length_delimited(tag: int, content: bytes) -> bytes:
    size, prefix = len(content), b""
    while size > 0x7F:
        prefix += bytes([size & 0x7F | 0x80])
        size >>= 7
    return bytes([tag]) + prefix + bytes([size]) + content


def test_what_is_nested_too_deep_stays_as_bytes() -> None:
    value = length_delimited(0x0A, b"bottom")
    for _ in range(300):
        value = length_delimited(0x2A, length_delimited(0x0A, value))
    attribute = length_delimited(0x0A, b"deep") + length_delimited(0x12, value)
    other = length_delimited(0x0A, b"flat") + length_delimited(0x12, length_delimited(0x0A, b"v"))
    span = length_delimited(0x0A, b"\1" * 16) + length_delimited(0x12, b"\2" * 8)
    span += length_delimited(0x4A, attribute) + length_delimited(0x4A, other)
    (raw,) = decode_traces(length_delimited(0x0A, length_delimited(0x12, length_delimited(0x12, span))))
    assert (raw.attributes["flat"], raw.issues) == ("v", ("too_deep",))
    inner = raw.attributes["deep"]
    depth = 0
    while isinstance(inner, list):
        (inner,) = inner
        depth += 1
    assert isinstance(inner, bytes)
    assert b"bottom" in inner
    assert depth > 30


@pytest.mark.parametrize("body", [b"\xff\xff\xff", b"\x0a\xff\x01", b'{"resourceSpans": []}', b"\x0b"])
def test_what_is_no_request_is_refused(body: bytes) -> None:
    with pytest.raises(Undecodable):
        decode_traces(body)
    with pytest.raises(Undecodable):
        decode_logs(body)


def test_nothing_is_nothing() -> None:
    assert decode_traces(b"") == []
    assert decode_logs(b"") == []


def test_logs() -> None:
    message = ExportLogsServiceRequest()
    record = message.resource_logs.add().scope_logs.add().log_records.add()
    record.trace_id, record.span_id, record.event_name = b"\x01" * 16, b"\x02" * 8, "gen_ai.choice"
    record.time_unix_nano, record.observed_time_unix_nano = 5, 6
    record.severity_number, record.severity_text, record.flags = 9, "INFO", 1
    record.body.kvlist_value.values.add(key="k").value.string_value = "v"
    record.attributes.add(key="a").value.int_value = 1
    bare = message.resource_logs[0].scope_logs[0].log_records.add(trace_id=b"\0" * 16, span_id=b"\x01")
    bare.body.string_value = ""
    log, other = decode_logs(message.SerializeToString())
    assert (log.trace_id, log.span_id, log.event_name) == ("01" * 16, "02" * 8, "gen_ai.choice")
    assert (log.time_ns, log.observed_ns, log.severity_number, log.severity_text) == (5, 6, 9, "INFO")
    assert (log.body, log.attributes, log.flags) == ({"k": "v"}, {"a": 1}, 1)
    assert (other.trace_id, other.span_id, other.body) == ("", "", "")
