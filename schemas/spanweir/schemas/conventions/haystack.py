"""Haystack: pipelines, components and agents by class name; no OpenTelemetry keys at all. Model and usage stand in the
replies. Source: haystack 2.x and 3.4 (semconv guide 5.9).
"""

from typing import Any

from spanweir.schemas import content, usage
from spanweir.schemas.convention import NATIVE, WHOLE, Convention, rules, verbatim
from spanweir.schemas.genai import Agent, GenAISpan, Graph, Model, Response, Tool
from spanweir.schemas.messages import parse
from spanweir.schemas.notes import Notes
from spanweir.schemas.raw import RawSpan
from spanweir.schemas.values import count, plain, text

_ENDINGS = (
    ("generator", "llm"), ("textembedder", "embedding"), ("documentembedder", "embedding"), ("embedder", "embedding"),
    ("retriever", "retrieval"), ("ranker", "rerank"), ("toolinvoker", "tool"), ("agent", "agent"),
    ("router", "router"), ("parser", "parser"), ("builder", "prompt"), ("validator", "guardrail"),
    ("evaluator", "evaluation"), ("websearch", "retrieval"), ("memory", "memory"),
)  # fmt: skip
_NAMES = {
    "haystack.pipeline.run": "workflow", "haystack.async_pipeline.run": "workflow", "haystack.agent.run": "agent",
    "haystack.agent.step": "step", "haystack.agent.step.llm": "llm", "haystack.agent.step.tool": "tool",
    "haystack.chat_generator.run": "llm",
}  # fmt: skip


def component_kind(value: Any) -> str | None:
    """The kind of a component, from the end of its class's name."""
    name = str(value).lower()
    return next((kind for ending, kind in _ENDINGS if name.endswith(ending)), "task")


def refine(raw: RawSpan, span: GenAISpan, notes: Notes) -> None:
    if span.kind == "other":
        span.kind = _NAMES.get(raw.name, "other")
    name = text(raw.attributes.get("haystack.component.name"))
    if span.kind == "agent" and name:
        span.agent = span.agent or Agent(name)
    if span.kind == "workflow" and (pipeline := text(raw.attributes.get("haystack.pipeline.name"))):
        span.graph = span.graph or Graph()
        span.graph.workflow = span.graph.workflow or pipeline
    if span.io is not None:
        given, returned = plain(span.io.input), plain(span.io.output)
        if span.kind == "llm":
            _generator(span, given, returned, notes)
        elif span.kind == "tool":
            _invoker(span, given, returned)
        elif span.kind == "embedding" and isinstance(returned, dict):
            _meta(span, returned.get("meta"))


def _bare(value: Any) -> Any:
    """Messages of 2.9 to 2.12, whose members begin with `_` (`{"_role", "_content", "_name", "_meta"}`), without it."""
    if isinstance(value, dict) and isinstance(value.get("messages", value.get("replies")), list):
        return {key: [_bare(item) for item in told] if isinstance(told, list) else told for key, told in value.items()}
    if isinstance(value, dict) and "_role" in value:
        return {key.removeprefix("_"): told for key, told in value.items()}
    return value


def _generator(span: GenAISpan, given: Any, returned: Any, notes: Notes) -> None:
    """`{messages | prompt}` in, `{replies: [message or text], meta: [...]}` out."""
    given, returned = _bare(given), _bare(returned)
    if not span.input and (fields := content.request(given, notes)):
        span.input = fields.get("input") or []
        span.tools = span.tools or fields.get("tools") or []
    replies = returned.get("replies") if isinstance(returned, dict) else None
    if not isinstance(replies, list):
        return
    if not span.output and (fields := content.response(replies, notes)):
        span.output = fields.get("output") or []
    metas = returned.get("meta")
    first = replies[0] if replies else None
    meta = metas[0] if isinstance(metas, list) and metas else first.get("meta") if isinstance(first, dict) else None
    if len(replies) == len(span.output):
        for place, (reply, message) in enumerate(zip(replies, span.output, strict=True)):
            own = metas[place] if isinstance(metas, list) and place < len(metas) else None
            own = own or (reply.get("meta") if isinstance(reply, dict) else None)
            if isinstance(own, dict):
                message.finish_reason = message.finish_reason or text(own.get("finish_reason"))
    _meta(span, meta)


def _meta(span: GenAISpan, meta: Any) -> None:
    if not isinstance(meta, dict):
        return
    span.model = span.model or Model()
    span.model.response = span.model.response or text(meta.get("model"))
    if span.usage is None:
        span.usage = usage.from_object(meta.get("usage"))
    reason = text(meta.get("finish_reason"))
    if reason:
        span.response = span.response or Response()
        span.response.finish_reasons = span.response.finish_reasons or [reason]
        if span.output and span.output[-1].finish_reason is None:
            span.output[-1].finish_reason = reason


def _invoker(span: GenAISpan, given: Any, returned: Any) -> None:
    """A ToolInvoker runs the calls of a message; a single one is shown as the tool it is."""
    calls = _walk(given, "tool_call", "tool_calls")
    if len(calls) == 1 and isinstance(calls[0], dict):
        call = calls[0]
        span.tool = span.tool or Tool()
        span.tool.name = span.tool.name or text(call.get("tool_name") or call.get("name"))
        span.tool.id = span.tool.id or text(call.get("id"))
        span.tool.arguments = span.tool.arguments or call.get("arguments")
        results = _walk(returned, "tool_call_result")
        if results and isinstance(results[0], dict):
            span.tool.result = span.tool.result or results[0].get("result")


def _walk(value: Any, *names: str, depth: int = 8) -> list[Any]:
    found: list[Any] = []
    if depth and isinstance(value, dict):
        for key, item in value.items():
            if key in names:
                found += item if isinstance(item, list) else [item]
            else:
                found += _walk(item, *names, depth=depth - 1)
    elif depth and isinstance(value, list):
        for item in value:
            found += _walk(item, *names, depth=depth - 1)
    return found


CONVENTION = Convention(
    name="haystack",
    marks=("haystack.",),
    scopes=("haystack",),
    rank=NATIVE,
    rules=(
        *rules(
            {
                "haystack.component.type": ("kind", component_kind),
                "haystack.component.name": ("graph.node", text),
                "haystack.component.visits": ("graph.step", count),
                "haystack.tool.name": ("tool.name", text),
                "haystack.tool.description": ("tool.description", text),
            }
        ),
        *rules(
            {
                "haystack.component.input": ("io.input", verbatim),
                "haystack.component.output": ("io.output", verbatim),
                "haystack.pipeline.input_data": ("io.input", verbatim),
                "haystack.pipeline.output_data": ("io.output", verbatim),
                "haystack.agent.input": ("io.input", verbatim),
                "haystack.agent.output": ("io.output", verbatim),
                "haystack.agent.step.llm.input": ("io.input", verbatim),
                "haystack.agent.step.llm.output": ("io.output", verbatim),
                "haystack.agent.step.tool.input": ("tool.arguments", verbatim),
                "haystack.agent.step.tool.output": ("tool.result", verbatim),
                "haystack.tool.input": ("tool.arguments", verbatim),
                "haystack.tool.output": ("tool.result", verbatim),
                "haystack.agent.tools": ("tools", lambda value, notes: content.tools(parse(value, notes), notes)),
            },
            rank=WHOLE,
            content=True,
        ),
    ),
    refine=refine,
)
