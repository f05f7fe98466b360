"""Which answers of a destination are tried again, which are not, and that neighbours of a refused request are sent."""

import logging
import time
from collections.abc import Iterator
from email.utils import formatdate
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration as ProtoDuration
from google.rpc import error_details_pb2, status_pb2

from spanweir.exporters._http import retry_after_s
from spanweir.exporters.api import Batch, Permanent, Request, Retry
from spanweir.exporters.otlp_http import Config as HttpConfig
from tests.benchmarks.load import make_requests
from tests.contracts.exporter_benches import otlp_grpc, otlp_http
from tests.support.batches import context


@pytest.fixture
def grpc_bench(tmp_path: Path) -> Iterator[otlp_grpc.Bench]:
    bench = otlp_grpc.Bench(tmp_path)
    yield bench
    bench.close()


@pytest.fixture
def http_bench(tmp_path: Path) -> Iterator[otlp_http.Bench]:
    bench = otlp_http.Bench(tmp_path)
    yield bench
    bench.close()


def requests(count: int, *, headers: dict[str, str] | None = None) -> Batch:
    bodies = make_requests(count, 1, seed=7)
    items = [Request(signal="traces", body=body, headers=headers or {}) for body in bodies]
    return Batch(first=1, last=count, requests=items)


def export(bench: Any, batch: Batch) -> Any:
    exporter = bench.config.build(context("forward", "unused"))
    with exporter:
        exporter.export(batch)


def abort(code: grpc.StatusCode, retry_after: float | None = None) -> Any:
    def refuse(servicer_context: Any) -> None:
        if retry_after is None:
            servicer_context.abort(code, "because")
        status = status_pb2.Status(code=code.value[0], message="because")
        delay = ProtoDuration(nanos=int(retry_after * 1e9))
        status.details.add().Pack(error_details_pb2.RetryInfo(retry_delay=delay))
        servicer_context.set_trailing_metadata((("grpc-status-details-bin", status.SerializeToString()),))
        servicer_context.abort(code, "because")

    return refuse


@pytest.mark.parametrize(
    "code", ["CANCELLED", "DEADLINE_EXCEEDED", "ABORTED", "OUT_OF_RANGE", "UNAVAILABLE", "DATA_LOSS"]
)
def test_grpc_codes_that_are_tried_again(grpc_bench: otlp_grpc.Bench, code: str) -> None:
    grpc_bench.destination.refusals = [abort(getattr(grpc.StatusCode, code))]
    with pytest.raises(Retry, match=f"{code}: because"):
        export(grpc_bench, requests(1))


@pytest.mark.parametrize("code", ["INVALID_ARGUMENT", "UNIMPLEMENTED", "RESOURCE_EXHAUSTED"])
def test_grpc_codes_that_are_final(grpc_bench: otlp_grpc.Bench, code: str) -> None:
    grpc_bench.destination.refusals = [abort(getattr(grpc.StatusCode, code))]
    with pytest.raises(Permanent, match=f"{code}: because"):
        export(grpc_bench, requests(1))


@pytest.mark.parametrize("code", ["UNAUTHENTICATED", "PERMISSION_DENIED"])
def test_what_grpc_credentials_may_not_yet_waits_for_them(grpc_bench: otlp_grpc.Bench, code: str) -> None:
    grpc_bench.destination.refusals = [abort(getattr(grpc.StatusCode, code))]
    with pytest.raises(Retry, match=f"{code}: because") as raised:
        export(grpc_bench, requests(1))
    assert raised.value.after_s == 30


@pytest.mark.parametrize("status", [401, 403, 407])
def test_what_http_credentials_may_not_yet_waits_for_them(http_bench: otlp_http.Bench, status: int) -> None:
    http_bench.answers = [(status, {}, b"who are you")]
    with pytest.raises(Retry, match=f"HTTP {status} .*: who are you") as raised:
        export(http_bench, requests(1))
    assert raised.value.after_s == 30


