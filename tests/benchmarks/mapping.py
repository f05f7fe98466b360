"""What a span costs from bytes to MLflow's form, in CPU microseconds, and the share of each step.

    python tests/benchmarks/mapping.py                      the standard load
    python tests/benchmarks/mapping.py --requests FOLDER    recorded: every traces-*.bin and logs-*.bin below it
    ... --fresh                                             also: one pass over texts and ids never seen before
    ... --with-mlflow                                       also: MLflow's own way from bytes to what it stores

CPU time of this process, best of several rounds, with the automatic garbage collection off as in the delivery process.
One request after the other goes through all steps, as it does there. `mapping` is all of them but decoding.

Rounds repeat the same requests, so whatever is remembered of texts seen before helps more than it would. `--fresh`
tells how much: the plans are warm, as after some minutes of service, and every text of several words and every long
number or id is new. MLflow's way is `Span.from_otel_proto`, `translate_span_when_storing` and `json.dumps`, as its
OTLP endpoint and its SQL store go it (3.17); it is compared with all of our steps.
"""

import argparse
import gc
import gzip
import itertools
import json
import re
import time
from collections import defaultdict
from pathlib import Path

import load
import msgspec

from spanweir.collector.decode.otlp_proto import decode_logs, decode_traces
from spanweir.schemas.mapping import Mapper
from spanweir.schemas.mlflow import Renderer
from spanweir.schemas.raw import RawLog, RawSpan, Value
from spanweir.schemas.summary import summarise

Logs = dict[tuple[str, str], list[RawLog]]
STEPS = ("decode", "map", "render", "summarise")
_WORDS = re.compile(r"(?<=[a-z]) (?=[a-z])|[0-9a-f]{12,}")


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


def fresh(spans: list[RawSpan], serial: "itertools.count[int]") -> list[RawSpan]:
    """The same spans with texts and ids that were never there before, and as long within a few characters."""

    def changed(found: re.Match[str]) -> str:
        said = found[0]
        return f" {next(serial)} " if said == " " else f"{next(serial):0{len(said)}x}"[-len(said) :]

    def renewed(value: Value) -> Value:
        return _WORDS.sub(changed, value, count=8) if isinstance(value, str) else value

    return [
        msgspec.structs.replace(
            span,
            trace_id=f"{next(serial):032x}",
            span_id=f"{next(serial):016x}",
            attributes={key: renewed(value) for key, value in span.attributes.items()},
        )
        for span in spans
    ]


def measure_fresh(bodies: list[bytes], rounds: int) -> float:
    """CPU microseconds a span of mapping without decoding, best of passes of which each brings texts of its own."""
    mapper, renderer, serial = Mapper(), Renderer(), itertools.count(1)
    best = float("inf")
    for turn in range(rounds):
        spent, count = 0.0, 0
        for body in bodies:
            spans = fresh(decode_traces(body), serial)
            start = time.process_time()
            mapped = [mapper.map(span) for span in spans]
            rendered = [renderer.render(span, found) for span, found in zip(spans, mapped, strict=True)]
            for span, found, shown in zip(spans, mapped, rendered, strict=True):
                summarise(span, found, shown)
            spent += time.process_time() - start
            count += len(spans)
        gc.collect()
        if turn:  # the first one makes the plans
            best = min(best, spent / count * 1e6)
    return best


def measure_mlflow(bodies: list[bytes], rounds: int) -> float:
    """CPU microseconds a span of MLflow's own way from bytes to the text of `spans.content`."""
    from mlflow.entities.span import Span
    from mlflow.tracing.otel.translation import translate_span_when_storing
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    best = float("inf")
    for _ in range(rounds):
        count = 0
        start = time.process_time()
        for body in bodies:
            for sender in ExportTraceServiceRequest.FromString(body).resource_spans:
                for library in sender.scope_spans:
                    for one in library.spans:
                        count += 1
                        try:
                            json.dumps(translate_span_when_storing(Span.from_otel_proto(one, resource=sender.resource)))
                        except Exception:
                            continue  # its endpoint refuses the request that such a span is in
        best = min(best, (time.process_time() - start) / count * 1e6)
        gc.collect()
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=Path, help="folder of recorded requests")
    parser.add_argument("--traces", type=int, default=20, help="traces a request of the standard load")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--fresh", action="store_true", help="also measure texts and ids never seen before")
    parser.add_argument("--with-mlflow", action="store_true", help="also measure MLflow's own conversion")
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
    print(f"{'mapping':10} {total - best['decode']:6.1f} us a span without decode")
    print(f"{'all':10} {total:6.1f} us a span, {count} spans, {sum(map(len, bodies)) / count:,.0f} bytes each")
    if args.fresh:
        print(f"{'fresh':10} {measure_fresh(bodies, max(2, args.rounds // 2)):6.1f} us a span without decode")
    if args.with_mlflow:
        theirs = measure_mlflow(bodies, 2)
        print(f"{'MLflow':10} {theirs:6.1f} us a span, {theirs / total:.1f} times all")


if __name__ == "__main__":
    main()
