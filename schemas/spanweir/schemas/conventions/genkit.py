"""Genkit: keys with colons, requests and responses as JSON, usage only inside the response.

Source: genkit 1.x, scope `genkit-tracer` (semconv guide 5.9).
"""

from typing import Any

from spanweir.schemas import usage
from spanweir.schemas.content import documents, request, response, texts
from spanweir.schemas.convention import NATIVE, Convention, rules, verbatim, word
from spanweir.schemas.genai import Agent, GenAISpan, Graph, Model, Other, Part, Response, Retrieval, Text, Tool
from spanweir.schemas.messages import parse
from spanweir.schemas.notes import Notes
from spanweir.schemas.raw import RawSpan
from spanweir.schemas.values import dumps, plain, quoted, text
from spanweir.schemas.vocabulary import provider

KINDS = {
    "model": "llm", "background-model": "llm", "embedder": "embedding", "tool": "tool", "tool.v2": "tool",
    "retriever": "retrieval", "evaluator": "evaluation", "reranker": "rerank", "indexer": "other", "agent": "agent",
    "flow": "workflow", "prompt": "prompt", "util": "chain",
}  # fmt: skip


_TOOL_OUTPUT = frozenset({"output", "content", "metadata"})
"""What a tool of the newer form (`tool.v2`, all of Genkit for Go) returns: its output, and parts beside it."""


def refine(raw: RawSpan, span: GenAISpan, notes: Notes) -> None:
    """The name is a model's, a tool's or a flow's; what the input and output are depends on it."""
    name = text(raw.attributes.get("genkit:name")) or raw.name
    io = span.io
    given = plain(io.input) if io is not None else None
    returned = plain(io.output) if io is not None else None
    if span.kind == "llm":
        _model(span, name, given, returned, notes)
    elif span.kind == "tool":
        span.tool = span.tool or Tool(name)
        if io is not None and isinstance(returned, dict) and "output" in returned and _TOOL_OUTPUT.issuperset(returned):
            io.output = returned["output"]
    elif span.kind == "chain" and name == "generate":
        span.input = span.input or (request(given, notes) or {}).get("input") or []
        span.output = span.output or (response(returned, notes) or {}).get("output") or []
    elif span.kind == "agent":
        span.agent = span.agent or Agent(name)
    elif span.kind == "workflow":
        span.graph = span.graph or Graph(workflow=name)
    elif span.kind in ("retrieval", "rerank"):
        span.documents = span.documents or documents(returned, notes) or []
        query = given.get("query") if isinstance(given, dict) else None
        if span.retrieval is None and query is not None:
            span.retrieval = Retrieval(_said(query))
    elif span.kind == "embedding":
        span.model = span.model or Model(request=name.rpartition("/")[2])
        inputs = given.get("input") if isinstance(given, dict) else None
        if isinstance(inputs, list):
            span.embeddings = texts([_said(item) or "" for item in inputs], notes) or []
        if span.provider is None:
            span.provider = provider(name.partition("/")[0])[0] if "/" in name else None


def _model(span: GenAISpan, name: str, given: Any, returned: Any, notes: Notes) -> None:
    head, slash, tail = name.partition("/")
    span.model = span.model or Model()
    span.model.request = span.model.request or (tail if slash else name)
    if slash and span.provider is None:
        span.provider = provider(head)[0]
    fields = request(given, notes) or {}
    span.input = span.input or fields.get("input") or []
    span.tools = span.tools or fields.get("tools") or []
    answer = response(returned, notes) or {}
    span.output = span.output or answer.get("output") or []
    for said in span.output:
        said.parts = [_data(item) for item in said.parts]
    if isinstance(returned, dict):
        reason = text(returned.get("finishReason"))
        if reason and span.output and span.output[-1].finish_reason is None:
            span.output[-1].finish_reason = reason
        _provider_says(span, returned.get("raw"), notes)
        _custom(span, returned.get("custom"))
        if span.usage is None:
            span.usage = usage.from_object(returned.get("usage"))


def _provider_says(span: GenAISpan, answer: Any, notes: Notes) -> None:
    """The plugins for OpenAI and its like pass the provider's own response on, which alone has the count of cached
    tokens and the reason `tool_calls` (Genkit says `stop`)."""
    found = response(answer, notes) if isinstance(answer, dict) else None
    if found is None:
        return
    span.response = span.response or Response()
    span.response.id = span.response.id or found.get("response.id")
    if span.model is not None:
        span.model.response = span.model.response or found.get("model.response")
    span.usage = span.usage or found.get("usage")
    reasons = [said.finish_reason for said in found.get("output") or [] if said.finish_reason]
    if len(reasons) == len(span.output) == 1:
        span.output[0].finish_reason = reasons[0]


def _custom(span: GenAISpan, said: Any) -> None:
    """What the OpenAI plugin for Go keeps of the response: `{id, model, systemFingerprint}`."""
    if not isinstance(said, dict) or span.model is None:
        return
    span.response = span.response or Response()
    span.response.id = span.response.id or text(said.get("id"))
    span.response.system_fingerprint = span.response.system_fingerprint or text(said.get("systemFingerprint"))
    span.model.response = span.model.response or text(said.get("model"))


def _data(item: Part) -> Part:
    """Genkit's part `{data}`: structured output, parsed."""
    if item.__class__ is Other and isinstance(item.value, dict) and item.value.keys() == {"data"}:
        return Text(dumps(item.value["data"]))
    return item


def _said(value: Any) -> str | None:
    """The text of a Genkit document `{content: [{text}]}`, or text."""
    if isinstance(value, dict):
        pieces = value.get("content")
        found = (
            [p["text"] for p in pieces if isinstance(p, dict) and isinstance(p.get("text"), str)]
            if isinstance(pieces, list)
            else []
        )
        return "".join(found) or None
    return value if isinstance(value, str) else None


CONVENTION = Convention(
    name="genkit",
    marks=("genkit:",),
    scopes=("genkit-tracer",),
    rank=NATIVE,
    rules=(
        *rules(
            {
                "genkit:metadata:subtype": ("kind!", word(KINDS)),
                "genkit:type": ("kind", word(KINDS)),
                "genkit:sessionId": ("session_id", quoted),
                "genkit:threadName": ("conversation_id", quoted),
                "genkit:path": ("graph.path", text),
                "genkit:metadata:flow:name": ("graph.workflow", text),
            }
        ),
        *rules(
            {
                "genkit:input": ("io.input", verbatim),
                "genkit:output": ("io.output", verbatim),
                "genkit:metadata:context": ("metadata", lambda value, notes: {"context": parse(value, notes)}),
            },
            content=True,
        ),
    ),
    refine=refine,
)
