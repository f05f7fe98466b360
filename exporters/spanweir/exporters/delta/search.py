"""`search_traces`: MLflow's filter grammar over the Delta tables.

MLflow's own parser reads filter and order; each clause becomes SQL over the table that holds the fact, so that days
and files that cannot match are not opened. `trace.text` and `span.content` alone are looked for in the whole trace. If
there are other clauses on spans, all hold of one span, as in MLflow; that is decided on the traces that SQL found.
"""

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, Literal, overload

from spanweir.exporters.delta.matching import Clause, one_span_matches
from spanweir.exporters.delta.reading import Source, Tables, literal, opened, rows, unified
from spanweir.exporters.delta.received_view import around, is_received, mapped, parts, traces_in
from spanweir.exporters.delta.unfolded import Need, key_occurs, like_occurs, unfolded, value_occurs

if TYPE_CHECKING:
    from arro3.core import Table as ArrowTable
    from mlflow.entities import Trace

_CHUNK: Final = 200
Days = tuple[date, date]
_AROUND: Final = {">=": -1, "<=": 3}
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_LATEST: Final = datetime(2555, 1, 1, tzinfo=UTC)
"""Beyond what 64 bits of nanoseconds reach."""
_MICROSECOND: Final = timedelta(microseconds=1)
_TEXT: Final = {"LIKE": "LIKE", "ILIKE": "ILIKE", "RLIKE": "~", "=": "=", "!=": "!="}
_TRACE: Final = "substr(p.databricks_request_id, 4)"


@overload
def search_traces(
    table: Source, *, filter_string: str | None = ..., order_by: Sequence[str] | None = ..., max_results: int = ...,
    return_type: Literal["list"] = ...,
) -> "list[Trace]": ...  # fmt: skip
@overload
def search_traces(
    table: Source, *, filter_string: str | None = ..., order_by: Sequence[str] | None = ..., max_results: int = ...,
    return_type: Literal["arrow"],
) -> "ArrowTable": ...  # fmt: skip
def search_traces(
    table: Source,
    *,
    filter_string: str | None = None,
    order_by: Sequence[str] | None = None,
    max_results: int = 100,
    return_type: Literal["list", "arrow"] = "list",
) -> "list[Trace] | ArrowTable":
    """Traces that match, newest first unless `order_by` says otherwise.

    `table` is the exporter's `path` or `Config`, or opened `Tables`. `return_type` `arrow` gives the columns of
    `trace_unified`. Raises `mlflow.exceptions.MlflowException` for a filter MLflow does not know, LookupError where
    there is no table.
    """
    traces = find(opened(table), filter_string, order_by, max_results)
    if return_type == "arrow":
        return unified(traces)
    from mlflow.entities import Trace

    return [Trace.from_dict(trace) for trace in traces]


def find(
    tables: Tables, filter_string: str | None, order_by: Sequence[str] | None, max_results: int
) -> list[dict[str, Any]]:
    """As `search_traces`; traces as `Trace.to_dict()` gives them."""
    query = _query(filter_string, order_by)
    if is_received(tables):
        return _find_received(tables, query, filter_string, order_by, max_results)
    found: list[dict[str, Any]] = []
    for days in query.windows(tables):
        found += islice(_matching(tables, query, days, max_results - len(found)), max_results - len(found))
        if len(found) >= max_results:
            break
    return found


def get(tables: Tables, trace_id: str) -> dict[str, Any] | None:
    """The trace with an id (`tr-…`), as `Trace.to_dict()` gives it."""
    if not is_received(tables):
        found = tables.traces([trace_id])
    else:
        with mapped(tables, f"trace_id = {literal(trace_id.removeprefix('tr-'))}") as view:
            found = view.traces([trace_id])
    return found[0] if found else None


def _find_received(
    tables: Tables, query: "_Query", filter_string: str | None, order_by: Sequence[str] | None, most: int
) -> list[dict[str, Any]]:
    """As `find`, where attributes are as received: some traces at a time are mapped, the newest (or oldest) first."""
    first, last = query.reach
    traces = [
        each for each in traces_in(tables, around(first, last)) if each.first_us <= last and each.last_us >= first
    ]
    asked = [each for each in traces if f"tr-{each.trace_id}" in query.ids]
    found: list[dict[str, Any]] = []
    for some, bounds in [(asked, [])] if asked else parts(traces, newest_first=query.by_time):
        with mapped(tables, traces=some) as view:
            text = " AND ".join(part for part in (filter_string, *bounds) if part)
            found += find(view, text or None, order_by, most - len(found))
        if len(found) >= most:
            break
    return found


