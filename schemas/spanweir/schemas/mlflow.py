"""Canonical spans in MLflow's form, and what a trace's own row needs to know of each span.

Sources: MLflow 3.17 `entities/span.py`, `tracing/constant.py`, `tracing/utils/truncation.py`.
Not here: the trace row itself (the collector's trace assembly) and the store's tables (exporters).
"""

import msgspec

from spanweir.schemas.genai import Evaluation, GenAISpan
from spanweir.schemas.raw import RawSpan
from spanweir.schemas.trace import Cost, MappedSpan, TokenUsage


class Summary(msgspec.Struct, omit_defaults=True):
    """What trace assembly keeps of a span: no content, so some hundred bytes."""

    span_id: str
    parent_id: str
    name: str
    kind: str
    """`GenAISpan.kind`, or `` for a span that is not about generative AI."""
    start_ns: int
    end_ns: int
    error: bool = False
    status_message: str = ""
    usage: TokenUsage | None = None
    """Only of spans whose tokens may be added up (`Usage.scope` `own`)."""
    rollup: TokenUsage | None = None
    """A reported sum over spans below, for a trace whose calls report no usage themselves."""
    cost: Cost | None = None
    response_id: str | None = None
    """The same id on parent and child means one model call seen twice."""
    has_request: bool = False
    has_response: bool = False
    title: str | None = None
    """The agent's or workflow's name, where the span is one."""
    trace_name: str | None = None
    session_id: str | None = None
    user_id: str | None = None
    tags: dict[str, str] = {}
    metadata: dict[str, str] = {}
    evaluations: list[Evaluation] = []
    trace_request: str | None = None
    """JSON text: what the sender said the trace's request was."""
    trace_response: str | None = None


class Renderer:
    """Writes MLflow spans. Not thread-safe (it keeps the JSON of the last resource and scope)."""

    def __init__(self, *, keep_originals: bool = False) -> None:
        """`keep_originals`: also keep attributes whose content stands in `mlflow.spanInputs` and the like."""
        self.keep_originals = keep_originals

    def render(self, raw: RawSpan, span: GenAISpan | None) -> MappedSpan:
        """The span as MLflow stores it. Never raises."""
        raise NotImplementedError


def summarise(raw: RawSpan, span: GenAISpan | None, mapped: MappedSpan) -> Summary:
    """What the trace's own row needs of this span."""
    raise NotImplementedError


def request_preview(span: GenAISpan | None, mapped: MappedSpan, limit: int = 1000) -> str | None:
    """Text of the last user message, query, tool arguments, …: what `trace_info.request_preview` shows."""
    raise NotImplementedError


def response_preview(span: GenAISpan | None, mapped: MappedSpan, limit: int = 1000) -> str | None:
    """Text of the last answer, or of what stands in for it."""
    raise NotImplementedError
