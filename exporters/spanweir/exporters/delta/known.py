"""What the tables hold of a trace, for trace assembly: late spans of traces that it does not remember."""

import threading
from collections.abc import Sequence
from typing import Any

import orjson

from spanweir.exporters.api import KNOWN_SPANS_MAX, KnownSpan, KnownTrace
from spanweir.exporters.delta import Config
from spanweir.exporters.delta.payload import TRACE_PREFIX, assessed, span_hex
from spanweir.exporters.delta.reading import Tables, time_us
from spanweir.exporters.delta.spool import Spool
from spanweir.schemas.trace import Assessment, Cost, TokenUsage, TraceRow

_OWN_METADATA = (
    "mlflow.trace.tokenUsage", "mlflow.trace.cost", "mlflow.trace.session", "mlflow.trace.user", "mlflow.sourceRun",
    "mlflow.modelId",
)  # fmt: skip


class Known:
    """Answers `Hydrating.known`. Thread-safe. Traces that this exporter did not write are not looked for."""

    def __init__(self, config: Config, spool: Spool) -> None:
        self._tables, self._spool = Tables(config), spool
        self._lock = threading.Lock()

    def known(self, trace_ids: Sequence[str]) -> dict[str, KnownTrace]:
        written = self._spool.written(trace_ids)
        if not written:
            return {}
        with self._lock:
            self._tables.refresh()
            found = self._tables.traces([TRACE_PREFIX + trace_id for trace_id in written])
        return {known.row.trace_id: known for known in map(_known, found)}


def _known(trace: dict[str, Any]) -> KnownTrace:
    info, spans = trace["info"], trace["data"]["spans"]
    metadata: dict[str, str] = info.get("trace_metadata", {})
    start_ns = time_us(info["request_time"]) * 1000
    duration_ms = info.get("execution_duration_ms")
    few = [_span(span) for span in spans] if len(spans) <= KNOWN_SPANS_MAX else []
    root = next((span for span in few if span.parent_id is None), None)
    row = TraceRow(
        trace_id=info["trace_id"].removeprefix(TRACE_PREFIX),
        experiment=info["trace_location"].get("mlflow_experiment", {}).get("experiment_id", ""),
        start_ns=min((span.start_ns for span in few), default=start_ns),
        end_ns=None if duration_ms is None else start_ns + int(duration_ms) * 1_000_000,
        state=info["state"],
        name=info.get("tags", {}).get("mlflow.traceName"),
        root_span_id=root.span_id if root else None,
        request_preview=info.get("request_preview"),
        response_preview=info.get("response_preview"),
        session_id=metadata.get("mlflow.trace.session"),
        user_id=metadata.get("mlflow.trace.user"),
        client_request_id=info.get("client_request_id"),
        run_id=metadata.get("mlflow.sourceRun"),
        model_id=metadata.get("mlflow.modelId"),
        usage=_usage(metadata.get("mlflow.trace.tokenUsage")),
        cost=_cost(metadata.get("mlflow.trace.cost")),
        tags={key: value for key, value in info.get("tags", {}).items() if key != "mlflow.traceName"},
        metadata={key: value for key, value in metadata.items() if key not in _OWN_METADATA},
        assessments=[_assessment(a) for a in info.get("assessments", ())],
        span_count=len(spans),
        complete=True,
    )
    return KnownTrace(row=row, spans=few)


def _span(span: dict[str, Any]) -> KnownSpan:
    attributes = span["attributes"]
    parent = span.get("parent_span_id")
    return KnownSpan(
        span_id=span_hex(span["span_id"]),
        parent_id=span_hex(parent) if parent else None,
        name=span["name"],
        type=orjson.loads(attributes.get("mlflow.spanType") or '"UNKNOWN"'),
        status=span["status"]["code"].removeprefix("STATUS_CODE_"),
        start_ns=span["start_time_unix_nano"],
        end_ns=span.get("end_time_unix_nano"),
        usage=_usage(attributes.get("mlflow.chat.tokenUsage")),
        cost=_cost(attributes.get("mlflow.llm.cost")),
    )


def _usage(text: str | None) -> TokenUsage | None:
    values = orjson.loads(text) if text else None
    if not isinstance(values, dict):
        return None
    return TokenUsage(**{key: values[key] for key in TokenUsage.__struct_fields__ if values.get(key) is not None})


def _cost(text: str | None) -> Cost | None:
    values = orjson.loads(text) if text else None
    if not isinstance(values, dict):
        return None
    costs = [float(values.get(key) or 0) for key in ("input_cost", "output_cost", "total_cost")]
    return Cost(input_cost=costs[0], output_cost=costs[1], total_cost=costs[2])


def _assessment(a: dict[str, Any]) -> Assessment:
    kind = "expectation" if "expectation" in a else "feedback"
    error = a[kind].get("error") or {}
    return Assessment(
        assessment_id=a["assessment_id"],
        name=a["assessment_name"],
        kind=kind,
        value=orjson.dumps(assessed(a[kind])).decode(),
        source_type=a["source"]["source_type"],
        source_id=a["source"]["source_id"],
        span_id=a.get("span_id"),
        rationale=a.get("rationale"),
        error=error.get("error_message"),
        metadata=a.get("metadata", {}),
        created_ms=time_us(a["create_time"]) // 1000,
    )
