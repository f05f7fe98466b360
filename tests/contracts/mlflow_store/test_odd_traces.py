"""Traces that cannot be written as they are, or not at all: they cost only themselves, on every database."""

import math
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import sqlalchemy
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

from spanweir.exporters.api import Exporter, Flushing, Hydrating, Permanent
from spanweir.exporters.mlflow.create_schema import with_driver
from spanweir.schemas.trace import Cost, TraceRow
from tests.contracts.mlflow_store.conftest import Pair, execute
from tests.support import mlflow_oracle as oracle
from tests.support.mlflow_spans import START_NS, make_batch, make_feedback, make_span, make_trace

EXPERIMENT = "odd"


@pytest.fixture(scope="module")
def store(pair: Pair) -> SqlAlchemyStore:
    return oracle.store(pair.ours, pair.artifact_root)


@pytest.fixture
def exporter(pair: Pair) -> Iterator[Exporter]:
    with pair.exporter(experiment=EXPERIMENT) as exporter:
        yield exporter


def stored(store: SqlAlchemyStore, row: TraceRow) -> Any:
    return store.get_trace(f"tr-{row.trace_id}")


def refused(exporter: Exporter, *traces: Any) -> dict[str, str]:
    with pytest.raises(Permanent) as caught:
        exporter.export(make_batch(traces))
    return dict(caught.value.rejected)


def test_an_archived_trace_takes_no_more_spans(exporter: Exporter, store: SqlAlchemyStore, pair: Pair) -> None:
    archived, neighbour = make_trace(200), make_trace(201)
    exporter.export(make_batch([archived]))
    execute(
        pair.ours,
        "UPDATE trace_tags SET value = 'ARCHIVE_REPO' WHERE request_id ="
        f" 'tr-{archived[0].trace_id}' AND value = 'TRACKING_STORE'",
    )
    assert refused(exporter, archived, neighbour) == {
        archived[0].trace_id: "the trace is archived, MLflow takes no more spans for it"
    }
    assert len(stored(store, neighbour[0]).data.spans) == 5


def test_a_trace_stays_in_its_experiment(exporter: Exporter, store: SqlAlchemyStore) -> None:
    trace, neighbour = make_trace(210, experiment="first home"), make_trace(211)
    exporter.export(make_batch([trace]))
    trace[0].experiment = "second home"
    reasons = refused(exporter, trace, neighbour)
    assert list(reasons) == [trace[0].trace_id]
    assert "the trace is in experiment" in reasons[trace[0].trace_id]
    assert len(stored(store, neighbour[0]).data.spans) == 5


def test_a_deleted_experiment_takes_nothing_until_it_is_restored(exporter: Exporter, store: SqlAlchemyStore) -> None:
    trace, neighbour = make_trace(220, experiment="deleted"), make_trace(221)
    experiment_id = store.create_experiment("deleted")
    store.delete_experiment(experiment_id)
    assert "is deleted" in refused(exporter, trace, neighbour)[trace[0].trace_id]
    assert len(stored(store, neighbour[0]).data.spans) == 5
    store.restore_experiment(experiment_id)
    exporter.export(make_batch([trace]))
    assert stored(store, trace[0]).info.experiment_id == experiment_id


@pytest.mark.parametrize(
    ("experiment", "reason"),
    [("987654", "there is no experiment with id 987654"), ("x" * 300, "at most 256 characters")],
)
def test_an_experiment_that_cannot_be(exporter: Exporter, store: SqlAlchemyStore, experiment: str, reason: str) -> None:
    trace, neighbour = make_trace(230, experiment=experiment), make_trace(231)
    assert reason in refused(exporter, trace, neighbour)[trace[0].trace_id]
    assert len(stored(store, neighbour[0]).data.spans) == 5


def test_experiments_are_not_created_when_that_is_off(pair: Pair, store: SqlAlchemyStore) -> None:
    trace, neighbour = make_trace(240, experiment="never made"), make_trace(241, experiment="0")
    with pair.exporter(experiment=EXPERIMENT, create_experiments=False) as exporter:
        assert "create_experiments is off" in refused(exporter, trace, neighbour)[trace[0].trace_id]
    assert store.get_experiment_by_name("never made") is None
    assert stored(store, neighbour[0]).info.experiment_id == "0"


