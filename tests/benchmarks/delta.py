"""What the Delta exporter costs on the standard load: CPU microseconds a span for each part, and resident memory.

    python tests/benchmarks/delta.py [--spans 40000] [--tables payload,spans,annotations] [--compression snappy]

Batches are made by the real decoder, mapper and renderer, outside of the measurement; ids are new in every batch.
"""

import argparse
import gc
import random
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

from spanweir.exporters.api import Batch, Context
from spanweir.exporters.delta import Config
from spanweir.schemas.trace import TraceRow
from tests.support.batches import batch

TRACES = 20
RECORDS = 4
POOL = 6


def resident_mb() -> dict[str, int]:
    lines = Path("/proc/self/status").read_text().splitlines()
    fields = {line.split(":")[0]: line.split()[1] for line in lines if line.startswith(("VmRSS", "VmHWM", "RssAnon"))}
    return {name: int(value) // 1024 for name, value in fields.items()}


def renew(pool: Batch, number: int, rng: random.Random) -> Batch:
    """The batch with new trace ids; contents keep the old ones, which costs the exporter the same."""
    ids: dict[str, str] = {}
    for span in pool.spans:
        if span.trace_id not in ids:
            ids[span.trace_id] = f"{rng.getrandbits(128):032x}"
        span.trace_id = ids[span.trace_id]
    for trace in pool.traces:
        trace.trace_id = ids[trace.trace_id]
    pool.first = pool.last = number
    return pool


def filled(pool: Batch) -> Batch:
    for trace in pool.traces:
        root = next(s for s in pool.spans if s.span_id == trace.root_span_id)
        _fill(trace, root.attributes)
    return pool


def _fill(trace: TraceRow, attributes: dict[str, str]) -> None:
    request, response = attributes.get("mlflow.spanInputs"), attributes.get("mlflow.spanOutputs")
    trace.request = request.encode() if request else None
    trace.response = response.encode() if response else None
    trace.request_preview, trace.response_preview = (request or "")[:1000], (response or "")[:1000]
    trace.session_id, trace.tags = "session", {"team": "search"}


def timed(parts: dict[str, float], owner: Any, name: str, label: Callable[..., str]) -> None:
    inner = getattr(owner, name)

    def wrapper(*args: Any, **kwargs: Any) -> Any:
        start = time.process_time()
        try:
            return inner(*args, **kwargs)
        finally:
            parts[label(*args)] += time.process_time() - start

    setattr(owner, name, wrapper)


def instrument(parts: dict[str, float]) -> None:
    from spanweir.exporters.delta import exporter, files, payload, rows, spool, table

    timed(parts, table.Target, "append", lambda target, *_: f"{target.spec.suffix}: write and commit")
    timed(parts, files.Files, "write", lambda self, *_: f"{self._spec.suffix}:   of it write")
    timed(parts, rows.SpanRows, "batch", lambda *_: "otel_spans: rows")
    timed(parts, rows.AnnotationRows, "batch", lambda *_: "otel_annotations: rows")
    timed(parts, exporter.DeltaExporter, "_add_payloads", lambda *_: "payload: rows")
    timed(parts, payload, "trace_metadata", lambda *_: "described")
    timed(parts, spool.Spool, "commit", lambda *_: "spool: commit")
    timed(parts, spool.Spool, "written", lambda *_: "spool: look up")
    timed(parts, spool.Spool, "pending_keys", lambda *_: "spool: look up")
    timed(parts, exporter.DeltaExporter, "export", lambda *_: "all")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--spans", type=int, default=40_000)
    parser.add_argument("--tables", default="payload,spans,annotations")
    parser.add_argument("--compression", default="snappy")
    parser.add_argument("--schema", default="v1")
    options = parser.parse_args()
    rng = random.Random(1)
    print("memory before", resident_mb())
    pools = [filled(batch(1, records=RECORDS, traces=TRACES, seed=seed)) for seed in range(POOL)]
    a_batch = len(pools[0].spans)
    size = sum(len(s.content) for s in pools[0].spans) / a_batch
    print(f"{POOL} pools of {a_batch} spans, content {size:.0f} bytes a span; memory with them", resident_mb())
    parts: dict[str, float] = defaultdict(float)
    instrument(parts)
    gc.disable()  # as the delivery process does
    with tempfile.TemporaryDirectory() as directory:
        config = Config(
            path=f"{directory}/tables", tables=options.tables.split(","), compression=options.compression,
            schema_version=options.schema,
        )  # fmt: skip
        with config.build(Context(name="delta", state_directory=f"{directory}/state")) as exporter:
            print("memory with open tables", resident_mb())
            done = number = 0
            while done < options.spans:
                number += 1
                exporter.export(renew(pools[number % POOL], number, rng))
                done += a_batch
            exporter.flush()
            print("memory at the end", resident_mb())
        stored = sum(f.stat().st_size for f in Path(directory, "tables").rglob("*.parquet")) / done
    for part, seconds in sorted(parts.items()):
        print(f"{part:40s} {seconds / done * 1e6:7.2f} us a span")
    print(f"{done} spans, {stored:.0f} bytes a span on disk")


if __name__ == "__main__":
    main()
