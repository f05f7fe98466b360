"""What is particular to the embedded store: a file that is absent, foreign, locked, read-only, deleted, migrated."""

import logging
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import msgspec
import pytest
from mlflow.tracking import MlflowClient

from spanweir.exporters.api import Context, Exporter, Permanent, Retry
from spanweir.exporters.mlflow import Config
from spanweir.exporters.mlflow.revisions import REVISIONS
from spanweir.exporters.mlflow.sqlite import (
    LARGE_BYTES,
    PAGE_BYTES,
    PAST_LOG_BATCHES,
    PAST_LOG_BYTES,
    TOGETHER_VALUES,
    Sqlite,
    packed,
)
from spanweir.schemas.trace import MappedSpan, TraceRow
from tests.support.mlflow_spans import make_batch, make_feedback, make_span, make_trace

CONTEXT = Context(name="mlflow", state_directory="")


def exporter_of(path: Path) -> Exporter:
    return Config(tracking_uri=f"sqlite:///{path}", experiment="rag").build(CONTEXT)


def count(path: Path) -> int:
    with sqlite3.connect(path) as connection:
        return int(connection.execute("SELECT COUNT(*) FROM spans").fetchone()[0])


def test_a_trace_comes_back_through_mlflow(sqlite_path: Path) -> None:
    row, spans = make_trace(1)
    row.assessments = [make_feedback(row.trace_id)]
    with exporter_of(sqlite_path) as exporter:
        exporter.export(make_batch([(row, spans)]))
        exporter.export(make_batch([(row, spans)]))
    trace = MlflowClient(f"sqlite:///{sqlite_path}").get_trace(f"tr-{row.trace_id}")
    assert [span.name for span in trace.data.spans] == [span.name for span in spans]
    assert trace.info.token_usage == {"input_tokens": 1001, "output_tokens": 250, "total_tokens": 1251}
    assert trace.info.trace_metadata["mlflow.trace.session"] == "session-1"
    assert trace.info.tags["mlflow.traceName"] == "librarian"
    assert [assessment.value for assessment in trace.info.assessments] == [0.75]


def test_mlflow_is_not_imported_by_the_process_that_writes(sqlite_path: Path) -> None:
    program = f"""
import sys
from spanweir.exporters.api import Context
from spanweir.exporters.mlflow import Config
from tests.support.mlflow_spans import make_batch, make_trace
with Config(tracking_uri="sqlite:///{sqlite_path}").build(Context(name="mlflow", state_directory="")) as exporter:
    exporter.export(make_batch([make_trace(1)]))
giants = sorted({{"mlflow", "pandas", "pydantic", "sqlalchemy", "numpy", "psycopg", "pymysql"}} & set(sys.modules))
assert not giants, giants
"""
    subprocess.run([sys.executable, "-c", program], check=True, cwd=Path(__file__).parents[3])


