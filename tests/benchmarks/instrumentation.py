"""What instrumentation costs the application: spanweir, the plain OpenTelemetry SDK and MLflow's SDK in one run.

`python tests/benchmarks/instrumentation.py [--repeat N] [--without-mlflow]` prints a table. Each mode runs in a process
of its own against a real receiver in another process (MLflow: `mlflow server` with SQLite). A request is one traced
function that is given messages of 4 KB each (one of 10 KB holds three) and returns 1 KB.

- added latency: median time in the calling thread, less the same function without tracing, exporter idle;
- CPU: of the whole application process, background export included, per request;
- stall: longest time that a busy application thread stood still while the export ran, median over the exports; the
  same without any export is printed beside it, because other programs on the machine cause stalls too.
"""

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent import futures
from typing import Any

SIZES = {"10 KB": 10_000, "1 MB": 1_000_000, "10 MB": 10_000_000}
REQUESTS = {"10 KB": 100, "1 MB": 20, "10 MB": 6}
Messages = list[dict[str, str]]


def messages(size: int) -> Messages:
    """Fresh strings, so that nothing is shared between requests."""
    count = max(size // 4000, 3)
    text = os.urandom(size // count // 2).hex()
    return [{"role": "user" if n % 2 else "assistant", "content": f"{n} {text}"} for n in range(count)]


def plain(prompt: Messages) -> str:
    return "a" * 1000


def traced_by_spanweir(endpoint: str) -> tuple[Callable[[Messages], str], Callable[[], object]]:
    import spanweir.instrumentation as spanweir

    spanweir.init(endpoint=endpoint, service_name="benchmark")
    return spanweir.chat("gpt-4o-mini", provider="openai")(plain), lambda: spanweir.flush(60)


def traced_by_otel(endpoint: str) -> tuple[Callable[[Messages], str], Callable[[], object]]:
    from opentelemetry import trace
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    provider = TracerProvider()
    # One span a message: with its default of 512 a batch of large spans exceeds every receiver's limit.
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint), max_export_batch_size=1))
    trace.set_tracer_provider(provider)
    tracer = provider.get_tracer("benchmark")

    def run(prompt: Messages) -> str:
        with tracer.start_as_current_span("chat gpt-4o-mini") as span:
            span.set_attribute("gen_ai.operation.name", "chat")
            span.set_attribute("gen_ai.request.model", "gpt-4o-mini")
            parts = [{"role": m["role"], "parts": [{"type": "text", "content": m["content"]}]} for m in prompt]
            span.set_attribute("gen_ai.input.messages", json.dumps(parts))
            answer = plain(prompt)
            output = [{"role": "assistant", "parts": [{"type": "text", "content": answer}]}]
            span.set_attribute("gen_ai.output.messages", json.dumps(output))
            return answer

    return run, lambda: provider.force_flush(60_000)


def traced_by_mlflow(endpoint: str) -> tuple[Callable[[Messages], str], Callable[[], object]]:
    import mlflow

    mlflow.set_tracking_uri(endpoint)
    mlflow.set_experiment("benchmark")
    run = mlflow.trace(name="chat gpt-4o-mini", span_type="CHAT_MODEL")(plain)
    return run, lambda: mlflow.flush_trace_async_logging(terminate=False)


MODES = {"spanweir": traced_by_spanweir, "otel": traced_by_otel, "mlflow": traced_by_mlflow}


def median_ns(function: Callable[[Messages], str], prompts: list[Messages], idle: Callable[[], object]) -> float:
    times = []
    for prompt in prompts:
        idle()
        time.sleep(0.002)
        start = time.perf_counter_ns()
        function(prompt)
        times.append(time.perf_counter_ns() - start)
    return statistics.median(times)


