"""A batch -> rows of MLflow's tables. Pure: no connection, no clock.

Not here: which traces may be written and where (`sql`), the tables themselves (`revisions`).
Sources of the rules: MLflow 3.18 `SqlAlchemyStore._log_spans_once`, `_start_trace_once`, `SqlAssessments`; the limits
are those of the columns. What is too long is shortened here and kept whole beside it where it identifies something,
since PostgreSQL and MySQL would refuse the whole statement.
"""

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from operator import itemgetter
from typing import Any, Final, TypeAlias

import msgspec
import orjson

from spanweir.exporters.mlflow.revisions import COST_COLUMNS, TOKEN_COLUMNS, Layout
from spanweir.schemas.trace import Assessment, Cost, MappedSpan, TokenUsage, TraceRow

Row: TypeAlias = tuple[Any, ...]

ID_CHARS: Final = 50
PREVIEW_CHARS: Final = 1000
SESSION_CHARS: Final = 250
KEY_CHARS: Final = 250
VALUE_CHARS: Final = 8000
TRACE_NAME_CHARS: Final = 4096
SPAN_NAME_CHARS: Final = 16_000
"""MySQL's TEXT holds 65,535 bytes."""
LABEL_CHARS: Final = 500
"""Span type, model and provider."""
TEXT_CHARS: Final = 16_000

SPANS_LOCATION: Final = "mlflow.trace.spansLocation"
TRACKING_STORE: Final = "TRACKING_STORE"
ARTIFACT_LOCATION: Final = "mlflow.artifactLocation"
TRACE_NAME: Final = "mlflow.traceName"
FINALIZED: Final = "mlflow.trace.infoFinalized"
SESSION: Final = "mlflow.trace.session"
TOKEN_USAGE: Final = "mlflow.trace.tokenUsage"
COST: Final = "mlflow.trace.cost"
USER: Final = "mlflow.trace.user"
SIZE_STATS: Final = "mlflow.trace.sizeStats"
SIZE_BYTES: Final = "mlflow.trace.sizeBytes"
SOURCE_RUN: Final = "mlflow.sourceRun"
MODEL_ID: Final = "mlflow.modelId"
FULL_SESSION: Final = "spanweir.session_id"
FULL_CLIENT_REQUEST: Final = "spanweir.client_request_id"

_COLUMN_KEYS = frozenset((SESSION, TOKEN_USAGE, COST))
_WRITTEN_HERE = frozenset((SPANS_LOCATION, ARTIFACT_LOCATION, TRACE_NAME))
_INT64 = (1 << 63) - 1
KEY: Final = itemgetter(0, 1)
"""Of a row: its primary key, or what it begins with."""


class Home(msgspec.Struct, frozen=True):
    """Where a trace is written to."""

    request_id: str
    """MLflow's trace id."""
    experiment_id: int
    artifact_location: str
    """The experiment's; empty if it has none."""

    @property
    def artifacts(self) -> str:
        """Where the trace's own files are kept (MLflow's `_get_trace_artifact_location_tag`)."""
        return f"{self.artifact_location.rstrip('/')}/traces/{self.request_id}/artifacts"


Places: TypeAlias = dict[str, tuple[Home, list[int]]]
"""Trace id -> its home, and the sizes of the contents written with it, in bytes."""


class Rows(msgspec.Struct):
    """Rows by table, each list but that of spans in the order of the table's primary key."""

    traces: list[Row]
    tags: list[Row]
    metadata: list[Row]
    spans: list[Row]
    assessments: list[Row]
    trace_metrics: list[Row]
    span_metrics: list[Row]
    runs: dict[str, str]
    """MLflow trace id -> run id to link it to."""


def request_id(trace_id: str) -> str:
    return "tr-" + trace_id


