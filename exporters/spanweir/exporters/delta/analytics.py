"""Tokens, cost and latency out of the spans table, by model, framework, service, prompt version and retriever depth.

Each `Report` row is one SQL query over the tables (`statements` gives them as text). They are written for tables of
version 1; of version 2 `unfolded` makes such.
"""

import re
from datetime import date, timedelta
from typing import Any, Final, Literal

import msgspec

from spanweir.exporters.delta.reading import Source, opened, rows
from spanweir.exporters.delta.received_view import mapped
from spanweir.exporters.delta.unfolded import Need, unfolded
from spanweir.schemas.report import Report, Row

GROUPS: Final = {
    "model": "attributes['mlflow.llm.model']",
    "framework": "instrumentation_scope['name']",
    "service": "service_name",
    "prompt version": (
        "CASE WHEN attributes['gen_ai.prompt.name'] IS NOT NULL"
        " THEN trim(concat(attributes['gen_ai.prompt.name'], ' ',"
        " coalesce(attributes['gen_ai.prompt.version'], ''))) END"
    ),
    "retriever depth": (
        "CASE WHEN attributes['mlflow.spanType'] = 'RETRIEVER' THEN replace("
        "lpad(CAST(CAST((length(attributes['mlflow.spanOutputs'])"
        " - length(replace(attributes['mlflow.spanOutputs'], '\"page_content\"', ''))) / 14 AS BIGINT) AS STRING),"
        " 3, ' ') || ' documents', '  1 documents', '  1 document') END"
    ),
}
"""Name and SQL of what spans are grouped by; spans for which it is empty are left out."""

_OF_A_CALL: Final = "CASE WHEN attributes['mlflow.spanType'] NOT IN ('AGENT', 'CHAIN', 'WORKFLOW', 'TASK') THEN {} END"
"""Agents and chains may report the sum over the calls below them, which would count twice."""
_USAGE: Final = _OF_A_CALL.format("attributes['mlflow.chat.tokenUsage']")
_COST: Final = _OF_A_CALL.format("attributes['mlflow.llm.cost']")


def _number(text: str, key: str, pattern: str, kind: str) -> str:
    return f"TRY_CAST(regexp_match({text}, '\"{key}\": ?({pattern})')[1] AS {kind})"


_FIGURES: Final = f"""
  count(*) AS spans,
  count(DISTINCT trace_id) AS traces,
  sum(CASE WHEN status['code'] = 'STATUS_CODE_ERROR' THEN 1 ELSE 0 END) AS errors,
  coalesce(sum({_number(_USAGE, "input_tokens", "[0-9]+", "BIGINT")}), 0) AS input_tokens,
  coalesce(sum({_number(_USAGE, "output_tokens", "[0-9]+", "BIGINT")}), 0) AS output_tokens,
  coalesce(sum({_number(_COST, "total_cost", "[-+0-9.eE]+", "DOUBLE")}), 0.0) AS cost,
  approx_percentile_cont((end_time_unix_nano - start_time_unix_nano) / 1000000.0, 0.5) AS p50_ms,
  approx_percentile_cont((end_time_unix_nano - start_time_unix_nano) / 1000000.0, 0.95) AS p95_ms"""


_KEYS: Final = frozenset(re.findall(r"attributes\['([^']+)'\]", " ".join([*GROUPS.values(), _FIGURES])))
"""Attributes that the queries read."""


Dialect = Literal["datafusion", "duckdb", "spark", "spark-v2"]
_EXTRACT: Final = (r"regexp_match\((.*?), ('\"[^']*')\)\[1\]", r"regexp_extract(\1, \2, 1)")
_SPARK: Final = (_EXTRACT, ("approx_percentile_cont", "percentile_approx"))
_DIALECTS: Final[dict[Dialect, tuple[tuple[str, str], ...]]] = {
    "datafusion": (),
    "duckdb": (_EXTRACT, ("approx_percentile_cont", "quantile_cont")),
    "spark": _SPARK,
    "spark-v2": (*_SPARK, (r"attributes\['([^']+)'\]", r"""try_variant_get(attributes, '$["\1"]', 'string')""")),
}
"""What other engines call by other names: patterns and what stands for them. `spark-v2` reads VARIANT columns."""


def statements(where: str = "TRUE", top: int = 20, dialect: Dialect = "datafusion") -> dict[str, str]:
    """SQL by group, over `otel_spans`."""
    made = _statements(where, top)
    for pattern, other in _DIALECTS[dialect]:
        made = {name: re.sub(pattern, other, sql) for name, sql in made.items()}
    return made


def _statements(where: str, top: int) -> dict[str, str]:
    made = {
        name: (
            f"SELECT {sql} AS name, {_FIGURES}\nFROM otel_spans WHERE {where} AND {sql} IS NOT NULL "
            f"GROUP BY 1 ORDER BY spans DESC, name LIMIT {int(top)}"
        )
        for name, sql in GROUPS.items()
    }
    made["day"] = (
        f"SELECT CAST(date AS STRING) AS name, {_FIGURES}\nFROM otel_spans WHERE {where} GROUP BY 1 ORDER BY 1"
    )
    made["total"] = f"SELECT 'all' AS name, {_FIGURES}\nFROM otel_spans WHERE {where}"
    made["roots"] = f"SELECT 'all' AS name, {_FIGURES}\nFROM otel_spans WHERE {where} AND parent_span_id = ''"
    return made


def report(source: Source, *, since: date | None = None, until: date | None = None, top: int = 20) -> Report:
    """The figures of the days from `since` to `until` (inclusive). Raises LookupError."""
    where = " AND ".join(_dates(since, until)) or "TRUE"
    need = Need(conditions=[where], keys=_KEYS)
    wider = " AND ".join(_dates(since and since - timedelta(days=3), until and until + timedelta(days=3))) or "TRUE"
    with mapped(opened(source), wider, only=("spans",)) as tables, unfolded(tables, {"otel_spans": need}) as instead:
        found = {
            name: rows(tables.query(sql, "otel_spans", instead=instead)) for name, sql in statements(where, top).items()
        }
    made = {name: [_row(row) for row in of_group] for name, of_group in found.items()}
    [total], [roots] = made["total"], made["roots"]
    days = made["day"]
    return Report(
        first=date.fromisoformat(days[0].name) if days else None,
        last=date.fromisoformat(days[-1].name) if days else None,
        total=msgspec.structs.replace(total, p50_ms=roots.p50_ms, p95_ms=roots.p95_ms, errors=roots.errors),
        groups={name: made[name] for name in GROUPS},
        days=days,
    )


def _dates(since: date | None, until: date | None) -> list[str]:
    return [f"date {operator} DATE '{day}'" for operator, day in ((">=", since), ("<=", until)) if day]


def _row(row: dict[str, Any]) -> Row:
    return msgspec.convert({key: _known(key, value) for key, value in row.items()}, Row, strict=False)


def _known(key: str, value: Any) -> Any:
    if value is not None:
        return value
    return "" if key == "name" else 0
