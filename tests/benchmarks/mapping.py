"""What a span costs from bytes to MLflow's form, in CPU microseconds, and the share of each step.

    python tests/benchmarks/mapping.py                      the standard load
    python tests/benchmarks/mapping.py --requests FOLDER    recorded: every traces-*.bin and logs-*.bin below it

CPU time of this process, best of several rounds, with the automatic garbage collection off as in the delivery process.
One request after the other goes through all steps, as it does there.
"""

import argparse
import gc
import gzip
import time
from collections import defaultdict
from pathlib import Path

import load

from spanweir.collector.decode.otlp_proto import decode_logs, decode_traces
from spanweir.schemas.mapping import Mapper
from spanweir.schemas.mlflow import Renderer
from spanweir.schemas.raw import RawLog
from spanweir.schemas.summary import summarise

Logs = dict[tuple[str, str], list[RawLog]]
STEPS = ("decode", "map", "render", "summarise")


def recorded(folder: Path, signal: str) -> list[bytes]:
    bodies = [path.read_bytes() for path in sorted(folder.rglob(f"{signal}-*.bin"))]
    return [gzip.decompress(body) if body[:2] == b"\x1f\x8b" else body for body in bodies]


def measure(bodies: list[bytes], logs: Logs, rounds: int) -> tuple[int, dict[str, float]]:
    """(spans in the bodies, best CPU microseconds a span of each step)."""
    mapper, renderer = Mapper(), Renderer()
    best: dict[str, float] = dict.fromkeys(STEPS, float("inf"))
    count = 0
    for _ in range(rounds):
        spent, count = dict.fromkeys(STEPS, 0.0), 0
        for body in bodies:
            marks = [time.process_time()]
            spans = decode_traces(body)
            marks.append(time.process_time())
            mapped = [mapper.map(span, logs.get((span.trace_id, span.span_id), ())) for span in spans]
            marks.append(time.process_time())
            rendered = [renderer.render(span, found) for span, found in zip(spans, mapped, strict=True)]
            marks.append(time.process_time())
            for span, found, shown in zip(spans, mapped, rendered, strict=True):
                summarise(span, found, shown)
            marks.append(time.process_time())
            count += len(spans)
            for step, start, end in zip(STEPS, marks, marks[1:], strict=False):
                spent[step] += end - start
        gc.collect()
        for step in STEPS:
            best[step] = min(best[step], spent[step] / count * 1e6)
    return count, best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=Path, help="folder of recorded requests")
    parser.add_argument("--traces", type=int, default=20, help="traces a request of the standard load")
    parser.add_argument("--rounds", type=int, default=7)
    args = parser.parse_args()
    logs: Logs = defaultdict(list)
    if args.requests:
        bodies = recorded(args.requests, "traces")
        for body in recorded(args.requests, "logs"):
            for log in decode_logs(body):
                logs[log.trace_id, log.span_id].append(log)
    else:
        bodies = load.make_requests(max(1, 400 // args.traces), traces=args.traces)
    gc.disable()
    count, best = measure(bodies, logs, args.rounds)
    total = sum(best.values())
    for step, cost in best.items():
        print(f"{step:10} {cost:6.1f} us a span {100 * cost / total:4.0f} %")
    print(f"{'all':10} {total:6.1f} us a span, {count} spans, {sum(map(len, bodies)) / count:,.0f} bytes each")


if __name__ == "__main__":
    main()
