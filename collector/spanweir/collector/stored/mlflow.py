"""Traces in an MLflow store, through MLflow's own client."""

from collections.abc import Iterator, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import orjson

from spanweir.collector.masking import mask
from spanweir.collector.stored import Trace
from spanweir.schemas.report import Report
from spanweir.schemas.trace import Assessment

_PAGE = 500
_DAY_MS = 86_400_000
_EPOCH = date(1970, 1, 1)


class MlflowStore:
    """A `Store` over an MLflow experiment store, read with MLflow's client."""

    def __init__(self, tracking_uri: str, experiments: Sequence[str] = ()) -> None:
        """`experiments` are names or ids; without any, all experiments are searched. Raises LookupError."""
        from mlflow import MlflowClient

        _look_for(tracking_uri)
        self.tracking_uri = tracking_uri
        self._client: Any = MlflowClient(tracking_uri=tracking_uri)
        self._experiments = [self._id_of(name) for name in experiments]

    def _id_of(self, name: str) -> str:
        found = self._client.get_experiment_by_name(name)
        if found is None and name.isdigit():
            found = self._client.get_experiment(name)
        if found is None:
            raise LookupError(f"there is no experiment {name!r} in {mask(self.tracking_uri)}")
        return str(found.experiment_id)

    def _locations(self) -> list[str]:
        return self._experiments or [experiment.experiment_id for experiment in self._client.search_experiments()]

    def search(self, filter_string: str | None, order_by: Sequence[str] | None, max_results: int) -> list[Trace]:
        return list(self._found(filter_string, order_by, max_results))

    def _found(
        self, filter_string: str | None, order_by: Sequence[str] | None = None, max_results: int | None = None
    ) -> Iterator[Trace]:
        """Page by page."""
        token, left, locations = None, max_results, self._locations()
        while left is None or left > 0:
            page = self._client.search_traces(
                locations=locations,
                filter_string=filter_string,
                order_by=list(order_by) if order_by else None,
                max_results=_PAGE if left is None else min(_PAGE, left),
                page_token=token,
            )
            yield from (trace.to_dict() for trace in page)
            left = None if left is None else left - len(page)
            token = page.token
            if not token:
                return

    def report(self, since: date | None, until: date | None, top: int) -> Report:
        from spanweir.collector.stored import tally

        # Spans count for their own day; their trace may have begun on the day before.
        bounds = [f"timestamp_ms >= {_day_ms(since) - _DAY_MS}"] if since else []
        bounds += [f"timestamp_ms < {_day_ms(until) + _DAY_MS}"] if until else []
        traces = self._found(" AND ".join(bounds) or None)
        return tally.report(traces, since=since, until=until, top=top)

    def get(self, trace_id: str) -> Trace | None:
        from mlflow.exceptions import MlflowException

        try:
            trace = self._client.get_trace(f"tr-{trace_id.removeprefix('tr-')}", display=False)
        except MlflowException as error:
            if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "NOT_FOUND"):
                return None
            raise
        found: Trace | None = trace.to_dict() if trace else None
        return found

    def assess(self, assessments: dict[str, list[Assessment]]) -> None:
        from mlflow.tracing.client import TracingClient

        client = TracingClient(self.tracking_uri)
        for trace_id, given in assessments.items():
            for assessment in given:
                client.log_assessment(trace_id, _entity(assessment))


def _look_for(tracking_uri: str) -> None:
    """MLflow would make a database that is not there, and find nothing in it. Raises LookupError."""
    from sqlalchemy.engine import make_url

    if tracking_uri.startswith("sqlite"):
        database = make_url(tracking_uri).database
        if database and not database.startswith(("file:", ":")) and not Path(database).exists():
            raise LookupError(f"there is no database {database} ({tracking_uri})")


def _day_ms(day: date) -> int:
    return (day - _EPOCH).days * _DAY_MS


def _entity(assessment: Assessment) -> Any:
    from mlflow.entities import AssessmentSource, Expectation, Feedback

    common: dict[str, Any] = {
        "name": assessment.name,
        "value": orjson.loads(assessment.value),
        "source": AssessmentSource(source_type=assessment.source_type, source_id=assessment.source_id or "default"),
        "metadata": assessment.metadata or None,
        "span_id": assessment.span_id,
    }
    if assessment.kind == "expectation":
        return Expectation(**common)
    return Feedback(**common, rationale=assessment.rationale, error=assessment.error)
