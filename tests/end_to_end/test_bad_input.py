"""What must never happen to anybody: bad input through the real process. Each costs itself; neighbours are stored."""

import gzip
import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, KeyValue, KeyValueList

from tests.support.service import TO_FILE, Service, eventually


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    limits = [
        "receivers.otlp.protocols.grpc.max_recv_msg_size_mib=8",
        "receivers.otlp.protocols.http.max_request_body_size=8MiB",
    ]
    with Service(tmp_path_factory.mktemp("museum"), TO_FILE, assignments=limits) as running:
        yield running


def span_id() -> bytes:
    return b"\x01" + os.urandom(7)


def request_of(*changes: Callable[[Any], Any]) -> ExportTraceServiceRequest:
    """A good span, and one for each change."""
    request = ExportTraceServiceRequest()
    spans = request.resource_spans.add().scope_spans.add().spans
    for change in (lambda span: None, *changes):
        span = spans.add(name="s", trace_id=os.urandom(16), span_id=span_id())
        span.start_time_unix_nano = time.time_ns() - 1000
        span.end_time_unix_nano = time.time_ns()
        change(span)
    return request


def good_ids(request: ExportTraceServiceRequest) -> list[str]:
    return [span.span_id.hex() for span in request.resource_spans[0].scope_spans[0].spans]


def stored(service: Service, *span_ids: str) -> None:
    """Wait until the spans are in the file; the process lives."""
    wanted = [f'"spanId":"{one}"'.encode() for one in span_ids]

    def all_there() -> bool:
        service.check()
        text = b"\n".join(service.lines())
        return all(one in text for one in wanted)

    eventually(all_there, timeout_s=90, what="the neighbours are stored")


def both(service: Service, request: ExportTraceServiceRequest) -> list[ExportTraceServiceResponse]:
    """Sent over gRPC and over HTTP, accepted by both."""
    body = request.SerializeToString()
    over_grpc = ExportTraceServiceResponse.FromString(service.call(body))
    status, _, answer = service.post(body)
    assert status == 200, answer
    return [over_grpc, ExportTraceServiceResponse.FromString(answer)]


@pytest.mark.parametrize("body", [b"garbage", b"\xff" * 100, b"\x0a\xff\xff\xff\xff\x0f", b"\x00"])
def test_garbage_is_refused_for_ever(service: Service, body: bytes) -> None:
    with pytest.raises(grpc.RpcError) as raised:
        service.call(body)
    assert raised.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert service.post(body)[0] == 400
    stored(service, *good_ids_sent(service))


def good_ids_sent(service: Service) -> list[str]:
    request = request_of()
    both(service, request)
    return good_ids(request)


