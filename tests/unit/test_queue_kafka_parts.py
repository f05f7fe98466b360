"""What of a request goes to which partition."""

import pytest

from spanweir.collector.decode.otlp_proto import decode_logs, decode_traces
from spanweir.collector.queue.kafka_parts import Part, parts
from spanweir.exporters.encode import logs_request, spans_request
from spanweir.schemas.raw import Attributes, RawLog, RawSpan, Resource, Scope
from tests.benchmarks.load import make_requests

SCOPE = Scope(name="a", version="1")


def span(trace: int, number: int, resource: Resource, scope: Scope = SCOPE) -> RawSpan:
    return RawSpan(
        trace_id=key(trace).decode(),
        span_id=f"{number:016x}",
        name="n",
        start_ns=1,
        end_ns=2,
        resource=resource,
        scope=scope,
    )


def key(trace: int) -> bytes:
    return b"%032x" % trace


def request(*spans: RawSpan) -> bytes:
    return spans_request([(one, one.attributes) for one in spans])


def service(name: str, **attributes: str) -> Resource:
    values: Attributes = {"service.name": name, **attributes}
    return Resource(attributes=values, schema_url="https://example.org/1")


def test_a_request_of_one_trace_stays_as_it_is() -> None:
    (body,) = make_requests(1, traces=1)
    trace_id = decode_traces(body)[0].trace_id
    assert parts("traces", body) == [Part(trace_id.encode(), body)]


def test_every_trace_is_a_part_with_all_of_its_spans_and_nothing_else() -> None:
    (body,) = make_requests(1, traces=7)
    sent = decode_traces(body)
    found = parts("traces", body)
    assert [part.key for part in found] == [trace.encode() for trace in dict.fromkeys(one.trace_id for one in sent)]
    for part in found:
        assert part.key is not None
        assert decode_traces(part.body) == [one for one in sent if one.trace_id == part.key.decode()]


def test_resources_and_scopes_are_kept_where_traces_cross_them() -> None:
    web, worker, other = service("web"), service("worker"), Scope(name="b", attributes={"k": 1})
    sent = [span(1, 1, web), span(2, 2, web), span(2, 3, web, other), span(1, 4, worker), span(1, 5, worker, other)]
    found = {part.key: decode_traces(part.body) for part in parts("traces", request(*sent))}
    assert found == {key(1): [sent[0], sent[3], sent[4]], key(2): [sent[1], sent[2]]}


def test_log_records_go_with_their_trace_and_without_one_anywhere() -> None:
    logs = [RawLog(trace_id=key(1).decode(), event_name="a"), RawLog(event_name="b"), RawLog(event_name="c")]
    found = parts("logs", logs_request(logs))
    assert [part.key for part in found] == [key(1), None]
    assert [[log.event_name for log in decode_logs(part.body)] for part in found] == [["a"], ["b", "c"]]


def test_a_coding_agents_records_stay_together_whatever_their_traces() -> None:
    mine, yours = service("claude-code", host="a"), service("claude-code", host="b")
    scope = Scope(name="com.anthropic.claude_code.tracing")
    first, second = parts("traces", request(span(1, 1, mine, scope), span(2, 2, mine, scope), span(3, 3, yours, scope)))
    event = RawLog(event_name="e", resource=mine, scope=Scope(name="com.anthropic.claude_code.events"))
    (logs,) = parts("logs", logs_request([event]))
    assert [one.trace_id.encode() for one in decode_traces(first.body)] == [key(1), key(2)]
    assert [one.trace_id.encode() for one in decode_traces(second.body)] == [key(3)]
    assert logs.key == first.key
    assert first.key not in (None, second.key)


@pytest.mark.parametrize("body", [b"", b"no protobuf", request(RawSpan(trace_id="0" * 32, span_id="", name="n"))])
def test_what_belongs_to_no_trace_may_stay(body: bytes) -> None:
    assert parts("traces", body) == [Part(None, body)]
    assert parts("metrics", body) == [Part(None, body)]
