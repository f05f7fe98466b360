"""Several processes write the same database, and traces of each other: nothing is lost, doubled or deadlocked."""

import json
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy

from spanweir.exporters.api import Retry
from spanweir.exporters.mlflow.schema import with_driver
from tests.contracts.mlflow_store.conftest import Pair, execute
from tests.support.mlflow_spans import make_batch, make_trace

WRITERS, TRACES, ROUNDS = 3, 24, 6

PROGRAM = """
import json, random, sys, time
from spanweir.exporters.api import Context, Retry
from spanweir.exporters.mlflow import Config
from tests.support.mlflow_spans import make_batch, make_trace

uri, root, seed, traces, rounds = json.loads(sys.argv[1])
rng = random.Random(seed)
retries = 0
config = Config(tracking_uri=uri, artifact_root=root, experiment="many")
with config.build(Context(name="m", state_directory="")) as one:
    for _ in range(rounds):
        chosen = [make_trace(5000 + number) for number in rng.sample(range(traces), traces * 3 // 4)]
        for row, spans in chosen:
            if rng.random() < 0.5:
                del spans[1:3]
        rng.shuffle(chosen)
        while True:
            try:
                one.export(make_batch(chosen))
                break
            except Retry as reason:
                retries += 1
                print(reason, file=sys.stderr)
                time.sleep(0.05)
print(retries)
"""


def found(uri: str, query: str) -> list[Any]:
    engine = sqlalchemy.create_engine(with_driver(uri))
    with engine.connect() as connection:
        rows = connection.execute(sqlalchemy.text(query)).fetchall()
    engine.dispose()
    return [tuple(row) for row in rows]


def test_overlapping_writers(pair: Pair) -> None:
    def start(seed: int) -> "subprocess.Popen[str]":
        given = json.dumps([pair.ours, pair.artifact_root, seed, TRACES, ROUNDS])
        return subprocess.Popen(
            [sys.executable, "-c", PROGRAM, given],
            cwd=Path(__file__).parents[3],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    outputs = [process.communicate(timeout=120) for process in [start(seed) for seed in range(WRITERS)]]
    assert [int(output.strip() or -1) for output, _ in outputs] == [0] * WRITERS, outputs
    keys = ", ".join(f"'tr-{make_trace(5000 + number)[0].trace_id}'" for number in range(TRACES))
    traces = found(
        pair.ours, f"SELECT COUNT(*), COUNT(DISTINCT experiment_id) FROM trace_info WHERE request_id IN ({keys})"
    )
    assert traces == [(TRACES, 1)]
    assert found(pair.ours, "SELECT COUNT(*) FROM experiments WHERE name = 'many'") == [(1,)]
    spans = found(pair.ours, f"SELECT trace_id, COUNT(*) FROM spans WHERE trace_id IN ({keys}) GROUP BY trace_id")
    assert {count for _, count in spans} == {5}


CUT = {
    "postgresql": "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'spanweir'",
    "mysql": "KILL CONNECTION {id}",
}


def test_a_lost_connection_is_opened_again(pair: Pair) -> None:
    backend = pair.ours.partition(":")[0]
    if backend == "sqlite":
        pytest.skip("there is no connection to lose")
    trace = make_trace(6000)
    with pair.exporter(experiment="cut") as exporter:
        exporter.export(make_batch([make_trace(6001)]))
        if backend == "mysql":
            ids = found(pair.ours, "SELECT id FROM information_schema.processlist WHERE id <> CONNECTION_ID()")
            execute(pair.ours, *(f"KILL CONNECTION {number}" for (number,) in ids))
        else:
            execute(pair.ours, CUT[backend])
        with pytest.raises(Retry):
            exporter.export(make_batch([trace]))
        exporter.export(make_batch([trace]))
    assert found(pair.ours, f"SELECT COUNT(*) FROM spans WHERE trace_id = 'tr-{trace[0].trace_id}'") == [(5,)]


def test_a_server_that_is_not_there_is_waited_for(pair: Pair) -> None:
    backend = pair.ours.partition(":")[0]
    if backend == "sqlite":
        pytest.skip("there is no server")
    host, _, _ = pair.ours.rpartition(":")
    with pair.exporter(tracking_uri=f"{host}:1/ours") as exporter, pytest.raises(Retry) as caught:
        exporter.export(make_batch([make_trace(6002)]))
    assert caught.value.after_s > 0


def test_a_row_locked_by_somebody_else_holds_up_only_until_it_is_free(pair: Pair) -> None:
    trace = make_trace(6003)
    with pair.exporter(experiment="locked") as exporter:
        exporter.export(make_batch([trace]))
        engine = sqlalchemy.create_engine(with_driver(pair.ours))
        with engine.connect() as connection:
            connection.execute(
                sqlalchemy.text(f"UPDATE trace_info SET status = 'OK' WHERE request_id = 'tr-{trace[0].trace_id}'")
            )
            thread = threading.Thread(target=exporter.export, args=[make_batch([trace])])
            thread.start()
            time.sleep(0.2)
            assert thread.is_alive()
            connection.commit()
            thread.join(20)
            assert not thread.is_alive()
        engine.dispose()