def test_truncated_protobuf(service: Service) -> None:
    body = request_of(lambda span: None).SerializeToString()
    for cut in (1, len(body) // 2, len(body) - 1):
        with pytest.raises(grpc.RpcError) as raised:
            service.call(body[:cut])
        assert raised.value.code() == grpc.StatusCode.INVALID_ARGUMENT
        assert service.post(body[:cut])[0] == 400
    stored(service, *good_ids_sent(service))


@pytest.mark.parametrize("text", [b"{", b"[]", b"null", b'{"resourceSpans": 5}', b"\xff\xfe"])
def test_json_that_is_no_request(service: Service, text: bytes) -> None:
    status, headers, answer = service.post(text, content_type="application/json")
    assert status == 400, (status, answer)
    assert headers["content-type"].startswith("application/json")
    assert json.loads(answer)["message"]


@pytest.mark.parametrize("bad", ["", "xyz", "00", "0" * 32, "0" * 31 + "g", 7, None])
def test_json_with_wrong_ids_costs_its_span_only(service: Service, bad: object) -> None:
    good = span_id().hex()
    spans = [
        {"traceId": os.urandom(16).hex(), "spanId": good, "name": "good", "startTimeUnixNano": "1"},
        {"traceId": bad, "spanId": span_id().hex(), "name": "bad", "startTimeUnixNano": "1"},
    ]
    body = json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": spans}]}]}).encode()
    status, _, answer = service.post(body, content_type="application/json")
    assert status == 200, answer
    assert json.loads(answer)["partialSuccess"]["rejectedSpans"] in (1, "1")
    stored(service, good)


@pytest.mark.parametrize("field", ["trace_id", "span_id"])
@pytest.mark.parametrize("value", [b"", b"\x00" * 16, b"\x00" * 8, b"\x01\x02"])
def test_invalid_ids_among_good_ones_are_a_partial_success(service: Service, field: str, value: bytes) -> None:
    request = request_of(lambda span: setattr(span, field, value))
    for response in both(service, request):
        assert response.partial_success.rejected_spans == 1
        assert field in response.partial_success.error_message or "id" in response.partial_success.error_message
    stored(service, good_ids(request)[0])


def end_before_start(span: Any) -> None:
    span.start_time_unix_nano, span.end_time_unix_nano = 2_000_000_000, 1_000_000_000


def many_attributes(span: Any) -> None:
    span.attributes.extend(KeyValue(key=f"k{i}", value=AnyValue(int_value=i)) for i in range(100_000))


def deep_values(span: Any) -> None:
    value = AnyValue(string_value="deep")
    for i in range(40):  # protobuf's own limit is 100 messages, two or three of which are one level here
        if i % 2:
            value = AnyValue(array_value=ArrayValue(values=[value]))
        else:
            value = AnyValue(kvlist_value=KeyValueList(values=[KeyValue(key="k", value=value)]))
    span.attributes.add(key="deep", value=value)


def odd_values(span: Any) -> None:
    span.attributes.add(key="", value=AnyValue(string_value=""))
    span.attributes.add(key="none")
    span.attributes.add(key="nan", value=AnyValue(double_value=float("nan")))
    span.attributes.add(key="inf", value=AnyValue(double_value=float("inf")))
    span.attributes.add(key="huge", value=AnyValue(int_value=-(2**63)))
    span.attributes.add(key="nul", value=AnyValue(string_value="a\x00b"))
    span.attributes.add(key="twice", value=AnyValue(string_value="1"))
    span.attributes.add(key="twice", value=AnyValue(string_value="2"))
    span.name = "\x00\u202e" * 500
    span.kind, span.status.code = 77, 9
    span.start_time_unix_nano = 2**64 - 1


@pytest.mark.parametrize("change", [end_before_start, many_attributes, deep_values, odd_values])
def test_odd_spans_are_stored_with_their_neighbours(service: Service, change: Callable[[Any], None]) -> None:
    request = request_of(change)
    for response in both(service, request):
        assert response.partial_success.rejected_spans == 0
    stored(service, *good_ids(request))


def test_a_hundred_levels_of_json(service: Service) -> None:
    value: dict[str, Any] = {"stringValue": "deep"}
    for _ in range(100):
        value = {"arrayValue": {"values": [value]}}
    good = span_id().hex()
    spans = [
        {"traceId": os.urandom(16).hex(), "spanId": good, "name": "good", "startTimeUnixNano": "1"},
        {
            "traceId": os.urandom(16).hex(), "spanId": span_id().hex(), "name": "deep", "startTimeUnixNano": "1",
            "attributes": [{"key": "deep", "value": value}],
        },
    ]  # fmt: skip
    body = json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": spans}]}]}).encode()
    status, _, answer = service.post(body, content_type="application/json")
    assert status == 200, answer
    stored(service, good)


def test_invalid_utf8_is_repaired(service: Service) -> None:
    request = request_of(lambda span: setattr(span, "name", "REPLACE-ME"))
    body = request.SerializeToString().replace(b"REPLACE-ME", b"caf\xe9 \xff\xfe\xf0\x9f!")
    assert ExportTraceServiceResponse.FromString(service.call(body)).partial_success.rejected_spans == 0
    assert service.post(body)[0] == 200
    stored(service, *good_ids(request))


def test_a_gzip_bomb_is_refused_before_it_unfolds(service: Service) -> None:
    bomb = gzip.compress(b"\x00" * (512 << 20), compresslevel=1)
    assert len(bomb) < 8 << 20
    assert service.post(bomb, headers={"content-encoding": "gzip"})[0] == 413
    nested = gzip.compress(bomb)
    assert service.post(nested, headers={"content-encoding": "gzip"})[0] == 400
    peak = eventually(lambda: _peak_rss_mb(service))
    assert peak < 300, f"{peak} MB"
    stored(service, *good_ids_sent(service))


def _peak_rss_mb(service: Service) -> float:
    assert service.process is not None
    status = Path(f"/proc/{service.process.pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "zstd", "br"])
def test_bodies_that_are_not_what_their_header_says(service: Service, encoding: str) -> None:
    assert service.post(b"not compressed", headers={"content-encoding": encoding})[0] in (400, 415)


def test_a_content_type_nobody_speaks(service: Service) -> None:
    assert service.post(b"<xml/>", content_type="text/xml")[0] == 415


def test_a_message_over_the_limit_is_permanent(service: Service) -> None:
    body = request_of(lambda span: setattr(span, "name", "x" * (9 << 20))).SerializeToString()
    with pytest.raises(grpc.RpcError) as raised:
        service.call(body)
    assert raised.value.code() in (grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.INVALID_ARGUMENT)
    trailers = dict(raised.value.trailing_metadata() or ())
    assert "grpc-status-details-bin" not in trailers, "no RetryInfo: it would be sent for ever"
    assert service.post(body)[0] == 413
    stored(service, *good_ids_sent(service))


def test_an_empty_request_is_a_success(service: Service) -> None:
    assert ExportTraceServiceResponse.FromString(service.call(b"")) == ExportTraceServiceResponse()
    assert service.post(b"")[0] == 200
    assert service.post(b"{}", content_type="application/json")[0] == 200


def test_it_is_all_counted(service: Service) -> None:
    both(service, request_of(lambda span: setattr(span, "trace_id", b"")))
    metrics = service.metrics()
    assert metrics["otelcol_receiver_accepted_spans"] >= 2
    assert metrics["otelcol_receiver_failed_spans"] >= 2


# ------------------------------------------------------------------------------------------------ the queue's directory


def failing_start(service: Service) -> str:
    """What the service says when it cannot start."""
    from spanweir.collector.demo.process import CollectorError

    with pytest.raises(CollectorError) as raised:
        service.start()
    service.kill()
    assert "Traceback" not in str(raised.value)
    return str(raised.value)


def test_a_queue_directory_that_is_in_use(tmp_path: Path) -> None:
    with Service(tmp_path, TO_FILE) as first:
        message = failing_start(Service(tmp_path, TO_FILE))
        assert "queue" in message
        assert "in use" in message or "uses" in message, message
        request = request_of()
        first.call(request.SerializeToString())
        stored(first, *good_ids(request))


def test_a_queue_directory_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "queue").write_text("in the way")
    message = failing_start(Service(tmp_path, TO_FILE))
    assert "queue" in message


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MB."""
    mounted = tmp_path / "disk"
    mounted.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "none", str(mounted)], capture_output=True)
    if done.returncode:
        pytest.skip("needs the right to mount a file system")
    yield mounted
    subprocess.run(["umount", "-l", str(mounted)], check=True)


def test_a_read_only_directory(small_disk: Path, tmp_path: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    message = failing_start(Service(tmp_path, TO_FILE, assignments=[f"service.queue.directory={small_disk}/queue"]))
    assert "Read-only file system" in message


def test_a_full_disk_asks_senders_to_come_again_and_loses_nothing(small_disk: Path, tmp_path: Path) -> None:
    settings = [f"service.queue.directory={small_disk}/queue", "service.queue.segment_bytes=256KiB"]
    accepted: list[str] = []
    with Service(tmp_path, TO_FILE, assignments=settings) as service:
        filler = small_disk / "filler"
        filler.write_bytes(b"x" * (2 << 20))
        refused = False
        for _ in range(60):
            request = request_of(lambda span: setattr(span, "name", os.urandom(50_000).hex()))
            status, _, _ = service.post(request.SerializeToString())
            if status != 200:
                refused = True
                assert status in (429, 503)
                with pytest.raises(grpc.RpcError) as raised:
                    service.call(request.SerializeToString())
                assert raised.value.code() == grpc.StatusCode.UNAVAILABLE
                break
            accepted += good_ids(request)
            _fill(filler)
        assert refused, "the disk never ran full"
        filler.unlink()

        def accepts_again() -> bool:
            request = request_of()
            try:
                service.call(request.SerializeToString())
            except grpc.RpcError:
                return False
            accepted.extend(good_ids(request))
            return True

        eventually(accepts_again, what="it accepts again once there is room")
        stored(service, *accepted)


def _fill(filler: Path) -> None:
    """Take what room is left."""
    try:
        with filler.open("ab") as file:
            while True:
                file.write(b"x" * 65536)
                file.flush()
    except OSError:
        pass
