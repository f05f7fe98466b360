"""MLflow's database revisions, and what the tables of a trace look like at each.

Not here: how rows are made (`rows`) and how they are written (`sqlite`, `postgresql`, `mysql`).

Read off the migrations of MLflow 3.10.1 to 3.18.0. Revisions between two releases are listed as well, since a
database may have been upgraded from a development checkout. Only what a trace touches counts: most migrations are
about other tables.
"""

from typing import Final

import msgspec


class Table(msgspec.Struct, frozen=True, kw_only=True):
    """A table: `key` is its primary key, `columns` the order in which `rows` fills it."""

    name: str
    key: tuple[str, ...]
    columns: tuple[str, ...]
    counter: str | None = None
    """A column that is incremented when the row exists, instead of being overwritten."""
    text_from_bytes: str | None = None
    """A text column that is given as UTF-8 bytes."""
    newer_by: str | None = None
    """An existing row is overwritten only by one that is not older by this column."""
    only_insert: bool = False
    """An existing row stays as it is."""

    @property
    def updated(self) -> tuple[str, ...]:
        """The columns that an upsert overwrites."""
        return tuple(name for name in self.columns if name not in self.key and name != self.counter)


class Layout(msgspec.Struct, frozen=True, kw_only=True):
    """The tables that a trace is written to."""

    analytics: bool
    """Name, session, tokens and cost are columns of `trace_info` (3.17); before, they were tags and metadata."""
    generation: bool
    """`trace_info.db_payload_generation` exists (3.13): every write of spans increments it, for the archiver to see."""
    traces: Table
    spans: Table
    assessments: Table


TAGS: Final = Table(name="trace_tags", key=("request_id", "key"), columns=("request_id", "key", "value"))
METADATA: Final = Table(
    name="trace_request_metadata", key=("request_id", "key"), columns=("request_id", "key", "value")
)
TRACE_METRICS: Final = Table(name="trace_metrics", key=("request_id", "key"), columns=("request_id", "key", "value"))
SPAN_METRICS: Final = Table(
    name="span_metrics", key=("trace_id", "span_id", "key"), columns=("trace_id", "span_id", "key", "value")
)
LINKS: Final = Table(
    name="entity_associations",
    key=("source_type", "source_id", "destination_type", "destination_id"),
    columns=("association_id", "source_type", "source_id", "destination_type", "destination_id", "created_time"),
    only_insert=True,
)
REBUILDS: Final = Table(
    name="sql_trace_rollup_rebuild_queue",
    key=("experiment_id", "rollup_day", "rollup_family"),
    columns=("experiment_id", "rollup_day", "rollup_family"),
)

TOKEN_COLUMNS: Final = (
    "input_tokens",
    "output_tokens",
    "total_tokens",
    "cache_read_input_tokens",
    "cache_creation_input_tokens",
    "cache_creation_input_tokens_above_1hr",
)
COST_COLUMNS: Final = ("input_cost", "output_cost", "total_cost")

_TRACE = (
    "request_id",
    "experiment_id",
    "timestamp_ms",
    "execution_time_ms",
    "status",
    "client_request_id",
    "request_preview",
    "response_preview",
)
_SPAN = (
    "trace_id",
    "span_id",
    "experiment_id",
    "parent_span_id",
    "name",
    "type",
    "status",
    "start_time_unix_nano",
    "end_time_unix_nano",
    "content",
)
_ASSESSMENT = (
    "assessment_id",
    "trace_id",
    "name",
    "assessment_type",
    "value",
    "error",
    "created_timestamp",
    "last_updated_timestamp",
    "source_type",
    "source_id",
    "run_id",
    "span_id",
    "rationale",
    "valid",
    "assessment_metadata",
)


def _layout(*, analytics: bool, generation: bool) -> Layout:
    trace = _TRACE + ((*("trace_name", "session_id"), *TOKEN_COLUMNS, *COST_COLUMNS) if analytics else ())
    span = _SPAN + ((*COST_COLUMNS, "model_name", "model_provider") if analytics else ("dimension_attributes",))
    assessment = _ASSESSMENT + (
        ("experiment_id", "trace_timestamp_ms", "aggregate_value", "is_numeric_value") if analytics else ()
    )
    return Layout(
        analytics=analytics,
        generation=generation,
        traces=Table(
            name="trace_info",
            key=("request_id",),
            columns=(*trace, "db_payload_generation") if generation else trace,
            counter="db_payload_generation" if generation else None,
        ),
        spans=Table(name="spans", key=("trace_id", "span_id"), columns=span, text_from_bytes="content"),
        assessments=Table(
            name="assessments",
            key=("assessment_id",),
            columns=assessment,
            newer_by="last_updated_timestamp",
        ),
    )


_BEFORE_GENERATION = _layout(analytics=False, generation=False)
_BEFORE_ANALYTICS = _layout(analytics=False, generation=True)
_ANALYTICS = _layout(analytics=True, generation=True)

REVISIONS: Final[dict[str, tuple[Layout, str]]] = {
    "1b5f0d9ad7c1": (_BEFORE_GENERATION, "3.10"),
    "e1f2a3b4c5d6": (_BEFORE_GENERATION, ""),
    "76601a5f987d": (_BEFORE_GENERATION, ""),
    "c3d6457b6d8a": (_BEFORE_GENERATION, ""),
    "a5b4c3d2e1f0": (_BEFORE_GENERATION, ""),
    "ae8bbe7743c9": (_BEFORE_GENERATION, ""),
    "7d34483879f0": (_BEFORE_GENERATION, "3.12"),
    "da6fb0208061": (_BEFORE_ANALYTICS, ""),
    "89d3d66ed43f": (_BEFORE_ANALYTICS, ""),
    "b7e4c1a90f23": (_BEFORE_ANALYTICS, "3.14"),
    "a8b9c0d1e2f3": (_BEFORE_ANALYTICS, ""),
    "c1d2e3f4a5b6": (_BEFORE_ANALYTICS, ""),
    "c3d9e7f1a2b4": (_BEFORE_ANALYTICS, ""),
    "6f8d9c3b2a1e": (_BEFORE_ANALYTICS, "3.15"),
    "1971f2d9a75b": (_BEFORE_ANALYTICS, ""),
    "17e22815139b": (_BEFORE_ANALYTICS, ""),
    "b7e2c1a4d9f3": (_BEFORE_ANALYTICS, "3.16"),
    "75868b020152": (_ANALYTICS, ""),
    "dc11669786a5": (_ANALYTICS, "3.17"),
    "e7d1f4b2a9c6": (_ANALYTICS, ""),
    "8b6ad64cb8f5": (_ANALYTICS, ""),
    "f4a9b2c7d1e6": (_ANALYTICS, "3.18"),
}
"""Revision -> layout, and the MLflow release whose newest revision it is."""

TOO_OLD: Final = frozenset(
    {
        "c8d9e0f1a2b3",
        "d0e1f2a3b4c5",
        "d3e4f5a6b7c8",
        "2c33131f4dae",
        "c9d4e5f6a7b8",
        "5d2d30f0abce",
        "b7c8d9e0f1a2",
        "1bd49d398cd23",
        "bf29a5ff90ea",
    }
)
"""Revisions of 3.6 to 3.9: known, and without the tables that are written here."""
