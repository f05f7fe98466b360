"""Langfuse SDKs: `langfuse.observation.*` and `langfuse.trace.*`.

On Langfuse's own spans its word is final; on others (Koog, chatwoot) the same keys are an overlay that fills gaps.
Usage names are free; Langfuse's own LangChain handler subtracts cached and reasoning tokens from `input` and `output`.
Source: langfuse 3 to 5 (semconv guide 5.3).
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from spanweir.schemas import associations, usage
from spanweir.schemas.content import tools
from spanweir.schemas.convention import OVERRIDE, WHOLE, Convention, rules, verbatim, word
from spanweir.schemas.genai import Error, GenAISpan, Timing, TraceIO, Usage
from spanweir.schemas.langchain import tool_arguments, tool_result
from spanweir.schemas.messages import otel_parts, parse
from spanweir.schemas.notes import Notes
from spanweir.schemas.params import params
from spanweir.schemas.raw import RawSpan
from spanweir.schemas.values import instant, number, plain, quoted, strings, text

KINDS = {
    "generation": "llm", "embedding": "embedding", "agent": "agent", "tool": "tool", "chain": "chain",
    "retriever": "retrieval", "evaluator": "evaluation", "guardrail": "guardrail",
}  # fmt: skip

_NET = {"input", "output"}
"""Langfuse's own names, which exclude the details beside them; a provider's names (`prompt_tokens`) include them."""


def usage_details(value: Any, notes: Notes) -> dict[str, Any] | None:
    found = parse(value, notes)
    if not isinstance(found, dict):
        return None
    if not _NET & set(found):
        read = usage.from_object(found)
        return {"usage": read} if read is not None else None
    counts = {str(key): n for key, item in found.items() if (n := number(item)) is not None and n >= 0}
    read = Usage(input=_sum(counts, "input"), output=_sum(counts, "output"), inclusive="emitter")
    read.total = int(counts["total"]) if "total" in counts else None
    if _includes(counts, read):
        read.input, read.output = int(counts["input"]), int(counts["output"])
    for field, names in _DETAILS.items():
        amount = next((int(counts[name]) for name in names if name in counts), None)
        if amount is not None:
            setattr(read, field, amount)
    return {"usage": read}


def _includes(counts: Mapping[str, float], read: Usage) -> bool:
    """Whether an application wrote a provider's inclusive counts under Langfuse's names: the total says so."""
    if "total" not in counts or read.input is None or read.output is None or not _ANTHROPIC.isdisjoint(counts):
        return False
    bare = counts["input"] + counts["output"]
    details = read.input - counts["input"]
    return bare == counts["total"] != read.input + read.output and details <= counts["input"]


_ANTHROPIC = frozenset({"cache_read_input_tokens", "cache_creation_input_tokens"})

_DETAILS = {
    "cache_read": ("input_cache_read", "input_cached_tokens", "cache_read_input_tokens", "input_cached"),
    "cache_write": ("input_cache_creation", "cache_creation_input_tokens", "input_cache_write"),
    "reasoning": ("output_reasoning", "output_reasoning_tokens"),
    "input_audio": ("input_audio", "input_audio_tokens"),
    "output_audio": ("output_audio", "output_audio_tokens"),
}


def _sum(counts: Mapping[str, float], side: str) -> int | None:
    """What was sent net, with the details that were taken out of it."""
    if side not in counts:
        return None
    names = [name for name in counts if name.startswith(f"{side}_")]
    if side == "input":
        names += _ANTHROPIC & counts.keys()
    return int(counts[side] + sum(counts[name] for name in names))


def cost_details(value: Any, notes: Notes) -> dict[str, Any] | None:
    found = parse(value, notes)
    if not isinstance(found, dict):
        return None
    names = {"input": "input", "output": "output", "total": "total", "cache_read_input_tokens": "cache_read"}
    return {
        f"cost.{field}": amount for name, field in names.items() if (amount := number(found.get(name))) is not None
    } or None


def metadata(value: Any, notes: Notes) -> dict[str, Any] | None:
    return associations.from_object(value, notes)


def _split_tools(value: Any, notes: Notes) -> Any:
    """The LangChain handler appends offered tools to the messages, as role `tool` with a definition for content."""
    found = plain(value)
    if not isinstance(found, list):
        return None, None
    offered = [m["content"] for m in found if _is_definition(m)]
    if not offered:
        return None, None
    return [m for m in found if not _is_definition(m)], tools(offered, notes)


def _is_definition(item: Any) -> bool:
    content = item.get("content") if isinstance(item, dict) and item.get("role") == "tool" else None
    return isinstance(content, dict) and ("function" in content or "input_schema" in content)


def _name_tools(io: TraceIO) -> None:
    """The LangChain handler for JavaScript 5 gives a tool's message the tool's name for a role, and no id."""
    if io.input.__class__ is msgspec.Raw and b'"additional_kwargs"' not in bytes(io.input):
        return
    found = plain(io.input)
    given = found.get("messages") if isinstance(found, dict) else found
    if not isinstance(given, list) or not any(_is_result(item) for item in given):
        return
    asked: list[Any] = []
    told: list[Any] = []
    for item in given:
        if isinstance(item, dict) and isinstance(item.get("tool_calls"), list):
            asked = [call for call in item["tool_calls"] if isinstance(call, dict)]
        elif _is_result(item):
            call = next((c for c in asked if (c.get("function") or c).get("name") == item["role"]), None)
            if call is not None:
                asked.remove(call)
                item = {
                    "role": "tool",
                    "name": item["role"],
                    "tool_call_id": call.get("id"),
                    "content": item["content"],
                }
        told.append(item)
    io.input = {**found, "messages": told} if isinstance(found, dict) else told


def _is_result(item: Any) -> bool:
    return isinstance(item, dict) and item.keys() == {"role", "content", "additional_kwargs"}


def refine(raw: RawSpan, span: GenAISpan, notes: Notes) -> None:
    """Kinds of spans without a type, tools in the messages, time to first token, status messages."""
    io = span.io
    if io is not None and io.input is not None and span.kind == "llm":
        rest, offered = _split_tools(io.input, notes)
        if offered:
            io.input = rest
            span.tools = span.tools or offered
        _name_tools(io)
    told = raw.attributes.get("langfuse.observation.metadata.instructions")
    if told and span.kind == "llm" and not span.system:  # its wrapper of OpenAI's SDK for JavaScript, Responses API
        span.system = otel_parts(told, notes) or []
    if io is not None and span.kind == "tool":
        io.input, io.output = tool_arguments(plain(io.input)), tool_result(plain(io.output))
    if span.timing is not None and span.timing.completion_start_ns and span.timing.ttft_ns is None:
        elapsed = span.timing.completion_start_ns - raw.start_ns
        if elapsed >= 0:
            span.timing = Timing(ttft_ns=elapsed, completion_start_ns=span.timing.completion_start_ns)
    if raw.attributes.get("langfuse.observation.level") == "ERROR":
        span.error = span.error or Error()
        span.error.failed = raw.status_code != 2  # its handler of LangChain for JavaScript sets no status
        span.error.message = span.error.message or text(raw.attributes.get("langfuse.observation.status_message"))


_TRACE, _TRACE_PROPERTIES = associations.bag("langfuse.trace.metadata.")
_OWN, _OWN_PROPERTIES = associations.bag("langfuse.observation.metadata.")

CONVENTION = Convention(
    name="langfuse",
    marks=("langfuse.",),
    scopes=("langfuse-sdk",),
    rank=WHOLE,
    rules=(
        *rules(
            {
                "langfuse.observation.type": ("kind!", word(KINDS)),
                "langfuse.trace.name": ("io.trace_name", quoted),
                "langfuse.trace.tags": ("tags", strings),
                "langfuse.tags": ("tags", strings),
                "langfuse.session.id": ("session_id", quoted),
                "langfuse.user.id": ("user_id", quoted),
                "langfuse.observation.prompt.name": ("prompt.name", quoted),
                "langfuse.observation.prompt.version": ("prompt.version", quoted),
                "langfuse.observation.completion_start_time": ("timing.completion_start_ns", instant),
            },
            rank=OVERRIDE,
        ),
        *rules(
            {
                "langfuse.observation.model.name": ("model.response", quoted),
                "langfuse.observation.metadata.ls_provider": ("provider", quoted),
                "langfuse.observation.metadata.ls_model_name": ("model.request", quoted),
                "langfuse.observation.metadata.langgraph_node": ("graph.node", quoted),
                "langfuse.observation.metadata.finish_reason": ("response.finish_reasons", strings),
                "langfuse.observation.metadata.status": ("response.finish_reasons", strings),
            }
        ),
        *rules(
            {
                "langfuse.observation.input": ("io.input", verbatim),
                "langfuse.observation.output": ("io.output", verbatim),
                "langfuse.trace.input": ("io.trace_input", verbatim),
                "langfuse.trace.output": ("io.trace_output", verbatim),
                "langfuse.observation.model.parameters": ("*", params),
                "langfuse.observation.usage_details": ("*", usage_details),
                "langfuse.observation.cost_details": ("*", cost_details),
                "langfuse.observation.metadata": ("*", metadata),
                "langfuse.trace.metadata": ("*", metadata),
            },
            content=True,
        ),
        *_TRACE,
        *_OWN,
    ),
    many=(*_TRACE_PROPERTIES, *_OWN_PROPERTIES),
    refine=refine,
)
