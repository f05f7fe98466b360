"""What has been stored, read back: one interface over MLflow stores and Delta tables, for the commands.

Not here: writing (exporters). Only assessments are written, to traces that are there.
"""

from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from spanweir.schemas.report import Report
from spanweir.schemas.trace import Assessment

if TYPE_CHECKING:
    from spanweir.collector.config import Configuration

Trace: TypeAlias = dict[str, Any]
"""`mlflow.entities.Trace.to_dict()`."""
_MLFLOW_SCHEMES = ("sqlite", "postgresql", "mysql", "mssql", "http", "https", "databricks", "file")


class Store(Protocol):
    """A place with traces in it."""

    def search(self, filter_string: str | None, order_by: Sequence[str] | None, max_results: int) -> list[Trace]:
        """Traces that match MLflow's filter grammar, newest first by default."""
        ...

    def get(self, trace_id: str) -> Trace | None:
        """One trace by its id, with or without `tr-`."""
        ...

    def assess(self, assessments: dict[str, list[Assessment]]) -> None:
        """Add assessments to traces, by trace id (`tr-…`). One with the same id is replaced where the store can."""
        ...

    def report(self, since: date | None, until: date | None, top: int) -> Report:
        """Figures of the days from `since` to `until` (inclusive), with the `top` largest rows of each group."""
        ...


def open_store(where: str, *, prefix: str = "spanweir", experiments: Sequence[str] = ()) -> Store:
    """The store at an MLflow tracking URI, or of the Delta tables at a path or URI.

    Raises LookupError where there is none.
    """
    scheme = where.partition(":")[0].partition("+")[0]
    if where == "databricks" or (scheme in _MLFLOW_SCHEMES and ":" in where):
        from spanweir.collector.stored.mlflow import MlflowStore

        return MlflowStore(where, experiments)
    from spanweir.collector.stored.delta import DeltaStore

    if "://" not in where and not Path(where).is_dir():
        raise LookupError(
            f"{where} is neither a tracking URI (sqlite:///…, http://…) nor a directory with Delta tables"
        )
    return DeltaStore(where, prefix)


def configured_store(configuration: "Configuration", kind: str = "", experiments: Sequence[str] = ()) -> Store:
    """The store of the first `mlflow` or `delta` exporter in use (of type `kind`, if given).

    Raises LookupError where there is none.
    """
    for component in configuration.used("exporters").values():
        if component.type == "mlflow" and kind in ("", "mlflow"):
            return open_store(component.config.tracking_uri, experiments=experiments)
        if component.type == "delta" and kind in ("", "delta"):
            from spanweir.collector.stored.delta import DeltaStore

            return DeltaStore(component.config)
    raise LookupError("no mlflow or delta exporter is in use in the configuration; name a store with --store")
