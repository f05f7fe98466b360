"""What the pipeline hands to exporters: spans in MLflow's shape, traces as absolute values, assessments.

Everything here is final: an exporter writes it as it stands, and writing it twice gives the same rows.
Sources of the shapes: MLflow 3.17 `entities/span.py`, `entities/trace_info.py`, `entities/assessment.py`.
"""

from collections.abc import Mapping
from types import MappingProxyType

import msgspec

from spanweir.schemas.genai import GenAISpan
from spanweir.schemas.raw import Attributes, RawSpan
from spanweir.schemas.span_json import merged


class TokenUsage(msgspec.Struct, kw_only=True, gc=False):
    """Tokens as MLflow counts them: input includes cache reads and writes, output includes reasoning."""

    input_tokens: int = 0
    output_tokens: int = 0
    total_tokens: int = 0
    cache_read_input_tokens: int | None = None
    cache_creation_input_tokens: int | None = None
    cache_creation_input_tokens_above_1hr: int | None = None


class Cost(msgspec.Struct, kw_only=True, gc=False):
    """US dollars. `reported` tells a sender's own figure from one that was computed from a price table."""

    input_cost: float = 0.0
    output_cost: float = 0.0
    total_cost: float = 0.0
    reported: bool = False


class Assessment(msgspec.Struct, kw_only=True, gc=False):
    """A feedback or expectation on a trace or on one of its spans."""

    assessment_id: str
    name: str
    kind: str
    """`feedback` or `expectation`."""
    value: str
    """JSON text."""
    source_type: str = "CODE"
    """`HUMAN`, `LLM_JUDGE` or `CODE`."""
    source_id: str = ""
    span_id: str | None = None
    rationale: str | None = None
    error: str | None = None
    metadata: dict[str, str] = {}
    created_ms: int = 0


class MappedSpan(msgspec.Struct, kw_only=True, gc=False):
    """One span as MLflow stores it.

    `content` is the JSON text (UTF-8) of MLflow's `Span.to_dict()`, byte for byte what `spans.content` holds and what
    stands in `databricks_output.trace.data.spans`. The attributes in there, for sinks that store them one by one, are
    `own` and then `given`.
    """

    trace_id: str
    """32 hex digits, without MLflow's `tr-`."""
    span_id: str
    parent_id: str | None
    name: str
    type: str
    status: str
    """`OK`, `ERROR` or `UNSET`."""
    start_ns: int
    end_ns: int | None
    model: str | None = None
    provider: str | None = None
    cost: Cost | None = None
    own: dict[str, str] = {}
    """MLflow's and spanweir's attributes, as JSON texts."""
    given: Attributes = {}
    """The sender's, as it sent them; without those whose content is shown in `own`."""
    content: bytes = b""
    raw: RawSpan
    """Where it came from: events, links, resource and scope for sinks that store them."""
    canonical: GenAISpan | None = None
    """What it means, for exporters that write it in another convention; `None` for a span that is not about AI, and
    where no exporter reads it."""

    @property
    def attributes(self) -> Mapping[str, str]:
        """All of them as JSON texts, in the order of `content`. Made anew each time."""
        return MappingProxyType(merged(self.own, self.given))


class TraceRow(msgspec.Struct, kw_only=True, gc=False):
    """The trace's own row, recomputed from all of its spans: absolute values, never increments."""

    trace_id: str
    """32 hex digits, without MLflow's `tr-`."""
    experiment: str = ""
    """Experiment name or numeric id that the routing chose; empty means the exporter's default. Sticky for a trace."""
    start_ns: int = 0
    end_ns: int | None = None
    state: str = "IN_PROGRESS"
    """`OK`, `ERROR` or `IN_PROGRESS`."""
    name: str | None = None
    root_span_id: str | None = None
    request: bytes | None = None
    """JSON text of the root's inputs, lifted from below where the root itself has none. None with a preview beside it:
    not at hand any more (large content of a trace that was amended); what was written before stands."""
    response: bytes | None = None
    request_preview: str | None = None
    response_preview: str | None = None
    session_id: str | None = None
    user_id: str | None = None
    client_request_id: str | None = None
    run_id: str | None = None
    model_id: str | None = None
    usage: TokenUsage | None = None
    cost: Cost | None = None
    tags: dict[str, str] = {}
    metadata: dict[str, str] = {}
    assessments: list[Assessment] = []
    span_count: int = 0
    size_bytes: int = 0
    complete: bool = False
    """The root has ended and no child is known to be missing, or the trace was finalised after its idle time."""
    revision: int = 1
    """1 for the first complete row of a trace, higher when late spans or logs amended it; 0 while incomplete."""
    tenant: str = ""
    """Who sent it, where the receiver asks; empty where it does not."""
