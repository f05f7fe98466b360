"""Forwarding in the newest conventions: an OpenInference span becomes OTel GenAI, and nothing else is lost."""

import json

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from spanweir.collector.decode.otlp_proto import decode_traces
from spanweir.exporters._otlp import normalized as request
from spanweir.schemas.mapping import Mapper
from spanweir.schemas.raw import Event, Link, RawSpan, Resource, Scope
from spanweir.schemas.trace import MappedSpan
from tests.benchmarks.load import make_requests

OPENINFERENCE = {
    "openinference.span.kind": "LLM",
    "llm.model_name": "gpt-4o-mini",
    "llm.provider": "openai",
    "llm.input_messages.0.message.role": "user",
    "llm.input_messages.0.message.content": "What is a weir?",
    "llm.output_messages.0.message.role": "assistant",
    "llm.output_messages.0.message.content": "A low dam.",
    "llm.token_count.prompt": 12,
    "llm.token_count.completion": 4,
    "custom.key": "stays",
}


def normalized(raw: RawSpan) -> RawSpan:
    mapped = MappedSpan(
        trace_id=raw.trace_id,
        span_id=raw.span_id,
        parent_id=raw.parent_id or None,
        name=raw.name,
        type="LLM",
        status="UNSET",
        start_ns=raw.start_ns,
        end_ns=raw.end_ns,
        raw=raw,
        canonical=Mapper().map(raw),
    )
    return decode_traces(request([mapped]).body)[0]


def raw_span(**fields: object) -> RawSpan:
    return RawSpan(trace_id="ab" * 16, span_id="cd" * 8, name="n", start_ns=1, end_ns=2, **fields)


def test_openinference_becomes_otel_genai() -> None:
    span = normalized(raw_span(attributes=OPENINFERENCE, scope=Scope(name="openinference.instrumentation.openai")))
    attributes = span.attributes
    assert attributes["gen_ai.operation.name"] == "chat"
    assert attributes["gen_ai.provider.name"] == "openai"
    assert attributes["gen_ai.response.model"] == "gpt-4o-mini"
    assert attributes["gen_ai.usage.input_tokens"] == 12
    assert attributes["gen_ai.usage.output_tokens"] == 4
    assert json.loads(attributes["gen_ai.input.messages"]) == [
        {"role": "user", "parts": [{"type": "text", "content": "What is a weir?"}]}
    ]
    assert json.loads(attributes["gen_ai.output.messages"])[0]["parts"] == [{"type": "text", "content": "A low dam."}]
    assert attributes["custom.key"] == "stays"


def test_a_span_without_meaning_is_left_as_it_was() -> None:
    raw = raw_span(
        attributes={"a": [1, "x", {"b": b"\x00"}], "n": None, "f": 1.5, "t": True},
        events=[Event(name="e", time_ns=3, attributes={"k": 1}, dropped_attributes_count=2)],
        links=[Link(trace_id="01" * 16, span_id="02" * 8, trace_state="s=1", attributes={"l": "v"}, flags=1)],
        resource=Resource(attributes={"service.name": "svc"}, schema_url="r", dropped_attributes_count=1),
        scope=Scope(name="lib", version="1", attributes={"s": 1}, schema_url="s"),
        parent_id="ef" * 8,
        kind=3,
        status_code=2,
        status_message="bad",
        trace_state="x=y",
        flags=257,
        dropped_attributes_count=3,
    )
    assert normalized(raw) == raw


def test_the_standard_load_keeps_what_it_says() -> None:
    for raw in decode_traces(make_requests(1, 2, seed=3)[0]):
        span = normalized(raw)
        again, once = Mapper().map(span), Mapper().map(raw)
        assert again is not None
        assert once is not None
        for field in ("kind", "op", "provider", "model", "input", "output", "usage", "documents", "tool", "agent"):
            assert getattr(again, field) == getattr(once, field), field


def test_spans_are_grouped_by_resource_and_scope() -> None:
    resource, scope = Resource(attributes={"service.name": "svc"}), Scope(name="lib")
    spans = [
        MappedSpan(
            trace_id="ab" * 16,
            span_id=f"{i:016x}",
            parent_id=None,
            name="n",
            type="LLM",
            status="OK",
            start_ns=1,
            end_ns=2,
            raw=raw_span(resource=resource, scope=scope if i else Scope(name="other")),
        )
        for i in range(3)
    ]
    message = ExportTraceServiceRequest.FromString(request(spans).body)
    assert len(message.resource_spans) == 1
    assert [len(scope.spans) for scope in message.resource_spans[0].scope_spans] == [1, 2]
