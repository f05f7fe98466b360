"""kill -9 of parent or child at random moments under load: every acknowledged span is in both stores exactly once.

python -m tests.torture.kill_nine --rounds 20 [--seed 1] [--directory DIR]
"""

import argparse
import random
import time
from pathlib import Path

from tests.torture.harness import Collector, Sender, by_hand, check


def torture(directory: Path, rounds: int, seed: int, log: bool = True) -> list[str]:
    """What went wrong."""
    rng = random.Random(seed)
    collector = Collector(directory)
    collector.start()
    sender = Sender(collector.endpoint)
    sender.start()
    try:
        for number in range(1, rounds + 1):
            time.sleep(rng.uniform(0.3, 3.0))
            parent = rng.random() < 0.5
            if parent:
                collector.kill_parent()
                time.sleep(rng.uniform(0.0, 0.5))
                collector.start()
            else:
                collector.kill_child()
            if log:
                print(f"round {number}: killed the {'parent' if parent else 'child'}, "
                      f"{len(sender.acknowledged)} requests acknowledged", flush=True)  # fmt: skip
        time.sleep(1)
        sender.stop()
        collector.wait_settled()
    finally:
        sender.stop()
        status = collector.stop()
    acknowledged = sender.spans()
    problems = check(directory, acknowledged)
    if status != 0:
        problems.append(f"exit status {status}")
    if log:
        print(f"{len(acknowledged)} spans acknowledged, refused: {dict(sender.refused)}")
    return problems


def main() -> None:
    parser = argparse.ArgumentParser(description="kill -9 under load; nothing acknowledged may be lost or doubled.")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--directory", help="keep the stores here (default: a temporary directory)")
    options = parser.parse_args()
    by_hand(lambda directory: torture(directory, options.rounds, options.seed), options.directory)


if __name__ == "__main__":
    main()
