"""A real HTTP server with `/v1/traces`."""

import gzip
import socket
import threading
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from spanweir.exporters.otlp_http import Config
from spanweir.schemas.options import Duration, Secret
from tests.contracts.exporter_benches.otlp_grpc import span_ids
from tests.support.batches import SpanId

Answer = tuple[int, dict[str, str], bytes]


class Bench:
    exactly_once = False  # as for otlp_grpc
    can_fail = True

    def __init__(self, directory: Path) -> None:
        self.requests: list[ExportTraceServiceRequest] = []
        self.headers: list[dict[str, str]] = []
        self.paths: list[str] = []
        self.answers: list[Answer] = []
        """Answers to give before anything is accepted."""
        self.success: Answer = (200, {"content-type": "application/x-protobuf"}, b"")
        self._port = 0
        self._connections: list[socket.socket] = []
        self._server: Any = None
        self.start()

    @property
    def config(self) -> Config:
        return Config(
            endpoint=f"http://127.0.0.1:{self._port}",
            timeout=Duration(5),
            headers={"authorization": Secret("Bearer t")},
        )

    def spans(self) -> list[SpanId]:
        return span_ids(self.requests)

    def start(self) -> None:
        bench = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                status, headers, answer = bench.answers.pop(0) if bench.answers else bench.success
                if status == 200:
                    bench.paths.append(self.path)
                    bench.headers.append({key.lower(): value for key, value in self.headers.items()})
                    if self.headers.get("content-encoding") == "gzip":
                        body = gzip.decompress(body)
                    bench.requests.append(ExportTraceServiceRequest.FromString(body))
                self.send_response(status)
                for key, value in headers.items():
                    self.send_header(key, value)
                self.send_header("content-length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, format: str, *args: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            allow_reuse_address = True

            def get_request(self) -> Any:
                connection, address = super().get_request()
                bench._connections.append(connection)
                return connection, address

        self._server = Server(("127.0.0.1", self._port), Handler)
        self._port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        for connection in self._connections:  # kept alive by their handlers otherwise
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self._connections.clear()

    def close(self) -> None:
        self.stop()
