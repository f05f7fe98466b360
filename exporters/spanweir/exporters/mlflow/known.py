"""What the database has stored of traces, for assembly to go on from.

On a connection of its own, read-only: it is asked by another thread than the one that writes.
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from spanweir.exporters.api import KNOWN_SPANS_MAX, KnownSpan, KnownTrace
from spanweir.exporters.mlflow.database import Database, select_in
from spanweir.exporters.mlflow.revisions import COST_COLUMNS, TOKEN_COLUMNS, Layout
from spanweir.exporters.mlflow.rows import (
    ARTIFACT_LOCATION,
    COST,
    FINALIZED,
    FULL_CLIENT_REQUEST,
    FULL_SESSION,
    MODEL_ID,
    SESSION,
    SIZE_BYTES,
    SIZE_STATS,
    SOURCE_RUN,
    SPANS_LOCATION,
    TOKEN_USAGE,
    TRACE_NAME,
    USER,
    request_id,
)
from spanweir.exporters.mlflow.schema import layout_of
from spanweir.schemas.trace import Cost, TokenUsage, TraceRow

_MADE_HERE_TAGS = frozenset((SPANS_LOCATION, ARTIFACT_LOCATION, TRACE_NAME))
_MADE_HERE_METADATA = frozenset(
    (
        FINALIZED, SESSION, FULL_SESSION, TOKEN_USAGE, COST, USER, SOURCE_RUN, MODEL_ID, SIZE_STATS, SIZE_BYTES,
        FULL_CLIENT_REQUEST,
    )
)  # fmt: skip


class _Attributes(msgspec.Struct, frozen=True):
    usage: str | None = msgspec.field(default=None, name="mlflow.chat.tokenUsage")
    cost: str | None = msgspec.field(default=None, name="mlflow.llm.cost")


class _Content(msgspec.Struct, frozen=True):
    attributes: _Attributes = _Attributes()


_content = msgspec.json.Decoder(_Content)
_usage = msgspec.json.Decoder(TokenUsage)
_cost = msgspec.json.Decoder(Cost)


class Reader:
    """Answers `Hydrating.known`. Thread-safe."""

    def __init__(self, connect: Callable[[], Database]) -> None:
        self._connect = connect
        self._database: Database | None = None
        self._layout: Layout | None = None
        self._lock = threading.Lock()

    def close(self) -> None:
        with self._lock:
            self._leave()

    def _leave(self) -> None:
        if self._database is not None:
            self._database.close()
            self._database = None

    def known(self, trace_ids: Sequence[str]) -> dict[str, KnownTrace]:
        with self._lock:
            try:
                if self._database is None or self._layout is None:
                    database = self._connect()
                    database.open(read_only=True)
                    self._layout = layout_of(database)[1]
                    self._database = database
                found = _read(self._database, self._layout, sorted(map(request_id, trace_ids)))
            except Exception:
                self._leave()
                raise
            if self._database.idle_is_in_the_way:
                self._leave()
            return found


def _read(database: Database, layout: Layout, keys: Sequence[str]) -> dict[str, KnownTrace]:
    columns = [name for name in layout.traces.columns if name != layout.traces.counter]
    names = ", ".join(f"i.{name}" for name in columns)
    infos = {
        row[0]: dict(zip(columns, row, strict=True))
        for row in select_in(database, f"SELECT {names} FROM trace_info i WHERE i.request_id IN", keys)
    }
    if not infos:
        return {}
    keys = sorted(infos)
    tags = _pairs(database, "trace_tags", keys)
    metadata = _pairs(database, "trace_request_metadata", keys)
    counts = dict(
        select_in(
            database, "SELECT s.trace_id, COUNT(*) FROM spans s WHERE s.trace_id IN", keys, " GROUP BY s.trace_id"
        )
    )
    few = [key for key in keys if counts.get(key, 0) <= KNOWN_SPANS_MAX]
    spans: dict[str, list[KnownSpan]] = {}
    root: dict[str, str] = {}
    for row in select_in(
        database,
        "SELECT s.trace_id, s.span_id, s.parent_span_id, s.name, s.type, s.status, s.start_time_unix_nano,"
        " s.end_time_unix_nano, s.content FROM spans s WHERE s.trace_id IN",
        few,
    ):
        spans.setdefault(row[0], []).append(_span(row))
        if row[2] is None:
            root[row[0]] = row[1]
    return {
        key[3:]: KnownTrace(
            row=_row(info, tags.get(key, {}), metadata.get(key, {}), counts.get(key, 0), root.get(key)),
            spans=spans.get(key, []),
        )
        for key, info in infos.items()
    }


def _pairs(database: Database, table: str, keys: Sequence[str]) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    for key, name, value in select_in(
        database, f"SELECT t.request_id, t.key, t.value FROM {table} t WHERE t.request_id IN", keys
    ):
        found.setdefault(key, {})[name] = value or ""
    return found


def _span(row: tuple[Any, ...]) -> KnownSpan:
    usage = cost = None
    try:
        attributes = _content.decode(row[8]).attributes
        usage = _usage.decode(attributes.usage) if attributes.usage else None
        cost = _cost.decode(attributes.cost) if attributes.cost else None
    except msgspec.MsgspecError:
        # Another writer's content: whatever it is, its span exists.
        pass
    return KnownSpan(
        span_id=row[1],
        parent_id=row[2],
        name=row[3] or "",
        type=row[4] or "",
        status=row[5],
        start_ns=int(row[6]),
        end_ns=None if row[7] is None else int(row[7]),
        usage=usage,
        cost=cost,
    )


def _row(
    info: Mapping[str, Any], tags: Mapping[str, str], metadata: Mapping[str, str], count: int, root: str | None
) -> TraceRow:
    start_ns = int(info["timestamp_ms"]) * 1_000_000
    duration_ms = info["execution_time_ms"]
    size = metadata.get(SIZE_BYTES, "")
    return TraceRow(
        trace_id=info["request_id"][3:],
        experiment=str(info["experiment_id"]),
        start_ns=start_ns,
        end_ns=None if duration_ms is None else start_ns + int(duration_ms) * 1_000_000,
        state=info["status"],
        name=info.get("trace_name") or tags.get(TRACE_NAME),
        root_span_id=root,
        request_preview=info["request_preview"],
        response_preview=info["response_preview"],
        session_id=metadata.get(FULL_SESSION) or info.get("session_id") or metadata.get(SESSION),
        user_id=metadata.get(USER),
        client_request_id=metadata.get(FULL_CLIENT_REQUEST) or info["client_request_id"],
        run_id=metadata.get(SOURCE_RUN),
        model_id=metadata.get(MODEL_ID),
        usage=_usage_of(info, metadata),
        cost=_cost_of(info, metadata),
        tags={name: value for name, value in tags.items() if name not in _MADE_HERE_TAGS},
        metadata={name: value for name, value in metadata.items() if name not in _MADE_HERE_METADATA},
        span_count=count,
        size_bytes=int(size) if size.isdigit() else 0,
        complete=info["status"] in ("OK", "ERROR"),
    )


def _usage_of(info: Mapping[str, Any], metadata: Mapping[str, str]) -> TokenUsage | None:
    values = {name: int(info[name]) for name in TOKEN_COLUMNS if info.get(name) is not None}
    if values:
        return TokenUsage(**values)
    try:
        return _usage.decode(metadata[TOKEN_USAGE])
    except (KeyError, msgspec.MsgspecError):
        return None


def _cost_of(info: Mapping[str, Any], metadata: Mapping[str, str]) -> Cost | None:
    costs = [info.get(name) for name in COST_COLUMNS]
    if any(value is not None for value in costs):
        return Cost(input_cost=costs[0] or 0.0, output_cost=costs[1] or 0.0, total_cost=costs[2] or 0.0)
    try:
        return _cost.decode(metadata[COST])
    except (KeyError, msgspec.MsgspecError):
        return None