@pytest.fixture
def team(pair: Pair) -> Iterator[str]:
    """A workspace. MLflow's store of other tests does not open while an experiment is in one."""
    yield "team"
    execute(pair.ours, "UPDATE experiments SET workspace = 'default' WHERE workspace = 'team'")
    execute(pair.ours, "DELETE FROM workspaces WHERE name = 'team'")


@pytest.mark.parametrize("root", [None, "s3://team-bucket/traces"])
def test_a_workspace_has_its_own_place_for_artifacts(pair: Pair, team: str, root: str | None) -> None:
    value = "NULL" if root is None else f"'{root}'"
    execute(pair.ours, f"INSERT INTO workspaces (name, default_artifact_root) VALUES ('{team}', {value})")
    trace = make_trace(245 if root is None else 246)
    with pair.exporter(experiment=f"artifacts in {root}", workspace=team) as exporter:
        exporter.export(make_batch([trace]))
    engine = sqlalchemy.create_engine(with_driver(pair.ours))
    with engine.connect() as connection:
        statement = f"SELECT experiment_id, artifact_location FROM experiments WHERE workspace = '{team}'"
        found = connection.execute(sqlalchemy.text(statement)).all()
    engine.dispose()
    assert len(found) == 1
    assert found[0][1] == f"{root or pair.artifact_root + '/workspaces/team'}/{found[0][0]}"


def test_a_workspace_that_is_not_there_is_refused_at_the_start(pair: Pair) -> None:
    with pytest.raises(Permanent, match=r"no workspace 'nobody', but 'default'.*create it in MLflow first"):
        pair.exporter(experiment=EXPERIMENT, workspace="nobody").__enter__()


def test_spans_without_the_row_of_their_trace(exporter: Exporter, store: SqlAlchemyStore) -> None:
    trace, neighbour = make_trace(250), make_trace(251)
    batch = make_batch([trace, neighbour])
    del batch.traces[0]
    with pytest.raises(Permanent) as caught:
        exporter.export(batch)
    assert list(caught.value.rejected) == [trace[0].trace_id]
    assert len(stored(store, neighbour[0]).data.spans) == 5


def test_long_values_are_cut_and_stay_distinct(exporter: Exporter, store: SqlAlchemyStore) -> None:
    traces = [make_trace(260), make_trace(261)]
    for number, (row, _) in enumerate(traces):
        row.session_id = "s" * 299 + str(number)
        row.client_request_id = "c" * 79 + str(number)
        row.name = "n" * 5000
        row.request_preview = "p" * 5000
        row.tags = {"long": "v" * 9000, "k" * 300: "cut", "k" * 299 + "l": "other"}
        row.user_id = "u" * 9000
    traces[0][1][0] = make_span(traces[0][0].trace_id, traces[0][1][0].span_id, None, name="n" * 70_000, kind="K" * 900)
    traces[0][1][1].model = "m" * 900
    exporter.export(make_batch(traces))
    first, second = (stored(store, row).info for row, _ in traces)
    assert first.trace_metadata["mlflow.trace.session"] != second.trace_metadata["mlflow.trace.session"]
    assert first.trace_metadata["spanweir.session_id"] == "s" * 299 + "0"
    assert first.client_request_id != second.client_request_id
    assert first.trace_metadata["spanweir.client_request_id"] == "c" * 79 + "0"
    assert len(first.request_preview) == 1000
    assert len(first.tags["long"]) == 8000
    assert sum(key.startswith("kkk") for key in first.tags) == 2
    assert len(first.tags["mlflow.traceName"]) == 4096


def test_text_that_no_database_takes(exporter: Exporter, store: SqlAlchemyStore) -> None:
    odd, neighbour = make_trace(270), make_trace(271)
    odd[0].name = "a\0b"
    odd[0].request_preview = "lone \ud800 surrogate"
    odd[0].tags = {"ta\0g": "\udfff", "good": "yes"}
    odd[0].session_id = "\0"
    odd[1][1].name = "span \ud800\0"
    exporter.export(make_batch([odd, neighbour]))
    info = stored(store, odd[0]).info
    assert info.tags["mlflow.traceName"] == "a\ufffdb"
    assert info.request_preview == "lone ? surrogate"
    assert info.tags["ta\ufffdg"] == "?"
    assert info.trace_metadata["mlflow.trace.session"] == "\ufffd"
    assert len(stored(store, neighbour[0]).data.spans) == 5


