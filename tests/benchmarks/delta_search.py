"""Searching a million spans in Delta tables by time range, status, model and text: seconds, and resident memory.

    python tests/benchmarks/delta_search.py [--spans 1000000] [--days 10]

The tables are made of copies of a few thousand traces with new ids and times, and then compacted, as table care does.
"""

import argparse
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

from arro3.core import Array, DataType, RecordBatch

from spanweir.exporters.delta import Config, payload
from spanweir.exporters.delta.care import maintain
from spanweir.exporters.delta.rows import DAY_NS, AnnotationRows, SpanRows
from spanweir.exporters.delta.targets import targets
from spanweir.schemas.options import Duration
from tests.support.traces import START_NS, trace

POOL = 4000
SPANS_PER_TRACE = 5


def pool(config: Config) -> tuple[RecordBatch, RecordBatch, RecordBatch, list[str]]:
    tables = targets(config, "benchmark")
    rng = random.Random(1)
    made = [trace(rng, SPANS_PER_TRACE) for _ in range(POOL)]
    for number, (spans, row) in enumerate(made):
        if number % 50 == 0:
            spans[0].status, row.state = "ERROR", "ERROR"
        spans[2].attributes["mlflow.llm.model"] = f'"model-{number % 20}"'
    payloads = []
    for spans, row in made:
        contents = {s.span_id: payload.content(s) for s in spans}
        metadata, tags = payload.trace_metadata(row), payload.trace_tags(row)
        payloads.append(payload.payload(row, metadata, tags, contents, payload.Stored(), limit=0))
    described = [(row, payload.trace_metadata(row), payload.trace_tags(row)) for _, row in made]
    return (
        SpanRows(tables["spans"].layout, "v1").batch([s for spans, _ in made for s in spans]),
        payload.batch(tables["payload"].layout, payloads),
        AnnotationRows(tables["annotations"].layout, "v1").batch(described)[0],
        [row.trace_id for _, row in made],
    )


def replaced(batch: RecordBatch, columns: dict[str, list[Any]]) -> RecordBatch:
    for name, values in columns.items():
        index = batch.column_names.index(name)
        field = batch.schema.field(index)
        array = Array(values, DataType.int64()) if not isinstance(values[0], str) else Array(values, field.type)
        if name in ("date", "request_date"):
            array = Array(values, DataType.int32())
        batch = batch.set_column(index, field, array.cast(field.type))
    return batch


def fill(config: Config, copies: int, days: int) -> None:
    spans, payloads, annotations, ids = pool(config)
    tables = targets(config, "benchmark")
    for target in tables.values():
        target.open()
    order = spans["trace_id"].to_pylist()
    targets_of = annotations["target_id"].to_pylist()
    rng = random.Random(2)
    for copy in range(copies):
        fresh = {old: f"{rng.getrandbits(128):032x}" for old in ids}
        day = START_NS // DAY_NS + copy % days
        starts = {old: day * DAY_NS + rng.randrange(DAY_NS) for old in ids}
        times = [starts[t] for t in order]
        columns = {"trace_id": [fresh[t] for t in order], "date": [day] * len(order)}
        columns["time"] = [t // 1000 for t in times]
        columns["start_time_unix_nano"] = times
        columns["end_time_unix_nano"] = [t + rng.randrange(10**9) for t in times]
        tables["spans"].append(tables["spans"].write([replaced(spans, columns)], {day}), copy + 1)
        of_payload = {
            "databricks_request_id": [f"tr-{fresh[t]}" for t in ids],
            "request_date": [day] * len(ids),
            "request_time": [starts[t] // 1000 for t in ids],
        }
        tables["payload"].append(tables["payload"].write([replaced(payloads, of_payload)], {day}), copy + 1)
        of_annotations = {"target_id": [fresh[t] for t in targets_of]}
        rows = [replaced(annotations, of_annotations)]
        tables["annotations"].append(tables["annotations"].write(rows, {day}), copy + 1)


QUERIES = {
    "time range of an hour": "timestamp_ms > {0} AND timestamp_ms < {1}",
    "time range and status": "timestamp_ms > {0} AND timestamp_ms < {2} AND status = 'ERROR'",
    "time range and model": "timestamp_ms > {0} AND timestamp_ms < {2}"
    " AND span.attributes.mlflow.llm.model = 'model-7'",
    "time range and text": "timestamp_ms > {0} AND timestamp_ms < {2} AND trace.text LIKE '%0.123%'",
    "status, everywhere": "status = 'ERROR'",
    "model, everywhere": "span.attributes.mlflow.llm.model = 'model-7'",
    "text, everywhere": "trace.text LIKE '%0.1234%'",
    "all four": "timestamp_ms > {0} AND timestamp_ms < {2} AND status = 'OK' AND span.name = 'step 2'"
    " AND trace.text LIKE '%0.12%'",
}  # fmt: skip


def search(path: str) -> None:
    """In a process of its own, so that memory is the search's."""
    from mlflow.utils import search_utils  # noqa: F401 - loading MLflow is not searching

    from spanweir.exporters.delta.reading import Tables
    from spanweir.exporters.delta.search import find

    start = START_NS // 1_000_000 // 86_400_000 * 86_400_000 + 86_400_000
    bounds = (start, start + 3_600_000, start + 86_400_000)
    for name, text in QUERIES.items():
        tables = Tables(path)
        began, cpu = time.monotonic(), time.process_time()
        found = find(tables, text.format(*bounds), None, 100)
        peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        print(
            f"{name:26s} {len(found):4d} found {time.monotonic() - began:6.2f} s,"
            f" CPU {time.process_time() - cpu:6.2f} s, peak {peak_mb} MB"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--spans", type=int, default=1_000_000)
    parser.add_argument("--days", type=int, default=10)
    parser.add_argument("--search", default="")
    options = parser.parse_args()
    if options.search:
        search(options.search)
        return
    with tempfile.TemporaryDirectory() as directory:
        config = Config(path=directory, maintenance_interval=Duration(0), vacuum_retention=Duration(0))
        copies = max(1, options.spans // (POOL * SPANS_PER_TRACE))
        began = time.monotonic()
        fill(config, copies, options.days)
        maintain(config)
        size = sum(file.stat().st_size for file in Path(directory).rglob("*.parquet")) / 1e6
        print(f"{copies * POOL * SPANS_PER_TRACE:,} spans, {size:.0f} MB, made in {time.monotonic() - began:.0f} s")
        subprocess.run([sys.executable, __file__, "--search", directory], check=True)


if __name__ == "__main__":
    main()