def _matching(tables: Tables, query: "_Query", days: Days | None, most: int) -> Iterator[dict[str, Any]]:
    limit = "" if query.undecided else f" LIMIT {int(most)}"
    with unfolded(tables, query.needs(days)) as instead:
        found = iter(rows(tables.query(query.sql(days) + limit, *query.suffixes, instead=instead)))
    while chunk := list(islice(found, _CHUNK if query.undecided else most)):
        for trace in tables.traces([row["id"] for row in chunk], [row["day"] for row in chunk]):
            if not query.undecided or one_span_matches(trace, query.undecided):
                yield trace


def _query(filter_string: str | None, order_by: Sequence[str] | None) -> "_Query":
    query = _Query()
    if filter_string or order_by:
        from mlflow.utils.search_utils import SearchTraceUtils

        for clause in SearchTraceUtils.parse_search_filter_for_search_traces(filter_string):
            query.add(clause)
        for order in order_by or ():
            query.add_order(*SearchTraceUtils.parse_order_by_for_search_traces(order))
    return query


class _Query:
    """Collects what the clauses ask for."""

    def __init__(self) -> None:
        self._where: list[str] = []
        self._text: list[Clause] = []
        self._of_spans: list[Clause] = []
        self._root: list[str] = []
        self._plain: list[str] = []
        self._span: list[str] = []
        self._keys: set[str] = set()
        self._occurring: list[str] = []
        self._annotations: list[str] = []
        self._bounds: list[tuple[str, datetime]] = []
        self._orders: list[str] = []
        self.by_time: bool | None = True
        """Whether by time at first; False is ascending, None something else."""
        self.ids: frozenset[str] = frozenset()
        """If the trace must have one of these."""
        self._joins = ""
        self.suffixes = ["payload"]

    def add(self, clause: Clause) -> None:
        key, comparator, value = clause["key"], clause["comparator"].upper(), clause["value"]
        match clause["type"]:
            case "attribute":
                self._where.append(self._attribute(key, comparator, value))
            case "tag":
                self._where.append(self._annotation("TAG", key, comparator, value))
            case "request_metadata":
                self._where.append(self._metadata(key, comparator, value))
            case "feedback" | "expectation" as kind:
                self._where.append(self._annotation(kind.upper(), key, comparator, value))
            case "span" if key == "content":
                self._text.append(clause)
                self._where.append(compared("p.response", comparator, value))
            case "span" if key in ("name", "status"):
                self._of_spans.append(clause)
                column = "name" if key == "name" else "substr(status['code'], 13)"
                self._plain.append(compared(column, comparator, value))
            case "span":
                self._of_spans.append(clause)
                self._span.append(self._of_span(key, comparator, value))
            case other:
                raise ValueError(f"the Delta tables hold nothing to filter by {other}")

    @property
    def undecided(self) -> list[Clause]:
        """Clauses that must hold of one span, if SQL cannot say so."""
        several = self._of_spans or len(self._text) > 1
        return [*self._of_spans, *self._text] if self._text and several else []

    def sql(self, days: Days | None) -> str:
        """The ids and days of traces that match, in order. Without `days`, of all days."""
        where = list(self._where)
        where += [f"p.request_date {operator} DATE '{time.date()}'" for operator, time in self._bounds]
        if days is not None:
            where += [f"p.request_date >= DATE '{days[0]}'", f"p.request_date <= DATE '{days[1]}'"]
        for conditions in ([*self._plain, *self._span], self._root):
            if conditions:
                where.append(self._in("otel_spans", "trace_id", [*self._days(days), *conditions]))
        orders = [*self._orders, "p.databricks_request_id"]
        if not any("p.request_time" in order for order in orders):
            orders.insert(-1, "p.request_time DESC")
        return (
            f"SELECT p.databricks_request_id AS id, p.request_date AS day FROM payload p{self._joins} "
            f"WHERE {' AND '.join(where) or 'TRUE'} ORDER BY {', '.join(orders)}"
        )

    def windows(self, tables: Tables) -> list[Days | None]:
        """First and last days to look at, one pair after the other, until enough is found.

        Ordered by time, what is newest (or oldest) stands in the first days, and there is no need to read the others.
        """
        if self.by_time is None:
            return [None]
        first = max((t.date() for operator, t in self._bounds if operator == ">="), default=date.min)
        last = min((t.date() for operator, t in self._bounds if operator == "<="), default=date.max)
        days = sorted((day for day in tables.days() if first <= day <= last), reverse=self.by_time)
        made: list[Days | None] = []
        while days:
            window, days = days[: 1 << len(made)], days[1 << len(made) :]
            made.append((min(window), max(window)))
        return made

    @property
    def reach(self) -> tuple[int, int]:
        """From when to when traces may have begun, in microseconds since 1970."""
        first = max((time for operator, time in self._bounds if operator == ">="), default=_EPOCH)
        last = min((time for operator, time in self._bounds if operator == "<="), default=_LATEST)
        return (first - _EPOCH) // _MICROSECOND, (last - _EPOCH) // _MICROSECOND

    def _days(self, days: Days | None) -> list[str]:
        """Spans may start before their trace, by a clock that is wrong, and days after it."""
        bounds = [(operator, time.date()) for operator, time in self._bounds]
        if days is not None:
            bounds += [(">=", days[0]), ("<=", days[1])]
        return [f"date {operator} DATE '{_moved(day, _AROUND[operator])}'" for operator, day in bounds]

    def needs(self, days: Days | None) -> dict[str, Need]:
        """What of the VARIANT columns is asked for, where tables have such."""
        made: dict[str, Need] = {}
        if self._keys:
            matching = [*self._days(days), *self._plain, *self._occurring]
            roots = [" AND ".join([*self._days(days), *self._root])] if self._root else []
            made["otel_spans"] = Need(conditions=[" AND ".join(matching) or "TRUE"], plain=roots, keys=self._keys)
        if self._annotations:
            made["otel_annotations"] = Need(conditions=self._annotations)
        return made

    def add_order(self, kind: str, key: str, ascending: bool) -> None:
        direction = "ASC" if ascending else "DESC"
        if not self._orders:
            self.by_time = not ascending if (kind, key) == ("attribute", "timestamp_ms") else None
        if kind == "attribute":
            self._orders.append(f"{self._column(key)} {direction}")
            return
        value, condition = ("value", f"annotation_type = 'TAG' AND name = {literal(key)}")
        if kind != "tag":
            value, condition = _in_metadata(key), "annotation_type = 'METADATA'"
        alias = f"o{self._joins.count('LEFT JOIN')}"
        self._use("otel_annotations")
        self._annotations.append(condition)
        self._joins += (
            f" LEFT JOIN (SELECT target_id, {value} AS value FROM otel_annotations WHERE {condition}) {alias}"
            f" ON {alias}.target_id = {_TRACE}"
        )
        self._orders.append(f"{alias}.value {direction}")

    def _use(self, suffix: str) -> None:
        if suffix not in self.suffixes:
            self.suffixes.append(suffix)

    def _in(self, suffix: str, column: str, conditions: Sequence[str], *, negated: bool = False) -> str:
        self._use(suffix)
        operator = "NOT IN" if negated else "IN"
        return f"{_TRACE} {operator} (SELECT {column} FROM {suffix} WHERE {' AND '.join(conditions)})"

    def _column(self, key: str) -> str:
        match key:
            case "request_id":
                return "p.databricks_request_id"
            case "timestamp_ms":
                return "p.request_time"
            case "execution_time_ms":
                return "p.execution_duration_ms"
            case "end_time_ms":
                return "(arrow_cast(p.request_time, 'Int64') / 1000 + p.execution_duration_ms)"
            case "client_request_id":
                return "p.client_request_id"
            case "status":
                return "p.status_code"
        raise ValueError(f"the Delta tables hold nothing to filter or order by {key}")

    def _attribute(self, key: str, comparator: str, value: Any) -> str:
        if key == "timestamp_ms":
            return self._timestamp(comparator, int(value))
        if key == "status":
            # A trace is in error when its root is; rows are written for complete traces only.
            state = "CASE WHEN status['code'] = 'STATUS_CODE_ERROR' THEN 'ERROR' ELSE 'OK' END"
            self._root += ["parent_span_id = ''", compared(state, comparator, value)]
            return "TRUE"
        if key == "request_id" and comparator in ("=", "IN"):
            self.ids = frozenset([value] if comparator == "=" else value)
        return compared(self._column(key), comparator, value)

    def _timestamp(self, comparator: str, ms: int) -> str:
        """Whole milliseconds, as MLflow keeps them; the table has microseconds."""
        low, high = _EPOCH + timedelta(milliseconds=ms), _EPOCH + timedelta(milliseconds=ms + 1)
        match comparator:
            case ">=" | ">":
                bound = low if comparator == ">=" else high
                self._bounds.append((">=", bound))
                return f"p.request_time >= '{bound.isoformat()}'"
            case "<=" | "<":
                bound = high if comparator == "<=" else low
                self._bounds.append(("<=", bound))
                return f"p.request_time < '{bound.isoformat()}'"
            case "=":
                self._bounds += [(">=", low), ("<=", high)]
                return f"(p.request_time >= '{low.isoformat()}' AND p.request_time < '{high.isoformat()}')"
        return f"NOT (p.request_time >= '{low.isoformat()}' AND p.request_time < '{high.isoformat()}')"

    def _annotation(self, kind: str, key: str, comparator: str, value: Any) -> str:
        own = [f"annotation_type = {literal(kind)}", f"name = {literal(key)}"]
        self._annotations.append(" AND ".join(own))
        if comparator == "IS NULL":
            return self._in("otel_annotations", "target_id", own, negated=True)
        if comparator != "IS NOT NULL":
            column = "value" if isinstance(value, str) else "TRY_CAST(value AS DOUBLE)"
            own.append(compared(column, comparator, value))
        return self._in("otel_annotations", "target_id", own)

    def _metadata(self, key: str, comparator: str, value: Any) -> str:
        self._annotations.append("annotation_type = 'METADATA'")
        own = ["annotation_type = 'METADATA'", compared(_in_metadata(key), comparator, value)]
        return self._in("otel_annotations", "target_id", own)

    def _of_span(self, key: str, comparator: str, value: Any) -> str:
        name = "mlflow.spanType" if key == "type" else key.removeprefix("attributes.").strip("`")
        self._keys.add(name)
        if comparator != "IS NULL":
            self._occurring.append(key_occurs(name))
        if comparator in ("=", "IN"):
            occurs = value_occurs([value] if comparator == "=" else value)
            self._occurring += [f"({occurs})"] if occurs else []
        elif comparator == "LIKE" and (occurs := like_occurs(value)):
            self._occurring.append(occurs)
        return compared(f"attributes[{literal(name)}]", comparator, value)


def _moved(day: date, days: int) -> date:
    return date.fromordinal(min(max(day.toordinal() + days, 1), date.max.toordinal()))


def _in_metadata(key: str) -> str:
    """A value of `trace_metadata`, out of the JSON text of a METADATA annotation."""
    escaped = "".join(f"\\{c}" if c in r"\.+*?()[]{}|^$/-" else c for c in key)
    pattern = literal(f'"{escaped}":"((?:[^"\\\\]|\\\\.)*)"')
    return f"replace(regexp_match(value, {pattern})[1], '\\\"', '\"')"


def compared(column: str, comparator: str, value: Any) -> str:
    """SQL of one comparison."""
    make: dict[str, Callable[[], str]] = {
        "IN": lambda: f"{column} IN ({', '.join(map(literal, value))})",
        "NOT IN": lambda: f"{column} NOT IN ({', '.join(map(literal, value))})",
        "IS NULL": lambda: f"{column} IS NULL",
        "IS NOT NULL": lambda: f"{column} IS NOT NULL",
    }
    if comparator in make:
        return make[comparator]()
    return f"{column} {_TEXT.get(comparator, comparator)} {literal(value)}"
