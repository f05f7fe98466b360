"""The whole path beside MLflow's own server, in the same run: acknowledged and stored spans, CPU, memory.

    python -m tests.benchmarks.end_to_end [--traces 1 20 100] [--spans 100000] [--seconds 8] [--without-mlflow]

spanweir: `spanweir run` with the disk queue, an MLflow SQLite store and Delta inference tables, over OTLP/gRPC. MLflow:
`mlflow server` on SQLite with 2 workers, over OTLP/HTTP, the only transport it has. The load comes from a process of
its own and its CPU is not counted. Stored means: in MLflow's database, and for spanweir in the Delta tables as well.

Both store the same number of spans in a fresh database: a row costs either of them more the more there are. spanweir
acknowledges these within seconds, so its acknowledgements are measured afterwards, under a longer load, which it then
drains; MLflow's are one with storing.
"""

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import psutil

from tests.benchmarks.load import SPANS_PER_TRACE
from tests.torture.harness import Collector, free_ports

WARM_S = 2.0
SETTLE_S = 4.0
"""After the first requests: schema, caches and helper processes are done with."""
CONCURRENCY = {1: 4, 20: 2, 100: 2}


class Measured(msgspec.Struct, kw_only=True):
    system: str
    traces: int
    """In a request."""
    acknowledged_per_s: float
    stored_per_s: float
    cpu_ms_per_1000: float
    """Of all processes of the system, until everything was stored."""
    rss_mb: float
    """Highest sum over all processes of the system, the longer load included."""
    p50_ms: float
    p99_ms: float
    spans: int
    """That were stored, and took the CPU."""


class Watch:
    """CPU and memory of a tree of processes."""

    def __init__(self, pid: int) -> None:
        self._root = psutil.Process(pid)
        self._cpu: dict[int, float] = {}
        self.rss_bytes = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._look()
        self._before = dict(self._cpu)
        self._thread.start()

    def _run(self) -> None:
        while not self._stop.wait(0.2):
            self._look()

    def _look(self) -> None:
        rss = 0
        for process in [self._root, *self._root.children(recursive=True)]:
            try:
                times = process.cpu_times()
                self._cpu[process.pid] = times.user + times.system
                rss += process.memory_info().rss
            except psutil.Error:
                continue
        self.rss_bytes = max(self.rss_bytes, rss)

    def cpu_s(self) -> float:
        """Since the start."""
        self._look()
        seen = dict(self._cpu)  # the thread may find a new process meanwhile
        return sum(cpu - self._before.get(pid, 0.0) for pid, cpu in seen.items())

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()


class Load(msgspec.Struct, frozen=True):
    """The standard load, sent by a process of its own."""

    endpoint: str
    transport: str
    traces: int
    header: str = ""

    def spans(self, count: int) -> dict[str, Any]:
        """Send whole requests of at least so many spans."""
        return self._run("--requests", math.ceil(count / (self.traces * SPANS_PER_TRACE)))

    def seconds(self, seconds: float) -> dict[str, Any]:
        return self._run("--seconds", seconds)

    def _run(self, bound: str, value: float) -> dict[str, Any]:
        command = [sys.executable, "-m", "tests.benchmarks.load", "--endpoint", self.endpoint]
        command += ["--transport", self.transport, "--traces", str(self.traces), bound, str(value)]
        command += ["--concurrency", str(CONCURRENCY.get(self.traces, 2))]
        command += ["--header", self.header] if self.header else []
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        report: dict[str, Any] = json.loads(done.stdout)
        return report


def spanweir(traces: int, spans: int, seconds: float) -> Measured:
    with tempfile.TemporaryDirectory() as name:
        collector = Collector(Path(name))
        collector.start()
        try:
            load = Load(collector.endpoint, "grpc", traces)
            load.seconds(WARM_S)
            collector.wait_drained()
            time.sleep(SETTLE_S)
            watch = Watch(collector.pid)
            report = load.spans(spans)
            collector.wait_drained(timeout_s=600)
            # From the first request on: bodies are prepared before it. Metrics tell of the end half a second late.
            stored = report["spans"] / (collector.advanced_s() - report["began_s"])
            cpu = watch.cpu_s()
            longer = load.seconds(seconds)
            collector.wait_drained(timeout_s=600)
            watch.stop()
        finally:
            collector.stop()
    return _measured("spanweir", traces, report["spans"], longer, stored, cpu, watch.rss_bytes)


