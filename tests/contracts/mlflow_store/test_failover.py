"""Servers that die under load or turn read-only, as one that is demoted does: nothing is lost, nothing set aside."""

import threading
import time
from collections.abc import Callable
from urllib.parse import urlsplit

import pytest

from spanweir.exporters.api import Retry
from tests.contracts.mlflow_store.conftest import Pair, execute
from tests.contracts.mlflow_store.test_many_writers import found
from tests.support.mlflow_spans import make_batch, make_trace
from tests.support.servers import Daemon

TRACES, BATCHES, BEFORE = 10, 30, 5


@pytest.fixture(scope="module", params=["postgresql", "mysql"])
def served(request: pytest.FixtureRequest, pairs: Callable[[str], Pair]) -> tuple[Pair, Daemon]:
    """A pair and the server that it is on."""
    pair = pairs(request.param)
    assert pair.daemon
    return pair, pair.daemon


def is_mysql(pair: Pair) -> bool:
    return pair.ours.startswith("mysql")


def start_again(daemon: Daemon) -> None:
    """What is left of a killed PostgreSQL takes a moment to notice that it is."""
    for _ in range(50):
        try:
            return daemon.start()
        except RuntimeError:
            time.sleep(0.2)
    raise RuntimeError("the killed server does not start again")


class Writer(threading.Thread):
    """Writes batch after batch, each until it is taken, as the delivery does."""

    def __init__(self, pair: Pair) -> None:
        super().__init__()
        self._pair = pair
        self.written = 0
        self.waited: list[str] = []
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            with self._pair.exporter(experiment="failover") as exporter:
                for number in range(BATCHES):
                    batch = make_batch(
                        [make_trace(9000 + number * TRACES + each) for each in range(TRACES)], number + 1
                    )
                    while True:
                        try:
                            exporter.export(batch)
                            break
                        except Retry as reason:
                            self.waited.append(str(reason))
                            time.sleep(0.05)
                    self.written += 1
        except BaseException as error:  # the test looks at it
            self.error = error


def test_a_server_that_is_killed_under_load(served: tuple[Pair, Daemon]) -> None:
    pair, daemon = served
    if is_mysql(pair):
        # The tests' server may lose its last second otherwise.
        execute(pair.ours, "SET GLOBAL innodb_flush_log_at_trx_commit = 1")
    writer = Writer(pair)
    writer.start()
    while writer.written < BEFORE and writer.is_alive():
        time.sleep(0.01)
    daemon.kill()
    time.sleep(0.2)
    start_again(daemon)
    writer.join(120)
    assert writer.error is None
    assert writer.written == BATCHES
    assert writer.waited, "the server's end came too late"
    keys = ", ".join(f"'tr-{make_trace(9000 + number)[0].trace_id}'" for number in range(TRACES * BATCHES))
    counts = found(pair.ours, f"SELECT trace_id, COUNT(*) FROM spans WHERE trace_id IN ({keys}) GROUP BY trace_id")
    assert len(counts) == TRACES * BATCHES
    assert {count for _, count in counts} == {5}
    assert found(pair.ours, "SELECT COUNT(*) FROM experiments WHERE name = 'failover'") == [(1,)]


def test_a_server_that_takes_no_writes_is_waited_for(served: tuple[Pair, Daemon]) -> None:
    pair, _ = served
    trace = make_trace(8999)
    uri = pair.ours
    if is_mysql(pair):
        # Who may do everything may also write to a server that is read-only.
        execute(pair.ours, "CREATE USER writer", "GRANT ALL ON ours.* TO writer")
        uri = pair.ours.replace("root@", "writer@")
        freeze, thaw = ["SET GLOBAL read_only = ON"], ["SET GLOBAL read_only = OFF"]
    else:
        name = urlsplit(pair.ours).path.lstrip("/")
        cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'spanweir'"
        freeze = [f"ALTER DATABASE {name} SET default_transaction_read_only = on", cut]
        thaw = ["SET default_transaction_read_only = off", f"ALTER DATABASE {name} RESET default_transaction_read_only"]
    with pair.exporter(tracking_uri=uri, experiment="failover") as exporter:
        exporter.export(make_batch([make_trace(8998)]))
        execute(pair.ours, *freeze)
        try:
            for _ in range(3):
                with pytest.raises(Retry) as caught:
                    exporter.export(make_batch([trace]))
                assert caught.value.after_s > 0
            assert "read" in str(caught.value), "the last is told of what the server is, not of the connection"
        finally:
            execute(pair.ours, *thaw)
        exporter.export(make_batch([trace]))
    assert found(pair.ours, f"SELECT COUNT(*) FROM spans WHERE trace_id = 'tr-{trace[0].trace_id}'") == [(5,)]
