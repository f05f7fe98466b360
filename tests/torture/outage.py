"""A destination that is away for minutes under load: nothing is lost, the other destination goes on, it catches up.

    python -m tests.torture.outage --minutes 10 [--directory DIR]

The MLflow database is held locked by another connection, which is what a hanging neighbour or a backup does to it.
"""

import argparse
import sqlite3
import time
from pathlib import Path

from tests.support.stores import sqlite_store
from tests.torture.harness import CONFIG, Collector, Sender, by_hand, check

BUFFER = "  delivery: {{buffer_bytes: 2MiB, detach_after: 3s, max_interval: 2s}}\n"


def torture(directory: Path, seconds: float, log: bool = True) -> list[str]:
    """What went wrong."""
    sqlite_store(directory / "mlflow.db")
    collector = Collector(directory, CONFIG.replace("  shutdown_timeout", BUFFER + "  shutdown_timeout"))
    collector.start()
    sender = Sender(collector.endpoint, traces=5, pause_s=0.05)
    problems = []
    try:
        sender.start()
        while not collector.values().get('otelcol_exporter_sent_spans{exporter="mlflow"}'):
            time.sleep(0.2)
        database = sqlite3.connect(directory / "mlflow.db", isolation_level=None)
        database.execute("BEGIN IMMEDIATE")
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            time.sleep(min(5.0, seconds))
            values = collector.values()
            behind = values.get('otelcol_exporter_queue_size{exporter="mlflow"}', 0)
            if log:
                print(f"{len(sender.acknowledged)} requests acknowledged, mlflow is {behind:.0f} records behind, "
                      f"delta {values.get(DELTA_BEHIND, 0):.0f}", flush=True)  # fmt: skip
        values = collector.values()
        if behind < 2 * values.get(DELTA_BEHIND, 0):
            problems.append(f"delta did not go on without mlflow: {behind} and {values.get(DELTA_BEHIND)} behind")
        database.execute("ROLLBACK")
        database.close()
        began = time.monotonic()
        sender.stop()
        collector.wait_drained(timeout_s=max(120, 2 * seconds))
        if log:
            print(f"caught up {time.monotonic() - began:.1f} s after it was back")
        collector.wait_settled()
    finally:
        sender.stop()
        status = collector.stop()
    if sender.refused:
        problems.append(f"senders were refused: {dict(sender.refused)}")
    if status != 0:
        problems.append(f"exit status {status}")
    acknowledged = sender.spans()
    if log:
        print(f"{len(acknowledged)} spans acknowledged")
    return problems + check(directory, acknowledged)


DELTA_BEHIND = 'otelcol_exporter_queue_size{exporter="delta"}'


def main() -> None:
    parser = argparse.ArgumentParser(description="A destination that is away; nothing may be lost.")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--directory", help="keep the stores here (default: a temporary directory)")
    options = parser.parse_args()
    by_hand(lambda directory: torture(directory, options.minutes * 60), options.directory)


if __name__ == "__main__":
    main()
