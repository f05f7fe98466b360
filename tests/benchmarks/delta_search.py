"""Searching a million spans by time range, status, model and text: Delta tables and MLflow's SQLite store in pairs.

    python tests/benchmarks/delta_search.py [--spans 1000000] [--days 10] [--version v1] [--without-mlflow]

Both stores hold the same traces: copies of a few thousand with new ids and times. The tables are compacted, as table
care does; the database has all of MLflow's indexes. Each store is searched in a process of its own, through
`search_traces` with 100 results and their spans.
"""

import argparse
import json
import random
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

from arro3.core import Array, DataType, RecordBatch

from spanweir.exporters import mlflow as mlflow_exporter
from spanweir.exporters.api import Batch, Context
from spanweir.exporters.delta import Config, payload
from spanweir.exporters.delta.care import maintain
from spanweir.exporters.delta.cells import DAY_NS
from spanweir.exporters.delta.rows import AnnotationRows, SpanRows
from spanweir.exporters.delta.targets import targets
from spanweir.schemas.options import Duration
from spanweir.schemas.trace import MappedSpan, TraceRow
from tests.support.traces import START_NS, trace

POOL = 4000
SPANS_PER_TRACE = 5
Copied = tuple[int, str, str, int]
"""Number of the copy, the trace's id in the pool, its own id, and its start (ns)."""


def traces() -> list[tuple[list[MappedSpan], TraceRow]]:
    rng = random.Random(1)
    made = [trace(rng, SPANS_PER_TRACE) for _ in range(POOL)]
    for number, (spans, row) in enumerate(made):
        row.experiment = "0"
        if number % 50 == 0:
            spans[0].status, row.state = "ERROR", "ERROR"
        content = json.loads(spans[2].content)
        model = f'"model-{number % 20}"'
        content["attributes"]["mlflow.llm.model"] = spans[2].attributes["mlflow.llm.model"] = model
        spans[2].content = json.dumps(content, separators=(",", ":")).encode()
    return made