def test_the_file_has_a_write_ahead_log(sqlite_path: Path) -> None:
    with sqlite3.connect(sqlite_path) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def large_trace(seed: int, content_bytes: int = PAST_LOG_BYTES) -> tuple[TraceRow, list[MappedSpan]]:
    """Enough content to go past the write-ahead log."""
    row, spans = make_trace(seed)
    text = f"{seed} " * (content_bytes // len(f"{seed} "))
    return row, [*spans[:-1], make_span(row.trace_id, "a" * 16, spans[0].span_id, values={"mlflow.spanInputs": text})]


def has_log(path: Path) -> bool:
    """As the file says itself ("Database File Format", 1.3.3)."""
    return path.read_bytes()[18] == 2


def test_large_batches_go_past_the_log_for_a_while(sqlite_path: Path) -> None:
    with exporter_of(sqlite_path) as exporter:
        exporter.export(make_batch([make_trace(0)]))
        assert has_log(sqlite_path)
        logs = []
        for seed in range(1, PAST_LOG_BATCHES + 3):
            # What is read meanwhile, as assembly does, is no reason to stay in the log.
            assert exporter.known([make_trace(0)[0].trace_id])  # type: ignore[attr-defined]
            exporter.export(make_batch([large_trace(seed)], seed))
            logs.append(has_log(sqlite_path))
        assert logs == [False] * PAST_LOG_BATCHES + [True, False]
        exporter.idle()  # type: ignore[attr-defined]
        assert count(sqlite_path) == 5 * (PAST_LOG_BATCHES + 3)
    assert has_log(sqlite_path), "it is left as it was found"
    trace = MlflowClient(f"sqlite:///{sqlite_path}").get_trace(f"tr-{large_trace(1)[0].trace_id}")
    assert max(len(span.inputs or "") for span in trace.data.spans) > PAST_LOG_BYTES // 2


def test_whoever_reads_keeps_the_log_and_what_it_sees(sqlite_path: Path) -> None:
    with exporter_of(sqlite_path) as exporter:
        exporter.export(make_batch([make_trace(0)]))
        reader = sqlite3.connect(sqlite_path, isolation_level=None)
        reader.execute("BEGIN")
        assert reader.execute("SELECT COUNT(*) FROM spans").fetchone() == (5,)
        for seed in range(1, 4):
            exporter.export(make_batch([large_trace(seed)], seed))
            assert has_log(sqlite_path)
            assert reader.execute("SELECT COUNT(*) FROM spans").fetchone() == (5,)
        exporter.idle()  # type: ignore[attr-defined]
        reader.execute("COMMIT")
        assert reader.execute("SELECT COUNT(*) FROM spans").fetchone() == (20,)
        reader.close()


@pytest.mark.parametrize("content_bytes", [PAST_LOG_BYTES, LARGE_BYTES])
def test_a_writer_that_is_killed_past_the_log_leaves_what_it_committed(sqlite_path: Path, content_bytes: int) -> None:
    program = f"""
from tests.contracts.mlflow_store.test_sqlite import exporter_of, large_trace, make_batch
from pathlib import Path
with exporter_of(Path({str(sqlite_path)!r})) as exporter:
    for seed in range(1, 1000):
        exporter.export(make_batch([large_trace(seed, {content_bytes})], seed))
        print(exporter.durable, flush=True)
"""
    command = [sys.executable, "-c", program]
    writer = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[3])
    assert writer.stdout
    durable = [int(next(writer.stdout)) for _ in range(PAST_LOG_BATCHES // 2)]
    assert not has_log(sqlite_path)
    writer.kill()
    durable += [int(line) for line in writer.stdout]
    writer.wait()
    told = durable[-1]
    with exporter_of(sqlite_path) as exporter:
        exporter.export(make_batch([make_trace(0)]))
    stored = [5 + 5 * told]
    if content_bytes < LARGE_BYTES:  # a transaction of several batches that were accepted and that nobody was told of
        stored += [5 + 5 * last for last in range(len(durable), len(durable) + 2) if last > told]
    else:
        assert told == len(durable)
        stored += [10 + 5 * told]
    assert count(sqlite_path) in stored, "the last may not have been told"
    with sqlite3.connect(sqlite_path) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_a_large_batch_is_whole_and_leaves_nothing_running(sqlite_path: Path) -> None:
    with exporter_of(sqlite_path) as exporter:
        for seed in range(1, 4):
            exporter.export(make_batch([large_trace(seed, LARGE_BYTES)], seed))
            assert "write-back" not in [thread.name for thread in threading.enumerate()]
        exporter.export(make_batch([make_trace(4)], 4))
    trace = MlflowClient(f"sqlite:///{sqlite_path}").get_trace(f"tr-{large_trace(2)[0].trace_id}")
    assert max(trace.data.spans, key=lambda span: len(span.inputs or "")).inputs == "2 " * (LARGE_BYTES // 2)
    with sqlite3.connect(sqlite_path) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_a_large_batch_that_is_refused_leaves_nothing_running(sqlite_path: Path) -> None:
    row, spans = large_trace(1, LARGE_BYTES)
    row.experiment = "no such experiment"
    config = Config(tracking_uri=f"sqlite:///{sqlite_path}", experiment="Default", create_experiments=False)
    with config.build(CONTEXT) as exporter, pytest.raises(Permanent):
        exporter.export(make_batch([(row, spans)]))
    assert "write-back" not in [thread.name for thread in threading.enumerate()]
    with exporter_of(sqlite_path) as exporter:
        exporter.export(make_batch([make_trace(0)]))
        with sqlite3.connect(sqlite_path) as connection:
            connection.execute("ALTER TABLE spans RENAME TO elsewhere")
        connection.close()
        with pytest.raises(Retry, match="no such table"):
            exporter.export(make_batch([large_trace(2, LARGE_BYTES)]))
    assert "write-back" not in [thread.name for thread in threading.enumerate()]
    with sqlite3.connect(sqlite_path) as connection:
        assert connection.execute("SELECT COUNT(*) FROM trace_info").fetchone() == (1,)


def test_a_commit_waits_for_the_disk_unless_told_otherwise(sqlite_path: Path) -> None:
    for synchronous, level in (("FULL", 2), ("NORMAL", 1)):
        database = Sqlite(str(sqlite_path), synchronous=synchronous)
        database.open()
        assert database.select("PRAGMA synchronous") == [(level,)]
        database.close()


def test_a_database_of_something_else_is_refused_at_start(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE accounts (id INTEGER)")
    with pytest.raises(Permanent, match=r"not an MLflow database.*accounts"):
        exporter_of(path).__enter__()


def test_a_file_that_is_no_database_is_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("not a database, and dear to somebody" * 100)
    with exporter_of(path) as exporter, pytest.raises(Retry, match="not a database"):
        exporter.export(make_batch([make_trace(1)]))
    assert path.read_text().startswith("not a database, and dear")


def test_an_empty_database_is_refused_when_creating_is_off(tmp_path: Path) -> None:
    exporter = Config(tracking_uri=f"sqlite:///{tmp_path}/new.db", create_schema=False).build(CONTEXT)
    with pytest.raises(Permanent, match="create_schema is off"):
        exporter.__enter__()


@pytest.mark.parametrize(
    ("revision", "message"),
    [("bf29a5ff90ea", "older than MLflow 3.10"), ("ffffffffffff", r"MLflow 3\.\d+\.\d+: .*found version ffffffffffff")],
)
def test_a_revision_that_nobody_here_can_write(sqlite_path: Path, revision: str, message: str) -> None:
    with sqlite3.connect(sqlite_path) as connection:
        connection.execute("UPDATE alembic_version SET version_num = ?", [revision])
    with pytest.raises(Permanent, match=message):
        exporter_of(sqlite_path).__enter__()


def test_an_unknown_revision_is_written_by_mlflows_own_store(
    sqlite_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with sqlite3.connect(sqlite_path) as connection:
        (revision,) = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    monkeypatch.delitem(REVISIONS, revision)
    good, lost = make_trace(1), make_trace(2, experiment="4711")
    good[0].assessments = [make_feedback(good[0].trace_id)]
    with caplog.at_level(logging.WARNING), exporter_of(sqlite_path) as exporter:
        with pytest.raises(Permanent) as caught:
            exporter.export(make_batch([lost, good]))
        exporter.export(make_batch([good]))
    assert list(caught.value.rejected) == [lost[0].trace_id]
    assert [record.message for record in caplog.records if "slower" in record.message]
    trace = MlflowClient(f"sqlite:///{sqlite_path}").get_trace(f"tr-{good[0].trace_id}")
    assert len(trace.data.spans) == 5
    assert trace.info.trace_metadata["mlflow.trace.session"] == "session-1"
    assert [assessment.value for assessment in trace.info.assessments] == [0.75]


def test_a_locked_database_is_tried_again(sqlite_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("spanweir.exporters.mlflow.sqlite.BUSY_S", 0.05)
    monkeypatch.setattr(Sqlite.__init__, "__kwdefaults__", {"synchronous": "FULL", "busy_s": 0.05})
    blocker = sqlite3.connect(sqlite_path, isolation_level=None)
    with exporter_of(sqlite_path) as exporter:
        blocker.execute("BEGIN IMMEDIATE")
        with pytest.raises(Retry, match="locked"):
            exporter.export(make_batch([make_trace(1)]))
        blocker.execute("ROLLBACK")
        exporter.export(make_batch([make_trace(1)]))
    blocker.close()
    assert count(sqlite_path) == 5


def test_a_read_only_database_is_tried_again_and_says_why(sqlite_path: Path) -> None:
    with exporter_of(sqlite_path) as exporter:
        exporter.export(make_batch([make_trace(1)]))
        database = exporter._database  # type: ignore[attr-defined]
        database.execute("PRAGMA query_only = 1")
        with pytest.raises(Retry, match="readonly"):
            exporter.export(make_batch([make_trace(2)]))
        database.execute("PRAGMA query_only = 0")
        exporter.export(make_batch([make_trace(2)]))
    assert count(sqlite_path) == 10


def test_a_deleted_file_is_noticed_and_made_anew(sqlite_path: Path, empty_database: Path) -> None:
    with exporter_of(sqlite_path) as exporter:
        exporter.export(make_batch([make_trace(1)]))
        for part in sqlite_path.parent.glob("mlflow.db*"):
            part.unlink()
        shutil.copy(empty_database, sqlite_path)
        with pytest.raises(Retry, match="deleted or replaced"):
            exporter.export(make_batch([make_trace(2)]))
        exporter.export(make_batch([make_trace(2)]))
    assert count(sqlite_path) == 5


def test_a_migration_under_way_is_waited_for(sqlite_path: Path) -> None:
    with exporter_of(sqlite_path) as exporter:
        exporter.export(make_batch([make_trace(1)]))
        with sqlite3.connect(sqlite_path) as connection:
            (revision,) = connection.execute("SELECT version_num FROM alembic_version").fetchone()
            other = next(key for key, (layout, _) in REVISIONS.items() if key != revision and layout.analytics)
            connection.execute("UPDATE alembic_version SET version_num = ?", [other])
        with pytest.raises(Retry, match="migrated"):
            exporter.export(make_batch([make_trace(2)]))
        exporter.export(make_batch([make_trace(2)]))
    assert count(sqlite_path) == 10


def test_a_database_that_is_being_upgraded_at_the_start_is_waited_for(sqlite_path: Path) -> None:
    with sqlite3.connect(sqlite_path) as connection:
        (revision,) = connection.execute("SELECT version_num FROM alembic_version").fetchone()
        connection.execute("UPDATE alembic_version SET version_num = 'bf29a5ff90ea'")

    def upgrade() -> None:
        with sqlite3.connect(sqlite_path) as connection:
            connection.execute("UPDATE alembic_version SET version_num = ?", [revision])

    timer = threading.Timer(0.5, upgrade)
    timer.start()
    with exporter_of(sqlite_path) as exporter:
        exporter.export(make_batch([make_trace(1)]))
    timer.join()
    assert count(sqlite_path) == 5


def test_two_that_start_at_once_make_one_database(tmp_path: Path) -> None:
    path, problems = tmp_path / "new.db", []

    def start(seed: int) -> None:
        try:
            with exporter_of(path) as exporter:
                exporter.export(make_batch([make_trace(seed)]))
        except Exception as error:
            problems.append(error)

    threads = [threading.Thread(target=start, args=[seed]) for seed in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not problems
    assert count(path) == 10


def test_it_waits_for_a_directory_that_cannot_be_written(tmp_path: Path) -> None:
    missing = tmp_path / "file"
    missing.write_text("a file where a directory should be")
    with exporter_of(missing / "mlflow.db") as exporter, pytest.raises(Retry):
        exporter.export(make_batch([make_trace(1)]))


def test_a_place_that_cannot_be_opened_is_told_with_what_to_look_at(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").mkdir()
    told = r"mlflow\.db cannot be opened: .*; is its directory there, and writable\?"
    with exporter_of(tmp_path / "mlflow.db") as exporter, pytest.raises(Retry, match=told):
        exporter.export(make_batch([make_trace(1)]))


def test_what_is_known_is_read_while_another_thread_writes(sqlite_path: Path) -> None:
    traces = [make_trace(seed) for seed in range(30)]
    with exporter_of(sqlite_path) as exporter:
        exporter.export(make_batch(traces[:1]))
        stop, problems = threading.Event(), []

        def ask() -> None:
            while not stop.is_set():
                found = exporter.known([row.trace_id for row, _ in traces])  # type: ignore[attr-defined]
                problems.extend(key for key, known in found.items() if len(known.spans) != 5)

        thread = threading.Thread(target=ask)
        thread.start()
        for number, trace in enumerate(traces):
            exporter.export(make_batch([trace], number + 1))
        stop.set()
        thread.join()
    assert not problems
    assert count(sqlite_path) == 150


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_file_without_write_permission(sqlite_path: Path) -> None:
    sqlite_path.chmod(0o444)
    with exporter_of(sqlite_path) as exporter, pytest.raises(Retry):
        exporter.export(make_batch([make_trace(1)]))


def test_a_schema_whose_making_was_killed_is_made_the_next_time(tmp_path: Path) -> None:
    path = tmp_path / "mlflow.db"
    program = (
        "from pathlib import Path; from spanweir.exporters.mlflow.schema import create_file; "
        f"create_file(Path({str(path)!r}), {str(tmp_path)!r})"
    )
    for after_s in (1.5, 3.0):
        process = subprocess.Popen([sys.executable, "-c", program], start_new_session=True)
        time.sleep(after_s)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    row, spans = make_trace(1)
    with exporter_of(path) as exporter:
        exporter.export(make_batch([(row, spans)]))
    assert count(path) == len(spans)
    assert not list(tmp_path.glob(".*.new*")), "what was half made is not left behind"


def test_a_new_file_has_pages_of_its_own_size_and_an_old_one_keeps_its(sqlite_path: Path, tmp_path: Path) -> None:
    new = tmp_path / "new.db"
    with sqlite3.connect(sqlite_path) as connection:
        for statement in ("PRAGMA journal_mode = DELETE", "PRAGMA page_size = 4096", "VACUUM"):
            connection.execute(statement)
    for path in (sqlite_path, new):
        with exporter_of(path) as exporter:
            exporter.export(make_batch([make_trace(1)]))
    sizes = []
    for path in (sqlite_path, new):
        with sqlite3.connect(path) as connection:
            sizes.append(connection.execute("PRAGMA page_size").fetchone()[0])
            assert connection.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
    assert sizes == [4096, PAGE_BYTES]
    assert MlflowClient(f"sqlite:///{new}").get_trace(f"tr-{make_trace(1)[0].trace_id}").data.spans


def test_what_is_absent_is_null_and_not_a_number(sqlite_path: Path) -> None:
    row, spans = make_trace(1)
    row.usage = row.cost = row.client_request_id = None
    spans = [msgspec.structs.replace(span, cost=None, model=None, provider=None) for span in spans]
    with exporter_of(sqlite_path) as exporter:
        exporter.export(make_batch([(row, spans)]))
    with sqlite3.connect(sqlite_path) as connection:
        columns = "input_cost, output_cost, total_cost, model_name, model_provider"
        assert set(connection.execute(f"SELECT {columns} FROM spans")) == {(None,) * 5}
        columns = "client_request_id, input_tokens, cache_read_input_tokens, total_cost"
        assert connection.execute(f"SELECT {columns} FROM trace_info").fetchall() == [(None,) * 4]
        assert connection.execute("SELECT count(*) FROM spans WHERE parent_span_id IS NULL").fetchone() == (1,)


def test_more_tags_than_one_statement_holds_are_all_written_and_overwritten(sqlite_path: Path) -> None:
    traces = [make_trace(seed) for seed in range(30)]
    with exporter_of(sqlite_path) as exporter:
        for value in ("first", "second"):
            for row, _ in traces:
                row.tags = {f"tag-{number}": f"{value} {number}" for number in range(7)}
            exporter.export(make_batch(traces))
    with sqlite3.connect(sqlite_path) as connection:
        found = connection.execute("SELECT request_id, key, value FROM trace_tags WHERE key LIKE 'tag-%'").fetchall()
    expected = {(f"tr-{row.trace_id}", f"tag-{n}", f"second {n}") for row, _ in traces for n in range(7)}
    assert len(found) == len(expected) > TOGETHER_VALUES // 3
    assert set(found) == expected


def test_rows_of_new_traces_that_are_there_already_are_overwritten(sqlite_path: Path) -> None:
    traces = [make_trace(seed) for seed in range(40)]
    with exporter_of(sqlite_path) as exporter:
        exporter.export(make_batch(traces[:20]))
        with sqlite3.connect(sqlite_path) as connection:  # foreign keys are not checked here: spans and tags stay
            connection.execute("UPDATE spans SET content = 'old'")
            connection.execute("UPDATE trace_tags SET value = 'old' WHERE key NOT LIKE 'mlflow.%'")
            keys = [(f"tr-{row.trace_id}",) for row, _ in traces[:10]]
            connection.executemany("DELETE FROM trace_info WHERE request_id = ?", keys)
        connection.close()
        twice = [(row, [*spans, spans[0]]) for row, spans in traces]
        exporter.export(make_batch(twice))
    with sqlite3.connect(sqlite_path) as connection:
        spans = connection.execute("SELECT trace_id, span_id, content FROM spans").fetchall()
        values = {value for (value,) in connection.execute("SELECT value FROM trace_tags")}
        infos = connection.execute("SELECT COUNT(*) FROM trace_info").fetchone()
    connection.close()
    assert set(spans) == {
        (f"tr-{row.trace_id}", span.span_id, span.content.decode()) for row, spans in traces for span in spans
    }
    assert len(spans) == sum(len(some) for _, some in traces) > TOGETHER_VALUES // 15
    assert "old" not in values
    assert infos == (40,)


@pytest.mark.parametrize("page_bytes", [4096, 8192, 16384])
def test_packed_rows_are_the_same_rows_and_fill_pages_better(tmp_path: Path, page_bytes: int) -> None:
    rng = random.Random(page_bytes)
    rows = [(number, rng.randbytes(rng.randint(200, 20_000))) for number in range(400)]
    pages = []
    for order in (rows, packed(rows, 1, page_bytes)):
        assert sorted(order) == rows
        with sqlite3.connect(tmp_path / f"{len(pages)}.db") as connection:
            connection.execute(f"PRAGMA page_size = {page_bytes}")
            # As wide as a span's row, besides its content.
            connection.execute("CREATE TABLE t (id, content, others DEFAULT (zeroblob(160)))")
            connection.executemany("INSERT INTO t (id, content) VALUES (?, ?)", order)
            pages.append(connection.execute("PRAGMA page_count").fetchone()[0])
    assert pages[1] < 0.96 * pages[0]