def build(
    layout: Layout,
    traces: Iterable[TraceRow],
    spans: Sequence[MappedSpan],
    homes: Mapping[str, Home],
    null: float | None = None,
) -> Rows:
    """Rows of those traces and spans that have a home; `null` stands in them for what is absent."""
    rows = Rows([], [], [], [], [], [], [], {})
    places: Places = {trace_id: (home, []) for trace_id, home in homes.items()}
    if layout.analytics:
        _add_spans(rows.spans, spans, places, null)
    else:
        _add_spans_before_analytics(rows, spans, places)
    for trace in traces:
        place = places.get(trace.trace_id)
        if place is not None:
            _add_trace(rows, layout, trace, *place, null)
    rows.traces.sort(key=KEY)
    rows.tags.sort()
    rows.metadata.sort()
    rows.assessments.sort(key=KEY)
    return rows


def _add_spans(into: list[Row], spans: Sequence[MappedSpan], places: Places, null: float | None) -> None:
    add = into.append
    neither = (null,) * (len(COST_COLUMNS) + 2)
    for span in spans:
        place = places.get(span.trace_id)
        if place is None:
            continue
        home, sizes = place
        sizes.append(len(span.content))
        cost, model, provider = span.cost, span.model, span.provider
        parent_id, end_ns = span.parent_id, span.end_ns
        row: Row = (
            home.request_id,
            span.span_id,
            home.experiment_id,
            null if parent_id is None else parent_id,
            text(span.name, SPAN_NAME_CHARS),
            text(span.type, LABEL_CHARS),
            span.status,
            span.start_ns,
            null if end_ns is None else end_ns,
            span.content,
        )
        if cost is None and model is None and provider is None:
            add(row + neither)
        else:
            add((*row, *_costs(cost, null), optional(model, LABEL_CHARS, null), optional(provider, LABEL_CHARS, null)))


def _add_spans_before_analytics(rows: Rows, spans: Sequence[MappedSpan], places: Places) -> None:
    """Until MLflow 3.16 model and provider were a JSON object, and cost stood in `span_metrics`."""
    for span in spans:
        place = places.get(span.trace_id)
        if place is None:
            continue
        home, sizes = place
        sizes.append(len(span.content))
        dimensions = {}
        if span.model:
            dimensions["mlflow.llm.model"] = span.model
        if span.provider:
            dimensions["mlflow.llm.provider"] = span.provider
        rows.spans.append(
            (
                home.request_id,
                span.span_id,
                home.experiment_id,
                span.parent_id,
                text(span.name, SPAN_NAME_CHARS),
                text(span.type, LABEL_CHARS),
                span.status,
                span.start_ns,
                span.end_ns,
                span.content,
                spaced_json(dimensions) if dimensions else None,
            )
        )
        if span.cost is not None:
            for key, value in cost_values(span.cost).items():
                rows.span_metrics.append((home.request_id, span.span_id, key, value))
    rows.span_metrics.sort()


def _add_trace(rows: Rows, layout: Layout, trace: TraceRow, home: Home, sizes: list[int], null: float | None) -> None:
    key = home.request_id
    metadata = metadata_of(trace, sizes)
    tags = {name: value for name, value in trace.tags.items() if name not in _WRITTEN_HERE}
    tags[SPANS_LOCATION] = TRACKING_STORE
    if home.artifact_location:
        tags[ARTIFACT_LOCATION] = home.artifacts
    start_ms = trace.start_ns // 1_000_000
    client_request_id = trace.client_request_id
    if client_request_id is not None and len(client_request_id) > ID_CHARS:
        metadata[FULL_CLIENT_REQUEST] = client_request_id
        client_request_id = distinct(client_request_id, ID_CHARS)
    session_id = trace.session_id
    if session_id is not None and len(session_id) > SESSION_CHARS:
        metadata[FULL_SESSION] = session_id
        session_id = distinct(session_id, SESSION_CHARS)
    row: Row = (
        key,
        home.experiment_id,
        start_ms,
        null if trace.end_ns is None else trace.end_ns // 1_000_000 - start_ms,
        trace.state,
        optional(client_request_id, ID_CHARS, null),
        optional(trace.request_preview, PREVIEW_CHARS, null),
        optional(trace.response_preview, PREVIEW_CHARS, null),
    )
    if layout.analytics:
        row += (optional(trace.name, TRACE_NAME_CHARS, null), optional(session_id, SESSION_CHARS, null))
        row += _tokens(trace.usage, null) + _costs(trace.cost, null)
    else:
        _promote(rows, trace, key, session_id, tags, metadata)
    rows.traces.append((*row, 1) if layout.generation else row)
    _add_pairs(rows.tags, key, tags)
    _add_pairs(rows.metadata, key, metadata)
    for assessment in trace.assessments:
        rows.assessments.append(_assessment(layout, assessment, home, start_ms))
    if trace.run_id:
        rows.runs[key] = trace.run_id


