"""What receiving costs: CPU and rate from the socket to the durable acknowledgement, and the receiver's memory.

    python tests/benchmarks/receive.py [--transport grpc grpc-threads http] [--traces 1 20 100] [--seconds 3]

The receiver and its queue run in a process of their own, as in the service; the load is made in this one. CPU is that
of the receiving process only, user and system, disk included; `grpc-threads` is grpcio's own server. Rates depend on
what else the machine does; CPU hardly.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.benchmarks.load import run

CONCURRENCY = {1: 16, 20: 4, 100: 2}


def serve(directory: str, fsync: str, threads: bool) -> None:
    """The receiving process: prints its endpoints, then its CPU seconds and memory for every line it is given."""
    from spanweir.collector.allocator import keep_little
    from spanweir.collector.queue.disk import Config as Disk
    from spanweir.collector.receivers import _grpc_loop
    from spanweir.collector.receivers.api import Context
    from spanweir.collector.receivers.otlp import Config, Grpc, Http, Protocols

    if threads:
        vars(_grpc_loop)["usable"] = lambda: False
    keep_little()
    queue = Disk(directory=directory, fsync="off" if fsync == "off" else "batch")
    writer = queue.open_writer()
    protocols = Protocols(grpc=Grpc(endpoint="127.0.0.1:0"), http=Http(endpoint="127.0.0.1:0"))
    receiver = Config(protocols=protocols).build(Context(name="otlp", writer=writer))
    receiver.start()
    print(json.dumps(dict(receiver.endpoints)), flush=True)
    for _ in sys.stdin:
        usage = resource.getrusage(resource.RUSAGE_SELF)
        memory = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
        rss_mb = int(memory["VmRSS"].split()[0]) / 1024
        print(json.dumps([usage.ru_utime + usage.ru_stime, rss_mb, writer.last()]), flush=True)
    receiver.stop(1)
    writer.close()


class Server:
    def __init__(self, directory: str, fsync: str, *, threads: bool = False) -> None:
        command = [sys.executable, __file__, "--serve", directory, "--fsync", fsync, *["--threads"][: int(threads)]]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.endpoints = self._read()

    def sample(self) -> Any:
        """CPU seconds, resident MB, records."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return self._read()

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()

    def _read(self) -> Any:
        assert self._process.stdout is not None
        return json.loads(self._process.stdout.readline())


def measure(transport: str, traces: int, concurrency: int, seconds: float, fsync: str = "batch") -> dict[str, object]:
    """One line of the table."""
    with tempfile.TemporaryDirectory() as directory:
        server = Server(directory, fsync, threads=transport == "grpc-threads")
        protocol = transport.partition("-")[0]
        try:
            endpoint = server.endpoints[protocol]
            run(endpoint=endpoint, transport=protocol, traces=traces, requests=20, concurrency=concurrency)
            cpu, _, records = server.sample()
            outcome = run(
                endpoint=endpoint, transport=protocol, traces=traces, seconds=seconds, concurrency=concurrency, pool=20
            )
            cpu_after, rss_mb, records_after = server.sample()
        finally:
            server.close()
    assert records_after - records == outcome.requests, "acknowledged and not in the queue"
    used_us = (cpu_after - cpu) * 1e6
    return {
        "transport": transport,
        "traces": traces,
        "concurrency": concurrency,
        "us_per_span": round(used_us / outcome.spans, 1),
        "us_per_request": round(used_us / outcome.requests),
        **{key: outcome.report()[key] for key in ("spans_per_s", "p50_ms", "p99_ms", "failed")},
        "rss_mb": round(rss_mb),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure receiving: CPU, rate, memory.")
    parser.add_argument("--transport", nargs="+", default=["grpc", "http"])
    parser.add_argument("--traces", nargs="+", type=int, default=[1, 20, 100])
    parser.add_argument("--concurrency", type=int)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--fsync", choices=("batch", "off"), default="batch")
    parser.add_argument("--serve", metavar="DIRECTORY", help=argparse.SUPPRESS)
    parser.add_argument("--threads", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(options.serve, options.fsync, options.threads)
        return
    for transport in options.transport:
        for traces in options.traces:
            concurrency = options.concurrency or CONCURRENCY.get(traces, 4)
            print(json.dumps(measure(transport, traces, concurrency, options.seconds, options.fsync)), flush=True)


if __name__ == "__main__":
    main()