def test_grpc_exhausted_with_retry_info_waits_as_long_as_it_says(grpc_bench: otlp_grpc.Bench) -> None:
    grpc_bench.destination.refusals = [abort(grpc.StatusCode.RESOURCE_EXHAUSTED, retry_after=0.75)]
    with pytest.raises(Retry) as raised:
        export(grpc_bench, requests(1))
    assert raised.value.after_s == 0.75


def test_a_retry_sends_only_what_was_not_taken(grpc_bench: otlp_grpc.Bench) -> None:
    batch = requests(5)
    grpc_bench.destination.refusals = [None, abort(grpc.StatusCode.UNAVAILABLE)]
    with grpc_bench.config.build(context("forward", "unused")) as exporter:
        with pytest.raises(Retry):
            exporter.export(batch)
        assert len(grpc_bench.destination.requests) == 4
        exporter.export(batch)
    assert sorted(r.SerializeToString() for r in grpc_bench.destination.requests) == sorted(
        r.body for r in batch.requests
    )


def test_headers_and_routing_headers_are_sent(grpc_bench: otlp_grpc.Bench, http_bench: otlp_http.Bench) -> None:
    routed = {"x-mlflow-experiment-id": "7", "authorization": "Bearer the sender's"}
    export(grpc_bench, requests(1, headers=routed))
    export(http_bench, requests(1, headers=routed))
    for received in (grpc_bench.destination.metadata[0], http_bench.headers[0]):
        assert received["x-mlflow-experiment-id"] == "7"
        assert received["authorization"] == "Bearer t"
    assert http_bench.paths == ["/v1/traces"]


def test_a_partial_success_is_told_and_not_tried_again(
    grpc_bench: otlp_grpc.Bench, http_bench: otlp_http.Bench, caplog: pytest.LogCaptureFixture
) -> None:
    response = grpc_bench.destination.response
    response.partial_success.rejected_spans = 3
    response.partial_success.error_message = "too old"
    http_bench.success = (200, {"content-type": "application/x-protobuf"}, response.SerializeToString())
    with caplog.at_level(logging.WARNING):
        export(grpc_bench, requests(1))
        export(http_bench, requests(1))
    assert [record.message for record in caplog.records] == [
        "forward: the destination rejected 3 traces items: too old"
    ] * 2


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_http_statuses_that_are_tried_again(http_bench: otlp_http.Bench, status: int) -> None:
    http_bench.answers = [(status, {"retry-after": "12"}, b"busy")]
    with pytest.raises(Retry, match=f"HTTP {status} .*: busy") as raised:
        export(http_bench, requests(1))
    assert raised.value.after_s == 12


@pytest.mark.parametrize("status", [301, 400, 404, 413, 500])
def test_http_statuses_that_are_final(http_bench: otlp_http.Bench, status: int) -> None:
    message = status_pb2.Status(message="no such table").SerializeToString()
    http_bench.answers = [(status, {}, message)]
    batch = requests(3)
    with pytest.raises(Permanent, match=f"HTTP {status} .*: no such table"):
        export(http_bench, batch)
    assert len(http_bench.requests) == 2, "the neighbours of the refused request are sent"


def test_retry_after_may_be_a_date() -> None:
    assert 50 < retry_after_s(formatdate(time.time() + 60, usegmt=True)) <= 60
    assert retry_after_s(formatdate(time.time() - 60, usegmt=True)) == 0
    assert retry_after_s("soon") == 0


def test_each_signal_may_have_an_endpoint_of_its_own() -> None:
    config = HttpConfig(endpoint="http://a:4318/", logs_endpoint="http://b/otlp/logs")
    assert config.url("traces") == "http://a:4318/v1/traces"
    assert config.url("metrics") == "http://a:4318/v1/metrics"
    assert config.url("logs") == "http://b/otlp/logs"