def _add_pairs(into: list[Row], key: str, pairs: Mapping[str, str]) -> None:
    for name, value in pairs.items():
        if len(name) > KEY_CHARS:
            name = distinct(name, KEY_CHARS)
        if "\0" in name or "\0" in value or len(value) > VALUE_CHARS:
            name, value = text(name, KEY_CHARS), text(value, VALUE_CHARS)
        into.append((key, name, value))


def metadata_of(trace: TraceRow, sizes: list[int]) -> dict[str, str]:
    """What is no column in any layout. `sizes` are those of the contents written with it, in bytes."""
    given = trace.metadata
    metadata = {name: value for name, value in given.items() if name not in _COLUMN_KEYS} if given else {}
    if trace.user_id:
        metadata[USER] = trace.user_id
    if trace.run_id:
        metadata[SOURCE_RUN] = trace.run_id
    if trace.model_id:
        metadata[MODEL_ID] = trace.model_id
    if trace.complete:
        # MLflow hides a trace of which fewer than `num_spans` spans are stored. Only for a trace that came in one
        # batch is the number beyond doubt: elsewhere a span may have been set aside.
        total = trace.size_bytes or sum(sizes)
        whole = len(sizes) == trace.span_count > 0
        metadata[SIZE_STATS] = _size_stats(sorted(sizes), total) if whole else f'{{"total_size_bytes": {total}}}'
        metadata[SIZE_BYTES] = str(total)
    return metadata


def _size_stats(sizes: list[int], total: int) -> str:
    last = len(sizes) - 1
    return (
        f'{{"total_size_bytes": {total}, "num_spans": {last + 1}, "max": {sizes[last]},'
        f' "p25": {_at(sizes, last * 0.25)}, "p50": {_at(sizes, last * 0.5)}, "p75": {_at(sizes, last * 0.75)}}}'
    )


def _at(ordered: list[int], position: float) -> int:
    """Linear interpolation, as MLflow's `add_size_stats_to_trace_metadata` does it."""
    low = int(position)
    found = ordered[low]
    return found if low == position else int(found + (ordered[low + 1] - found) * (position - low))


def _promote(
    rows: Rows, trace: TraceRow, key: str, session_id: str | None, tags: dict[str, str], metadata: dict[str, str]
) -> None:
    """Until MLflow 3.16 what are columns now were tags, metadata and rows of `trace_metrics`."""
    if trace.name:
        tags[TRACE_NAME] = trace.name
    if session_id:
        metadata[SESSION] = session_id
    if trace.usage is not None:
        tokens = usage_values(trace.usage)
        metadata[TOKEN_USAGE] = spaced_json(tokens)
        rows.trace_metrics.extend((key, name, float(value)) for name, value in sorted(tokens.items()))
    if trace.cost is not None:
        metadata[COST] = spaced_json(cost_values(trace.cost))


