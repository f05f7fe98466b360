"""The standard load: RAG traces of 5 spans and 13 KB, sent over OTLP/gRPC or OTLP/HTTP.

As a script:   python tests/benchmarks/load.py --endpoint 127.0.0.1:4317 --traces 20 --concurrency 2 --seconds 5
As a library:  `make_requests` gives bodies to feed a component with, `run` sends until a count or a time is reached.

A trace is an agent invocation with a question and an answer, an embedding, a retrieval of five documents of 1 KB, a
model call with a 4 KB prompt, a 1 KB answer and token usage, and a tool call, in the newest OTel GenAI convention.
Text is drawn word by word, so that no two spans share content. Bodies are serialized before the clock starts; a body
that is sent again gets new ids first (`renew`), so every trace that arrives is a new one.
"""

import argparse
import http.client
import json
import os
import random
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import grpc
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, InstrumentationScope, KeyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span

SPANS_PER_TRACE = 5
TRACE_EXPORT = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
SCHEMA = "https://opentelemetry.io/schemas/1.41.0"

_VOCABULARY = """
account river ledger storage engine of the a and to in for with on which that latency request cache policy limit
window quarter revenue customer invoice shipment weather harbour signal sensor protein molecule library index vector
segment token prompt answer question document passage citation archive museum bridge tunnel railway station ticket
passenger should must may can returns keeps writes reads follows explains measures compares describes requires allows
prevents slowly quickly carefully rarely often usually across between within after before during while because
although unless small large early late northern southern annual daily median average maximum minimum durable remote
local shared temperature pressure distance velocity frequency budget forecast contract clause appendix section chapter
figure table
"""
_WORDS = _VOCABULARY.split()


def _text(rng: random.Random, size: int) -> str:
    """Sentences of about `size` characters."""
    parts: list[str] = []
    length = 0
    while length < size:
        sentence = " ".join(rng.choices(_WORDS, k=rng.randint(6, 14))).capitalize()
        if rng.random() < 0.3:
            sentence += f" {rng.randint(2, 9999)}"
        parts.append(sentence + ".")
        length += len(sentence) + 2
    return " ".join(parts)[:size]


def _value(value: str | int | float | list[str]) -> AnyValue:
    if isinstance(value, str):
        return AnyValue(string_value=value)
    if isinstance(value, int):
        return AnyValue(int_value=value)
    if isinstance(value, float):
        return AnyValue(double_value=value)
    result = AnyValue()
    result.array_value.values.extend(AnyValue(string_value=item) for item in value)
    return result


def _attributes(pairs: Mapping[str, str | int | float | list[str]]) -> list[KeyValue]:
    return [KeyValue(key=key, value=_value(value)) for key, value in pairs.items()]


def _messages(role: str, text: str, finish: str = "") -> str:
    message: dict[str, object] = {"role": role, "parts": [{"type": "text", "content": text}]}
    if finish:
        message["finish_reason"] = finish
    return json.dumps([message])


_CONTENT = tuple[str, str, dict[str, str | int | float | list[str]], int, int]


def _contents(rng: random.Random) -> list[_CONTENT]:
    """Name, parent's name, attributes, start offset and duration (ms) of the five spans of one trace."""
    question, answer = _text(rng, 120), _text(rng, 1000)
    documents = [
        {"id": f"doc-{rng.getrandbits(32):08x}", "score": round(rng.random(), 4), "content": _text(rng, 1000)}
        for _ in range(5)
    ]
    conversation = f"conv-{rng.getrandbits(48):012x}"
    root = {
        "gen_ai.operation.name": "invoke_agent",
        "gen_ai.agent.name": "librarian",
        "gen_ai.conversation.id": conversation,
        "gen_ai.input.messages": _messages("user", question),
        "gen_ai.output.messages": _messages("assistant", answer, "stop"),
    }
    embedding = {
        "gen_ai.operation.name": "embeddings",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "text-embedding-3-small",
        "gen_ai.usage.input_tokens": rng.randint(20, 40),
    }
    retrieval = {
        "gen_ai.operation.name": "retrieval",
        "gen_ai.data_source.id": "manuals",
        "gen_ai.retrieval.query.text": question,
        "gen_ai.retrieval.top_k": 5,
        "gen_ai.retrieval.documents": json.dumps(documents),
    }
    prompt_tokens, answer_tokens = rng.randint(900, 1200), rng.randint(200, 300)
    chat: dict[str, str | int | float | list[str]] = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "gpt-4o-mini",
        "gen_ai.response.model": "gpt-4o-mini-2024-07-18",
        "gen_ai.response.id": f"chatcmpl-{rng.getrandbits(64):016x}",
        "gen_ai.response.finish_reasons": ["stop"],
        "gen_ai.request.temperature": 0.2,
        "gen_ai.request.max_tokens": 1024,
        "gen_ai.conversation.id": conversation,
        "gen_ai.usage.input_tokens": prompt_tokens,
        "gen_ai.usage.output_tokens": answer_tokens,
        "gen_ai.input.messages": _messages("user", _text(rng, 4000)),
        "gen_ai.output.messages": _messages("assistant", answer, "stop"),
    }
    tool = {
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": "cite",
        "gen_ai.tool.type": "function",
        "gen_ai.tool.call.id": f"call_{rng.getrandbits(64):016x}",
        "gen_ai.tool.call.arguments": json.dumps({"document": documents[0]["id"]}),
        "gen_ai.tool.call.result": json.dumps({"citation": _text(rng, 60)}),
    }
    return [
        ("invoke_agent librarian", "", root, 0, 1900),
        ("embeddings text-embedding-3-small", "root", embedding, 5, 60),
        ("retrieval manuals", "root", retrieval, 70, 120),
        ("chat gpt-4o-mini", "root", chat, 200, 1500),
        ("execute_tool cite", "root", tool, 1750, 30),
    ]