def pool(config: Config) -> tuple[RecordBatch, RecordBatch, RecordBatch, list[str]]:
    tables, made, version = targets(config, "benchmark"), traces(), config.schema_version
    payloads = []
    for spans, row in made:
        contents = {s.span_id: payload.content(s) for s in spans}
        metadata, tags = payload.trace_metadata(row), payload.trace_tags(row)
        payloads.append(payload.payload(row, metadata, tags, contents, payload.Stored(), limit=0))
    described = [(row, payload.trace_metadata(row), payload.trace_tags(row)) for _, row in made]
    return (
        SpanRows(tables["spans"].layout, version).batch(SpanRows.columns([s for spans, _ in made for s in spans])),
        tables["payload"].layout.batch(payload.columns(payloads)),
        tables["annotations"].layout.batch(AnnotationRows(version).columns(described)),
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


def plan(ids: list[str], copies: int, days: int) -> list[list[Copied]]:
    rng = random.Random(2)
    made = []
    for copy in range(copies):
        start = (START_NS // DAY_NS + copy % days) * DAY_NS
        made.append([(copy, old, f"{rng.getrandbits(128):032x}", start + rng.randrange(DAY_NS)) for old in ids])
    return made


def fill(config: Config, copies: int, days: int) -> list[list[Copied]]:
    spans, payloads, annotations, ids = pool(config)
    tables = targets(config, "benchmark")
    for target in tables.values():
        target.open()
    order = spans["trace_id"].to_pylist()
    responses = payloads["response"].to_pylist()
    targets_of = annotations["target_id"].to_pylist()
    planned = plan(ids, copies, days)
    rng = random.Random(3)
    for copy, copied in enumerate(planned):
        fresh = {old: new for _, old, new, _ in copied}
        day = START_NS // DAY_NS + copy % days
        starts = {old: start for _, old, _, start in copied}
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
            "response": [text.replace(t, fresh[t]) for t, text in zip(ids, responses, strict=True)],
        }
        tables["payload"].append(tables["payload"].write([replaced(payloads, of_payload)], {day}), copy + 1)
        of_annotations = {"target_id": [fresh[t] for t in targets_of]}
        rows = [replaced(annotations, of_annotations)]
        tables["annotations"].append(tables["annotations"].write(rows, {day}), copy + 1)
    return planned


IDS = {"trace_info": "request_id", "trace_tags": "request_id", "trace_request_metadata": "request_id"}
MOVED = {
    "timestamp_ms": "c.start_ns / 1000000", "trace_timestamp_ms": "c.start_ns / 1000000",
    "start_time_unix_nano": "c.start_ns", "end_time_unix_nano": "c.start_ns + t.end_time_unix_nano - "
    "t.start_time_unix_nano", "assessment_id": "t.assessment_id || '-' || c.copy",
}  # fmt: skip


def fill_mlflow(directory: Path, planned: list[list[Copied]]) -> None:
    """The same traces in an MLflow database: the pool written by the exporter, its copies by SQL."""
    state, pooled, path = directory / "state", directory / "pool.db", directory / "mlflow.db"
    state.mkdir()
    made = traces()
    batch = Batch(first=1, last=1, spans=[s for of, _ in made for s in of], traces=[row for _, row in made])
    config = mlflow_exporter.Config(tracking_uri=f"sqlite:///{pooled}", experiment="Default")
    with config.build(Context(name="mlflow", state_directory=str(state))) as exporter:
        exporter.export(batch)
    shutil.copy(pooled, path)
    database = sqlite3.connect(path)
    database.executescript("PRAGMA journal_mode = off; PRAGMA synchronous = off; PRAGMA cache_size = -500000")
    database.execute("ATTACH ? AS pool", (str(pooled),))
    database.execute("CREATE TEMP TABLE copies (copy INT, old TEXT, new TEXT, start_ns INT)")
    rows = ((copy, f"tr-{old}", f"tr-{new}", ns) for of_copy in planned for copy, old, new, ns in of_copy)
    database.executemany("INSERT INTO copies VALUES (?, ?, ?, ?)", rows)
    database.execute("CREATE INDEX temp.by_old ON copies (old)")
    tables = ("trace_info", "trace_tags", "trace_request_metadata", "assessments", "spans")
    found = database.execute(
        "SELECT name, sql FROM main.sqlite_master WHERE type = 'index' AND sql IS NOT NULL"
        f" AND tbl_name IN {tables}"
    ).fetchall()  # fmt: skip
    for name, _ in found:
        database.execute(f"DROP INDEX main.{name}")
    database.execute("PRAGMA foreign_keys = off")
    for table in tables:
        identity = IDS.get(table, "trace_id")
        columns = [row[1] for row in database.execute(f"PRAGMA main.table_info({table})")]
        values = ["c.new" if name == identity else MOVED.get(name, f"t.{name}") for name in columns]
        database.execute(f"DELETE FROM main.{table}")
        database.execute(
            f"INSERT INTO main.{table} ({', '.join(columns)}) SELECT {', '.join(values)} "
            f"FROM copies c JOIN pool.{table} t ON t.{identity} = c.old ORDER BY c.start_ns"
        )
    for _, sql in found:
        database.execute(sql)
    database.execute("ANALYZE main")
    database.commit()
    database.close()


QUERIES = {
    "time range of an hour": "timestamp_ms > {0} AND timestamp_ms < {1}",
    "time range and status": "timestamp_ms > {0} AND timestamp_ms < {2} AND status = 'ERROR'",
    "time range and model": "timestamp_ms > {0} AND timestamp_ms < {2}"
    " AND span.attributes.mlflow.llm.model LIKE '%model-7%'",
    "time range and text": "timestamp_ms > {0} AND timestamp_ms < {2} AND trace.text LIKE '%0.123%'",
    "status, everywhere": "status = 'ERROR'",
    "model, everywhere": "span.attributes.mlflow.llm.model LIKE '%model-7%'",
    "text, everywhere": "trace.text LIKE '%0.1234%'",
    "all four": "timestamp_ms > {0} AND timestamp_ms < {2} AND status = 'OK'"
    " AND span.attributes.mlflow.llm.model LIKE '%model-7%' AND trace.text LIKE '%0.12%'",
}  # fmt: skip


Found = dict[str, dict[str, Any]]
Search = Callable[[str], list[str]]


def searcher(store: str) -> Search:
    if store.startswith("sqlite:"):
        from mlflow import MlflowClient

        client = MlflowClient(tracking_uri=store)
        client.search_traces(locations=["0"], max_results=1)  # opening the database is not searching
        return lambda text: [
            t.info.trace_id for t in client.search_traces(locations=["0"], filter_string=text, max_results=100)
        ]
    from mlflow.entities import Trace  # noqa: F401 - loading MLflow is not searching
    from mlflow.utils import search_utils  # noqa: F401

    from spanweir.exporters.delta import search_traces

    return lambda text: [t.info.trace_id for t in search_traces(store, filter_string=text, max_results=100)]


def search(store: str) -> None:
    """In a process of its own, so that memory is the search's."""
    find = searcher(store)
    start = START_NS // 1_000_000 // 86_400_000 * 86_400_000 + 86_400_000
    bounds = (start, start + 3_600_000, start + 86_400_000)
    for name, text in QUERIES.items():
        began, cpu = time.monotonic(), time.process_time()
        ids = find(text.format(*bounds))
        row = {
            "name": name, "ids": ids, "s": time.monotonic() - began, "cpu_s": time.process_time() - cpu,
            "peak_mb": peak_mb(),
        }  # fmt: skip
        print(json.dumps(row), flush=True)


def peak_mb() -> int:
    """Most resident memory of this process; `ru_maxrss` would count that of the parent."""
    [line] = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) // 1024


