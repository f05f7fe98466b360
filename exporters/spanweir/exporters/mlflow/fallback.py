"""MLflow's own store as exporter, for databases at a revision that `revisions` does not list.

It runs in a process of its own (`fallback_worker`), which is asked for one batch at a time. It is slower by an order
of magnitude, needs an installed MLflow of exactly the database's release, and cannot take back single spans.
"""

import os
import subprocess
import sys
from types import TracebackType
from typing import Final, Self

import msgspec

from spanweir.exporters.api import Batch, Permanent, Retry
from spanweir.exporters.mlflow.messages import end, receive, send
from spanweir.schemas.trace import TraceRow

RETRY_S: Final = 5.0


class Start(msgspec.Struct, kw_only=True):
    """The worker's first message."""

    uri: str
    artifact_root: str
    experiment: str
    create_experiments: bool


class Work(msgspec.Struct, kw_only=True):
    """One batch: rows, and contents of spans by trace id."""

    traces: list[TraceRow]
    contents: dict[str, list[bytes]]


class Answer(msgspec.Struct, kw_only=True):
    """What became of it. `error` is about everything, `rejected` about single traces."""

    error: str = ""
    permanent: bool = False
    rejected: dict[str, str] = {}


class FallbackStore:
    """An `Exporter`. Entering it raises Permanent if the installed MLflow does not know the database either."""

    def __init__(self, start: Start) -> None:
        self._start = start
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self._ensure()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        process, self._process = self._process, None
        if process is not None:
            end(process)

    def export(self, batch: Batch) -> None:
        work = Work(traces=batch.traces, contents={row.trace_id: [] for row in batch.traces})
        for span in batch.spans:
            if span.trace_id in work.contents:
                work.contents[span.trace_id].append(span.content)
        answer = self._ask(self._ensure(), work)
        if answer.rejected:
            reasons = "; ".join(sorted(set(answer.rejected.values()))[:3])
            raise Permanent(f"{len(answer.rejected)} traces cannot be written: {reasons}", rejected=answer.rejected)

    def _ensure(self) -> "subprocess.Popen[bytes]":
        if self._process is not None and self._process.poll() is None:
            return self._process
        environment = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_LOGGING_LEVEL": "WARNING"}
        process = subprocess.Popen(
            [sys.executable, "-m", "spanweir.exporters.mlflow.fallback_worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
        )
        self._process = process
        self._ask(process, self._start)
        return process

    def _ask(self, process: "subprocess.Popen[bytes]", message: msgspec.Struct) -> Answer:
        assert process.stdin is not None, "started without pipes"
        assert process.stdout is not None, "started without pipes"
        try:
            send(process.stdin, message)
            body = receive(process.stdout)
        except OSError:
            body = None
        if body is None:
            process.kill()
            process.wait()
            self._process = None
            raise Retry("the process that runs MLflow's store ended", after_s=RETRY_S)
        answer = msgspec.msgpack.decode(body, type=Answer)
        if answer.error:
            if answer.permanent:
                raise Permanent(answer.error)
            raise Retry(answer.error, after_s=RETRY_S)
        return answer