def _ids(rng: random.Random, marker: bytes, width: int) -> bytes:
    return marker + rng.randbytes(width - len(marker))


def _marker(rng: random.Random, width: int) -> bytes:
    """Bytes that UTF-8 text cannot contain, so that `renew` replaces ids and nothing else."""
    return bytes(rng.randint(0xF8, 0xFF) for _ in range(2)) + rng.randbytes(width - 2)


def make_request(rng: random.Random, traces: int, now_ns: int, marker: bytes) -> bytes:
    """One `ExportTraceServiceRequest` with `traces` whole traces; every id starts with `marker` (6 bytes)."""
    spans: list[Span] = []
    for _ in range(traces):
        trace_id, root_id = _ids(rng, marker, 16), _ids(rng, marker, 8)
        start = now_ns - 2_000_000_000 - rng.randint(0, 500_000_000)
        for name, parent, attributes, offset_ms, duration_ms in _contents(rng):
            begin = start + offset_ms * 1_000_000
            spans.append(
                Span(
                    trace_id=trace_id,
                    span_id=_ids(rng, marker, 8) if parent else root_id,
                    parent_span_id=root_id if parent else b"",
                    name=name,
                    kind=Span.SPAN_KIND_CLIENT if name.startswith("chat") else Span.SPAN_KIND_INTERNAL,
                    start_time_unix_nano=begin,
                    end_time_unix_nano=begin + duration_ms * 1_000_000,
                    attributes=_attributes(attributes),
                    flags=256,
                )
            )
    resource = Resource(
        attributes=_attributes(
            {
                "service.name": "rag-load",
                "telemetry.sdk.language": "python",
                "telemetry.sdk.name": "opentelemetry",
                "telemetry.sdk.version": "1.40.0",
            }
        )
    )
    scope = InstrumentationScope(name="spanweir.load", version="1")
    return ExportTraceServiceRequest(
        resource_spans=[
            ResourceSpans(resource=resource, scope_spans=[ScopeSpans(scope=scope, spans=spans, schema_url=SCHEMA)])
        ]
    ).SerializeToString()


@dataclass(frozen=True)
class Body:
    """A serialized request and the marker that all its ids start with."""

    data: bytes
    marker: bytes
    traces: int

    def renew(self, serial: int, salt: bytes) -> bytes:
        """The same request with ids nobody has seen: `salt` (2 bytes) tells runs apart, `serial` requests."""
        return self.data.replace(self.marker, salt + serial.to_bytes(4, "big"))


def make_bodies(count: int, traces: int, *, seed: int = 1) -> list[Body]:
    rng = random.Random(seed)
    now_ns = time.time_ns()
    markers = [_marker(rng, 6) for _ in range(count)]
    return [Body(make_request(rng, traces, now_ns, marker), marker, traces) for marker in markers]


def make_requests(count: int, traces: int, *, seed: int = 1) -> list[bytes]:
    """`count` serialized requests of `traces` traces each, all ids distinct (also between seeds)."""
    return [body.data for body in make_bodies(count, traces, seed=seed)]


@dataclass
class Outcome:
    """What was acknowledged, and how long each acknowledgement took."""

    requests: int = 0
    spans: int = 0
    bytes: int = 0
    failed: int = 0
    errors: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    began_s: float = 0.0
    """When the first request was sent, by the clock that all processes of the machine share (monotonic)."""
    latencies_ms: list[float] = field(default_factory=list)

    def percentile(self, share: float) -> float:
        ordered = sorted(self.latencies_ms)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0

    def report(self) -> dict[str, object]:
        return {
            "requests": self.requests,
            "failed": self.failed,
            "errors": self.errors,
            "spans": self.spans,
            "megabytes": round(self.bytes / 1e6, 1),
            "seconds": round(self.seconds, 2),
            "began_s": round(self.began_s, 3),
            "spans_per_s": round(self.spans / self.seconds) if self.seconds else 0,
            "p50_ms": round(self.percentile(0.5), 2),
            "p99_ms": round(self.percentile(0.99), 2),
        }


