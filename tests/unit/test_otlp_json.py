"""OTLP/JSON to protobuf."""

import base64
import json
from typing import Any

import pytest
from google.protobuf import json_format
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from spanweir.collector.decode import Undecodable
from spanweir.collector.receivers._check import check
from spanweir.collector.receivers._json import to_protobuf
from tests.benchmarks.load import make_requests

TRACE_ID, SPAN_ID = "5b8efff798038103d269b633813fc60c", "eee19b7ec3c1b174"


def spans(*spans: dict[str, Any]) -> bytes:
    return json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": spans}]}]}).encode()


def span(**fields: Any) -> dict[str, Any]:
    return {"traceId": TRACE_ID, "spanId": SPAN_ID, "name": "n", **fields}


def converted(*given: dict[str, Any]) -> Any:
    body, rejected, why = to_protobuf("traces", spans(*given))
    assert (rejected, why) == (0, "")
    return ExportTraceServiceRequest.FromString(body).resource_spans[0].scope_spans[0].spans[0]


def test_the_standard_load_survives_a_round_trip() -> None:
    request = ExportTraceServiceRequest.FromString(make_requests(1, 3)[0])
    value = json_format.MessageToDict(request)
    # protobuf's own mapping writes ids as base64; OTLP's has them in hexadecimal.
    for one in value["resourceSpans"][0]["scopeSpans"][0]["spans"]:
        for key in ("traceId", "spanId", "parentSpanId"):
            if key in one:
                one[key] = base64.b64decode(one[key]).hex()
    body, rejected, _ = to_protobuf("traces", json.dumps(value).encode())
    assert rejected == 0
    assert ExportTraceServiceRequest.FromString(body) == request


def test_ids_in_hexadecimal_or_base64_of_spans_and_links() -> None:
    links = [{"traceId": TRACE_ID.upper(), "spanId": base64.b64encode(bytes.fromhex(SPAN_ID)).decode()}]
    one = converted(span(parentSpanId=SPAN_ID, links=links))
    assert (one.trace_id.hex(), one.span_id.hex(), one.parent_span_id.hex()) == (TRACE_ID, SPAN_ID, SPAN_ID)
    assert (one.links[0].trace_id.hex(), one.links[0].span_id.hex()) == (TRACE_ID, SPAN_ID)
    url_safe = base64.urlsafe_b64encode(bytes.fromhex(TRACE_ID)).decode().rstrip("=")
    assert converted(span(traceId=url_safe)).trace_id.hex() == TRACE_ID


@pytest.mark.parametrize("bad", ["zz8efff798038103d269b633813fc60c", "12", "", 7, [], {"a": 1}])
def test_a_wrong_id_becomes_an_invalid_span_and_not_a_wrong_one(bad: Any) -> None:
    body, rejected, _ = to_protobuf("traces", spans(span(traceId=bad), span()))
    checked = check("traces", body)
    assert (checked.items, checked.rejected + rejected) == (1, 1)


def test_integers_as_text_or_number_enums_as_number_or_name() -> None:
    one = converted(
        span(
            startTimeUnixNano="1700000000000000001",
            endTimeUnixNano=1700000000000000002,
            kind="SPAN_KIND_CLIENT",
            status={"code": 2, "message": "m"},
            attributes=[
                {"key": "text", "value": {"intValue": "-9223372036854775808"}},
                {"key": "number", "value": {"intValue": 9223372036854775807}},
                {"key": "double", "value": {"doubleValue": 1}},
                {"key": "nan", "value": {"doubleValue": "NaN"}},
                {"key": "no", "value": {"boolValue": False}},
                {"key": "empty", "value": {"stringValue": ""}},
                {"key": "bytes", "value": {"bytesValue": "AP8="}},
            ],
        )
    )
    assert (one.start_time_unix_nano, one.end_time_unix_nano) == (1700000000000000001, 1700000000000000002)
    assert (one.kind, one.status.code, one.status.message) == (3, 2, "m")
    values = {item.key: item.value for item in one.attributes}
    assert values["text"].int_value == -(1 << 63)
    assert values["number"].int_value == (1 << 63) - 1
    assert values["double"].double_value == 1.0
    assert values["nan"].double_value != values["nan"].double_value
    assert values["no"].WhichOneof("value") == "bool_value"
    assert values["empty"].WhichOneof("value") == "string_value"
    assert values["bytes"].bytes_value == b"\0\xff"


def test_snake_case_unknown_keys_and_nulls() -> None:
    body, rejected, _ = to_protobuf(
        "traces",
        json.dumps(
            {
                "resource_spans": [
                    {
                        "resource": None,
                        "futureField": {"a": [1]},
                        "scope_spans": [
                            {
                                "spans": [
                                    {"trace_id": TRACE_ID, "span_id": SPAN_ID, "name": None, "dropped_links_count": 3}
                                ]
                            }
                        ],
                    }
                ]
            }
        ).encode(),
    )
    one = ExportTraceServiceRequest.FromString(body).resource_spans[0].scope_spans[0].spans[0]
    assert rejected == 0
    assert (one.trace_id.hex(), one.name, one.dropped_links_count) == (TRACE_ID, "", 3)


