"""Records through all stages: routes, joins, redaction of everything that leaves, what is dropped."""

import json
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from spanweir.collector.delivery.stages import Drop, Stages
from spanweir.collector.processors import filter, redaction
from spanweir.collector.processors.api import Context, Processor
from spanweir.collector.processors.genai import GenAI
from spanweir.collector.queue.api import Record
from spanweir.collector.telemetry import Counters
from spanweir.exporters.encode import logs_request, spans_request
from spanweir.schemas.mapping import Mapper
from spanweir.schemas.mlflow import Renderer
from spanweir.schemas.raw import RawLog, RawSpan
from tests.support.spans import TRACE, identity, span

MAIL = "jane@example.com"


class Bench:
    def __init__(self, *configs: Any, **options: Any) -> None:
        self.counters = Counters()
        drops: list[Drop] = []
        context = Context(
            name="test", state_directory="", count=lambda name, n=1: self.counters.add(name, n),
            drop=lambda raw, reason: drops.append(Drop(raw, reason)),
            discard=lambda raw, reason: drops.append(Drop(raw, reason, True)),
        )  # fmt: skip
        built = [config.build(context) for config in configs]
        early: list[Processor] = [p for p in built if getattr(p, "before_mapping", False)]
        late = [p for p in built if p not in early]
        self.stages = Stages([*early, GenAI(Mapper()), *late], Renderer(), drops, self.counters.add, **options)

    def run(self, *bodies: tuple[str, bytes], headers: dict[str, str] | None = None) -> Any:
        records = [
            Record(sequence=i, signal=signal, received_ns=1, body=body, headers=headers or {})
            for i, (signal, body) in enumerate(bodies, 1)
        ]
        return self.stages.run(records, 0.0, 1)


def traces(*spans: RawSpan) -> tuple[str, bytes]:
    return "traces", spans_request((raw, raw.attributes) for raw in spans)


def logs(*records: RawLog) -> tuple[str, bytes]:
    return "logs", logs_request(records)


def test_mlflows_headers_route() -> None:
    made = Bench().run(traces(span("a", op="chat")), headers={"x-mlflow-experiment-id": "7", "x-mlflow-run-id": "abc"})
    assert (made.traces[0].experiment, made.traces[0].run_id) == ("7", "abc")


def test_a_trace_stays_in_its_first_experiment() -> None:
    bench = Bench()
    bench.run(traces(span("a", "root", op="chat")), headers={"x-mlflow-experiment-name": "one"})
    made = bench.run(traces(span("root", op="invoke_agent")), headers={"x-mlflow-experiment-name": "two"})
    assert made.traces[0].experiment == "one"


def test_records_of_one_batch_are_joined() -> None:
    record = RawLog(
        trace_id=TRACE, span_id=identity("llm"), event_name="gen_ai.user.message", time_ns=1, body={"content": "why?"}
    )
    made = Bench().run(logs(record), traces(span("llm", op="chat")))
    assert made.traces[0].request_preview == "why?"
    assert len(made.logs) == 1


def test_content_that_comes_later_amends_what_was_written() -> None:
    bench = Bench()
    first = bench.run(traces(span("llm", op="chat")))
    assert first.traces[0].request_preview is None
    record = RawLog(
        trace_id=TRACE, span_id=identity("llm"), event_name="gen_ai.user.message", time_ns=1, body={"content": "why?"}
    )
    second = bench.run(logs(record))
    assert [mapped.name for mapped in second.spans] == ["llm"]
    assert (second.traces[0].request_preview, second.traces[0].revision) == ("why?", 2)


def test_nothing_leaves_unredacted() -> None:
    bench = Bench(redaction.Config(), requests=True, rewrite=True)
    record = RawLog(
        trace_id=TRACE, span_id=identity("llm"), event_name="gen_ai.user.message", time_ns=1,
        body={"content": f"I am {MAIL}"},
    )  # fmt: skip
    made = bench.run(logs(record), traces(span("llm", op="chat", said=f"hello {MAIL}")))
    assert {request.signal for request in made.requests} == {"traces", "logs"}
    leaving = [request.body for request in made.requests] + [mapped.content for mapped in made.spans]
    assert all(MAIL.encode() not in body for body in leaving)
    assert all(b"[REDACTED_EMAIL]" in body for body in leaving)
    assert MAIL not in repr(made)
    assert made.traces[0].request_preview == "I am [REDACTED_EMAIL]"


def test_dropped_spans_are_counted_and_their_children_move_up() -> None:
    bench = Bench(filter.Config(genai_only=True))
    made = bench.run(
        traces(span("root", op="invoke_agent"), span("http", "root", kind=3), span("llm", "http", op="chat", start=2))
    )
    assert {mapped.name: mapped.parent_id for mapped in made.spans} == {"root": None, "llm": identity("root")}
    assert made.taken == 2
    assert bench.counters.get("spanweir_dropped_spans", reason="filtered") == 1


def test_times_that_cannot_be_are_repaired_and_flagged() -> None:
    bench = Bench()
    made = bench.run(traces(span("root", op="invoke_agent", start=100, end=50)))
    (mapped,) = made.spans
    assert mapped.end_ns == mapped.start_ns
    assert mapped.raw.issues == ("end_before_start",)
    assert made.traces[0].state == "OK"
    assert json.loads(mapped.attributes["spanweir.flags"]) == ["end_before_start"]
    assert bench.counters.get("spanweir_assembly_repaired_spans", issue="end_before_start") == 1


@pytest.mark.parametrize("name", ["chat", "not of generative AI"])
def test_what_decoding_repaired_is_counted_and_flagged(name: str) -> None:
    request = ExportTraceServiceRequest()
    sent = request.resource_spans.add().scope_spans.add().spans.add(name=name, trace_id=b"1" * 16, span_id=b"2" * 8)
    if name == "chat":
        sent.attributes.add(key="gen_ai.operation.name").value.string_value = "chat"
    for text in ("one", "two", "bad: ~~"):
        sent.attributes.add(key="twice").value.string_value = text
    body = request.SerializeToString().replace(b"~~", b"\xff\xfe")
    bench = Bench()
    (mapped,) = bench.run(("traces", body)).spans
    assert json.loads(mapped.attributes["twice"]) == "bad: ??"
    assert json.loads(mapped.attributes["spanweir.flags"]) == ["invalid_utf8", "duplicate_keys"]
    for issue in ("invalid_utf8", "duplicate_keys"):
        assert bench.counters.get("spanweir_assembly_repaired_spans", issue=issue) == 1
