"""The program behind `fallback`: MLflow's own store, asked through standard input and output."""

import json
import os
import sys
from typing import Any

import mlflow
import msgspec
from mlflow.entities import Span, TraceInfo
from mlflow.entities.assessment import Expectation, Feedback
from mlflow.entities.assessment_source import AssessmentSource
from mlflow.entities.trace_location import TraceLocation
from mlflow.entities.trace_state import TraceState
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_STATE, RESOURCE_DOES_NOT_EXIST
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

from spanweir.exporters.mlflow.fallback import Answer, Start, Work
from spanweir.exporters.mlflow.messages import receive, send
from spanweir.exporters.mlflow.rows import (
    COST,
    PREVIEW_CHARS,
    SESSION,
    SESSION_CHARS,
    SOURCE_RUN,
    TOKEN_USAGE,
    TRACE_NAME,
    USER,
    cost_values,
    distinct,
    optional,
    spaced_json,
    usage_values,
)
from spanweir.exporters.mlflow.schema import with_driver
from spanweir.schemas.trace import Assessment, TraceRow

_PASSING = frozenset(("TEMPORARILY_UNAVAILABLE", "INTERNAL_ERROR", "REQUEST_LIMIT_EXCEEDED", "RESOURCE_EXHAUSTED"))


class Writer:
    """One store, and the experiments it has been asked for."""

    def __init__(self, start: Start) -> None:
        self._start = start
        self._store = SqlAlchemyStore(with_driver(start.uri), start.artifact_root)

    def write(self, work: Work) -> Answer:
        answer = Answer()
        for row in work.traces:
            try:
                self._write_trace(row, work.contents.get(row.trace_id, []))
            except MlflowException as error:
                if error.error_code in _PASSING:
                    return Answer(error=f"MLflow: {error.message}")
                answer.rejected[row.trace_id] = f"MLflow: {error.message}"
            except (ValueError, TypeError, OverflowError) as error:
                answer.rejected[row.trace_id] = f"MLflow does not take it: {error}"
        return answer

    def _write_trace(self, row: TraceRow, contents: list[bytes]) -> None:
        experiment_id = self._experiment(row.experiment or self._start.experiment)
        spans = [Span.from_dict(json.loads(content)) for content in contents]
        if spans:
            self._store.log_spans(experiment_id, spans)
        if row.complete:
            # It may come again when late spans amend the row; MLflow then overwrites what it has.
            self._store.start_trace(trace_info(experiment_id, row))
        if row.run_id:
            try:
                self._store.link_traces_to_run([f"tr-{row.trace_id}"], row.run_id)
            except MlflowException as error:
                if error.error_code in _PASSING:
                    raise

    def _experiment(self, key: str) -> str:
        if key.isdigit():
            return str(self._store.get_experiment(key).experiment_id)
        found = self._store.get_experiment_by_name(key)
        if found is not None:
            if found.lifecycle_stage != "active":
                raise MlflowException(f"experiment {key!r} is deleted", error_code=INVALID_STATE)
            return str(found.experiment_id)
        if not self._start.create_experiments:
            raise MlflowException(
                f"there is no experiment {key!r}, and create_experiments is off", RESOURCE_DOES_NOT_EXIST
            )
        return str(self._store.create_experiment(key))


def trace_info(experiment_id: str, row: TraceRow) -> TraceInfo:
    metadata = dict(row.metadata)
    if row.session_id:
        metadata[SESSION] = distinct(row.session_id, SESSION_CHARS)
    if row.user_id:
        metadata[USER] = row.user_id
    if row.run_id:
        metadata[SOURCE_RUN] = row.run_id
    if row.usage:
        metadata[TOKEN_USAGE] = spaced_json(usage_values(row.usage))
    if row.cost:
        metadata[COST] = spaced_json(cost_values(row.cost))
    start_ms = row.start_ns // 1_000_000
    return TraceInfo(
        trace_id=f"tr-{row.trace_id}",
        trace_location=TraceLocation.from_experiment_id(experiment_id),
        request_time=start_ms,
        state=TraceState(row.state),
        request_preview=optional(row.request_preview, PREVIEW_CHARS),
        response_preview=optional(row.response_preview, PREVIEW_CHARS),
        client_request_id=row.client_request_id,
        execution_duration=None if row.end_ns is None else row.end_ns // 1_000_000 - start_ms,
        trace_metadata=metadata,
        tags={**row.tags, **({TRACE_NAME: row.name} if row.name else {})},
        assessments=[assessment(given, f"tr-{row.trace_id}") for given in row.assessments],
    )


def assessment(given: Assessment, trace_id: str) -> Any:
    feedback = given.kind == "feedback"
    more: dict[str, Any] = {"rationale": given.rationale} if feedback else {}
    made = (Feedback if feedback else Expectation)(
        name=given.name,
        value=json.loads(given.value),
        source=AssessmentSource(source_type=given.source_type, source_id=given.source_id),
        trace_id=trace_id,
        span_id=given.span_id,
        metadata=given.metadata or None,
        create_time_ms=given.created_ms,
        last_update_time_ms=given.created_ms,
        **more,
    )
    made.assessment_id = given.assessment_id
    return made


def main() -> None:
    # Whatever MLflow prints goes to standard error; the real standard output carries answers only.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    first = receive(sys.stdin.buffer)
    if first is None:
        return
    try:
        writer = Writer(msgspec.msgpack.decode(first, type=Start))
    except MlflowException as error:
        # A schema that MLflow refuses is an internal error to it.
        permanent = error.error_code != "TEMPORARILY_UNAVAILABLE"
        send(answers, Answer(error=f"MLflow {mlflow.__version__}: {error.message}", permanent=permanent))
        return
    send(answers, Answer())
    while (body := receive(sys.stdin.buffer)) is not None:
        send(answers, writer.write(msgspec.msgpack.decode(body, type=Work)))


if __name__ == "__main__":
    main()
