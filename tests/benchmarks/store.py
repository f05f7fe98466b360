"""What storing costs: CPU a span, rate and bytes a trace, ours beside MLflow's own store in the same run.

    python tests/benchmarks/store.py [--backends sqlite postgresql] [--traces 20 100] [--spans 5000] [--sizes 1 10]

The standard load is decoded, mapped and assembled before the clock starts, in batches such as the service makes of
requests that wait (`service.delivery.read_max_bytes`; `--apart`: one a request). MLflow's store is given the same
requests as its OTLP endpoint gives them to it: as span objects, made before the clock starts, through `log_spans`,
which maps and stores them. Each does it in a process of its own, ours with the allocator's settings of the delivery
process: after MLflow's store had run in it, a trace of 10 MB cost ours half as much again. CPU is that of this process,
and of the database's server beside it. `--growth` compares one trace of 10,000 spans in batches of 5 with 2,000 traces
of 5. Rates depend on what else the machine does, and those of large traces on the disk, whose own is shown beside
them; so is what a process wrote to it for a trace.
"""

import argparse
import gc
import json
import multiprocessing
import os
import shutil
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[2]))

import psutil

from spanweir.collector import allocator
from spanweir.collector.delivery import Options as Delivery
from spanweir.exporters.api import Batch, Context
from spanweir.exporters.mlflow import Config
from tests.benchmarks.load import make_requests
from tests.support import mapped, servers

ROOT = psutil.Process()
"""Of which the measured processes and the databases' servers are children."""


class Measured(NamedTuple):
    cpu_s: float
    server_cpu_s: float
    wall_s: float
    stored_bytes: int
    """What the database grew by; 0 where that is not a file."""
    written_bytes: int
    """What this process wrote, a database's server not included."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backends", nargs="+", default=["sqlite"], choices=["sqlite", "postgresql", "mysql"])
    parser.add_argument("--traces", nargs="*", type=int, default=[20, 100])
    parser.add_argument("--spans", type=int, default=10_000)
    parser.add_argument("--sizes", nargs="*", type=float, default=[], help="traces of so many MB as well")
    parser.add_argument("--chat", action="store_true", help="traces of one chat: 13 messages and 10 tools")
    parser.add_argument("--growth", action="store_true")
    parser.add_argument("--alone", action="store_true", help="without MLflow's store")
    parser.add_argument("--apart", action="store_true", help="a batch of ours for each request")
    options = parser.parse_args()
    at_once = 0 if options.apart else int(Delivery().read_max_bytes)
    with ExitStack() as stack:
        place = Path(tempfile.mkdtemp(prefix="spanweir-bench-"))
        stack.callback(shutil.rmtree, place, ignore_errors=True)
        place.chmod(0o755)
        for backend in options.backends:
            uri = stack.enter_context(database(backend, place / backend))
            for traces in options.traces:
                bodies = make_requests(max(1, options.spans // (5 * traces)), traces, seed=traces)
                compare(f"{backend}, {traces} traces a request", uri, bodies, options.alone, at_once)
            for size in options.sizes:
                compare(f"{backend}, traces of {size:g} MB", uri, large(size), options.alone, at_once)
                rate = disk_bytes_per_s(place, int(size * 1e6))
                print(f"  the disk takes {rate / 1e6:.0f} MB/s, synced so often")
            if options.chat:
                compare(f"{backend}, chat traces", uri, chats(), options.alone, at_once)
            if options.growth:
                growth(backend, uri)


@contextmanager
def database(backend: str, place: Path) -> Iterator[Callable[[str], str]]:
    """Yields what makes the address of an empty database, which the exporter then fills with MLflow's tables."""
    place.mkdir()
    if backend == "sqlite":
        yield lambda name: f"sqlite:///{place}/{name}.db"
        return
    with (servers.postgresql if backend == "postgresql" else servers.mariadb)(place) as server:
        from tests.contracts.mlflow_store.conftest import execute

        def make(name: str) -> str:
            execute(f"{server}/{'postgres' if backend == 'postgresql' else 'mysql'}", f"CREATE DATABASE {name}")
            return f"{server}/{name}"

        yield make


