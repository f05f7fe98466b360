"""The whole path beside MLflow's own server, in the same run: acknowledged and stored spans, CPU, memory.

    python -m tests.benchmarks.end_to_end [--traces 1 20 100] [--spans 100000] [--rounds 3] [--seconds 8]
                                          [--without-mlflow]

spanweir: `spanweir run` with the disk queue, an MLflow SQLite store and Delta inference tables, over OTLP/gRPC. MLflow:
`mlflow server` on SQLite with 2 workers, over OTLP/HTTP, the only transport it has. The load comes from a process of
its own and its CPU is not counted. Stored means: in MLflow's database, and for spanweir in the Delta tables as well.

Both store the same number of spans in a fresh database, warming up included: a row costs either of them more the more
there are. They take turns, a few rounds each: a virtual machine is faster and slower by a third for minutes at a time,
and one after the other each met another machine. Figures are sums over the rounds. spanweir acknowledges a round within
a second, so its acknowledgements are measured afterwards, under a longer load, which it then drains; MLflow's are one
with storing.
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
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import msgspec
import psutil

from tests.benchmarks.load import SPANS_PER_TRACE
from tests.torture.harness import Collector, free_ports

WARM_SPANS = 4000
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
    """Of acknowledgements: under the longer load, or in the slowest round."""
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
        """Of all processes seen so far, since they began."""
        self._look()
        return sum(dict(self._cpu).values())  # the thread may find a new process meanwhile

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
        if report["failed"]:
            raise RuntimeError(f"{self.endpoint} refused {report['failed']} requests: {report['errors']}")
        return report


class System:
    """One of the two while it runs, and what it did in its rounds."""

    def __init__(self, name: str, load: Load, pid: int, stored_s: Callable[[], float | None]) -> None:
        """`stored_s` waits until everything is stored: when it was (monotonic), None where the answers say so."""
        self.name = name
        self._load = load
        self._stored_s = stored_s
        load.spans(WARM_SPANS)
        stored_s()
        time.sleep(SETTLE_S)
        self._watch = Watch(pid)
        self._reports: list[dict[str, Any]] = []
        self._cpu_s = self._seconds = 0.0

    def store(self, spans: int) -> None:
        before = self._watch.cpu_s()
        report = self._load.spans(spans)
        end = self._stored_s()
        self._cpu_s += self._watch.cpu_s() - before
        # From the first request on: bodies are prepared before it.
        self._seconds += report["seconds"] if end is None else end - report["began_s"]
        self._reports.append(report)

    def acknowledge(self, seconds: float) -> dict[str, Any]:
        report = self._load.seconds(seconds)
        self._stored_s()
        return report

    def measured(self, traces: int, longer: dict[str, Any] | None) -> Measured:
        self._watch.stop()
        spans = sum(report["spans"] for report in self._reports)
        answered = longer or max(self._reports, key=lambda report: report["seconds"])
        stored = spans / self._seconds
        return Measured(
            system=self.name,
            traces=traces,
            acknowledged_per_s=longer["spans_per_s"] if longer else round(stored),
            stored_per_s=round(stored, 1),
            cpu_ms_per_1000=round(self._cpu_s * 1e6 / spans, 1),
            rss_mb=round(self._watch.rss_bytes / 1e6, 1),
            p50_ms=answered["p50_ms"],
            p99_ms=answered["p99_ms"],
            spans=spans,
        )


@contextmanager
def spanweir(traces: int) -> Iterator[System]:
    with tempfile.TemporaryDirectory() as name:
        collector = Collector(Path(name))
        collector.start()

        def stored_s() -> float:
            collector.wait_drained(timeout_s=600)
            return collector.advanced_s()  # metrics tell of it half a second late

        try:
            yield System("spanweir", Load(collector.endpoint, "grpc", traces), collector.pid, stored_s)
        finally:
            collector.stop()


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


@contextmanager
def mlflow(traces: int) -> Iterator[System]:
    with tempfile.TemporaryDirectory() as name, mlflow_server(Path(name)) as (endpoint, pid):
        yield System("mlflow", Load(endpoint, "http", traces, "x-mlflow-experiment-id=0"), pid, lambda: None)


def run(traces: int, spans: int, rounds: int, seconds: float, *, beside_mlflow: bool) -> list[Measured]:
    """MLflow's figures first, where they are asked for."""
    with ExitStack() as running:
        theirs = [running.enter_context(mlflow(traces))] if beside_mlflow else []
        ours = running.enter_context(spanweir(traces))
        for _ in range(rounds):
            for system in (*theirs, ours):
                system.store(math.ceil(spans / rounds))
        longer = ours.acknowledge(seconds)
        return [*(system.measured(traces, None) for system in theirs), ours.measured(traces, longer)]


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
    parser.add_argument("--rounds", type=int, default=3, help="in which they store them, taking turns")
    parser.add_argument("--seconds", type=float, default=8, help="of acknowledgements")
    parser.add_argument("--without-mlflow", action="store_true")
    parser.add_argument("--json", help="write the results here")
    options = parser.parse_args()
    results = [
        measured
        for traces in options.traces
        for measured in run(
            traces, options.spans, options.rounds, options.seconds, beside_mlflow=not options.without_mlflow
        )
    ]
    show(results)
    if options.json:
        Path(options.json).write_bytes(msgspec.json.format(msgspec.json.encode(results)))


if __name__ == "__main__":
    main()
