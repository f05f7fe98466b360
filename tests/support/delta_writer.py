"""Delivers `traces.records` to a Delta exporter as the collector would, from a cursor file; made to be killed.

python -m tests.support.delta_writer DIRECTORY SEED COUNT INSTANCE [ATTRIBUTES]
"""

import os
import random
import sys
import time
from pathlib import Path

import msgspec

from spanweir.exporters.api import Context, Retry
from spanweir.exporters.delta import Config
from spanweir.schemas.options import Duration
from tests.support.traces import received, records, sliced


def main(directory: Path, seed: int, count: int, instance: str, attributes: str = "mapped") -> None:
    config = Config(path=str(directory / "tables"), commit_interval=Duration(0.02), maintenance_interval=Duration(0.2))
    if attributes == "received":
        config = msgspec.structs.replace(config, attributes="received", tables=["spans"])
    state = directory / f"state-{instance}"
    state.mkdir(exist_ok=True)
    cursor = state / "cursor"
    done = int(cursor.read_text()) if cursor.exists() else 0
    rng = random.Random(os.urandom(8))
    with config.build(Context(name="delta", state_directory=str(state), instance=instance)) as exporter:
        for batch in sliced(records(seed, count)[done:], rng):
            given = batch if attributes == "mapped" else received(batch)
            while True:
                try:
                    exporter.export(given)
                    break
                except Retry as error:
                    print(f"retry: {error}", file=sys.stderr)
                    time.sleep(0.05)
            if exporter.durable > done and rng.random() < 0.7:  # a cursor may lag behind what is written
                done = exporter.durable
                _write(cursor, done)
            time.sleep(rng.random() * 0.01)
    _write(cursor, count)


def _write(path: Path, value: int) -> None:
    temporary = path.with_suffix(".new")
    temporary.write_text(str(value))
    temporary.rename(path)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), *sys.argv[4:])