def test_nested_values() -> None:
    nested = {
        "kvlistValue": {
            "values": [
                {"key": "list", "value": {"arrayValue": {"values": [{"stringValue": "ü"}, {}, None, {"intValue": 1}]}}}
            ]
        }
    }
    value = converted(span(attributes=[{"key": "k", "value": nested}])).attributes[0].value.kvlist_value.values[0].value
    assert [item.WhichOneof("value") for item in value.array_value.values] == ["string_value", None, None, "int_value"]


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"startTimeUnixNano": "yesterday"}, "spans.startTimeUnixNano cannot be the text 'yesterday'"),
        ({"startTimeUnixNano": -1}, "spans.startTimeUnixNano cannot be a number"),
        ({"name": ["x"]}, "spans.name must be one value, not a list"),
        ({"attributes": {"a": 1}}, "spans.attributes must be a list, not an object"),
        (
            {"attributes": [{"key": "k", "value": "bare"}]},
            "spans.attributes.value must be an object, not the text 'bare'",
        ),
        ({"kind": "SPAN_KIND_NOVEL"}, "spans.kind cannot be the text 'SPAN_KIND_NOVEL'"),
        ({"events": [{"name": {"a": 1}}]}, "spans.events.name cannot be an object: text is wanted"),
    ],
)
def test_a_span_that_does_not_convert_costs_no_neighbour(wrong: dict[str, Any], why: str) -> None:
    body, rejected, told = to_protobuf("traces", spans(span(**wrong), span(name="good")))
    kept = ExportTraceServiceRequest.FromString(body).resource_spans[0].scope_spans[0].spans
    assert [one.name for one in kept] == ["good"]
    assert rejected == 1
    assert why in told


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"[]", "is an object, not a list"),
        (b'"x"', "is an object, not the text 'x'"),
        (b'{"resourceSpans": 5}', "resourceSpans must be a list, not a number"),
        (b'{"resourceSpans": [5]}', "resourceSpans must be an object, not a number"),
        (b'{"resourceSpans": [{"scopeSpans": [{"spans": {}}]}]}', "scopeSpans.spans must be a list, not an object"),
        (b"[" * 3000, "not JSON"),
    ],
)
def test_what_is_no_request_is_refused(body: bytes, why: str) -> None:
    with pytest.raises(Undecodable, match=why):
        to_protobuf("traces", body)


def test_text_that_is_not_utf8_is_repaired() -> None:
    body, rejected, _ = to_protobuf("traces", spans(span(name="a@b")).replace(b"@", b"\xff"))
    one = ExportTraceServiceRequest.FromString(body).resource_spans[0].scope_spans[0].spans[0]
    assert (one.name, rejected) == ("a?b", 0)


def test_a_hundred_levels_are_kept() -> None:
    value: dict[str, Any] = {"stringValue": "deep"}
    for _ in range(110):
        value = {"arrayValue": {"values": [value]}}
    body, rejected, _ = to_protobuf("traces", spans(span(attributes=[{"key": "k", "value": value}]), span()))
    checked = check("traces", body)
    assert (rejected, checked.items, checked.rejected) == (0, 2, 0)
    assert b"deep" in checked.body


def test_logs_and_metrics() -> None:
    log = {
        "timeUnixNano": "5",
        "severityNumber": "SEVERITY_NUMBER_INFO",
        "body": {"stringValue": "b"},
        "traceId": TRACE_ID,
    }
    body, _, _ = to_protobuf("logs", json.dumps({"resourceLogs": [{"scopeLogs": [{"logRecords": [log]}]}]}).encode())
    record = ExportLogsServiceRequest.FromString(body).resource_logs[0].scope_logs[0].log_records[0]
    assert (record.severity_number, record.trace_id.hex(), record.body.string_value) == (9, TRACE_ID, "b")
    point = {"bucketCounts": ["1", 2, "3"], "explicitBounds": [0.5, 1], "count": "6", "sum": 4.5}
    metric = {"name": "m", "histogram": {"dataPoints": [point], "aggregationTemporality": 2}}
    body, _, _ = to_protobuf(
        "metrics", json.dumps({"resourceMetrics": [{"scopeMetrics": [{"metrics": [metric]}]}]}).encode()
    )
    (got,) = (
        ExportMetricsServiceRequest.FromString(body)
        .resource_metrics[0]
        .scope_metrics[0]
        .metrics[0]
        .histogram.data_points
    )
    assert (list(got.bucket_counts), list(got.explicit_bounds), got.count, got.sum) == ([1, 2, 3], [0.5, 1.0], 6, 4.5)
    assert check("metrics", body).items == 1
