"""A collector as users run it, a sender that remembers what was acknowledged, and what the stores hold in the end."""

import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections import Counter, deque
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import grpc
import polars
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from spanweir.collector.decode.otlp_proto import decode_traces
from spanweir.collector.demo.process import free_ports
from tests.benchmarks.load import TRACE_EXPORT, make_bodies

_LATER = 12
IDLE_S = 8.0
"""Traces whose root never came are finalised by then."""
CALM_S = 1.0
_ROOTS = "SELECT trace_id, count(*) FROM spans WHERE parent_span_id IS NULL GROUP BY 1"
CONFIG = """
receivers: {{otlp: {{protocols: {{grpc: {{endpoint: 127.0.0.1:{grpc}}}, http: {{endpoint: 127.0.0.1:{http}}}}}}}}}
exporters:
  mlflow: {{tracking_uri: "sqlite:///{directory}/mlflow.db"}}
  delta: {{path: {directory}/tables}}
service:
  queue: {{type: disk, directory: {directory}/queue}}
  telemetry: {{metrics: {{endpoint: 127.0.0.1:{metrics}}}, logs: {{level: warning}}}}
  shutdown_timeout: 60s
  assembly: {{idle_timeout: 4s}}
  pipelines:
    traces: {{receivers: [otlp], exporters: [mlflow, delta]}}
"""


