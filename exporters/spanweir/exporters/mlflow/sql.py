"""The exporter for databases: one transaction a batch or a few (`held`), a handful of set-based statements, whatever
the database.

What a transaction does, in the order in which its locks are taken (MLflow takes the same): rebuild queue of the
roll-ups, rows of traces that exist, then traces, tags, metadata, spans, assessments and run links, each by key.

Not here: what is written (`rows`), to which tables (`revisions`), and how a database is spoken to (`sqlite`, ...).
"""

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Final, Self

import msgspec

from spanweir.exporters.api import Batch, Exporter, KnownTrace, Permanent, Retry
from spanweir.exporters.mlflow import attachments, experiments, finalized, known, retract, rollups, runs
from spanweir.exporters.mlflow.artifacts import Artifacts
from spanweir.exporters.mlflow.database import Database, Trouble, select_in
from spanweir.exporters.mlflow.held import Held
from spanweir.exporters.mlflow.revisions import METADATA, SPAN_METRICS, TAGS, TRACE_METRICS, Layout
from spanweir.exporters.mlflow.rows import FINALIZED, KEY, SPANS_LOCATION, TRACKING_STORE, Home, Rows, build, cleaned
from spanweir.exporters.mlflow.rows import request_id as mlflow_id
from spanweir.exporters.mlflow.schema import SchemaError, UnknownRevision, is_empty, settled_layout
from spanweir.schemas.trace import MappedSpan, TraceRow

RACES: Final = 5
"""How often a batch is written again at once after another writer got in between."""
BUSY_RETRY_S: Final = 1.0
READ_WAIT_S: Final = 5.0
"""How long reading what is known waits for a transaction to end."""
GONE_RETRY_S: Final = 2.0

_log = logging.getLogger(__name__)


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """What of the configuration the SQL store needs."""

    experiment: str
    create_experiments: bool
    workspace: str
    artifact_root: str
    artifact_server: str
    rollups: bool
    attachment_min_bytes: int
    attachment_min_text_bytes: int


class Stored(msgspec.Struct, frozen=True):
    """What the database has of a trace, as far as writing it again needs to know."""

    experiment_id: int
    timestamp_ms: int
    location: str | None
    finalized: bool
    """MLflow's `start_trace` wrote the row: its times and whatever totals it has stay."""