def test_numbers_that_no_database_takes(exporter: Exporter, store: SqlAlchemyStore) -> None:
    odd, neighbour = make_trace(280), make_trace(281)
    assert odd[0].usage
    odd[0].usage.input_tokens = 1 << 70
    odd[0].cost = Cost(input_cost=math.nan, output_cost=math.inf, total_cost=1.5)
    odd[1][1].start_ns = (1 << 64) - 1
    odd[1][1].end_ns = 0
    exporter.export(make_batch([odd, neighbour]))
    info = stored(store, odd[0]).info
    assert info.cost == {"total_cost": 1.5}
    assert len(stored(store, neighbour[0]).data.spans) == 5


def test_a_trace_grows_and_is_delivered_again(exporter: Exporter, store: SqlAlchemyStore) -> None:
    row, spans = make_trace(290)
    whole = make_batch([(row, spans)])
    early = TraceRow(trace_id=row.trace_id, start_ns=row.start_ns + 200_000_000, span_count=2)
    exporter.export(make_batch([(early, spans[3:])]))
    assert stored(store, row).info.state == "IN_PROGRESS"
    for _ in range(2):
        exporter.export(whole)
        trace = stored(store, row)
        assert trace.info.state == "OK"
        assert trace.info.request_time == row.start_ns // 1_000_000
        assert [span.name for span in trace.data.spans] == [span.name for span in spans]


def test_a_row_that_mlflows_client_finalised_keeps_its_times_and_totals(
    exporter: Exporter, store: SqlAlchemyStore
) -> None:
    row, spans = make_trace(300, experiment=EXPERIMENT)
    exporter.export(make_batch([make_trace(301)]))
    experiment = store.get_experiment_by_name(EXPERIMENT)
    assert experiment
    theirs, _ = make_trace(300)
    assert theirs.usage
    theirs.usage.input_tokens = 7
    theirs.start_ns -= 5_000_000_000
    theirs.session_id = None
    store.start_trace(oracle.trace_info(experiment.experiment_id, theirs))
    exporter.export(make_batch([(row, spans)]))
    trace = stored(store, row)
    assert trace.info.token_usage["input_tokens"] == 7
    assert trace.info.request_time == theirs.start_ns // 1_000_000
    assert trace.info.trace_metadata["mlflow.trace.session"] == row.session_id
    assert len(trace.data.spans) == 5


def test_what_a_person_changed_about_an_assessment_stays(exporter: Exporter, store: SqlAlchemyStore) -> None:
    row, spans = make_trace(310)
    feedback = make_feedback(row.trace_id)
    row.assessments = [feedback]
    exporter.export(make_batch([(row, spans)]))
    store.update_assessment(f"tr-{row.trace_id}", feedback.assessment_id, rationale="I looked at it")
    exporter.export(make_batch([(row, spans)]))
    assert stored(store, row).info.assessments[0].rationale == "I looked at it"


def test_assessments_follow_the_time_of_their_trace(exporter: Exporter, store: SqlAlchemyStore, pair: Pair) -> None:
    row, spans = make_trace(315)
    row.assessments = [make_feedback(row.trace_id)]
    exporter.export(make_batch([(row, spans)]))
    row.assessments = []
    row.start_ns -= 3_000_000
    exporter.export(make_batch([(row, spans)]))
    with store.engine.connect() as connection:
        found = connection.exec_driver_sql(
            f"SELECT trace_timestamp_ms FROM assessments WHERE trace_id = 'tr-{row.trace_id}'"
        ).scalar()
    assert found == row.start_ns // 1_000_000


def test_a_run_that_is_not_there_is_not_linked(exporter: Exporter, store: SqlAlchemyStore) -> None:
    row, spans = make_trace(320)
    row.run_id = "no such run"
    exporter.export(make_batch([(row, spans)]))
    assert stored(store, row).info.trace_metadata["mlflow.sourceRun"] == "no such run"
    assert store.search_traces(locations=[stored(store, row).info.experiment_id], filter_string="run_id = 'x'")[0] == []


