"""A readable tree of what arrives, in the terminal. For eyes, not for keeping: nothing is stored."""

import json
import sys
from types import TracebackType
from typing import Any, Literal, Self

import msgspec

from spanweir.exporters.api import Batch, Context
from spanweir.schemas.trace import TraceRow


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    verbosity: Literal["basic", "normal", "detailed"] = "normal"
    """`basic`: one line of counts for a batch. `normal`: a tree for each trace. `detailed`: longer texts, and every
    attribute."""
    max_traces: int = 10
    """Trees shown of one batch; the rest is counted."""
    stream: Literal["stdout", "stderr"] = "stdout"
    """Where to write."""

    def __post_init__(self) -> None:
        if self.max_traces < 0:
            raise ValueError(f"max_traces must be zero or more, not {self.max_traces}")

    def build(self, context: Context) -> "Debug":
        return Debug(self, context.name)


class Debug:
    """An `Exporter`."""

    def __init__(self, config: Config, name: str) -> None:
        self._config = config
        self._name = name
        self._console: Any = None

    def __enter__(self) -> Self:
        from rich.console import Console

        self._console = Console(file=sys.stderr if self._config.stream == "stderr" else sys.stdout, highlight=False)
        return self

    def export(self, batch: Batch) -> None:
        assert self._console is not None, "export before start"
        self._console.print(self._counts(batch), style="dim", markup=False, soft_wrap=True)
        if self._config.verbosity == "basic":
            return
        spans: dict[str, list[dict[str, Any]]] = {}
        for span in batch.spans:
            spans.setdefault(span.trace_id, []).append(json.loads(span.content))
        rows = {row.trace_id: row for row in batch.traces}
        for trace_id in list(spans)[: self._config.max_traces]:
            self._show(trace_id, rows.get(trace_id), spans[trace_id])
        if len(spans) > self._config.max_traces:
            self._console.print(f"... and {len(spans) - self._config.max_traces} more traces", style="dim")

    def _counts(self, batch: Batch) -> str:
        return (
            f"{self._name}: records {batch.first}-{batch.last}: {len(batch.spans)} spans, {len(batch.traces)} traces, "
            f"{len(batch.logs)} log records, {len(batch.requests)} requests"
        )

    def _show(self, trace_id: str, row: TraceRow | None, spans: list[dict[str, Any]]) -> None:
        from spanweir.exporters.tree import trace_tree

        detailed = self._config.verbosity == "detailed"
        self._console.print(trace_tree(title(trace_id, row), spans, width=1000 if detailed else 100))
        if detailed:
            for span in spans:
                self._console.print(f"  {span.get('name')}", markup=False)
                for key, value in (span.get("attributes") or {}).items():
                    self._console.print(f"    {key} = {value}", markup=False, soft_wrap=True)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        self._console = None


def title(trace_id: str, row: TraceRow | None) -> str:
    """One line about the trace as a whole."""
    from spanweir.exporters.tree import dollars, tokens

    parts = [f"trace {trace_id}"]
    if row is None:
        return parts[0]
    parts.append(row.state)
    if row.usage:
        parts.append(tokens(msgspec.to_builtins(row.usage)))
    if row.cost:
        parts.append(dollars(row.cost.total_cost))
    if row.session_id:
        parts.append(f"session {row.session_id}")
    return "  ".join(parts)
