"""Large requests through the real process: a trace of 10 MB, a request of 16 MiB, an attribute of 20 MB; each whole."""

import json
import os
import time
from pathlib import Path

import pytest
from deltalake import DeltaTable
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.support.service import Service, eventually
from tests.support.stores import sqlite_store

WORDS = "lorem ipsum dolor sit amet, "
SIZES = {"ten": [100_000] * 100, "sixteen": [16 << 20], "twenty": [20_000_000]}


def text(size: int, number: int) -> str:
    return f"{number}: " + WORDS * (size // len(WORDS) + 1)


def request_of(name: str) -> ExportTraceServiceRequest:
    """One trace: a span for each text, below the first."""
    request = ExportTraceServiceRequest()
    spans = request.resource_spans.add().scope_spans.add().spans
    trace_id, root = os.urandom(16), b"\1" + os.urandom(7)
    for number, size in enumerate(SIZES[name]):
        span = spans.add(name=name, trace_id=trace_id, span_id=b"\2" + os.urandom(7) if number else root)
        span.parent_span_id = root if number else b""
        span.start_time_unix_nano, span.end_time_unix_nano = time.time_ns() - 1000, time.time_ns()
        span.attributes.add(key="input.value").value.string_value = text(size, number)
    return request


@pytest.mark.slow
def test_large_traces_arrive_whole_in_both_stores(tmp_path: Path) -> None:
    requests = {name: request_of(name).SerializeToString() for name in SIZES}
    assert len(requests["ten"]) > 10_000_000
    assert len(requests["sixteen"]) > 16 << 20
    sqlite_store(tmp_path / "mlflow.db")
    with Service(tmp_path) as service:
        service.call(requests["ten"])
        assert service.post(requests["sixteen"])[0] == 200
        service.call(requests["twenty"])
        eventually(lambda: len(service.stored_spans()) == 102, timeout_s=120, what="102 spans in the MLflow store")
        assert service.stop() == 0
    for name, sizes in SIZES.items():
        stored = service.rows("SELECT content FROM spans WHERE name = ?", name)
        said = sorted(json.loads(json.loads(content)["attributes"]["mlflow.spanInputs"]) for (content,) in stored)
        assert said == sorted(text(size, number) for number, size in enumerate(sizes)), name
    table = DeltaTable(str(tmp_path / "tables" / "spanweir_otel_spans")).to_pyarrow_table(columns=["name", "span_id"])
    assert len(set(table["span_id"].to_pylist())) == table.num_rows == 102
    rows = DeltaTable(str(tmp_path / "tables" / "spanweir_payload")).to_pyarrow_table().num_rows
    assert rows == 3