def compare(title: str, uri: Callable[[str], str], bodies: Sequence[bytes], alone: bool, at_once: int) -> None:
    batches = mapped.batches(bodies, read_max_bytes=at_once)
    spans = sum(len(batch.spans) for batch in batches)
    traces = sum(len(batch.traces) for batch in batches)
    name = "b" + str(time.monotonic_ns())
    print(f"{title}: {spans} spans, {traces} traces")
    ours = measure(write_ours, uri(name), lambda: mapped.batches(bodies, read_max_bytes=at_once))
    show("spanweir", ours, spans, traces)
    if alone:
        return
    share = max(min(3, len(bodies)), len(bodies) // 5)
    part = mapped.batches(bodies[:share])
    some = sum(len(batch.spans) for batch in part)
    theirs = measure(write_theirs, uri(name + "m"), lambda: bodies[:share])
    show("MLflow's store", theirs, some, sum(len(batch.traces) for batch in part))
    cpu = [(one.cpu_s + one.server_cpu_s) / count for one, count in ((theirs, some), (ours, spans))]
    rate = [count / one.wall_s for one, count in ((ours, spans), (theirs, some))]
    print(f"  {cpu[0] / cpu[1]:.1f} times less CPU, {rate[0] / rate[1]:.1f} times the rate")


def show(who: str, measured: Measured, spans: int, traces: int) -> None:
    here, server = measured.cpu_s / spans * 1e6, measured.server_cpu_s / spans * 1e6
    print(
        f"  {who:15} {here:8.1f} us CPU a span{f' + {server:.1f} in the server' if server else ''},"
        f" {spans / measured.wall_s:8.0f} spans/s"
        + (f", {measured.stored_bytes / traces / 1024:.1f} KiB a trace" if measured.stored_bytes else "")
        + (f", {measured.written_bytes / traces / 1024:.1f} written" if measured.stored_bytes else "")
    )


def measure(prepare: Callable[[str, Any], Callable[[], None]], uri: str, load: Callable[[], Any]) -> Measured:
    """`prepare` does what is not measured and returns what is. All of it, with the load, in a process of its own."""
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=lambda: sender.send(measure_here(prepare, uri, load())))
    process.start()
    sender.close()
    try:
        found: Measured = receiver.recv()
    except EOFError:
        raise SystemExit("the measured process failed, see above") from None
    process.join()
    return found


def measure_here(prepare: Callable[[str, Any], Callable[[], None]], uri: str, load: Any) -> Measured:
    work = prepare(uri, load)
    empty = size_of(uri)
    gc.collect()
    gc.disable()
    try:
        written = psutil.Process().io_counters().write_chars
        before, start, other = time.process_time(), time.perf_counter(), server_cpu_s()
        work()
        here, wall = time.process_time() - before, time.perf_counter() - start
        time.sleep(0.3)  # a server process that ends is counted in its parent only after that
        written = psutil.Process().io_counters().write_chars - written
        return Measured(here, server_cpu_s() - other, wall, size_of(uri) - empty, written)
    finally:
        gc.enable()


def disk_bytes_per_s(place: Path, size: int) -> float:
    """Of a file that grows by `size` bytes and is synced, over and over: the median."""
    block, rates = os.urandom(size), []
    with (place / "disk").open("wb", buffering=0) as file:
        for _ in range(7):
            start = time.perf_counter()
            file.write(block)
            os.fdatasync(file.fileno())
            rates.append(size / (time.perf_counter() - start))
    (place / "disk").unlink()
    return sorted(rates)[len(rates) // 2]


def server_cpu_s() -> float:
    """Of all processes of the database's server, those included that have ended."""
    total = 0.0
    for process in ROOT.children(recursive=True):
        try:
            if process.name() in ("postgres", "mariadbd", "mysqld"):
                times = process.cpu_times()
                total += times.user + times.system + times.children_user + times.children_system
        except psutil.Error:
            continue
    return total


def write_ours(uri: str, batches: Sequence[Batch]) -> Callable[[], None]:
    allocator.keep_little(allocator.DELIVERY)
    exporter = Config(tracking_uri=uri, experiment="bench").build(Context(name="mlflow", state_directory=""))
    exporter.__enter__()

    def work() -> None:
        for batch in batches:
            exporter.export(batch)
        exporter.__exit__(None, None, None)

    return work


def write_theirs(uri: str, bodies: Sequence[bytes]) -> Callable[[], None]:
    # Prices from the packaged table: the endpoint would fetch them from the network.
    os.environ["MLFLOW_MODEL_CATALOG_URI"] = ""
    from mlflow.entities import Span
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    from tests.support import mlflow_oracle as oracle

    store = oracle.store(uri)
    experiment = store.create_experiment("bench")
    requests = [
        [
            Span.from_otel_proto(span, resource=group.resource)
            for group in ExportTraceServiceRequest.FromString(body).resource_spans
            for scope in group.scope_spans
            for span in scope.spans
        ]
        for body in bodies
    ]

    def work() -> None:
        for spans in requests:
            store.log_spans(experiment, spans)
        store.engine.dispose()

    return work


def size_of(uri: str) -> int:
    """What is in the write-ahead log included."""
    if not uri.startswith("sqlite"):
        return 0
    with sqlite3.connect(uri.removeprefix("sqlite:///")) as connection:
        pages, size = (connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "page_size"))
    return int(pages * size)


