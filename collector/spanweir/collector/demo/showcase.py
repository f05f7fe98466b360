"""`spanweir demo`: a collector, a sample application, and proof that its traces stand in both stores."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from spanweir.collector.demo.process import Collector, CollectorError, free_ports
from spanweir.collector.demo.stores import payload_rows, read_trace, stored_states

CONFIGURATION = """\
receivers:
  otlp:
    protocols:
      grpc: {{endpoint: 127.0.0.1:{grpc}}}
      http: {{endpoint: 127.0.0.1:{http}}}
exporters:
  mlflow: {{tracking_uri: "sqlite:///mlflow.db", experiment: spanweir-demo}}
  delta: {{path: ./tables}}
service:
  queue: {{type: disk, directory: ./queue}}
  telemetry: {{metrics: {{endpoint: 127.0.0.1:{metrics}}}}}
  pipelines:
    traces: {{receivers: [otlp], exporters: [mlflow, delta]}}
    logs: {{receivers: [otlp], exporters: [mlflow, delta]}}
"""
APPLICATION_TIMEOUT_S = 120.0
STORED_TIMEOUT_S = 180.0


class DemoError(Exception):
    """What went wrong, fit to be printed."""


class Result(NamedTuple):
    """What the demo shows in the end: its traces, one of them as each store holds it, and the stores."""

    trace_ids: list[str]
    shown: dict[str, Any]
    """One trace as MLflow gives it back."""
    payload: dict[str, Any]
    """Its row of the inference table."""
    tracking_uri: str
    table: str


def run(directory: Path, say: Callable[[str], None]) -> Result:
    """The whole demonstration in `directory`. Raises DemoError with the reason."""
    directory.mkdir(parents=True, exist_ok=True)
    grpc, http, metrics = free_ports(3)
    configuration = CONFIGURATION.format(grpc=grpc, http=http, metrics=metrics)
    say(f"Starting a collector on 127.0.0.1:{grpc} (gRPC) and 127.0.0.1:{http} (HTTP)")
    try:
        with Collector(directory, configuration, ports=(grpc, http)) as collector:
            say("Running a sample application: questions on documents, an agent with tools, a conversation, an error")
            trace_ids = _application(grpc)
            say(f"Waiting until its {len(trace_ids)} traces stand in both stores")
            _wait(collector, directory, trace_ids)
    except CollectorError as error:
        raise DemoError(str(error)) from error
    return _read_back(directory, trace_ids)


def _application(port: int) -> list[str]:
    """Run the sample application over OTLP/gRPC. Returns its trace ids."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("OTEL_")}
    environment["OTEL_EXPORTER_OTLP_ENDPOINT"] = f"http://127.0.0.1:{port}"
    environment["OTEL_EXPORTER_OTLP_PROTOCOL"] = "grpc"
    command = [sys.executable, "-m", "spanweir.collector.demo.app"]
    try:
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=APPLICATION_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise DemoError(f"the sample application did not end within {APPLICATION_TIMEOUT_S:.0f} s") from error
    trace_ids = done.stdout.split()
    if done.returncode or not trace_ids:
        raise DemoError(f"the sample application failed with status {done.returncode}:\n{done.stderr.strip()}")
    return trace_ids


def _wait(collector: Collector, directory: Path, trace_ids: list[str]) -> None:
    deadline = time.monotonic() + STORED_TIMEOUT_S
    wanted = set(trace_ids)
    while True:
        collector.check()
        states = stored_states(directory / "mlflow.db", trace_ids)
        mlflow_lacks = {i for i in wanted if states.get(i) not in ("OK", "ERROR")}
        delta_lacks = wanted - set(payload_rows(_payload_table(directory), trace_ids)) if not mlflow_lacks else wanted
        if not mlflow_lacks and not delta_lacks:
            return
        if time.monotonic() > deadline:
            store, lacks = ("MLflow store", mlflow_lacks) if mlflow_lacks else ("inference table", delta_lacks)
            raise DemoError(
                f"after {STORED_TIMEOUT_S:.0f} s the {store} lacks {len(lacks)} of {len(wanted)} traces; "
                f"the end of {collector.log}:\n{collector.log_tail()}"
            )
        time.sleep(0.2)


def _read_back(directory: Path, trace_ids: list[str]) -> Result:
    tracking_uri = f"sqlite:///{directory.absolute() / 'mlflow.db'}"
    table = _payload_table(directory)
    chosen = trace_ids[1] if len(trace_ids) > 1 else trace_ids[0]
    try:
        shown = read_trace(tracking_uri, chosen)
    except Exception as error:
        raise DemoError(f"MLflow cannot read trace {chosen} back: {error}") from error
    if not shown["data"]["spans"]:
        raise DemoError(f"MLflow gives trace {chosen} back without spans")
    return Result(trace_ids, shown, payload_rows(table, [chosen])[chosen], tracking_uri, table)


def _payload_table(directory: Path) -> str:
    return str(directory.absolute() / "tables" / "spanweir_payload")