class _Grpc:
    def __init__(self, endpoint: str, headers: Mapping[str, str]) -> None:
        # Without a pool of its own a channel shares its connection with the others to this address.
        options = [("grpc.max_send_message_length", -1), ("grpc.use_local_subchannel_pool", 1)]
        self._channel = grpc.insecure_channel(endpoint, options=options)
        self._call = self._channel.unary_unary(TRACE_EXPORT)
        self._metadata = [(key.lower(), value) for key, value in headers.items()]

    def send(self, body: bytes) -> str:
        """Empty, or why it was refused."""
        try:
            self._call(body, metadata=self._metadata, timeout=30)
        except grpc.RpcError as error:
            return str(error.code().name)
        return ""

    def close(self) -> None:
        self._channel.close()


class _Http:
    def __init__(self, endpoint: str, headers: Mapping[str, str]) -> None:
        host, _, port = endpoint.removeprefix("http://").partition(":")
        self._connection = http.client.HTTPConnection(host, int(port or 4318), timeout=30)
        self._headers = {"content-type": "application/x-protobuf", **headers}

    def send(self, body: bytes) -> str:
        try:
            self._connection.request("POST", "/v1/traces", body, self._headers)
            response = self._connection.getresponse()
            response.read()
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            return type(error).__name__
        return "" if response.status == 200 else str(response.status)

    def close(self) -> None:
        self._connection.close()


def run(
    *,
    endpoint: str,
    transport: str = "grpc",
    traces: int = 20,
    concurrency: int = 2,
    requests: int | None = None,
    seconds: float | None = None,
    pool: int | None = None,
    headers: Mapping[str, str] | None = None,
    seed: int = 1,
) -> Outcome:
    """Send until `requests` were acknowledged or refused, or `seconds` have passed; one of them must be given.

    `concurrency` connections, each with one request under way. `pool` bodies are prepared (default: about 13 MB) and
    sent round-robin with new ids.
    """
    if requests is None and seconds is None:
        raise ValueError("give requests or seconds: a load without an end would run for ever")
    bodies = make_bodies(pool or max(4, min(requests or 1000, 1000 // traces)), traces, seed=seed)
    salt = os.urandom(2)
    serials: Iterator[int] = iter(range(requests if requests is not None else 1 << 31))
    lock = threading.Lock()
    total = Outcome()
    total.began_s = started = time.monotonic()
    deadline = started + seconds if seconds is not None else float("inf")

    def work() -> None:
        client = (_Grpc if transport == "grpc" else _Http)(endpoint, headers or {})
        mine = Outcome()
        try:
            while time.monotonic() < deadline:
                with lock:
                    serial = next(serials, None)
                if serial is None:
                    break
                body = bodies[serial % len(bodies)]
                data = body.renew(serial, salt)
                begin = time.perf_counter()
                refused = client.send(data)
                if refused:
                    mine.failed += 1
                    mine.errors[refused] = mine.errors.get(refused, 0) + 1
                    continue
                mine.latencies_ms.append((time.perf_counter() - begin) * 1000)
                mine.requests += 1
                mine.spans += body.traces * SPANS_PER_TRACE
                mine.bytes += len(data)
        finally:
            client.close()
        with lock:
            total.requests += mine.requests
            total.spans += mine.spans
            total.bytes += mine.bytes
            total.failed += mine.failed
            total.latencies_ms += mine.latencies_ms
            for reason, count in mine.errors.items():
                total.errors[reason] = total.errors.get(reason, 0) + count

    threads = [threading.Thread(target=work, daemon=True) for _ in range(concurrency)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    total.seconds = time.monotonic() - started
    return total


def main() -> None:
    parser = argparse.ArgumentParser(description="Send the standard load and report what was acknowledged.")
    parser.add_argument("--endpoint", default="127.0.0.1:4317")
    parser.add_argument("--transport", choices=("grpc", "http"), default="grpc")
    parser.add_argument("--traces", type=int, default=20, help="traces in a request (1, 20, 100)")
    parser.add_argument("--concurrency", type=int, default=2, help="connections, one request under way on each")
    parser.add_argument("--requests", type=int, help="stop after so many requests")
    parser.add_argument("--seconds", type=float, help="stop after so many seconds (default 5 without --requests)")
    parser.add_argument("--header", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    seconds = 5.0 if options.seconds is None and options.requests is None else options.seconds
    outcome = run(
        endpoint=options.endpoint,
        transport=options.transport,
        traces=options.traces,
        concurrency=options.concurrency,
        requests=options.requests,
        seconds=seconds,
        headers=dict(pair.split("=", 1) for pair in options.header),
        seed=options.seed,
    )
    print(json.dumps(outcome.report()))


if __name__ == "__main__":
    main()