class SqlStore:
    """An `Exporter`, `Settling` and `Hydrating`."""

    def __init__(
        self,
        options: Options,
        connect: Callable[[], Database],
        create: Callable[[], None],
        fallback: Callable[[], Exporter],
    ) -> None:
        """`create` makes MLflow's schema in an empty database; `fallback` writes at a revision not known here."""
        self._options = options
        self._connect = connect
        self._create = create
        self._make_fallback = fallback
        self._fallback: Exporter | None = None
        self._database: Database | None = None
        self._revision = ""
        self._layout: Layout | None = None
        self._reader = known.Reader(connect)
        self._artifacts = Artifacts(options.artifact_server)
        self._held = Held()
        self._lock = threading.Lock()
        """The connection and what is held: reading what is known commits, from another thread."""

    def __enter__(self) -> Self:
        try:
            self._open()
        except Retry as reason:
            _log.warning("%s; it is tried again with the first batch", reason)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        self._reader.close()
        self._artifacts.close()
        try:
            with self._lock:
                self._commit_held()
            self._held.tell()
        finally:
            self._close()
            self._leave_fallback()

    def known(self, trace_ids: Sequence[str], /) -> dict[str, KnownTrace]:
        if self._held:
            if not self._lock.acquire(timeout=READ_WAIT_S):
                raise Retry("a transaction does not end")
            try:
                self._commit_held()
            finally:
                self._lock.release()
        return self._reader.known(trace_ids)

    @property
    def durable(self) -> int:
        return self._held.durable

    def idle(self) -> None:
        with self._lock:
            self._commit_held()
            self._held.tell()

    def settle(self) -> None:
        with self._lock:
            self._commit_due()

    def export(self, batch: Batch) -> None:
        with self._lock:
            self._commit_due()
            self._export(batch)

    def _commit_due(self) -> None:
        if self._held.due:
            self._commit_held()
        self._held.tell()

    def _commit_held(self) -> None:
        if self._held and self._database is not None:
            try:
                self._database.commit()
            except Exception as error:
                self._undo(self._database, error)
            else:
                self._held.committed()

    def _undo(self, database: Database, error: Exception) -> None:
        database.rollback()
        if self._held:
            self._held.lost(f"{database.place}: {error}; batches in the same transaction are undone")

    def _export(self, batch: Batch) -> None:
        if not batch.traces and not batch.spans and not batch.retracted:
            self._held.passed(batch.last)
            return
        clean = False
        for races in range(RACES):
            database = self._open()
            if self._fallback is not None:
                self._fallback.export(batch)
                self._held.committed(batch.last)
                return
            try:
                rejected = self._write(database, batch, clean)
            except (Permanent, Retry) as error:
                self._undo(database, error)
                self._held.tell()
                raise
            except Exception as error:
                self._undo(database, error)
                self._held.tell()
                clean = self._recover(database, error, clean, last=races == RACES - 1)
            else:
                if rejected:
                    reasons = "; ".join(sorted(set(rejected.values()))[:3])
                    raise Permanent(f"{len(rejected)} traces cannot be written: {reasons}", rejected=rejected)
                return
        raise Retry(f"{database.place}: other writers got in between {RACES} times", after_s=BUSY_RETRY_S)

    def _recover(self, database: Database, error: Exception, clean: bool, *, last: bool) -> bool:
        """Raise what `export` is to raise for a driver's error, or return whether to write cleaned values next."""
        trouble = database.trouble(error)
        if trouble is Trouble.RACE and not last:
            return clean
        if trouble is Trouble.DATA or trouble is Trouble.RACE:
            if clean:
                raise Permanent(f"{database.place} refuses a value: {error}") from error
            return True
        if trouble is Trouble.BUSY:
            raise Retry(f"{database.place}: {error}", after_s=BUSY_RETRY_S) from error
        self._close()
        raise Retry(f"{database.place}: {error}", after_s=GONE_RETRY_S) from error

    def _open(self) -> Database:
        """The open database, its schema known. Raises Retry if it is out of reach, Permanent if it is not MLflow's."""
        if self._database is not None:
            return self._database
        database = self._connect()
        try:
            # Only a database that was never seen is made: one that went away comes back with its file system.
            first = not self._revision
            database.open(create=first)
            if first and is_empty(database):
                self._create()
            revision, self._layout = settled_layout(database)
            if first and (reason := experiments.missing_workspace(database, self._options.workspace)):
                raise SchemaError(reason)
            self._revision = revision
            self._leave_fallback()
        except SchemaError as error:
            database.close()
            raise Permanent(str(error)) from error
        except UnknownRevision as error:
            self._use_fallback(error)
        except Exception as error:
            database.close()
            hint = "; is its directory there, and writable?" if "unable to open" in str(error) else ""
            raise Retry(f"{database.place} cannot be opened: {error}{hint}", after_s=GONE_RETRY_S) from error
        self._database = database
        return database

    def _use_fallback(self, reason: UnknownRevision) -> None:
        self._leave_fallback()
        _log.warning("%s: traces are written through MLflow's own store, which is slower", reason)
        fallback = self._make_fallback()
        fallback.__enter__()
        self._fallback = fallback

    def _leave_fallback(self) -> None:
        if self._fallback is not None:
            self._fallback.__exit__(None, None, None)
            self._fallback = None

    def _close(self) -> None:
        if self._database is not None:
            self._database.close()
            self._database = None

    def _write(self, database: Database, batch: Batch, clean: bool) -> dict[str, str]:
        """Write what can be written, in one transaction. Returns trace id -> reason for what cannot."""
        layout = self._layout
        assert layout is not None, "opened without a layout"
        content_bytes = sum(len(span.content) for span in batch.spans)
        database.begin(content_bytes)
        revision = database.select("SELECT version_num FROM alembic_version")
        if [row[0] for row in revision] != [self._revision]:
            self._close()
            raise Retry(f"{database.place} was migrated; its tables are looked at again")
        stored = self._stored(database, batch.traces)
        homes, rejected = self._homes(database, batch, stored)
        rows = build(layout, batch.traces, self._without_attachments(batch.spans, homes), homes, database.null)
        if clean:
            rows = msgspec.structs.replace(rows, **{n: cleaned(getattr(rows, n)) for n in _TABLES})
        if self._options.rollups and layout.analytics:
            before = {key: (trace.experiment_id, trace.timestamp_ms) for key, trace in stored.items()}
            rollups.enqueue(database, rows, before)
        finalized.keep(database, layout, rows, [key for key, trace in stored.items() if trace.finalized])
        retract.spans(database, batch.retracted)
        self._put(database, layout, rows, stored, homes)
        retract.empty_traces(database, batch.retracted)
        if rejected or not self._held.take(batch, content_bytes, database.may_stay_open(content_bytes)):
            database.commit()
            self._held.committed(batch.last)
        return rejected

    def _without_attachments(self, spans: Sequence[MappedSpan], homes: Mapping[str, Home]) -> Sequence[MappedSpan]:
        options = self._options
        if not options.attachment_min_bytes and not options.attachment_min_text_bytes:
            return spans
        places = {key: home for key, home in homes.items() if self._artifacts.reaches(home.artifact_location)}
        return attachments.extract(
            spans,
            {key: home.request_id for key, home in places.items()},
            lambda key, one: self._artifacts.save(places[key].artifacts, one.attachment_id, one.data),
            min_bytes=options.attachment_min_bytes,
            min_text_bytes=options.attachment_min_text_bytes,
        )

    def _stored(self, database: Database, traces: Sequence[TraceRow]) -> dict[str, Stored]:
        """By MLflow trace id, rows locked in the order of their keys."""
        rows = select_in(
            database,
            "SELECT i.request_id, i.experiment_id, i.timestamp_ms,"
            f" (SELECT t.value FROM trace_tags t WHERE t.request_id = i.request_id AND t.key = '{SPANS_LOCATION}'),"
            f" (SELECT 1 FROM trace_request_metadata m WHERE m.request_id = i.request_id AND m.key = '{FINALIZED}')"
            " FROM trace_info i WHERE i.request_id IN",
            sorted(mlflow_id(trace.trace_id) for trace in traces),
            f" ORDER BY i.request_id{database.lock}",
        )
        return {row[0]: Stored(int(row[1]), int(row[2]), row[3], row[4] is not None) for row in rows}

    def _homes(
        self, database: Database, batch: Batch, stored: Mapping[str, Stored]
    ) -> tuple[dict[str, Home], dict[str, str]]:
        """Trace id -> where it is written, and trace id -> why it is not."""
        found = self._experiments(database, {trace.experiment or self._options.experiment for trace in batch.traces})
        homes: dict[str, Home] = {}
        rejected: dict[str, str] = {}
        for trace in batch.traces:
            key = mlflow_id(trace.trace_id)
            experiment = found[trace.experiment or self._options.experiment]
            if isinstance(experiment, str):
                rejected[trace.trace_id] = experiment
            elif reason := _conflict(stored.get(key), experiment):
                rejected[trace.trace_id] = reason
            else:
                homes[trace.trace_id] = Home(key, experiment.experiment_id, experiment.artifact_location)
        for span in batch.spans:
            if span.trace_id not in homes:
                rejected.setdefault(span.trace_id, "spans came without the row of their trace")
        return homes, rejected

    def _experiments(self, database: Database, keys: set[str]) -> dict[str, experiments.Experiment | str]:
        """The experiments asked for, or why there is none."""
        options = self._options
        found = experiments.find(database, keys, options.workspace)
        answer: dict[str, experiments.Experiment | str] = {}
        for key in sorted(keys):
            experiment = found.get(key)
            if experiment is None:
                answer[key] = self._create_experiment(database, key)
            elif not experiment.active:
                answer[key] = f"experiment {experiment.name!r} (id {experiment.experiment_id}) is deleted"
            else:
                answer[key] = experiment
        return answer

    def _create_experiment(self, database: Database, key: str) -> experiments.Experiment | str:
        options = self._options
        if reason := experiments.refusal(key):
            return reason
        if not options.create_experiments:
            return f"there is no experiment {key!r}, and create_experiments is off"
        return experiments.create(
            database,
            key,
            workspace=options.workspace,
            artifact_root=options.artifact_root,
            now_ms=time.time_ns() // 1_000_000,
        )

    def _put(
        self,
        database: Database,
        layout: Layout,
        rows: Rows,
        stored: Mapping[str, Stored],
        homes: Mapping[str, Home],
    ) -> None:
        fresh = {home.request_id for home in homes.values() if home.request_id not in stored}
        if database.lock:  # of several writers each takes its locks in the order of keys
            rows.spans.sort(key=KEY)
        database.write(layout.traces, rows.traces, fresh)
        database.write(TAGS, rows.tags, fresh)
        database.write(METADATA, rows.metadata, fresh)
        database.write(layout.spans, rows.spans, fresh)
        database.write(TRACE_METRICS, rows.trace_metrics, fresh)
        database.write(SPAN_METRICS, rows.span_metrics, fresh)
        database.write(layout.assessments, rows.assessments)
        if layout.analytics:
            moved = [
                (row[2], row[0])
                for row in rows.traces
                if (before := stored.get(row[0])) is not None and before.timestamp_ms != row[2]
            ]
            if moved:
                database.execute_many("UPDATE assessments SET trace_timestamp_ms = ? WHERE trace_id = ?", moved)
        if rows.runs:
            runs.link(database, rows.runs)


_TABLES: Final = ("traces", "tags", "metadata", "spans", "assessments", "trace_metrics", "span_metrics")


def _conflict(known_trace: Stored | None, experiment: experiments.Experiment) -> str | None:
    """Why spans cannot be added to a trace that is stored already."""
    if known_trace is None:
        return None
    if known_trace.location not in (None, TRACKING_STORE):
        where = "archived" if known_trace.location == "ARCHIVE_REPO" else f"kept in {known_trace.location}"
        return f"the trace is {where}, MLflow takes no more spans for it"
    if known_trace.experiment_id != experiment.experiment_id:
        return f"the trace is in experiment {known_trace.experiment_id}, not in {experiment.experiment_id}"
    return None
