"""What MLflow's own store writes for the same mapped spans, to compare with.

`write` does what MLflow's SDK does: the spans, then for a finished trace the trace's row.
"""

import json
from collections.abc import Sequence

from mlflow.entities import Span, TraceInfo
from mlflow.entities.assessment import Expectation, Feedback
from mlflow.entities.assessment_source import AssessmentSource
from mlflow.entities.trace import Trace
from mlflow.entities.trace_data import TraceData
from mlflow.entities.trace_location import TraceLocation
from mlflow.entities.trace_state import TraceState
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
from mlflow.tracing.utils import add_size_stats_to_trace_metadata

from spanweir.exporters.mlflow.rows import cost_values, spaced_json, usage_values
from spanweir.exporters.mlflow.schema import with_driver
from spanweir.schemas.trace import Assessment, MappedSpan, TraceRow


def store(uri: str, artifact_root: str = "/nowhere") -> SqlAlchemyStore:
    return SqlAlchemyStore(with_driver(uri), artifact_root)


def write(into: SqlAlchemyStore, experiment_id: str, row: TraceRow, mapped: Sequence[MappedSpan]) -> None:
    spans = [Span.from_dict(json.loads(span.content)) for span in mapped]
    into.log_spans(experiment_id, spans)
    if row.complete:
        info = trace_info(experiment_id, row)
        add_size_stats_to_trace_metadata(Trace(info=info, data=TraceData(spans=spans)))
        into.start_trace(info)
    if row.run_id:
        into.link_traces_to_run([f"tr-{row.trace_id}"], row.run_id)


def trace_info(experiment_id: str, row: TraceRow) -> TraceInfo:
    metadata = {**row.metadata, "mlflow.trace_schema.version": "3"}
    if row.session_id:
        metadata["mlflow.trace.session"] = row.session_id
    if row.user_id:
        metadata["mlflow.trace.user"] = row.user_id
    if row.run_id:
        metadata["mlflow.sourceRun"] = row.run_id
    if row.usage:
        metadata["mlflow.trace.tokenUsage"] = spaced_json(usage_values(row.usage))
    if row.cost:
        metadata["mlflow.trace.cost"] = spaced_json(cost_values(row.cost))
    start_ms = row.start_ns // 1_000_000
    return TraceInfo(
        trace_id=f"tr-{row.trace_id}",
        trace_location=TraceLocation.from_experiment_id(experiment_id),
        request_time=start_ms,
        state=TraceState(row.state),
        request_preview=row.request_preview,
        response_preview=row.response_preview,
        client_request_id=row.client_request_id,
        execution_duration=None if row.end_ns is None else row.end_ns // 1_000_000 - start_ms,
        trace_metadata=metadata,
        tags={**row.tags, **({"mlflow.traceName": row.name} if row.name else {})},
        assessments=[_assessment(given, f"tr-{row.trace_id}") for given in row.assessments],
    )


def _assessment(given: Assessment, trace_id: str) -> Feedback | Expectation:
    kind = Feedback if given.kind == "feedback" else Expectation
    assessment = kind(
        name=given.name,
        value=json.loads(given.value),
        source=AssessmentSource(source_type=given.source_type, source_id=given.source_id),
        trace_id=trace_id,
        span_id=given.span_id,
        metadata=given.metadata or None,
        create_time_ms=given.created_ms,
        last_update_time_ms=given.created_ms,
        **({"rationale": given.rationale} if kind is Feedback else {}),
    )
    assessment.assessment_id = given.assessment_id
    return assessment