@contextmanager
def mlflow_server(directory: Path) -> Iterator[tuple[str, int]]:
    """host:port and process id."""
    (port,) = free_ports(1)
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", f"sqlite:///{directory}/mlflow.db"]
    command += ["--workers", "2", "--host", "127.0.0.1", "--port", str(port)]
    # No fetch of prices while it stores, and none of its job consumers, which take 2 GB and have nothing to do here.
    environment = {**os.environ, "MLFLOW_MODEL_CATALOG_URI": "", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with (directory / "server.log").open("wb") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
    try:
        deadline = time.monotonic() + 120
        while True:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2):
                    break
            except OSError:
                if time.monotonic() > deadline:
                    raise RuntimeError((directory / "server.log").read_text()[-2000:]) from None
                time.sleep(0.3)
        yield f"127.0.0.1:{port}", server.pid
    finally:
        tree = [*psutil.Process(server.pid).children(recursive=True), psutil.Process(server.pid)]
        for process in tree:
            process.terminate()
        for process in psutil.wait_procs(tree, timeout=10)[1]:
            process.kill()


def mlflow(traces: int, spans: int) -> Measured:
    with tempfile.TemporaryDirectory() as name, mlflow_server(Path(name)) as (endpoint, pid):
        load = Load(endpoint, "http", traces, "x-mlflow-experiment-id=0")
        load.seconds(WARM_S)
        time.sleep(SETTLE_S)
        watch = Watch(pid)
        report = load.spans(spans)
        cpu = watch.cpu_s()
        watch.stop()
    return _measured("mlflow", traces, report["spans"], report, report["spans_per_s"], cpu, watch.rss_bytes)


def _measured(
    system: str, traces: int, spans: int, answered: dict[str, Any], stored: float, cpu_s: float, rss: int
) -> Measured:
    return Measured(
        system=system,
        traces=traces,
        acknowledged_per_s=answered["spans_per_s"],
        stored_per_s=round(stored, 1),
        cpu_ms_per_1000=round(cpu_s * 1e6 / spans, 1),
        rss_mb=round(rss / 1e6, 1),
        p50_ms=answered["p50_ms"],
        p99_ms=answered["p99_ms"],
        spans=spans,
    )


def show(results: Sequence[Measured]) -> None:
    print("| system | traces a request | acknowledged/s | stored spans/s | CPU ms per 1,000 | RSS MB | p50, p99 ms |")
    print("|---|---|---|---|---|---|---|")
    for one in results:
        print(
            f"| {one.system} | {one.traces} | {one.acknowledged_per_s:,.0f} | {one.stored_per_s:,.0f} | "
            f"{one.cpu_ms_per_1000:,.1f} | {one.rss_mb:.0f} | {one.p50_ms}, {one.p99_ms} |"
        )
    for ours in results:
        theirs = next((r for r in results if r.system == "mlflow" and r.traces == ours.traces), None)
        if ours.system == "spanweir" and theirs is not None:
            acknowledged = ours.acknowledged_per_s / theirs.acknowledged_per_s
            stored = ours.stored_per_s / theirs.stored_per_s
            cpu = theirs.cpu_ms_per_1000 / ours.cpu_ms_per_1000
            print(
                f"{ours.traces} traces a request: acknowledged {acknowledged:.0f} times, stored {stored:.1f} times, "
                f"CPU {cpu:.1f} times less"
            )


def main() -> None:
    parser = argparse.ArgumentParser(description="spanweir and MLflow's own server, measured in the same run.")
    parser.add_argument("--traces", type=int, nargs="+", default=[1, 20, 100])
    parser.add_argument("--spans", type=int, default=100_000, help="that each stores")
    parser.add_argument("--seconds", type=float, default=8, help="of acknowledgements")
    parser.add_argument("--without-mlflow", action="store_true")
    parser.add_argument("--json", help="write the results here")
    options = parser.parse_args()
    results = []
    for traces in options.traces:
        if not options.without_mlflow:
            results.append(mlflow(traces, options.spans))
        results.append(spanweir(traces, options.spans, options.seconds))
    show(results)
    if options.json:
        Path(options.json).write_bytes(msgspec.json.format(msgspec.json.encode(results)))


if __name__ == "__main__":
    main()
