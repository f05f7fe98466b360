"""Delta tables in an object store that speaks S3 over HTTP, and what happens when it refuses."""

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars
import pytest

from spanweir.exporters.api import Batch, Context, Permanent, Retry
from spanweir.exporters.delta import Config, search_traces
from spanweir.exporters.delta.care import maintain
from spanweir.schemas.options import Duration, Size
from tests.support.s3_server import answer, late, running
from tests.support.traces import Trace, records, sliced, trace


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with running() as address:
        yield address


@pytest.fixture
def options(endpoint: str) -> Iterator[dict[str, str]]:
    yield {
        "aws_endpoint": endpoint, "aws_region": "us-east-1", "aws_allow_http": "true", "aws_access_key_id": "test",
        "aws_secret_access_key": "test", "max_retries": "0", "timeout": "10s",
    }  # fmt: skip
    answer(endpoint, 0)
    late(endpoint, 0)


def config(options: dict[str, str], name: str, **more: Any) -> Config:
    return Config(
        path=f"s3://tables/{name}", storage_options=options, commit_interval=Duration(0),
        maintenance_interval=Duration(0), **more,
    )  # fmt: skip


def built(made: Config, directory: Path) -> Any:
    return made.build(Context(name="delta", state_directory=str(directory / "state")))


def read(options: dict[str, str], name: str, suffix: str) -> polars.DataFrame:
    known = {key: value for key, value in options.items() if key.startswith("aws_")}
    return polars.read_delta(f"s3://tables/{name}/spanweir_{suffix}", storage_options=known)


def _traces(seed: int, count: int) -> list[Trace]:
    rng = random.Random(seed)
    return [trace(rng) for _ in range(count)]


def test_tables_in_s3(options: dict[str, str], tmp_path: Path) -> None:
    made, batches = config(options, "whole", max_payload_bytes=Size(600), compact_files=2), records(41, 6)
    with built(made, tmp_path) as exporter:
        for batch in sliced(batches, random.Random(1), at_most=2):
            exporter.export(batch)
        assert exporter.durable == 6
    with built(made, tmp_path) as exporter:
        exporter.export(batches[-1])
    spans = {(s.trace_id, s.span_id) for b in batches for s in b.spans}
    assert sorted(read(options, "whole", "otel_spans").select("trace_id", "span_id").rows()) == sorted(spans)
    payload = read(options, "whole", "payload")
    assert set(payload["response"].to_list()) == {None}
    found = search_traces(made, filter_string="tag.team = 'tests'")
    assert {t.info.trace_id for t in found} == set(payload["databricks_request_id"])
    assert sum(len(t.data.spans) for t in found) == len(spans)
    assert maintain(made)["spans"]["compacted"] > 2
    assert sorted(read(options, "whole", "otel_spans").select("trace_id", "span_id").rows()) == sorted(spans)


def test_a_store_that_answers_503_loses_nothing(options: dict[str, str], tmp_path: Path) -> None:
    spans, row = trace(random.Random(42))
    with built(config(options, "moody"), tmp_path) as exporter:
        answer(options["aws_endpoint"], 503)
        batch = Batch(first=1, last=1, spans=spans, traces=[row])
        for _ in range(2):
            with pytest.raises(Retry):
                exporter.export(batch)
        assert exporter.durable == 0
        answer(options["aws_endpoint"], 0)
        exporter.export(batch)
        assert exporter.durable == 1
    assert len(read(options, "moody", "otel_spans")) == len(spans)
    assert len(read(options, "moody", "payload")) == 1


def test_a_commit_whose_answer_comes_too_late_is_not_made_twice(options: dict[str, str], tmp_path: Path) -> None:
    """It stands in the log, but the writer cannot know: the client gave up before the store answered."""
    impatient = {**options, "timeout": "2s"}
    batches = [Batch(first=n, last=n, spans=spans, traces=[row]) for n, (spans, row) in enumerate(_traces(43, 3), 1)]
    with built(config(impatient, "slow"), tmp_path) as exporter:
        exporter.export(batches[0])
        late(options["aws_endpoint"], 4)
        with pytest.raises(Retry) as told:
            exporter.export(batches[1])
        assert "\x1b" not in str(told.value)
        assert exporter.durable == 1
        late(options["aws_endpoint"], 0)
        exporter.export(batches[1])
        exporter.export(batches[2])
        assert exporter.durable == 3
    sent = sorted((s.trace_id, s.span_id) for batch in batches for s in batch.spans)
    assert sorted(read(options, "slow", "otel_spans").select("trace_id", "span_id").rows()) == sent
    assert len(read(options, "slow", "payload")) == 3


def test_bad_credentials_are_told_at_the_start(options: dict[str, str], tmp_path: Path) -> None:
    answer(options["aws_endpoint"], 403)
    told = r"s3://tables/none/spanweir_\w+: the store refuses access: [^\x1b]*storage_options"
    with pytest.raises(Permanent, match=told):
        built(config(options, "none"), tmp_path).__enter__()


def test_a_store_that_is_down_at_the_start_is_a_retry(options: dict[str, str], tmp_path: Path) -> None:
    answer(options["aws_endpoint"], 503)
    with pytest.raises(Retry):
        built(config(options, "none"), tmp_path).__enter__()
