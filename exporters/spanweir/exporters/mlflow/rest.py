"""The exporter for tracking servers: spans over OTLP/HTTP, the rest over MLflow's REST API.

A group of traces goes in one request. Where the server refuses it (4xx) the group is halved until what is at fault
stands alone: a trace, or one span of it. MLflow answers for a whole request or not at all.

Not here: what the bodies hold (`wire`), who may (`credentials`). A span cannot be taken back over this API; a trace
can.
"""

import logging
import ssl
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import quote

import msgspec
import orjson

from spanweir.exporters._http import retry_after_s
from spanweir.exporters.api import Batch, Permanent, Retry
from spanweir.exporters.mlflow import attachments, wire
from spanweir.exporters.mlflow.credentials import Credentials
from spanweir.exporters.mlflow.rows import request_id
from spanweir.schemas.trace import MappedSpan, TraceRow

GROUP_TRACES: Final = 50
GROUP_BYTES: Final = 8 * 1024 * 1024
LINKS_PER_REQUEST: Final = 100
"""MLflow's own limit."""
EXPERIMENT_TTL_S: Final = 30.0
"""How long a deleted or renamed experiment may go unnoticed; the server itself refuses what it has deleted."""
RETRY_S: Final = 2.0

_RETRYABLE = frozenset((408, 425, 429, 500, 502, 503, 504))
_UNAUTHORISED = frozenset((401, 403, 407))
_log = logging.getLogger(__name__)


def check_ca_file(path: str) -> None:
    """Raises ValueError for a file that holds no authority."""
    if not path:
        return
    try:
        ssl.create_default_context(cafile=path)
    except ssl.SSLError as error:
        raise ValueError(f"ca_file {path!r} holds no certificate in PEM form") from error
    except OSError as error:
        raise ValueError(f"ca_file {path!r} cannot be read: {error.strerror}") from error


class Refused(Exception):  # noqa: N818 - becomes a Permanent or a reason for one trace
    """The server will not take this request, whenever it is sent."""


class Refusals(msgspec.Struct):
    """What of a batch the server does not take, and why; nothing in two of them."""

    traces: dict[str, str] = {}
    """By trace id: nothing of them is stored."""
    spans: dict[tuple[str, str], str] = {}
    """By trace and span id, of traces that are stored without them."""
    rows: dict[str, str] = {}
    """By trace id: their spans are stored."""

    def add(self, other: "Refusals") -> None:
        self.traces |= other.traces
        self.spans |= other.spans
        self.rows |= other.rows

    def tell(self) -> None:
        """Raises Permanent if there is anything to tell."""
        count = len(self.traces) + len(self.spans) + len(self.rows)
        if count:
            reasons = {*self.traces.values(), *self.spans.values(), *self.rows.values()}
            what = f"{len(self.traces)} traces, {len(self.spans)} spans and {len(self.rows)} rows of others"
            raise Permanent(
                f"{what} cannot be written: {'; '.join(sorted(reasons)[:3])}",
                rejected=self.traces,
                rejected_spans=self.spans,
                rejected_rows=self.rows,
            )


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """What of the exporter's options concerns a tracking server."""

    experiment: str
    create_experiments: bool
    connections: int
    timeout_s: float
    ca_file: str
    attachment_min_bytes: int
    attachment_min_text_bytes: int


class Experiment(msgspec.Struct, frozen=True):
    """An experiment as the server names it."""

    experiment_id: str
    artifact_location: str


