"""What can only be decided when all fields are there: a span's kind, whether tokens include the cache, and what an
attribute with a whole call's input or output means for a span of that kind.

Not here: single fields (`mapping`), what only a whole trace tells (the collector's assembly).
"""

from collections.abc import Mapping
from typing import Any

from spanweir.schemas import content, usage
from spanweir.schemas.genai import Embedding, GenAISpan, Model, Retrieval, Tool
from spanweir.schemas.notes import Notes
from spanweir.schemas.paths import get_field, is_empty, set_field
from spanweir.schemas.plan import Shape
from spanweir.schemas.raw import RawSpan
from spanweir.schemas.values import plain
from spanweir.schemas.vocabulary import OPERATIONS, STANDARD_OPERATIONS

ROLLUP_KINDS = frozenset({"agent", "workflow", "chain", "step", "task"})
"""Kinds whose token counts are those of the model calls below them."""


def settle(raw: RawSpan, span: GenAISpan, shape: Shape, notes: Notes) -> None:
    """Complete `span` in place."""
    kind = _kind(raw, span, shape)
    if kind is not None:
        span.kind = kind
    for refine in shape.refines:
        refine(raw, span, notes)
    if span.kind == "other":
        span.kind = _guess(span)
    if span.usage is not None:
        _tokens(raw, span, shape)
    if span.io is not None:
        _whole(span, notes)
    if span.kind == "embedding" and span.input and not span.embeddings:
        span.embeddings = [Embedding(p.content) for m in span.input for p in m.parts if hasattr(p, "content")]


def _kind(raw: RawSpan, span: GenAISpan, shape: Shape) -> str | None:
    """Semconv guide 7.3.iv: a standard operation name, else what other conventions call it, else any operation name."""
    attributes = raw.attributes
    for key, read in shape.forced_kinds:
        kind = read(attributes[key])
        if kind is not None:
            return str(kind)
    op = span.op
    if span.tool is not None and span.tool.id is not None and span.model is None and op != "invoke_agent":
        return "tool"
    if op is not None and op in STANDARD_OPERATIONS:
        return OPERATIONS[op]
    for key, read in shape.kinds:
        kind = read(attributes[key])
        if kind is not None:
            return str(kind)
    return OPERATIONS.get(op.lower()) if op is not None else None


def _guess(span: GenAISpan) -> str:
    """The kind of a span that does not say what it is, from what it has."""
    if span.mcp is not None:
        return "tool" if span.mcp.method == "tools/call" else "mcp"
    if span.tool is not None and span.model is None:
        return "tool"
    if span.documents or span.retrieval is not None:
        return "rerank" if span.rerank is not None else "retrieval"
    if span.embeddings:
        return "embedding"
    if span.input or span.output or span.usage is not None or (span.model is not None and _named(span.model)):
        return "llm"
    return "other"


def _named(model: Model) -> bool:
    return model.request is not None or model.response is not None


def _tokens(raw: RawSpan, span: GenAISpan, shape: Shape) -> None:
    found = span.usage
    assert found is not None
    if found.cache_read or found.cache_write or found.reasoning or found.cache_write_5m:
        excludes: tuple[bool | None, bool | None] = (None, None)
        for decide in shape.excludes:
            excludes = decide(raw, span)
            if excludes != (None, None):
                break
        if found.inclusive == "unknown":
            usage.settle(found, *excludes)
    else:
        found.inclusive = "none"
    if found.scope == "own" and span.kind in ROLLUP_KINDS:
        found.scope = "rollup"


# ------------------------------------------------------------------------------------------------ whole inputs, outputs


def _whole(span: GenAISpan, notes: Notes) -> None:
    """Read an undivided input or output by the kind of the span, where its parts were not sent apart."""
    io = span.io
    assert io is not None
    kind = span.kind
    lossy = notes.lossy
    if kind == "llm":
        if not span.input and io.input is not None:
            _fill(span, content.request(plain(io.input), notes))
        if not span.output and io.output is not None:
            _fill(span, content.response(plain(io.output), notes))
    elif kind == "tool":
        tool = span.tool = span.tool or Tool()
        if tool.arguments is None:
            tool.arguments = io.input
            _move(notes, "io.input", "tool.arguments")
        if tool.result is None:
            tool.result = io.output
            _move(notes, "io.output", "tool.result")
    elif kind in ("retrieval", "rerank"):
        if not span.documents and io.output is not None:
            span.documents = content.documents(plain(io.output), notes) or []
        if span.retrieval is None and span.rerank is None and io.input is not None:
            query = query_of(plain(io.input))
            if query is not None:
                span.retrieval = Retrieval(query)
    elif kind == "embedding" and not span.embeddings and io.input is not None:
        span.embeddings = content.texts(plain(io.input), notes) or []
    notes.lossy = lossy


def _move(notes: Notes, field: str, to: str) -> None:
    if field in notes.taken:
        notes.taken[to] = notes.taken.pop(field)


def _fill(span: GenAISpan, fields: dict[str, Any] | None) -> None:
    for field, value in (fields or {}).items():
        if is_empty(get_field(span, field)):
            set_field(span, field, value)


def query_of(value: Any) -> str | None:
    """The query in a retriever's input: text, or the member of an object that is usually it."""
    if isinstance(value, str):
        return value or None
    if isinstance(value, list) and len(value) == 1:
        return query_of(value[0])
    if isinstance(value, Mapping):
        for key in (
            "query",
            "query_text",
            "input",
            "question",
            "text",
            "search_query",
            "q",
            "str_or_query_bundle",
            "query_str",
        ):
            item = value.get(key)
            if isinstance(item, str) and item:
                return item
            if isinstance(item, Mapping) and (found := query_of(item)) is not None:
                return found
        strings = [item for item in value.values() if isinstance(item, str) and item]
        if len(strings) == 1 and len(value) == 1:
            return strings[0]
    return None
