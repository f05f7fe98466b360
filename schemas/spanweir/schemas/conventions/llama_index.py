"""LlamaIndex's own OpenTelemetry handler: span names `Class.method`, everything else in span events named after
LlamaIndex's instrumentation events, fields flattened with dots. Source: llama-index-observability-otel 0.4 to 0.7.
Beside it what OpenLLMetry's instrumentation calls LlamaIndex's classes, 0.40 to 0.62.
"""

import re
from typing import Any

from spanweir.schemas import associations
from spanweir.schemas.content import documents, response, texts
from spanweir.schemas.convention import NATIVE, Convention, Fields, Occurrence
from spanweir.schemas.genai import Agent, GenAISpan, Tool
from spanweir.schemas.indexed import tree
from spanweir.schemas.messages import messages, parse
from spanweir.schemas.notes import Notes
from spanweir.schemas.raw import RawSpan
from spanweir.schemas.values import plain, text

_SHAPES = (
    (re.compile(r"\w*Retriever\._?a?retrieve"), "retrieval"), (re.compile(r"\w*Embedding\."), "embedding"),
    (re.compile(r"FunctionTool\.a?call|\w*Tool\.a?call"), "tool"), (re.compile(r"\w*Agent\w*\.run"), "agent"),
    (re.compile(r"\w*(Query|Chat)Engine\."), "chain"), (re.compile(r"\w*Workflow\.run"), "workflow"),
    (re.compile(r"\w*(Postprocessor|Rerank)\w*\."), "rerank"),
    (re.compile(r"\w+\.(a?stream_)?a?(chat|complete)(_with_tools)?(-|$)"), "llm"),
)  # fmt: skip

EVENTS = (
    "LLMChatStartEvent", "LLMChatEndEvent", "LLMCompletionStartEvent", "LLMCompletionEndEvent", "EmbeddingStartEvent",
    "EmbeddingEndEvent", "RetrievalStartEvent", "RetrievalEndEvent", "QueryStartEvent", "QueryEndEvent",
    "AgentToolCallEvent", "ReRankStartEvent", "ReRankEndEvent", "SynthesizeStartEvent", "SynthesizeEndEvent",
)  # fmt: skip


def _nested(one: Occurrence, notes: Notes) -> dict[str, Any]:
    """The event's fields, nested again; lists of objects were sent as JSON text."""
    found = tree({key: parse(value, notes) for key, value in one.attributes.items()}, tuple(one.attributes), "")
    return found if isinstance(found, dict) else {}


def read_events(occurrences: list[Occurrence], notes: Notes) -> Fields:
    fields: dict[str, Any] = {}
    for one in occurrences:
        held = _nested(one, notes)
        name = one.name
        if name.startswith("LLM") and name.endswith("StartEvent"):
            given = held.get("messages") or held.get("prompt")
            fields["input"] = messages(given, notes)
            model = held.get("model_dict")
            if isinstance(model, dict):
                fields["model.request"] = text(model.get("model"))
        elif name.startswith("LLM"):
            answer = held.get("response") or held.get("text")
            if isinstance(answer, dict) and isinstance(answer.get("raw"), dict):
                fields.update(response(answer["raw"], notes) or {})
            inner = answer.get("message", answer) if isinstance(answer, dict) else answer
            said = messages(inner, notes, "assistant")
            if said and not fields.get("output"):
                fields["output"] = said
        elif name == "EmbeddingStartEvent":
            model = held.get("model_dict")
            if isinstance(model, dict):
                fields["model.request"] = text(model.get("model_name") or model.get("model"))
        elif name == "EmbeddingEndEvent":
            fields["embeddings"] = texts(held.get("chunks"), notes)
        elif name in ("RetrievalStartEvent", "ReRankStartEvent", "QueryStartEvent"):
            query = held.get("str_or_query_bundle") or held.get("query")
            query = query.get("query_str") if isinstance(query, dict) else query
            fields["retrieval.query" if name[0] == "R" else "io.input"] = query
        elif name in ("RetrievalEndEvent", "ReRankEndEvent"):
            fields["documents"] = documents(held.get("nodes"), notes)
        elif name in ("QueryEndEvent", "SynthesizeEndEvent"):
            fields["io.output"] = held.get("response")
        elif name == "AgentToolCallEvent":
            tool = held.get("tool")
            fields["tool.name"] = text(tool.get("name")) if isinstance(tool, dict) else None
            fields["tool.arguments"] = held.get("arguments")
    return {field: value for field, value in fields.items() if value is not None}


# Classes whose runs OpenLLMetry calls tasks, and those at the top workflows, with `traceloop.entity.name` `Class.task`.
_CLASSES = (
    ("Retriever", "retrieval"), ("Embedding", "embedding"), ("Rerank", "rerank"), ("Tool", "tool"), ("Agent", "agent"),
    ("AgentWorkflow", "agent"),
)  # fmt: skip


def _openllmetry(raw: RawSpan, span: GenAISpan) -> None:
    """What OpenLLMetry's instrumentation says of a run, by its class: values are dumped one by one, as JSON texts."""
    name = (text(raw.attributes.get("traceloop.entity.name")) or "").partition(".")[0]
    if span.kind in ("task", "workflow"):
        span.kind = next((kind for end, kind in _CLASSES if name.endswith(end)), span.kind)
    io = span.io
    if io is None:
        return
    said = plain(io.output)
    if said == "{}":  # a StopEvent: its result is not among its fields
        io.output = None
    elif span.kind == "retrieval" and isinstance(said, list):
        io.output = [parse(one, Notes()) for one in said]
    elif span.kind == "tool":
        result = parse(said, Notes())
        if isinstance(result, dict) and "raw_output" in result:
            span.tool = span.tool or Tool(text(result.get("tool_name")))
            io.output = result["raw_output"]
    if span.kind == "agent":
        span.agent = span.agent or Agent(name)
        given = plain(io.input)
        start = parse(given.get("start_event"), Notes()) if isinstance(given, dict) else None
        if isinstance(start, dict) and start.get("user_msg"):
            io.input = start["user_msg"]


def refine(raw: RawSpan, span: GenAISpan, notes: Notes) -> None:
    if raw.scope.name.startswith(_OPENLLMETRY):
        _openllmetry(raw, span)
    if span.kind != "other":
        return
    for shape, kind in _SHAPES:
        if shape.match(raw.name):
            span.kind = kind
            break
    if span.kind == "agent":
        span.agent = span.agent or Agent(raw.name.partition(".")[0])
    elif span.kind == "tool":
        span.tool = span.tool or Tool(raw.name.partition(".")[0])


_OPENLLMETRY = "opentelemetry.instrumentation.llamaindex"
_TAGS, _PROPERTIES = associations.bag("llamaindex.")


CONVENTION = Convention(
    name="llama_index",
    scopes=("llamaindex", "llama_index", "llama-index", _OPENLLMETRY),
    rank=NATIVE,
    rules=_TAGS,
    many=_PROPERTIES,
    events=EVENTS,
    read_events=read_events,
    refine=refine,
)
