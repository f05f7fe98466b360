"""Traces in Delta tables."""

from collections.abc import Sequence
from datetime import date

from spanweir.collector.stored import Trace
from spanweir.exporters.delta import Config
from spanweir.schemas.report import Report
from spanweir.schemas.trace import Assessment


class DeltaStore:
    """A `Store` over the tables of the `delta` exporter."""

    def __init__(self, source: "str | Config", prefix: str = "spanweir") -> None:
        from spanweir.exporters.delta.reading import Tables
        from spanweir.exporters.delta.received_view import is_received

        self.tables = Tables(source, prefix=prefix)
        if not is_received(self.tables):
            self.tables.table("payload")

    def search(self, filter_string: str | None, order_by: Sequence[str] | None, max_results: int) -> list[Trace]:
        from spanweir.exporters.delta.search import find

        self.tables.refresh()
        return find(self.tables, filter_string, order_by, max_results)

    def get(self, trace_id: str) -> Trace | None:
        from spanweir.exporters.delta.search import get

        self.tables.refresh()
        return get(self.tables, f"tr-{trace_id.removeprefix('tr-')}")

    def assess(self, assessments: dict[str, list[Assessment]]) -> None:
        from spanweir.exporters.delta.annotate import assess

        assess(self.tables.config, assessments)

    def report(self, since: date | None, until: date | None, top: int) -> Report:
        from spanweir.exporters.delta.analytics import report

        self.tables.refresh()
        return report(self.tables, since=since, until=until, top=top)
