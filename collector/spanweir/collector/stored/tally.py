"""The figures of a report out of traces, one after the other, for stores that keep no table of spans to ask in SQL.

They are those of `spanweir.exporters.delta.analytics`, but for percentiles, which are exact here, and for the
instrumentation scope (`framework`), which MLflow does not keep.
"""

from array import array
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, date, datetime
from typing import Any, Final

import orjson

from spanweir.collector.stored import Trace
from spanweir.schemas.report import Report, Row

GROUPS: Final = ("model", "service", "prompt version", "retriever depth")
_ROLL_UPS: Final = ("AGENT", "CHAIN", "WORKFLOW", "TASK")
"""May report the sum over the calls below them, which would count twice."""
_UNKNOWN: Final = "unknown_service"


def report(traces: Iterable[Trace], *, since: date | None = None, until: date | None = None, top: int = 20) -> Report:
    """The figures of the spans of the days from `since` to `until` (inclusive, UTC)."""
    total, roots = _Figures("all"), _Figures("all")
    days: dict[str, _Figures] = {}
    groups: dict[str, dict[str, _Figures]] = {name: {} for name in GROUPS}
    for trace in traces:
        service = trace["info"].get("tags", {}).get("service.name") or _UNKNOWN
        for span in trace["data"]["spans"]:
            day = datetime.fromtimestamp(span["start_time_unix_nano"] // 1_000_000_000, UTC).date()
            if (since and day < since) or (until and day > until):
                continue
            attributes = _Attributes(span.get("attributes") or {})
            into = [total, days.setdefault(str(day), _Figures(str(day)))]
            if not span.get("parent_span_id"):
                into.append(roots)
            into += [groups[group].setdefault(name, _Figures(name)) for group, name in _names(attributes, service)]
            _count(into, trace["info"]["trace_id"], span, attributes)
    whole = total.row()
    of_roots = roots.row()
    whole.p50_ms, whole.p95_ms, whole.errors = of_roots.p50_ms, of_roots.p95_ms, of_roots.errors
    names = sorted(days)
    return Report(
        first=date.fromisoformat(names[0]) if names else None,
        last=date.fromisoformat(names[-1]) if names else None,
        total=whole,
        groups={name: _most(found.values(), top) for name, found in groups.items()},
        days=[days[name].row() for name in names],
    )


def _most(found: Iterable["_Figures"], top: int) -> list[Row]:
    return sorted((figures.row() for figures in found), key=lambda row: (-row.spans, row.name))[:top]


class _Attributes:
    """A span's attributes, which are JSON texts."""

    def __init__(self, texts: Mapping[str, Any]) -> None:
        self._texts = texts

    def text(self, key: str) -> str:
        value = self._texts.get(key)
        return value if isinstance(value, str) else ""

    def value(self, key: str) -> Any:
        value = self._texts.get(key)
        try:
            return orjson.loads(value) if isinstance(value, str) else value
        except orjson.JSONDecodeError:
            return value

    def number(self, key: str, member: str) -> float:
        """Of an object; 0 if there is none."""
        value = self.value(key)
        number = value.get(member) if isinstance(value, dict) else None
        return number if isinstance(number, int | float) else 0


def _names(attributes: _Attributes, service: str) -> Iterator[tuple[str, str]]:
    """Group and name of what the span belongs to."""
    yield "service", service
    if model := attributes.value("mlflow.llm.model"):
        yield "model", str(model)
    if prompt := attributes.value("gen_ai.prompt.name"):
        version = attributes.value("gen_ai.prompt.version")
        yield "prompt version", f"{prompt} {'' if version is None else version}".strip()
    if attributes.value("mlflow.spanType") == "RETRIEVER":
        count = attributes.text("mlflow.spanOutputs").count('"page_content"')
        yield "retriever depth", f"{count:3d} document{'' if count == 1 else 's'}"


def _count(into: Iterable["_Figures"], trace_id: str, span: Mapping[str, Any], attributes: _Attributes) -> None:
    kind, tokens_in, tokens_out, cost = attributes.value("mlflow.spanType"), 0, 0, 0.0
    if kind and kind not in _ROLL_UPS:
        tokens_in = int(attributes.number("mlflow.chat.tokenUsage", "input_tokens"))
        tokens_out = int(attributes.number("mlflow.chat.tokenUsage", "output_tokens"))
        cost = attributes.number("mlflow.llm.cost", "total_cost")
    end = span.get("end_time_unix_nano")
    failed = span["status"]["code"] == "STATUS_CODE_ERROR"
    for figures in into:
        figures.spans += 1
        figures.traces.add(trace_id)
        figures.errors += failed
        figures.input_tokens += tokens_in
        figures.output_tokens += tokens_out
        figures.cost += cost
        if end is not None:
            figures.durations_ms.append((end - span["start_time_unix_nano"]) / 1e6)


class _Figures:
    def __init__(self, name: str) -> None:
        self.name = name
        self.spans = self.errors = self.input_tokens = self.output_tokens = 0
        self.cost = 0.0
        self.traces: set[str] = set()
        self.durations_ms = array("d")

    def row(self) -> Row:
        ordered = sorted(self.durations_ms)
        return Row(
            name=self.name, spans=self.spans, traces=len(self.traces), errors=self.errors,
            input_tokens=self.input_tokens, output_tokens=self.output_tokens, cost=self.cost,
            p50_ms=_percentile(ordered, 0.5), p95_ms=_percentile(ordered, 0.95),
        )  # fmt: skip


def _percentile(ordered: list[float], share: float) -> float:
    """Between the two nearest; 0 of none."""
    if not ordered:
        return 0.0
    place = share * (len(ordered) - 1)
    low = int(place)
    return ordered[low] + (ordered[min(low + 1, len(ordered) - 1)] - ordered[low]) * (place - low)