def large(megabytes: float) -> list[bytes]:
    """One trace a request, whose model call has a prompt of so many MB."""
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    made: list[bytes] = []
    text = "The quick brown fox jumps over the lazy dog. " * 23_000
    prompt = json.dumps(
        [
            {
                "role": "user",
                "parts": [{"type": "text", "content": (text * (int(megabytes) + 1))[: int(megabytes * 1e6)]}],
            }
        ]
    )
    for body in make_requests(max(3, int(60 / megabytes)), 1):
        message = ExportTraceServiceRequest.FromString(body)
        for span in message.resource_spans[0].scope_spans[0].spans:
            for attribute in span.attributes:
                if span.name.startswith("chat") and attribute.key == "gen_ai.input.messages":
                    attribute.value.string_value = prompt
        made.append(message.SerializeToString())
    return made


def chats() -> list[bytes]:
    """Model calls as chat applications make them: a long conversation of 13 messages, 10 tools, an answer.

    The messages differ in length, as they do: contents of one and the same length fill the pages of a database file
    either well or badly, whatever the size of its pages (18.6 KiB a trace for 13.1 KB, at 16 KiB a page).
    """
    import random

    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    from tests.support.mlflow_spans import words

    rng = random.Random(1)
    made: list[bytes] = []
    for serial in range(500):
        message = ExportTraceServiceRequest()
        span = message.resource_spans.add().scope_spans.add().spans.add()
        span.trace_id, span.span_id = rng.randbytes(16), rng.randbytes(8)
        span.name, span.kind = "chat gpt-4o", 3
        span.start_time_unix_nano = time.time_ns() - 60_000_000_000 + serial * 1_000_000
        span.end_time_unix_nano = span.start_time_unix_nano + 900_000_000
        roles = ["system", *["user", "assistant"] * 6]
        said = [
            {"role": role, "parts": [{"type": "text", "content": words(rng, rng.randint(100, 900))}]} for role in roles
        ]
        query = {"type": "string", "description": words(rng, 60)}
        schema = {"type": "object", "required": ["query"], "properties": {"query": query, "limit": {"type": "integer"}}}
        tools = [
            {"type": "function", "name": f"tool_{n}", "description": words(rng, 120), "parameters": schema}
            for n in range(10)
        ]
        answer = [
            {
                "role": "assistant",
                "parts": [{"type": "text", "content": words(rng, rng.randint(100, 1300))}],
                "finish_reason": "stop",
            }
        ]
        for key, value in {
            "gen_ai.operation.name": "chat", "gen_ai.provider.name": "openai", "gen_ai.request.model": "gpt-4o",
            "gen_ai.usage.input_tokens": 2000, "gen_ai.usage.output_tokens": 150, "gen_ai.input.messages": said,
            "gen_ai.output.messages": answer, "gen_ai.tool.definitions": tools,
        }.items():  # fmt: skip
            attribute = span.attributes.add()
            attribute.key = key
            if isinstance(value, int):
                attribute.value.int_value = value
            else:
                attribute.value.string_value = value if isinstance(value, str) else json.dumps(value)
        made.append(message.SerializeToString())
    return made


def growth(backend: str, uri: Callable[[str], str]) -> None:
    from tests.support.mlflow_spans import make_batch, make_span, make_trace

    apart = [make_batch([make_trace(seed)], seed + 1) for seed in range(2000)]
    row, _ = make_trace(1)
    together = []
    for number, batch in enumerate(apart):
        spans: list[Any] = []
        for position, span in enumerate(batch.spans):
            span_id = f"{number * 5 + position + 1:016x}"
            values = {key: json.loads(value) for key, value in span.attributes.items() if key.startswith("mlflow.span")}
            spans.append(make_span(row.trace_id, span_id, "f" * 16, name=span.name, kind=span.type, values=values))
        early, _ = make_trace(1)
        early.complete, early.state, early.span_count = False, "IN_PROGRESS", number * 5 + 5
        together.append(make_batch([(early, spans)], number + 1))
    print(f"{backend}: 10,000 spans in batches of 5")
    one = measure(write_ours, uri("one"), lambda: together)
    many = measure(write_ours, uri("many"), lambda: apart)
    show("in one trace", one, 10_000, 1)
    show("in 2,000 traces", many, 10_000, 2000)
    print(f"  {(one.cpu_s + one.server_cpu_s) / (many.cpu_s + many.server_cpu_s):.2f} times the CPU")


if __name__ == "__main__":
    main()
