"""Batches of the standard load, made by the real decoder, mapper and renderer."""

from spanweir.collector.decode.otlp_proto import decode_traces
from spanweir.exporters.api import Batch, Context, Request
from spanweir.schemas.mapping import Mapper
from spanweir.schemas.mlflow import Renderer
from spanweir.schemas.trace import MappedSpan, TraceRow
from tests.benchmarks.load import make_requests

SpanId = tuple[str, str]
"""Trace id and span id."""


def batch(first: int, *, records: int = 1, traces: int = 2, seed: int | None = None) -> Batch:
    """What comes out of `records` queue records of `traces` traces each, starting at sequence `first`."""
    mapper, renderer = Mapper(), Renderer()
    bodies = make_requests(records, traces, seed=first if seed is None else seed)
    spans: list[MappedSpan] = []
    for raw in (span for body in bodies for span in decode_traces(body)):
        canonical = mapper.map(raw)
        mapped = renderer.render(raw, canonical)
        mapped.canonical = canonical
        spans.append(mapped)
    return Batch(
        first=first,
        last=first + records - 1,
        spans=spans,
        traces=[_row(trace_id, spans) for trace_id in dict.fromkeys(span.trace_id for span in spans)],
        requests=[Request(signal="traces", body=body, received_ns=1) for body in bodies],
    )


def _row(trace_id: str, spans: list[MappedSpan]) -> TraceRow:
    own = [span for span in spans if span.trace_id == trace_id]
    root = next(span for span in own if not span.parent_id)
    return TraceRow(
        trace_id=trace_id,
        start_ns=root.start_ns,
        end_ns=root.end_ns,
        state="OK",
        name=root.name,
        root_span_id=root.span_id,
        span_count=len(own),
        complete=True,
    )


def ids(batch: Batch) -> list[SpanId]:
    """The ids of a batch's spans, sorted."""
    return sorted((span.trace_id, span.span_id) for span in batch.spans)


def context(name: str, directory: object) -> Context:
    return Context(name=name, state_directory=str(directory))
