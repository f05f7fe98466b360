"""Delta tables with attributes as they were received, read back by Polars."""

import msgspec

from spanweir.exporters.delta import Config
from tests.contracts.exporter_benches import delta


class Bench(delta.Bench):
    @property
    def config(self) -> Config:
        return msgspec.structs.replace(super().config, tables=["spans"], attributes="received")