def test_days_to_roll_up_again_are_named(pair: Pair, store: SqlAlchemyStore) -> None:
    row, spans = make_trace(330, start_ns=1_700_000_000_000_000_000)
    with pair.exporter(experiment=EXPERIMENT, rollups=True) as exporter:
        exporter.export(make_batch([(row, spans)]))
        exporter.export(make_batch([(row, spans)]))
    with store.engine.connect() as connection:
        found = connection.exec_driver_sql("SELECT rollup_day, rollup_family FROM sql_trace_rollup_rebuild_queue")
        days = sorted((str(day), family) for day, family in found)
    assert days == [("2023-11-14", family) for family in ("assessment", "span_cost", "trace_metric")]


def test_what_is_stored_is_known(exporter: Exporter, store: SqlAlchemyStore) -> None:
    row, spans = make_trace(340)
    row.session_id = "s" * 300
    row.run_id = "a" * 32
    exporter.export(make_batch([(row, spans)]))
    assert isinstance(exporter, Hydrating)
    found = exporter.known([row.trace_id, "0" * 32])
    assert list(found) == [row.trace_id]
    known = found[row.trace_id]
    assert known.row.tags == row.tags
    assert known.row.metadata == row.metadata
    assert (known.row.session_id, known.row.run_id, known.row.usage) == (row.session_id, row.run_id, row.usage)
    assert known.row.span_count == 5
    assert {span.span_id: (span.parent_id, span.name, span.type) for span in known.spans} == {
        span.span_id: (span.parent_id, span.name, span.type) for span in spans
    }
    assert [span.usage for span in known.spans if span.usage] == [row.usage]
    assert START_NS < known.row.start_ns < known.row.end_ns  # type: ignore[operator]


def test_spans_are_taken_back_and_a_trace_with_its_last(exporter: Exporter, store: SqlAlchemyStore) -> None:
    kept, gone = make_trace(350), make_trace(351)
    gone[0].assessments = [make_feedback(gone[0].trace_id)]
    exporter.export(make_batch([kept, gone]))
    batch = make_batch([kept])
    del batch.spans[4]
    batch.retracted = [(kept[0].trace_id, kept[1][4].span_id), *((gone[0].trace_id, s.span_id) for s in gone[1])]
    for _ in range(2):
        exporter.export(batch)
    assert len(stored(store, kept[0]).data.spans) == 4
    assert store.batch_get_traces([f"tr-{gone[0].trace_id}"]) == []
    with store.engine.connect() as connection:
        for table, column in (("trace_tags", "request_id"), ("assessments", "trace_id"), ("spans", "trace_id")):
            query = f"SELECT COUNT(*) FROM {table} WHERE {column} = 'tr-{gone[0].trace_id}'"
            assert connection.exec_driver_sql(query).scalar() == 0


def test_large_texts_stay_as_they_are(exporter: Exporter, store: SqlAlchemyStore) -> None:
    row, spans = make_trace(296)
    text = 'C:\\new "quoted"\t\u00e9\U0001f600 \\N\n' * 20_000
    large = [
        make_span(row.trace_id, f"{n:016x}", None if n == 1 else f"{1:016x}", values={"mlflow.spanInputs": {"a": text}})
        for n in range(1, 4)
    ]
    row.span_count = len(spans) + len(large)
    exporter.export(make_batch([(row, [*spans, *large])]))
    if isinstance(exporter, Flushing):
        exporter.idle()
    found = {span.span_id: span.inputs for span in stored(store, row).data.spans}
    assert [found[span.span_id] for span in large] == [{"a": text}] * 3
    assert len(found) == row.span_count


@pytest.mark.parametrize("kind", ["numeric", "double precision"])
def test_a_column_of_a_type_of_somebodys_own(pairs: Callable[[str], Pair], kind: str) -> None:
    """PostgreSQL's binary COPY takes a value only in the type of its column."""
    pair = pairs("postgresql")
    store = oracle.store(pair.ours, pair.artifact_root)
    execute(pair.ours, f"ALTER TABLE spans ALTER COLUMN total_cost TYPE {kind}")
    trace = make_trace(294 if kind == "numeric" else 295)
    with pair.exporter(experiment=EXPERIMENT) as exporter:
        exporter.export(make_batch([trace]))
    assert len(stored(store, trace[0]).data.spans) == 5
