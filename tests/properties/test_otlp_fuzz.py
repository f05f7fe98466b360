"""Whatever comes in, the check and the JSON reader either understand it or say `Undecodable`; good spans survive."""

import json
import random
from contextlib import suppress
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from spanweir.collector.decode import Undecodable
from spanweir.collector.receivers._check import check
from spanweir.collector.receivers._compression import TooLarge, decompress
from spanweir.collector.receivers._json import to_protobuf
from tests.benchmarks.load import make_requests

(BODY,) = make_requests(1, 2)
SIGNALS = st.sampled_from(["traces", "logs", "metrics"])
FUZZ = settings(max_examples=200, deadline=None)
_NAMES = """
resourceSpans scopeSpans spans resource scope attributes key value traceId spanId name kind status code links events
stringValue intValue arrayValue kvlistValue values startTimeUnixNano resourceLogs scopeLogs logRecords body
resourceMetrics scopeMetrics metrics gauge dataPoints asInt x
"""
KEYS = st.sampled_from(_NAMES.split())
LEAVES = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=20), st.just("0" * 32))
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4), max_leaves=25
)


def spans_of(body: bytes) -> int:
    request = ExportTraceServiceRequest.FromString(body)
    return sum(len(scope.spans) for resource in request.resource_spans for scope in resource.scope_spans)


@FUZZ
@given(SIGNALS, st.binary(max_size=300))
def test_random_bytes(signal: str, body: bytes) -> None:
    with suppress(Undecodable):
        assert check(signal, body).items >= 0


@FUZZ
@given(st.integers(0, 2**32))
def test_damaged_requests_keep_what_can_be_read(seed: int) -> None:
    rng = random.Random(seed)
    damaged = bytearray(BODY)
    for _ in range(rng.randint(1, 5)):
        damaged[rng.randrange(len(damaged))] = rng.randrange(256)
    try:
        checked = check("traces", bytes(damaged))
    except Undecodable:
        return
    assert checked.items + checked.rejected <= 11
    if not checked.rejected and checked.body == bytes(damaged):
        return
    # Something was taken out: what is left is a request that everybody can read.
    assert spans_of(checked.body) == checked.items


@FUZZ
@given(SIGNALS, st.dictionaries(KEYS, VALUES, max_size=4))
def test_random_json(signal: str, value: dict[str, Any]) -> None:
    with suppress(Undecodable):
        assert check(signal, to_protobuf(signal, json.dumps(value).encode(errors="replace")).body).items >= 0


@FUZZ
@given(st.sampled_from(["gzip", "deflate", "zstd"]), st.binary(max_size=200))
def test_random_compressed_bytes(coding: str, body: bytes) -> None:
    with suppress(Undecodable, TooLarge):
        assert len(decompress(coding, body, 1000)) <= 1000
