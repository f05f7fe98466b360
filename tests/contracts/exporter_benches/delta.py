"""Delta tables in a directory, read back by Polars."""

from pathlib import Path

import polars

from spanweir.exporters.delta import Config
from spanweir.schemas.options import Duration
from tests.support.batches import SpanId


class Bench:
    exactly_once = True
    can_fail = True

    def __init__(self, directory: Path) -> None:
        self.path = directory / "tables"
        self.log = self.path / "spanweir_otel_spans" / "_delta_log"

    @property
    def config(self) -> Config:
        return Config(path=str(self.path), commit_interval=Duration(0), maintenance_interval=Duration(0))

    def spans(self) -> list[SpanId]:
        rows = polars.read_delta(str(self.path / "spanweir_otel_spans"), columns=["trace_id", "span_id"]).rows()
        return sorted((str(trace), str(span)) for trace, span in rows)

    def stop(self) -> None:
        self.log.rename(self.log.with_name("_away"))
        self.log.touch()

    def start(self) -> None:
        self.log.unlink()
        self.log.with_name("_away").rename(self.log)

    def close(self) -> None: ...
