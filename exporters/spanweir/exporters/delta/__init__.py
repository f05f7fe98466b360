"""Inference tables on Delta Lake: a payload row for every trace, and OpenTelemetry's spans, logs and metrics.

Written by delta-rs, read by Spark, Databricks, DuckDB, Polars and pandas. `Config` is all that is imported with this
module; deltalake is loaded when an exporter is built. Columns: `spanweir.schemas.inference_table`.
"""

from typing import Any, Literal, TypeAlias

import msgspec

from spanweir.exporters.api import Context, Exporter
from spanweir.schemas.options import MIB, Duration, Size

TableName: TypeAlias = Literal["payload", "spans", "logs", "metrics", "annotations"]


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    path: str = "./tables"
    """Directory or URI (`s3://…`, `az://…`, `gs://…`) below which the tables lie, each in its own folder; or
    `uc://catalog.schema`, in which Unity Catalog has them."""
    prefix: str = "spanweir"
    """The tables are `{prefix}_payload`, `{prefix}_otel_spans`, `…_logs`, `…_metrics` and `…_annotations`."""
    tables: list[TableName] = msgspec.field(
        default_factory=lambda: list[TableName](("payload", "spans", "logs", "metrics", "annotations"))
    )
    """Which tables to write."""
    schema_version: Literal["v1", "v2"] = "v1"
    """`v1` keeps attributes as MAP<STRING,STRING>, which all readers open; `v2` as VARIANT, as in newer Databricks."""
    attributes: Literal["mapped", "received"] = "mapped"
    """`mapped` writes spans as the conventions are understood, as all tables need it. `received` writes the spans table
    (and metrics) straight from the requests, with attributes as they were sent, at a third of the CPU time: for much
    traffic that is seldom searched, or by engines that read the senders' own attributes. It needs version 1 and
    `pip install 'spanweir[delta-received]'`. A span that is sent again within `late_days` replaces its row. Commands
    and `search_traces` map what they read of such a table, newest first, so that a search costs as much as mapping
    what it looks through: only times and trace ids narrow it. There, a text that reads as a number, a boolean or an
    array of such is taken for one; spans are mapped with default options and without log records; and assessments
    cannot be added."""
    storage_options: dict[str, str] = {}
    """Options of the object store, as delta-rs names them (`aws_region`, `aws_endpoint`, …), and for Unity Catalog
    `unity_workspace_url` and `unity_access_token`. Credentials are better left to the environment or written as
    `${env:NAME}`."""
    commit_rows: int = 20_000
    """Commit when so many rows wait, of all tables together."""
    commit_interval: Duration = Duration(1)
    """Commit when the oldest row waits for so long and nothing else comes; after five times as long in any case. 1,000
    rows do not wait for it once nothing else comes."""
    max_payload_bytes: Size = Size(10 * MIB)
    """A longer `request` or `response` goes to a file in `{prefix}_payload_overflow/`; its row stays, with the column
    empty and the reason in `logging_error_codes`. 0 is no limit."""
    compression: Literal["snappy", "zstd", "lz4_raw", "gzip", "uncompressed"] = "snappy"
    """Of new files, where `snappy` costs least. Compaction writes zstd, whatever is set here."""
    compression_level: int | None = None
    """For zstd (1 to 22) and gzip (0 to 9)."""
    maintenance_interval: Duration = Duration(600)
    """How often small files are compacted and the rest of table care is looked at. 0 leaves it to others."""
    compact_files: int = 8
    """Compact a partition once so many files of less than half `target_file_bytes` lie in it."""
    target_file_bytes: Size = Size(128 * MIB)
    """Size that compaction aims at."""
    checkpoint_commits: int = 20
    """Write a checkpoint of a table's log after so many commits of this process."""
    retention: Duration = Duration(0)
    """Delete rows older than so long, whole days at a time. 0 keeps them for ever."""
    vacuum_retention: Duration = Duration(7 * 86400)
    """Delete files that no version younger than this refers to. Readers of older versions lose them."""
    log_retention: Duration = Duration(30 * 86400)
    """Delete entries of the table's log older than this (they are contained in checkpoints)."""
    late_days: int = 7
    """For so many days the exporter remembers which traces are written, to merge late spans instead of adding a row."""

    def __post_init__(self) -> None:
        if not self.path:
            raise ValueError("path must name a directory or a URI")
        if not self.prefix or not self.prefix.replace("_", "").replace("-", "").isalnum():
            raise ValueError(f"prefix must be letters, digits, `_` and `-`, not {self.prefix!r}")
        if not self.tables:
            raise ValueError("tables must name at least one of payload, spans, logs, metrics, annotations")
        if self.attributes == "received":
            self._check_received()
        for name in ("commit_rows", "target_file_bytes", "checkpoint_commits", "late_days"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        if self.compact_files < 2:
            raise ValueError(f"compact_files must be at least 2, not {self.compact_files}")
        if self.compression_level is not None:
            if self.compression not in ("zstd", "gzip"):
                raise ValueError(f"compression {self.compression} has no compression_level")
            low, high = (1, 22) if self.compression == "zstd" else (0, 9)
            if not low <= self.compression_level <= high:
                raise ValueError(
                    f"compression_level of {self.compression} is {low} to {high}, not {self.compression_level}"
                )

    def _check_received(self) -> None:
        others = [name for name in self.tables if name not in ("spans", "metrics")]
        if others:
            raise ValueError(
                f"attributes: received writes the tables spans and metrics, not {', '.join(others)}: those hold what "
                "is mapped; set tables: [spans], and write the others with a second delta exporter of another prefix"
            )
        if self.schema_version != "v1":
            raise ValueError(f"attributes: received writes schema_version v1, not {self.schema_version}")

    def table_uri(self, suffix: str) -> str:
        """`{path}/{prefix}_{suffix}`; in Unity Catalog `{path}.{prefix}_{suffix}`."""
        return f"{self.path.rstrip('/')}{'.' if self.path.startswith('uc://') else '/'}{self.prefix}_{suffix}"

    def build(self, context: Context) -> Exporter:
        if self.attributes == "received":
            from spanweir.exporters.delta.received import ReceivedExporter

            return ReceivedExporter(self, context)
        from spanweir.exporters.delta.exporter import DeltaExporter

        return DeltaExporter(self, context)


def search_traces(table: Any, **options: Any) -> Any:
    """`spanweir.exporters.delta.search.search_traces`, loaded when it is called."""
    from spanweir.exporters.delta.search import search_traces

    return search_traces(table, **options)