class RestStore:
    """An `Exporter`."""

    def __init__(self, options: Options, credentials: Credentials) -> None:
        self._options = options
        self._credentials = credentials
        self._pool: Any = None
        self._threads: ThreadPoolExecutor | None = None
        self._experiments: dict[str, tuple[Experiment | Refused, float]] = {}
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        import urllib3

        self._pool = urllib3.PoolManager(
            retries=False,
            maxsize=self._options.connections,
            block=True,
            timeout=urllib3.Timeout(connect=10, read=self._options.timeout_s),
            ca_certs=self._options.ca_file or None,
        )
        self._threads = ThreadPoolExecutor(self._options.connections, thread_name_prefix="mlflow-rest")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        if self._threads is not None:
            self._threads.shutdown(cancel_futures=True)
            self._threads = None
        if self._pool is not None:
            self._pool.clear()
            self._pool = None

    def export(self, batch: Batch) -> None:
        assert self._threads is not None, "export before start"
        spans: dict[str, list[MappedSpan]] = {row.trace_id: [] for row in batch.traces}
        refused = Refusals()
        for span in batch.spans:
            if span.trace_id in spans:
                spans[span.trace_id].append(span)
            else:
                refused.traces[span.trace_id] = "spans came without the row of their trace"
        by_experiment: dict[Experiment, list[TraceRow]] = {}
        for row in batch.traces:
            try:
                by_experiment.setdefault(self._experiment(row.experiment or self._options.experiment), []).append(row)
            except Refused as reason:
                refused.traces[row.trace_id] = str(reason)
        groups = [(experiment, group) for experiment, rows in by_experiment.items() for group in _groups(rows, spans)]
        for found in self._threads.map(lambda each: self._send(each[0], each[1], spans), groups):
            refused.add(found)
        self._link(row for _, rows in groups for row in rows if row.trace_id not in refused.traces)
        self._delete(batch)
        refused.tell()

    def _send(
        self, experiment: Experiment, rows: Sequence[TraceRow], spans: Mapping[str, Sequence[MappedSpan]]
    ) -> Refusals:
        """Spans first: a row that says OK then has its spans.

        A trace of which some spans were refused is finished with the others.
        """
        experiment_id = experiment.experiment_id
        sent = self._without_attachments(experiment, [span for row in rows for span in spans[row.trace_id]])
        refused = Refusals(spans=self._send_spans(experiment_id, sent))
        for row in rows:
            kept = [span for span in spans[row.trace_id] if (span.trace_id, span.span_id) not in refused.spans]
            if spans[row.trace_id] and not kept:
                for span in spans[row.trace_id]:
                    refused.traces[row.trace_id] = refused.spans.pop((span.trace_id, span.span_id))
            elif row.complete:
                try:
                    self._send_row(row, experiment_id, kept)
                except Refused as reason:
                    refused.rows[row.trace_id] = str(reason)
        return refused

    def _send_row(self, row: TraceRow, experiment_id: str, spans: Sequence[MappedSpan]) -> None:
        if location := self._credentials.location:
            path = f"/api/4.0/mlflow/traces/{location}/{row.trace_id}/info"
            self._call("POST", path, wire.catalog_body(row, location, spans))
        else:
            self._call("POST", "/api/3.0/mlflow/traces", wire.trace_body(row, experiment_id, spans))

    def _without_attachments(self, experiment: Experiment, spans: Sequence[MappedSpan]) -> Sequence[MappedSpan]:
        """Large values go where the server keeps artifacts itself; elsewhere (a bucket) they stay in their spans."""
        prefix = "mlflow-artifacts:/"
        if not experiment.artifact_location.startswith(prefix):
            return spans
        folder = experiment.artifact_location[len(prefix) :].strip("/")

        def save(trace_id: str, attachment: attachments.Attachment) -> None:
            place = f"{folder}/traces/{request_id(trace_id)}/artifacts/attachments/{attachment.attachment_id}"
            headers = {"content-type": "application/octet-stream"}
            try:
                self._call("PUT", f"/api/2.0/mlflow-artifacts/artifacts/{quote(place)}", attachment.data, headers)
            except Refused as reason:
                _log.warning("an attachment stays in its span: %s", reason)
                raise attachments.Unsaved from reason

        return attachments.extract(
            spans,
            {span.trace_id: request_id(span.trace_id) for span in spans},
            save,
            min_bytes=self._options.attachment_min_bytes,
            min_text_bytes=self._options.attachment_min_text_bytes,
        )

    def _send_spans(self, experiment_id: str, spans: Sequence[MappedSpan]) -> dict[tuple[str, str], str]:
        """Returns (trace id, span id) -> reason for what was refused."""
        if not spans:
            return {}
        try:
            headers = {"content-type": "application/x-protobuf", **self._credentials.spans_headers(experiment_id)}
            self._call("POST", self._credentials.spans_path, wire.request(spans, self._credentials.location), headers)
        except Refused as reason:
            if len(spans) == 1:
                return {(spans[0].trace_id, spans[0].span_id): str(reason)}
            rejected: dict[tuple[str, str], str] = {}
            for half in _halves(spans):
                rejected.update(self._send_spans(experiment_id, half))
            return rejected
        return {}

    def _link(self, rows: Iterable[TraceRow]) -> None:
        """Show traces under their runs, as far as the runs exist."""
        runs: dict[str, list[str]] = {}
        for row in rows:
            if row.run_id and row.complete:
                runs.setdefault(row.run_id, []).append(row.trace_id)
        location = self._credentials.location
        for run_id, trace_ids in runs.items():
            for start in range(0, len(trace_ids), LINKS_PER_REQUEST):
                part = trace_ids[start : start + LINKS_PER_REQUEST]
                if location:
                    path = f"/api/4.0/mlflow/traces/{location}/link-to-run/batchCreate"
                    body: dict[str, Any] = {"location_id": location, "trace_ids": part, "run_id": run_id}
                else:
                    path = "/api/2.0/mlflow/traces/link-to-run"
                    body = {"trace_ids": [request_id(trace_id) for trace_id in part], "run_id": run_id}
                try:
                    self._call("POST", path, orjson.dumps(body))
                except Refused as reason:
                    _log.warning("traces are not linked to run %s: %s", run_id, reason)

    def _delete(self, batch: Batch) -> None:
        """Traces that were taken back whole: no row of theirs came with it. Unity Catalog has no call for that."""
        rows = {row.trace_id for row in batch.traces}
        gone = sorted({request_id(trace_id) for trace_id, _ in batch.retracted if trace_id not in rows})
        if gone and self._credentials.location:
            _log.warning("%d traces were taken back and stay in %s", len(gone), self._credentials.location)
            return
        for key in gone:
            try:
                answer = orjson.loads(self._call("GET", f"/api/3.0/mlflow/traces/{key}"))
                location = answer["trace"]["trace_info"]["trace_location"]["mlflow_experiment"]
                body = orjson.dumps({"experiment_id": location["experiment_id"], "request_ids": [key]})
                self._call("POST", "/api/2.0/mlflow/traces/delete-traces", body)
            except (Refused, KeyError) as reason:
                if "RESOURCE_DOES_NOT_EXIST" not in str(reason):
                    _log.warning("trace %s was taken back and stays: %s", key, reason)

    def _experiment(self, key: str) -> Experiment:
        """Raises Refused if it neither is there nor may be created. In Unity Catalog the table alone says where."""
        if self._credentials.location:
            return Experiment("", "")
        known = self._experiments.get(key)
        if known is None or known[1] < time.monotonic():
            try:
                answer: Experiment | Refused = self._find_experiment(key)
            except Refused as reason:
                answer = reason
            known = self._experiments[key] = (answer, time.monotonic() + EXPERIMENT_TTL_S)
        if isinstance(known[0], Refused):
            raise known[0]
        return known[0]

    def _find_experiment(self, key: str) -> Experiment:
        if key.isascii() and key.isdigit():
            return self._active(key, self._call("GET", f"/api/2.0/mlflow/experiments/get?experiment_id={key}"))
        path = f"/api/2.0/mlflow/experiments/get-by-name?experiment_name={quote(key, safe='')}"
        try:
            return self._active(key, self._call("GET", path))
        except Refused as reason:
            if "RESOURCE_DOES_NOT_EXIST" not in str(reason):
                raise
        if not self._options.create_experiments:
            raise Refused(f"there is no experiment {key!r}, and create_experiments is off")
        try:
            self._call("POST", "/api/2.0/mlflow/experiments/create", orjson.dumps({"name": key}))
        except Refused as reason:
            if "RESOURCE_ALREADY_EXISTS" not in str(reason):
                raise
        return self._active(key, self._call("GET", path))

    @staticmethod
    def _active(key: str, answer: bytes) -> Experiment:
        experiment = orjson.loads(answer)["experiment"]
        if experiment.get("lifecycle_stage", "active") != "active":
            raise Refused(f"experiment {key!r} (id {experiment['experiment_id']}) is deleted")
        return Experiment(str(experiment["experiment_id"]), experiment.get("artifact_location", ""))

    def _call(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> bytes:
        """Raises Refused, or Retry."""
        import urllib3

        url = self._credentials.host + path
        sent = {"content-type": "application/json", **self._credentials.headers(self._pool), **(headers or {})}
        try:
            answer = self._pool.request(method, url, body=body, headers=sent)
        except urllib3.exceptions.HTTPError as error:
            untrusted = "CERTIFICATE_VERIFY_FAILED" in str(error)
            hint = "; ca_file names the authorities to trust" if untrusted else ""
            raise Retry(f"{url}: {error}{hint}", after_s=RETRY_S) from error
        if answer.status < 300:
            return bytes(answer.data)
        reason = f"{url}: HTTP {answer.status}: {answer.data[:300].decode(errors='replace').strip()}"
        if answer.status in _UNAUTHORISED:
            # Credentials expire and permissions are mended: nothing is set aside for them.
            self._credentials.forget()
            raise Retry(reason, after_s=30.0)
        if answer.status in _RETRYABLE and b"INVALID_STATE" not in answer.data:
            raise Retry(reason, after_s=retry_after_s(answer.headers.get("retry-after", "")) or RETRY_S)
        raise Refused(reason)


def _groups(rows: Sequence[TraceRow], spans: Mapping[str, list[MappedSpan]]) -> Iterator[list[TraceRow]]:
    group: list[TraceRow] = []
    size = 0
    for row in rows:
        more = wire.size_of(spans[row.trace_id])
        if group and (len(group) == GROUP_TRACES or size + more > GROUP_BYTES):
            yield group
            group, size = [], 0
        group.append(row)
        size += more
    if group:
        yield group


def _halves(spans: Sequence[MappedSpan]) -> tuple[Sequence[MappedSpan], Sequence[MappedSpan]]:
    """Cut between two traces if there are several, else between two spans."""
    middle = len(spans) // 2
    cuts = [at for at in range(1, len(spans)) if spans[at].trace_id != spans[at - 1].trace_id]
    at = min(cuts, key=lambda cut: abs(cut - middle)) if cuts else middle
    return spans[:at], spans[at:]
