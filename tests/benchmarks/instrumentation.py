"""What instrumentation costs the application: spanweir, the plain OpenTelemetry SDK and MLflow's SDK in one run.

`python tests/benchmarks/instrumentation.py [--repeat N] [--without-mlflow]` prints a table, in about three minutes with
MLflow and in 20 s without. Each mode runs in a process of its own against a real receiver in another process (MLflow:
`mlflow server` with SQLite). A request is one traced function that is given messages of 4 KB each (one of 10 KB holds
three) and returns 1 KB; `agent` is a request of 10 KB in four spans (a workflow that calls a retriever with three
documents, a tool and a model).

- added latency: median time in the calling thread, less the same function without tracing, exporter idle for 2 ms, the
  messages made right before the call; `cold`: messages made long before, nothing done since the sleep; `busy`: requests
  one right after the other. On a machine that others use too, compare with the other modes, not with a number;
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
PATIENCE_S = 12.0
"""If so many requests take longer, a median is taken of fewer, but FEWEST: a flush of MLflow's queue lasts a second."""
FEWEST = 7
Messages = list[dict[str, str]]
Request = Callable[[Messages], str]
Traced = Callable[[str, str, Callable[..., Any]], Callable[..., Any]]
"""`traced(operation, name, function)`: the function, recorded with its arguments and its result."""


def messages(size: int) -> Messages:
    """Fresh strings, so that nothing is shared between requests."""
    count = max(size // 4000, 3)
    text = os.urandom(size // count // 2).hex()
    return [{"role": "user" if n % 2 else "assistant", "content": f"{n} {text}"} for n in range(count)]


def plain(prompt: Messages) -> str:
    return "a" * 1000


def agent(traced: Traced) -> Request:
    """The messages are the documents that the retriever finds, and go into the model's prompt."""
    search = traced("retrieval", "kb", lambda query, found: [{"id": "d", "score": 0.5, **m} for m in found])
    weather = traced("tool", "weather", lambda city, days: {"city": city, "degrees": [21] * days})
    ask = traced("chat", "gpt-4o-mini", plain)

    def answer(prompt: Messages) -> str:
        documents = search("what flows over a weir?", prompt)
        facts = f"{weather('Paris', 3)} {len(documents)} documents"
        return str(ask([{"role": "system", "content": facts}, *prompt]))

    return traced("workflow", "answer", answer)


def traced_by_spanweir(endpoint: str) -> tuple[Traced, Callable[[], object]]:
    import spanweir.instrumentation as spanweir

    spanweir.init(endpoint=endpoint, service_name="benchmark")
    operations = {
        "workflow": spanweir.workflow("answer"),
        "retrieval": spanweir.retrieval("kb"),
        "tool": spanweir.tool("weather"),
        "chat": spanweir.chat("gpt-4o-mini", provider="openai"),
    }
    return lambda kind, name, function: operations[kind](function), lambda: spanweir.flush(60)


def traced_by_otel(endpoint: str) -> tuple[Traced, Callable[[], object]]:
    from opentelemetry import trace
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    provider = TracerProvider()
    # One span a message: with its default of 512 a batch of large spans exceeds every receiver's limit.
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint), max_export_batch_size=1))
    trace.set_tracer_provider(provider)
    tracer = provider.get_tracer("benchmark")

    def parts(messages: Messages) -> str:
        texts = [{"role": m["role"], "parts": [{"type": "text", "content": m["content"]}]} for m in messages]
        return json.dumps(texts)

    def traced(kind: str, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def run(*given: Any) -> Any:
            with tracer.start_as_current_span(f"{kind} {name}") as span:
                span.set_attribute("gen_ai.operation.name", kind)
                span.set_attribute("gen_ai.request.model", name)
                told = kind in ("chat", "workflow")
                span.set_attribute("gen_ai.input.messages", parts(given[0]) if told else json.dumps(given))
                answer = function(*given)
                output = parts([{"role": "assistant", "content": answer}]) if told else json.dumps(answer)
                span.set_attribute("gen_ai.output.messages", output)
                return answer

        return run

    return traced, lambda: provider.force_flush(60_000)


def traced_by_mlflow(endpoint: str) -> tuple[Traced, Callable[[], object]]:
    import mlflow

    mlflow.set_tracking_uri(endpoint)
    mlflow.set_experiment("benchmark")
    types = {"workflow": "CHAIN", "retrieval": "RETRIEVER", "tool": "TOOL", "chat": "CHAT_MODEL"}

    def traced(kind: str, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        return mlflow.trace(name=f"{kind} {name}", span_type=types[kind])(function)  # type: ignore[no-any-return]

    return traced, lambda: mlflow.flush_trace_async_logging(terminate=False)


MODES = {"spanweir": traced_by_spanweir, "otel": traced_by_otel, "mlflow": traced_by_mlflow}


def median_ns(function: Request, prompts: list[Messages], idle: Callable[[], object], *, fresh: bool = False) -> float:
    """`fresh`: each request's messages are made right before it, as an application does."""
    times: list[int] = []
    until = time.monotonic() + PATIENCE_S
    for prompt in prompts:
        if len(times) >= FEWEST and time.monotonic() > until:
            break
        idle()
        time.sleep(0.002)
        if fresh:
            prompt = messages(sum(len(message["content"]) for message in prompt))
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


def unchanged(kind: str, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    return function


def measured(
    run: Request,
    bare: Request,
    prompts: list[Messages],
    flush: Callable[[], object],
) -> dict[str, float]:
    without = median_ns(bare, prompts, lambda: None)
    cold = median_ns(run, prompts, flush) - without
    latency = median_ns(run, prompts, flush, fresh=True) - median_ns(bare, prompts, lambda: None, fresh=True)
    flush()
    times = []
    cpu = time.process_time()
    for prompt in prompts:
        start = time.perf_counter_ns()
        run(prompt)
        times.append(time.perf_counter_ns() - start)
    flush()
    cpu = time.process_time() - cpu
    return {
        "latency_ms": latency / 1e6,
        "cold_ms": cold / 1e6,
        "busy_ms": (statistics.median(times) - without) / 1e6,
        "cpu_ms": cpu * 1e3 / len(prompts),
    }


def child(mode: str, endpoint: str, repeat: int) -> dict[str, Any]:
    traced, flush = MODES[mode](endpoint)
    run = traced("chat", "gpt-4o-mini", plain)
    run(messages(1000))
    flush()
    result: dict[str, Any] = {}
    for name, size in SIZES.items():
        count = REQUESTS[name] * repeat
        prompts = [messages(size) for _ in range(min(count, 40))]
        prompts = [prompts[n % len(prompts)] for n in range(count)]
        result[name] = measured(run, plain, prompts, flush)
    prompts = [messages(SIZES["10 KB"]) for _ in range(REQUESTS["10 KB"])]
    result["agent"] = measured(agent(traced), agent(unchanged), prompts, flush)
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
            for size in (*SIZES, "agent"):
                row = figures[size]
                latency = f"latency {row['latency_ms']:9.3f} ms  cold {row['cold_ms']:9.3f}  busy {row['busy_ms']:9.3f}"
                print(f"{mode:9} {size:>6}  {latency}   CPU {row['cpu_ms']:9.3f} ms/request")
            print(
                f"{mode:9}  10 MB  stall {figures['stall_ms']:.1f} ms (without export {figures['quiet_ms']:.1f} ms)",
                flush=True,
            )


if __name__ == "__main__":
    main()