def _tokens(usage: TokenUsage | None, null: float | None) -> Row:
    if usage is None:
        return (null,) * len(TOKEN_COLUMNS)
    values = (
        usage.input_tokens,
        usage.output_tokens,
        usage.total_tokens,
        usage.cache_read_input_tokens,
        usage.cache_creation_input_tokens,
        usage.cache_creation_input_tokens_above_1hr,
    )
    return values if null is None else tuple([null if value is None else value for value in values])


def _costs(cost: Cost | None, null: float | None) -> Row:
    if cost is None:
        return (null,) * len(COST_COLUMNS)
    values = (cost.input_cost, cost.output_cost, cost.total_cost)
    return tuple([value if math.isfinite(value) else null for value in values])


def usage_values(usage: TokenUsage) -> dict[str, int]:
    return {name: value for name, value in zip(TOKEN_COLUMNS, _tokens(usage, None), strict=True) if value is not None}


def cost_values(cost: Cost) -> dict[str, float]:
    return {name: value for name, value in zip(COST_COLUMNS, _costs(cost, None), strict=True) if value is not None}


def _assessment(layout: Layout, given: Assessment, home: Home, start_ms: int) -> Row:
    row: Row = (
        distinct(given.assessment_id, ID_CHARS),
        home.request_id,
        text(given.name, KEY_CHARS),
        given.kind,
        given.value,
        given.error,
        given.created_ms or start_ms,
        given.created_ms or start_ms,
        text(given.source_type, ID_CHARS),
        text(given.source_id, KEY_CHARS),
        None,
        given.span_id,
        optional(given.rationale, TEXT_CHARS),
        True,
        spaced_json(given.metadata) if given.metadata else None,
    )
    return (*row, home.experiment_id, start_ms, *aggregate(given.value)) if layout.analytics else row


def aggregate(value: str) -> tuple[float | None, bool]:
    """What charts add up, and whether it is a number: MLflow 3.17 `trace_analytics.assessment_aggregate`."""
    try:
        decoded = orjson.loads(value)
    except ValueError:
        return None, False
    if isinstance(decoded, bool):
        return float(decoded), False
    if isinstance(decoded, int | float):
        number = finite(float(decoded))
        return number, number is not None
    if isinstance(decoded, str) and (answer := decoded.strip().lower()) in ("yes", "no"):
        return (1.0 if answer == "yes" else 0.0), False
    return None, False


def text(value: str, limit: int) -> str:
    """At most `limit` characters, without the NUL that PostgreSQL refuses and SQLite's functions stop at."""
    if len(value) > limit:
        value = value[:limit]
    return value.replace("\0", "\ufffd") if "\0" in value else value


def optional(value: str | None, limit: int, null: float | None = None) -> str | float | None:
    return null if value is None else text(value, limit)


def distinct(value: str, limit: int) -> str:
    """`value`, or where it is too long its beginning and a digest, so that two long ids never become one."""
    if len(value) <= limit:
        return value
    digest = hashlib.sha256(value.encode("utf-8", "surrogatepass")).hexdigest()[:16]
    return f"{value[: limit - len(digest) - 1]}~{digest}"


def finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def spaced_json(value: Mapping[str, object]) -> str:
    """JSON as Python's `json.dumps` writes it, which MLflow compares as text."""
    return "{" + ", ".join(f"{_dumps(key)}: {_dumps(item)}" for key, item in value.items()) + "}"


def _dumps(value: object) -> str:
    return repr(value) if isinstance(value, float) else orjson.dumps(value).decode()


def cleaned(rows: Sequence[Row]) -> list[Row]:
    """The same rows in values that every database takes: no NUL, no lone surrogate, no number beyond 64 bits."""
    return [tuple(_clean(value) for value in row) for row in rows]


def _clean(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode().replace("\0", "\ufffd")
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace").replace("\0", "\ufffd").encode()
    if isinstance(value, int) and not isinstance(value, bool):
        return max(-_INT64, min(value, _INT64))
    return value