class Collector:
    """`spanweir run` in a directory. Killed, started again, stopped."""

    def __init__(self, directory: Path, config: str = CONFIG) -> None:
        self.directory = directory
        self.grpc, self.http, self.metrics = free_ports(3)
        self.config = directory / "otel-config.yaml"
        self.config.write_text(config.format(directory=directory, grpc=self.grpc, http=self.http, metrics=self.metrics))
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def endpoint(self) -> str:
        return f"127.0.0.1:{self.grpc}"

    def start(self) -> None:
        log = (self.directory / "collector.log").open("ab")
        command = [sys.executable, "-m", "spanweir.collector", "run", "--config", str(self.config)]
        self._process = subprocess.Popen(command, stdout=log, stderr=log)
        log.close()
        deadline = time.monotonic() + 60
        while not self.values():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError((self.directory / "collector.log").read_text()[-4000:])
            time.sleep(0.05)

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def kill_parent(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def kill_child(self) -> bool:
        """True if there was one."""
        for pid in self.children():
            os.kill(pid, signal.SIGKILL)
            return True
        return False

    def children(self) -> list[int]:
        """Delivery processes of this collector."""
        assert self._process is not None
        found = []
        for entry in Path("/proc").iterdir():
            try:
                if entry.name.isdigit() and f"\nPPid:\t{self._process.pid}\n" in (entry / "status").read_text():
                    found.append(int(entry.name))
            except OSError:
                continue
        return found

    def stop(self, timeout_s: float = 90) -> int:
        assert self._process is not None
        if self._process.poll() is None:
            self._process.terminate()
        return self._process.wait(timeout_s)

    def values(self) -> dict[str, float]:
        """The metrics, by name with labels; empty while it does not answer."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.metrics}/metrics", timeout=2) as answer:
                text = answer.read().decode()
        except OSError:
            return {}
        lines = (line.rpartition(" ") for line in text.splitlines() if not line.startswith("#"))
        return {name: float(value) for name, _, value in lines}

    def advanced_s(self, exporters: tuple[str, ...] = ("mlflow", "delta")) -> float:
        """When the last of their cursors was stored (monotonic): what is before it is durable at its destination."""
        cursors = (self.directory / "queue" / "cursors" / name for name in exporters)
        return max(path.stat().st_mtime for path in cursors) - time.time() + time.monotonic()

    def wait_settled(self, timeout_s: float = 120) -> None:
        """Until everything is delivered and every trace is final."""
        self.wait_drained(timeout_s=timeout_s)
        time.sleep(IDLE_S)
        self.wait_drained(timeout_s=timeout_s)

    def wait_drained(self, exporters: tuple[str, ...] = ("mlflow", "delta"), timeout_s: float = 120) -> float:
        """Until every exporter is done with every record that is in the queue now, and stays so for a second.

        Returns when that was seen first (monotonic): up to 0.7 s late, as the collector tells twice a second.
        """
        deadline = time.monotonic() + timeout_s
        since: float | None = None
        while since is None or time.monotonic() - since < CALM_S:
            values = self.values()
            now = time.monotonic()
            sizes = [values.get(f'otelcol_exporter_queue_size{{exporter="{name}"}}') for name in exporters]
            if any(size != 0 for size in sizes):
                since = None
            elif since is None:
                since = now
            if now > deadline:
                raise TimeoutError(f"not drained: {sizes}\n" + (self.directory / "collector.log").read_text()[-4000:])
            time.sleep(0.2)
        return since


class Sender:
    """Sends the standard load from a thread until stopped, and remembers the spans that were acknowledged.

    Every other request comes in two: the spans below first, the roots up to a second later, and sometimes never.
    """

    def __init__(self, endpoint: str, traces: int = 5, pause_s: float = 0.02) -> None:
        self.acknowledged: list[bytes] = []
        self.refused: Counter[str] = Counter()
        self._endpoint = endpoint
        self._bodies = make_bodies(8, traces)
        self._pause_s = pause_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(60)

    def _run(self) -> None:
        salt = os.urandom(2)
        serial = 0
        with grpc.insecure_channel(self._endpoint, options=[("grpc.max_reconnect_backoff_ms", 200)]) as channel:
            export = channel.unary_unary(TRACE_EXPORT)
            later: deque[bytes] = deque()
            while not self._stop.wait(self._pause_s):
                body = self._bodies[serial % len(self._bodies)].renew(serial, salt)
                serial += 1
                if serial % 2:
                    body, roots = _split(body)
                    if serial % 10 != 5:
                        later.append(roots)
                self._send(export, body)
                if len(later) > _LATER:
                    self._send(export, later.popleft())
            for body in later:
                self._send(export, body)

    def _send(self, export: Callable[..., object], body: bytes) -> None:
        try:
            export(body, timeout=10)
        except grpc.RpcError as error:
            self.refused[error.code().name] += 1
        else:
            self.acknowledged.append(body)

    def spans(self) -> set[tuple[str, str]]:
        """(trace id, span id) of every acknowledged span."""
        return {(raw.trace_id, raw.span_id) for body in self.acknowledged for raw in decode_traces(body)}


def by_hand(torture: Callable[[Path], list[str]], directory: str | None) -> NoReturn:
    """Torture in `directory`, or in a temporary one; print what went wrong, and exit."""
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(directory or temporary).absolute()
        place.mkdir(parents=True, exist_ok=True)
        problems = torture(place)
        for problem in problems:
            print(problem)
        if problems:
            print((place / "collector.log").read_text()[-3000:])
    print("FAILED" if problems else "nothing lost, nothing doubled")
    sys.exit(1 if problems else 0)


def _split(body: bytes) -> tuple[bytes, bytes]:
    """The request without roots, and the roots alone."""
    below, roots = ExportTraceServiceRequest.FromString(body), ExportTraceServiceRequest.FromString(body)
    for request, keep in ((below, False), (roots, True)):
        for resource_spans in request.resource_spans:
            for scope_spans in resource_spans.scope_spans:
                kept = [span for span in scope_spans.spans if (not span.parent_span_id) is keep]
                del scope_spans.spans[:]
                scope_spans.spans.extend(kept)
    return below.SerializeToString(), roots.SerializeToString()


def check(directory: Path, acknowledged: set[tuple[str, str]]) -> list[str]:
    """What is wrong with the stores; empty if every acknowledged span stands in both exactly once."""
    problems = []
    traces = {trace_id for trace_id, _ in acknowledged}
    with sqlite3.connect(directory / "mlflow.db") as database:
        stored = Counter(database.execute("SELECT substr(trace_id, 4), span_id FROM spans"))
        rows = Counter(dict(database.execute("SELECT substr(request_id, 4), count(*) FROM trace_info GROUP BY 1")))
        roots = Counter(dict(database.execute(_ROOTS)))
        states = Counter(dict(database.execute("SELECT status, count(*) FROM trace_info GROUP BY 1")))
    several = [trace_id for trace_id, count in roots.items() if count != 1]
    if several or len(roots) != len(rows):
        problems.append(f"mlflow: {len(several)} traces have more than one root, {len(rows) - len(roots)} have none")
    problems += _compare("mlflow spans", stored, acknowledged)
    problems += _compare("mlflow traces", rows, traces)
    if set(states) - {"OK", "ERROR"}:
        problems.append(f"mlflow: states {dict(states)}")
    spans = polars.read_delta(str(directory / "tables" / "spanweir_otel_spans"), columns=["trace_id", "span_id"])
    problems += _compare("delta spans", Counter(spans.rows()), acknowledged)
    payload = polars.read_delta(str(directory / "tables" / "spanweir_payload"), columns=["databricks_request_id"])
    identities = Counter(str(row[0]).removeprefix("tr-") for row in payload.rows())
    problems += _compare("delta payload", identities, traces)
    return problems


def _compare(what: str, stored: Counter[object], acknowledged: set[object]) -> list[str]:
    missing = acknowledged - set(stored)
    twice = [key for key, count in stored.items() if count > 1]
    problems = []
    if missing:
        problems.append(
            f"{what}: {len(missing)} of {len(acknowledged)} acknowledged are missing, one is {min(map(str, missing))}"
        )
    if twice:
        problems.append(f"{what}: {len(twice)} stand there more than once, one is {twice[0]}")
    return problems
