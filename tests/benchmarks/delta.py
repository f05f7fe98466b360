"""From request bytes to Delta commits on the standard load: CPU microseconds a span, and resident memory.

    python -m tests.benchmarks.delta [--spans 50000] [--tables payload,spans,annotations] [--parts]
    python -m tests.benchmarks.delta --attributes received [--spans 50000]

Requests pass the real decoder, mapper, renderer and assembly, then the exporter; ids are new in every request. Each
window of 10,000 spans ends with a commit. Given are the least and the median of the windows: what else runs on the
machine makes CPU time longer, never shorter. `--parts` says where the exporter's time goes, and costs some itself.

With `--attributes received` the exporter gets the requests as they are, and writes the spans table from them.
"""

import argparse
import gc
import os
import resource
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

from spanweir.collector import allocator
from spanweir.collector.queue.api import Record
from spanweir.exporters.api import Batch, Context
from spanweir.exporters.delta import Config
from spanweir.exporters.delta.committing import Committing
from spanweir.exporters.delta.exporter import DeltaExporter
from spanweir.schemas.options import Duration
from tests.benchmarks.load import SPANS_PER_TRACE, make_bodies
from tests.support.mapped import stages

TRACES = 20
RECORDS = 4
WINDOW = 10_000


class Parts:
    """CPU seconds of functions, without what they call of each other."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._inner: list[float] = []

    def watch(self, owner: Any, name: str, label: str) -> None:
        inner = getattr(owner, name)

        def timed(*args: Any, **kwargs: Any) -> Any:
            start = time.process_time()
            self._inner.append(0.0)
            try:
                return inner(*args, **kwargs)
            finally:
                spent = time.process_time() - start
                self.seconds[label] += spent - self._inner.pop()
                if self._inner:
                    self._inner[-1] += spent

        setattr(owner, name, timed)

    def watch_exporter(self) -> None:
        from spanweir.exporters.delta import (
            arrow,
            blobs,
            files,
            received,
            received_rows,
            rows,
            seen,
            spool,
            table,
            window,
        )

        self.watch(Committing, "export", "else")
        self.watch(DeltaExporter, "_add_spans", "rows of spans: kept")
        self.watch(rows.SpanRows, "batch", "rows of spans: values")
        self.watch(rows.AnnotationRows, "columns", "rows of annotations")
        self.watch(DeltaExporter, "_add_payloads", "rows of payload")
        self.watch(arrow.Layout, "batch", "arrays")
        self.watch(window.Pending, "stage", "release of what was written")
        self.watch(files.Files, "write", "Parquet")
        self.watch(blobs.Blobs, "put", "files")
        self.watch(table.Target, "append", "commits")
        self.watch(spool.Spool, "commit", "spool")
        self.watch(spool.Spool, "written", "spool")
        self.watch(received, "decode", "protobuf to Arrow")
        self.watch(received_rows.ReceivedRows, "rows", "columns")
        self.watch(received.ReceivedExporter, "_make_rows", "keys")
        self.watch(seen.Seen, "of", "seen: looked up")
        self.watch(seen.Seen, "note", "seen: noted")


def resident_mb() -> dict[str, int]:
    lines = Path("/proc/self/status").read_text().splitlines()
    fields = {line.split(":")[0]: line.split()[1] for line in lines if line.startswith(("VmRSS", "VmHWM", "RssAnon"))}
    return {name: int(value) // 1024 for name, value in fields.items()}


def cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def records() -> Iterator[list[Record]]:
    """Without end: so many as the delivery takes from the queue at once."""
    bodies, salt = make_bodies(12, TRACES), os.urandom(2)
    serial = 0
    while True:
        taken = []
        for _ in range(RECORDS):
            serial += 1
            body = bodies[serial % len(bodies)].renew(serial, salt)
            taken.append(Record(sequence=serial, signal="traces", received_ns=time.time_ns(), body=body))
        yield taken


def measure(exporter: Committing, windows: int, attributes: str) -> Iterator[tuple[float, float]]:
    """CPU microseconds a span before the exporter and in it, of each window."""
    received = attributes == "received"
    made, source = stages(mapped=not received, requests=received), records()
    batches = WINDOW // (TRACES * RECORDS * SPANS_PER_TRACE)
    for _ in range(windows):
        before = within = 0.0
        for number in range(batches):
            taken = next(source)
            start = cpu_s()
            result = made.run(taken, time.monotonic(), time.time_ns())
            batch = Batch(
                first=taken[0].sequence, last=taken[-1].sequence,
                spans=result.spans, traces=result.traces, requests=result.requests,
            )  # fmt: skip
            del result
            between = cpu_s()
            exporter.export(batch)
            if number == batches - 1:
                exporter.flush()
            before += between - start
            within += cpu_s() - between
        yield before / WINDOW * 1e6, within / WINDOW * 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--spans", type=int, default=50_000)
    parser.add_argument("--tables", default="")
    parser.add_argument("--attributes", default="mapped", choices=["mapped", "received"])
    parser.add_argument("--compression", default="snappy")
    parser.add_argument("--schema", default="v1")
    parser.add_argument("--parts", action="store_true")
    options = parser.parse_args()
    options.tables = options.tables or {"mapped": "payload,spans,annotations", "received": "spans"}[options.attributes]
    allocator.keep_little(allocator.DELIVERY)  # as the delivery process does
    parts = Parts()
    if options.parts:
        parts.watch_exporter()
    gc.disable()  # as the delivery process does
    windows = max(1, options.spans // WINDOW)
    with tempfile.TemporaryDirectory() as directory:
        config = Config(
            path=f"{directory}/tables", tables=options.tables.split(","), compression=options.compression,
            schema_version=options.schema, maintenance_interval=Duration(0), attributes=options.attributes,
        )  # fmt: skip
        exporter: Any = config.build(Context(name="delta", state_directory=f"{directory}/state"))
        with exporter:
            print("memory with open tables", resident_mb())
            measured = list(measure(exporter, windows, options.attributes))
            print("memory at the end      ", resident_mb())
        stored = sum(file.stat().st_size for file in Path(directory, "tables").rglob("*.parquet"))
    for part, seconds in sorted(parts.seconds.items(), key=lambda item: -item[1]):
        print(f"  {part:30s} {seconds / windows / WINDOW * 1e6:6.2f} us a span on average")
    for label, values in (
        ("before the exporter", [before for before, _ in measured]),
        (f"delta ({options.tables})", [within for _, within in measured]),
        ("request bytes to commit", [sum(one) for one in measured]),
    ):
        least = min(values)
        print(f"{label:36s} {least:6.1f} us a span at least, {median(values):6.1f} median: {1e6 / least:8,.0f} a core")
    print(f"{windows * WINDOW} spans, {stored / windows / WINDOW:.0f} bytes a span on disk")


if __name__ == "__main__":
    main()