def searched(store: str) -> Found:
    done = subprocess.run([sys.executable, __file__, "--search", store], check=True, stdout=subprocess.PIPE, text=True)
    return {row["name"]: row for row in map(json.loads, done.stdout.splitlines())}


def show(ours: Found, theirs: Found) -> None:
    print(f"{'':26s} {'found':>5s} {'Delta':>8s} {'CPU':>8s} {'peak':>7s} {'MLflow':>9s} {'CPU':>8s} {'peak':>7s}")
    for name, row in ours.items():
        line = f"{name:26s} {len(row['ids']):5d} {row['s']:6.2f} s {row['cpu_s']:6.2f} s {row['peak_mb']:4d} MB"
        if other := theirs.get(name):
            line += f" {other['s']:7.2f} s {other['cpu_s']:6.2f} s {other['peak_mb']:4d} MB"
            line += f"  {other['s'] / row['s']:6.1f}x"
            if other["ids"] != row["ids"]:
                line += f"  not the same traces: {len(other['ids'])}"
        print(line)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--spans", type=int, default=1_000_000)
    parser.add_argument("--days", type=int, default=10)
    parser.add_argument("--version", choices=["v1", "v2"], default="v1")
    parser.add_argument("--without-mlflow", action="store_true")
    parser.add_argument("--search", default="")
    options = parser.parse_args()
    if options.search:
        search(options.search)
        return
    with tempfile.TemporaryDirectory() as directory:
        place = Path(directory)
        config = Config(
            path=f"{place}/tables", schema_version=options.version, maintenance_interval=Duration(0),
            vacuum_retention=Duration(0),
        )  # fmt: skip
        copies = max(1, options.spans // (POOL * SPANS_PER_TRACE))
        began = time.monotonic()
        planned = fill(config, copies, options.days)
        maintain(config)
        size = sum(file.stat().st_size for file in place.rglob("*.parquet")) / 1e6
        print(f"{copies * POOL * SPANS_PER_TRACE:,} spans, {size:.0f} MB, made in {time.monotonic() - began:.0f} s")
        theirs: Found = {}
        if not options.without_mlflow:
            began = time.monotonic()
            fill_mlflow(place, planned)
            size = (place / "mlflow.db").stat().st_size / 1e6
            print(f"MLflow's database: {size:.0f} MB, made in {time.monotonic() - began:.0f} s", flush=True)
            theirs = searched(f"sqlite:///{place}/mlflow.db")
        show(searched(str(place / "tables")), theirs)


if __name__ == "__main__":
    main()