class Busy(threading.Thread):
    """An application thread that never waits: its longest gap is how long it was kept from running."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.longest_ns = 0
        self.on = True

    def run(self) -> None:
        last = time.perf_counter_ns()
        while self.on:
            now = time.perf_counter_ns()
            if now - last > self.longest_ns:
                self.longest_ns = now - last
            last = now


def stall_ms(action: Callable[[], object]) -> float:
    busy = Busy()
    busy.start()
    time.sleep(0.05)
    busy.longest_ns = 0
    action()
    longest = busy.longest_ns
    busy.on = False
    busy.join()
    return longest / 1e6


def child(mode: str, endpoint: str, repeat: int) -> dict[str, Any]:
    run, flush = MODES[mode](endpoint)
    run(messages(1000))
    flush()
    result: dict[str, Any] = {}
    for name, size in SIZES.items():
        count = REQUESTS[name] * repeat
        prompts = [messages(size) for _ in range(min(count, 40))]
        prompts = [prompts[n % len(prompts)] for n in range(count)]
        bare = median_ns(plain, prompts, lambda: None)
        latency = median_ns(run, prompts, flush) - bare
        flush()
        cpu = time.process_time()
        for prompt in prompts:
            run(prompt)
        flush()
        result[name] = {"latency_ms": latency / 1e6, "cpu_ms": (time.process_time() - cpu) * 1e3 / count}
    prompt = messages(SIZES["10 MB"])
    stalls, quiet = [], []
    for _ in range(5 * repeat):
        run(prompt)
        stalls.append(stall_ms(flush))
        quiet.append(stall_ms(lambda: time.sleep(0.3)))
    result["stall_ms"], result["quiet_ms"] = statistics.median(stalls), statistics.median(quiet)
    return result


def receiver() -> None:
    """An OTLP/gRPC endpoint that reads whole messages and keeps nothing."""
    import grpc

    method = grpc.unary_unary_rpc_method_handler(lambda request, context: b"")
    handler = grpc.method_handlers_generic_handler(
        "opentelemetry.proto.collector.trace.v1.TraceService", {"Export": method}
    )
    server = grpc.server(futures.ThreadPoolExecutor(2), options=[("grpc.max_receive_message_length", -1)])
    server.add_generic_rpc_handlers((handler,))
    print(server.add_insecure_port("127.0.0.1:0"), flush=True)
    server.start()
    sys.stdin.read()


def mlflow_server(directory: str) -> tuple[subprocess.Popen[bytes], str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = ["-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{directory}/mlflow.db"]
    with open(f"{directory}/server.log", "wb") as log:
        process = subprocess.Popen([sys.executable, *command], cwd=directory, stdout=log, stderr=log)
    for _ in range(240):
        time.sleep(0.5)
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2)
            return process, f"http://127.0.0.1:{port}"
        except OSError:
            continue
    process.terminate()
    raise RuntimeError(f"mlflow server did not start, see {directory}/server.log")


def measure(mode: str, endpoint: str, repeat: int) -> dict[str, Any]:
    command = [sys.executable, __file__, "--child", mode, "--endpoint", endpoint, "--repeat", str(repeat)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False)
    if done.returncode:
        raise RuntimeError(f"{mode}: {done.stderr[-2000:]}")
    parsed: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return parsed


def compare(repeat: int, with_mlflow: bool) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each mode and its figures, as they come."""
    sink = subprocess.Popen(
        [sys.executable, __file__, "--receiver"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert sink.stdout is not None
    try:
        endpoint = f"http://127.0.0.1:{sink.stdout.readline().strip()}"
        for mode in ("spanweir", "otel"):
            yield mode, measure(mode, endpoint, repeat)
    finally:
        sink.communicate("", timeout=10)
    if with_mlflow:
        with tempfile.TemporaryDirectory() as directory:
            process, address = mlflow_server(directory)
            try:
                yield "mlflow", measure("mlflow", address, repeat)
            finally:
                process.terminate()
                process.wait(20)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeat", type=int, default=1)
    parser.add_argument("--without-mlflow", action="store_true")
    parser.add_argument("--child", choices=MODES)
    parser.add_argument("--endpoint", default="")
    parser.add_argument("--receiver", action="store_true")
    options = parser.parse_args()
    if options.receiver:
        receiver()
    elif options.child:
        print(json.dumps(child(options.child, options.endpoint, options.repeat)))
    else:
        for mode, figures in compare(options.repeat, not options.without_mlflow):
            for size in SIZES:
                row = figures[size]
                print(f"{mode:9} {size:>6}  latency {row['latency_ms']:9.3f} ms   CPU {row['cpu_ms']:9.3f} ms/request")
            print(
                f"{mode:9}  10 MB  stall {figures['stall_ms']:.1f} ms (without export {figures['quiet_ms']:.1f} ms)",
                flush=True,
            )


if __name__ == "__main__":
    main()
