"""Traces as the pipeline hands them over, made by hand: for tests of exporters alone, whatever the mapper does."""

import base64
import random
from collections.abc import Iterable, Iterator

import orjson

from spanweir.exporters.api import Batch, Request
from spanweir.exporters.encode import spans_request
from spanweir.schemas.raw import Event, Link, RawLog, RawSpan, Resource, Scope
from spanweir.schemas.trace import Assessment, Cost, MappedSpan, TokenUsage, TraceRow

RESOURCE = Resource(attributes={"service.name": "librarian", "host.cpus": 2})
SCOPE = Scope(name="tests", version="1", attributes={"stable": True})
START_NS = 1_764_064_800_000_000_000  # 2025-11-25T10:00:00Z
Trace = tuple[list[MappedSpan], TraceRow]


def _b64(hex_id: str) -> str:
    return base64.b64encode(bytes.fromhex(hex_id)).decode()


def span(rng: random.Random, trace_id: str, parent_id: str | None, number: int, start_ns: int) -> MappedSpan:
    span_id = f"{rng.getrandbits(64):016x}"
    kind, model = ("CHAT_MODEL", "gpt-4o-mini") if number == 2 else ("CHAIN", None)
    attributes = {
        "mlflow.traceRequestId": f'"tr-{trace_id}"',
        "mlflow.spanType": f'"{kind}"',
        "mlflow.spanInputs": orjson.dumps({"question": f"number {number}, {rng.random()}"}).decode(),
        "gen_ai.usage.input_tokens": str(number),
        "note": '"with \\"quotes\\" and ünïcode"',
    }
    if model:
        attributes["mlflow.llm.model"] = f'"{model}"'
    end_ns = start_ns + 1_000_000 * (number + 1)
    content = orjson.dumps(
        {
            "trace_id": _b64(trace_id),
            "span_id": _b64(span_id),
            "parent_span_id": _b64(parent_id) if parent_id else None,
            "name": f"step {number}",
            "start_time_unix_nano": start_ns,
            "end_time_unix_nano": end_ns,
            "events": [],
            "status": {"code": "STATUS_CODE_OK", "message": ""},
            "attributes": attributes,
            "links": [],
        }
    )
    raw = RawSpan(
        trace_id=trace_id, span_id=span_id, parent_id=parent_id or "", name=f"step {number}", kind=1,
        start_ns=start_ns, end_ns=end_ns, status_code=1, resource=RESOURCE, scope=SCOPE,
        attributes={"http.response.status_code": 201} if parent_id is None else {},
        trace_state="ot=th:c" if parent_id is None else "",
        events=[Event(name="seen", time_ns=start_ns, attributes={"n": number})],
        links=[Link(trace_id=trace_id, span_id=span_id, attributes={"why": ["a", 1]})],
    )  # fmt: skip
    return MappedSpan(
        trace_id=trace_id, span_id=span_id, parent_id=parent_id, name=raw.name, type=kind, status="OK", model=model,
        start_ns=start_ns, end_ns=end_ns, own=attributes, content=content, raw=raw,
    )  # fmt: skip


def trace(rng: random.Random, spans: int = 4, start_ns: int | None = None) -> Trace:
    """A complete trace: its spans, root first, and its row."""
    trace_id = f"{rng.getrandbits(128):032x}"
    start = START_NS + rng.randrange(3_600_000_000_000) if start_ns is None else start_ns
    root = span(rng, trace_id, None, 0, start)
    below = [span(rng, trace_id, root.span_id, number, start + number * 1000) for number in range(1, spans)]
    return [root, *below], row(root, spans)


def row(root: MappedSpan, spans: int, revision: int = 1) -> TraceRow:
    return TraceRow(
        trace_id=root.trace_id, experiment="7", start_ns=root.start_ns, end_ns=root.end_ns, state="OK", name=root.name,
        root_span_id=root.span_id, request=b'{"question": "why?"}', response=b'{"answer": "because"}',
        request_preview="why?", response_preview="because", session_id="session", user_id="user",
        client_request_id=f"client-{root.trace_id[:6]}",
        usage=TokenUsage(input_tokens=3, output_tokens=4, total_tokens=7),
        cost=Cost(input_cost=0.25, output_cost=0.5, total_cost=0.75), tags={"team": "tests"},
        metadata={"mlflow.source.name": "tests"}, span_count=spans, complete=True, revision=revision,
        assessments=[
            Assessment(
                assessment_id=f"a-{root.trace_id[:12]}", name="relevance", kind="feedback", value="0.5",
                source_type="LLM_JUDGE", source_id="judge", rationale="so", created_ms=root.start_ns // 1_000_000,
            )
        ],
    )  # fmt: skip


def log(rng: random.Random, of: MappedSpan) -> RawLog:
    return RawLog(
        trace_id=of.trace_id, span_id=of.span_id, event_name="tests.event", time_ns=of.start_ns, severity_number=9,
        body={"text": f"{rng.random()}", "more": [1, None]}, attributes={"n": 1}, resource=RESOURCE, scope=SCOPE,
    )  # fmt: skip


def records(seed: int, count: int) -> list[Batch]:
    """`count` queue records, one batch each: whole traces, traces in two parts, and late spans of complete ones."""
    rng = random.Random(seed)
    made: list[Batch] = [Batch(first=n, last=n) for n in range(1, count + 1)]
    for number, batch in enumerate(made):
        later = made[min(number + rng.randint(1, 4), count - 1)]
        spans, complete = trace(rng, rng.randint(2, 5))
        cut = rng.randint(1, len(spans) - 1)
        match rng.choice(["whole", "parts", "late"]):
            case "whole":
                batch.spans += spans
                batch.traces.append(complete)
            case "parts":
                batch.spans += spans[cut:]
                later.spans += spans[:cut]
                later.traces.append(complete)
            case "late":
                batch.spans += spans[:cut]
                batch.traces.append(row(spans[0], cut))
                later.spans += spans[cut:]
                later.traces.append(row(spans[0], len(spans), revision=2))
        batch.logs += [log(rng, spans[0])] * rng.randint(1, 2)
    return made


def together(batches: Iterable[Batch]) -> Batch:
    """Consecutive batches as one: within it a span and a trace occur once, as they stood last."""
    every = list(batches)
    return Batch(
        first=every[0].first,
        last=every[-1].last,
        spans=list({(s.trace_id, s.span_id): s for b in every for s in b.spans}.values()),
        traces=list({t.trace_id: t for b in every for t in b.traces}.values()),
        logs=[log for b in every for log in b.logs],
    )


def sliced(batches: list[Batch], rng: random.Random, at_most: int = 5) -> Iterator[Batch]:
    """The same records, cut anew."""
    while batches:
        take = rng.randint(1, at_most)
        yield together(batches[:take])
        batches = batches[take:]


def received(batch: Batch) -> Batch:
    """The spans of a batch as one request."""
    body = spans_request((span.raw, span.raw.attributes) for span in batch.spans)
    requests = [Request(signal="traces", body=body)] if batch.spans else []
    return Batch(first=batch.first, last=batch.last, requests=requests)
