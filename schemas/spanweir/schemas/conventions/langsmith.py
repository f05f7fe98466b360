"""LangSmith's OpenTelemetry export (LangChain and its `traceable`): whole runs as JSON in `gen_ai.prompt`.

Its operation name says `embeddings` for retrievers and `chat` for whatever it does not know, so its own kind is
believed. `langsmith.trace.session_name` is a project, no session. Source: langsmith 0.15 (semconv guide 5.2).
"""

from typing import Any

from spanweir.schemas import associations, usage
from spanweir.schemas.convention import WHOLE, Convention, Rule, rules, word
from spanweir.schemas.genai import GenAISpan
from spanweir.schemas.langchain import tool_arguments, tool_result
from spanweir.schemas.messages import parse
from spanweir.schemas.notes import Notes
from spanweir.schemas.raw import RawSpan
from spanweir.schemas.values import number, plain, strings, text

KINDS = {
    "llm": "llm", "chain": "chain", "tool": "tool", "retriever": "retrieval", "embedding": "embedding",
    "prompt": "prompt", "parser": "parser",
}  # fmt: skip


def usage_object(value: Any, notes: Notes) -> dict[str, Any] | None:
    """`usage_metadata`: LangChain's token counts, which include what was cached."""
    found = usage.from_object(parse(value, notes), exclusive=False)
    return {"usage": found} if found is not None else None


def usage_details(value: Any, notes: Notes) -> dict[str, Any] | None:
    """`gen_ai.usage.input_token_details` and its sibling: a Python repr, `{'cache_read': 5}`."""
    found = parse(value, notes)
    if not isinstance(found, dict):
        return None
    names = {"cache_read": "cache_read", "cache_creation": "cache_write", "reasoning": "reasoning"}
    return {
        f"usage.{field}": int(amount)
        for name, field in names.items()
        if (amount := number(found.get(name))) is not None and amount >= 0
    } or None


def refine(raw: RawSpan, span: GenAISpan, notes: Notes) -> None:
    """A tool's arguments and result out of LangChain's wrapping; a failure that the status hides."""
    if span.error is not None and raw.status_code == 1 and raw.scope.name == "langsmith":
        span.error.failed = True  # its exporter for JavaScript 0.12 ends failed runs as OK
    if span.kind == "tool" and span.io is not None:
        span.io.input = tool_arguments(plain(span.io.input))
        span.io.output = tool_result(plain(span.io.output))
        if span.tool is not None and span.tool.name is None:
            span.tool.name = raw.name


_METADATA, _PROPERTIES = associations.bag("langsmith.metadata.")

CONVENTION = Convention(
    name="langsmith",
    marks=("langsmith.",),
    scopes=("langsmith",),
    rank=WHOLE,
    rules=(
        *rules(
            {
                "langsmith.span.kind": ("kind!", word(KINDS)),
                "langsmith.trace.name": ("io.trace_name", text),
                "langsmith.span.tags": ("tags", strings),
                "langsmith.metadata.ls_provider": ("provider", text),
                "langsmith.metadata.ls_model_name": ("model.request", text),
                "langsmith.metadata.ls_temperature": ("params.temperature", number),
                "langsmith.metadata.langgraph_node": ("graph.node", text),
            }
        ),
        *rules(
            {
                "langsmith.usage_metadata": ("*", usage_object),
                "langsmith.metadata.usage_metadata": ("*", usage_object),
                "gen_ai.usage.input_token_details": ("*", usage_details),
                "gen_ai.usage.output_token_details": ("*", usage_details),
            },
            content=True,
        ),
        *_METADATA,
        Rule("gen_ai.serialized.name", "metadata", lambda value: {"serialized.name": value}),
    ),
    many=_PROPERTIES,
    refine=refine,
)
