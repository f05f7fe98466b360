"""OpenLLMetry (Traceloop): indexed `gen_ai.prompt.N.*`, `traceloop.*` workflow attributes, and its newer form.

Sources: opentelemetry-semantic-conventions-ai 0.4 and 0.5, opentelemetry-instrumentation-* 0.30 to 0.62. The newer form
(0.53 on) is OpenTelemetry's own plus a few keys that stand here. The indexed keys are also LiteLLM's, Koog's,
AgentOps' and Traceloop Hub's.
"""

import re
from collections.abc import Sequence
from typing import Any

import msgspec

from spanweir.schemas import associations, usage
from spanweir.schemas.content import tools
from spanweir.schemas.convention import LEGACY_INDEXED, WHOLE, Convention, Many, Rule, rules, word
from spanweir.schemas.genai import (
    Agent,
    Doc,
    GenAISpan,
    Graph,
    Message,
    Part,
    Rerank,
    Text,
    Tool,
    ToolDef,
    ToolResult,
)
from spanweir.schemas.indexed import nested
from spanweir.schemas.langchain import tool_result
from spanweir.schemas.messages import message, parse, text_of
from spanweir.schemas.notes import Notes, arguments, rest
from spanweir.schemas.parts import parts, tool_output
from spanweir.schemas.raw import Attributes, RawSpan
from spanweir.schemas.values import UNREADABLE, boolean, number, plain, strings, text, whole_strings

# ------------------------------------------------------------------------------------------------ indexed messages


_SPEAKERS = ("user", "assistant", "system")


def indexed_message(item: Any, speaker: str, notes: Notes, *, quoted: bool = False) -> Message | None:
    """One entry of `gen_ai.prompt.N` or `gen_ai.completion.N`. Content may be JSON text of a list of parts.

    With `quoted` it may be JSON text of a string, as the Bedrock instrumentation writes it (its completions call the
    text by its role, `gen_ai.prompt.0.user`) and the LangChain callback of before 0.40 for roles it does not know.
    """
    if not isinstance(item, dict):
        return None
    if len(item) == 1 and (name := next(iter(item))) in _SPEAKERS:
        item = {"role": name, "content": item[name]}
    shaped = {key: value for key, value in item.items() if key not in ("content", "tool_calls", "role")}
    shaped["role"] = text(item.get("role")) or speaker
    content = item.get("content")
    if isinstance(content, str) and content[:1] == "[" and shaped["role"] != "tool":
        found = parse(content, Notes())
        if isinstance(found, list) and all(isinstance(part, dict) for part in found):
            content = found or None  # `[]` was written for a tool's result (Anthropic, before 0.33)
    elif content == '""' and item.get("tool_calls"):  # the LangChain callback of 0.40
        content = ""
    elif (quoted or shaped["role"] == "unknown") and isinstance(content, str) and content[:1] == '"' == content[-1:]:
        said = parse(content, Notes())
        content = said if isinstance(said, str) else content
    shaped["content"] = content
    calls = item.get("tool_calls")
    if isinstance(calls, list):
        shaped["tool_calls"] = [
            {**call, "arguments": arguments(call.get("arguments"))} for call in calls if isinstance(call, dict)
        ]
        notes.lossy = notes.lossy or len(shaped["tool_calls"]) < len(calls)
    elif calls is not None:
        notes.lossy = True
    elif "tool_call_id" in shaped and shaped["role"] == "assistant":
        shaped = _bare_call(shaped)
    read = message(shaped, notes, speaker)
    return read[0] if read and (read[0].parts or read[0].finish_reason) else None


def _bare_call(shaped: dict[str, Any]) -> dict[str, Any]:
    """Netra writes a call as an assistant's entry: its id, and `{name, arguments}` for content."""
    call = parse(shaped["content"], Notes()) if str(shaped["content"])[:1] == "{" else None
    if not isinstance(call, dict) or call.keys() != {"name", "arguments"}:
        return shaped
    rest_of = {key: value for key, value in shaped.items() if key not in ("content", "tool_call_id")}
    return {**rest_of, "tool_calls": [{"id": shaped["tool_call_id"], **call}]}


def indexed_messages(prefix: str, speaker: str) -> Any:
    """A reader of all entries below `prefix`, for `Many`."""

    def read(attributes: Attributes, keys: Sequence[str], notes: Notes) -> list[Message] | None:
        # Of before 0.36 the Bedrock instrumentation says whose model it is, and the id ends in Bedrock's `:0`.
        quoted = attributes.get("gen_ai.system") == "AWS" or str(attributes.get("gen_ai.request.model"))[-2:-1] == ":"
        found = [indexed_message(item, speaker, notes, quoted=quoted) for item in nested(attributes, keys, prefix)]
        if None in found:
            notes.lossy = True
        return [one for one in found if one is not None] or None

    return read


def _offered(prefix: str) -> Any:
    """A reader of all tools below `prefix`."""

    def read(attributes: Attributes, keys: Sequence[str], notes: Notes) -> list[ToolDef] | None:
        return tools(nested(attributes, keys, prefix), notes)

    return read


def _go(item: str) -> tuple[str, ...]:
    """The keys of its SDK for Go, of the first names (0.1, to 2025). OpenInference has others below `llm.prompts`."""
    return (f"{item}role", f"{item}content", f"{item}tool_calls.")


INDEXED = (
    Many(("gen_ai.prompt.#.",), "input", indexed_messages("gen_ai.prompt.", "user"), LEGACY_INDEXED),
    Many(("gen_ai.completion.#.",), "output", indexed_messages("gen_ai.completion.", "assistant"), LEGACY_INDEXED),
    Many(_go("llm.prompts.#."), "input", indexed_messages("llm.prompts.", "user"), LEGACY_INDEXED),
    Many(_go("llm.completions.#."), "output", indexed_messages("llm.completions.", "assistant"), LEGACY_INDEXED),
    Many(("llm.request.functions.#.",), "tools", _offered("llm.request.functions."), LEGACY_INDEXED),
    Many(("gen_ai.request.tools.#.",), "tools", _offered("gen_ai.request.tools."), LEGACY_INDEXED),
    Many(("gen_ai.request.functions.#.",), "tools", _offered("gen_ai.request.functions."), LEGACY_INDEXED),  # AgentOps
)

# ------------------------------------------------------------------------------------------------ workflows

KINDS = {"workflow": "workflow", "task": "task", "agent": "agent", "tool": "tool"}
REQUEST_TYPES = {
    "chat": "llm", "completion": "llm", "acompletion": "llm", "responses": "llm", "aresponses": "llm",
    "embedding": "embedding", "aembedding": "embedding", "embeddings": "embedding", "rerank": "rerank",
}  # fmt: skip


def entity_input(value: Any, notes: Notes) -> Any:
    """What an entity was called with: a decorator's `{args, kwargs}`, a callback's `{inputs, tags, …}`."""
    found = parse(value, notes)
    if isinstance(found, dict):
        keys = set(found)
        if keys and keys <= {"args", "kwargs"}:
            args, kwargs = found.get("args") or [], found.get("kwargs") or {}
            return kwargs if kwargs and not args else args[0] if len(args) == 1 and not kwargs else found
        if "inputs" in found and keys & {"tags", "metadata", "kwargs"}:
            rest(found, frozenset({"inputs", "input_str"}), notes)
            inputs = found["inputs"]
            if not inputs and "input_str" in found:
                return arguments(found["input_str"])
            return inputs
        if "input_str" in found:
            rest(found, frozenset({"inputs", "input_str"}), notes)
            return found.get("inputs") or arguments(found["input_str"])
    return found


class _Callback(msgspec.Struct):
    """What LangChain's callback says besides a run's inputs; the rest of the JSON is skipped, not decoded."""

    metadata: dict[str, Any] = {}


_CALLBACK = msgspec.json.Decoder(_Callback)


def callback_metadata(value: Any) -> dict[str, Any] | None:
    """The metadata of a LangChain run: with the instrumentation alone, without Traceloop's SDK, it stands only here."""
    if not isinstance(value, str) or '"metadata"' not in value or '"inputs"' not in value:
        return None
    try:
        return _CALLBACK.decode(value.encode()).metadata or None
    except UNREADABLE:
        return None


def entity_output(value: Any, notes: Notes) -> Any:
    """What an entity returned: a value, or a callback's `{outputs | output, kwargs}`."""
    found = parse(value, notes)
    if isinstance(found, dict) and "kwargs" in found:
        for name in ("outputs", "output"):
            if name in found:
                rest(found, frozenset({name}), notes)
                return found[name]
    return found


def mcp_request(value: Any, notes: Notes) -> dict[str, Any] | None:
    """`mcp.request.argument`: the request's parameters; of a tool call its name and arguments."""
    found = parse(value, notes)
    if isinstance(found, dict) and isinstance(found.get("params"), dict):
        found = found["params"]
    if isinstance(found, dict) and (name := text(found.get("name"))) and "arguments" in found:
        return {"tool.name": name, "tool.arguments": found["arguments"]}
    return None if found in (None, "", {}) else {"io.input": found}


def mcp_response(value: Any, notes: Notes) -> Any:
    """`mcp.response.value`: the result; of a tool call its content."""
    found = parse(value, notes)
    content = found.get("content") if isinstance(found, dict) else None
    return tool_output(content) if content else found


_RANKED = re.compile(r"Doc (\d+), Score: (-?[\d.eE+-]+)")


def _rerank(span: GenAISpan) -> None:
    """Cohere's reranking, told as a conversation: documents are system messages, the query is the user's, and the
    answers are `Doc 1, Score: 0.98`."""
    given = [text_of(said) for said in span.input if said.role == "system"]
    scored = [_RANKED.match(text_of(said)) for said in span.output]
    if not given or None in scored:
        return
    query = next((text_of(said) for said in span.input if said.role == "user"), None)
    span.rerank = Rerank(query, input=[Doc(one) for one in given])
    for found in scored:
        if found is not None:
            at = int(found[1])
            span.documents.append(Doc(given[at] if at < len(given) else None, score=number(found[2]), index=at))
    span.input, span.output = [], []


_TOOL_CLASSES = frozenset({"DynamicStructuredTool", "DynamicTool", "StructuredTool", "Tool"})
"""What LangChain for JavaScript calls tools that were made from functions."""


def _named_by(result: Any) -> str | None:
    """The tool's name in the LangChain message that it returned."""
    inner = result.get("kwargs") if isinstance(result, dict) else None
    return text(inner.get("name")) if isinstance(inner, dict) else None


def _blocks(said: Part, notes: Notes) -> list[Part]:
    """Content blocks that its instrumentation of LangChain for JavaScript 0.27 writes as JSON in a text part."""
    if said.__class__ is Text and said.content[:9] == '[{"type":':
        own = Notes()
        found = parse(said.content, own)
        if isinstance(found, list) and all(isinstance(item, dict) for item in found):
            read = parts(found, own)
            if own.lossy:
                notes.taken.pop("input", None)
            return read or [said]
    return [said]


def refine(raw: RawSpan, span: GenAISpan, notes: Notes) -> None:
    """An entity's name is a tool's, an agent's or a task's by the span's kind."""
    if span.kind == "rerank" and span.rerank is None:
        _rerank(span)
    for said in span.output:
        if said.role == "unknown":  # its LangChain callback, of streams
            said.role = "assistant"
    for said in span.input:
        if said.role == "unknown":  # its LangChain callback of before 0.40, of a ToolMessage
            said.role = "tool"
            said.parts = [ToolResult(part.content) if isinstance(part, Text) else part for part in said.parts]
    if span.op == "vector_db_retrieve":
        span.kind = "retrieval"
    if raw.scope.name.startswith("@traceloop/"):
        for said in span.input:
            said.parts = [block for one in said.parts for block in _blocks(one, notes)]
    name = text(raw.attributes.get("traceloop.entity.name"))
    if name is None:
        return
    if span.kind == "tool" and name in _TOOL_CLASSES and span.io is not None:
        name = _named_by(plain(span.io.output)) or name
    if span.kind == "tool":
        span.tool = span.tool or Tool()
        span.tool.name = span.tool.name or name
    elif span.kind == "agent":
        span.agent = span.agent or Agent()
        span.agent.name = span.agent.name or name
    elif span.kind in ("task", "workflow"):
        span.graph = span.graph or Graph()
        if span.kind == "task":
            span.graph.task = span.graph.task or name
        else:
            span.graph.workflow = span.graph.workflow or name
    if span.kind == "tool" and span.io is not None:
        span.io.output = tool_result(plain(span.io.output))
        if isinstance(given := plain(span.io.input), str):
            span.io.input = arguments(given)


_ASSOCIATED, _PROPERTIES = associations.bag("traceloop.association.properties.")
_VARIABLES = "traceloop.prompt.template_variables."

CONVENTION = Convention(
    name="openllmetry",
    marks=(
        "traceloop.",
        "llm.request.type",
        "llm.usage.",
        "llm.is_streaming",
        "llm.headers",
        "llm.request.functions.",
        "gen_ai.prompt.#",
        "gen_ai.completion.#",
        "gen_ai.task.",
        "gen_ai.is_streaming",
        "gen_ai.openai.api_",
        "mcp.request.argument",
        "mcp.response.value",
    ),
    scopes=("@traceloop/",),
    rank=WHOLE,
    rules=(
        *rules(
            {
                "traceloop.span.kind": ("kind", word(KINDS)),
                "llm.request.type": ("kind", word(REQUEST_TYPES)),
                "traceloop.workflow.name": ("graph.workflow", text),
                "traceloop.entity.path": ("graph.path", text),
                "gen_ai.task.name": ("graph.task", text),
                "gen_ai.task.id": ("graph.task_id", text),
                "traceloop.prompt.key": ("prompt.name", text),
                "traceloop.prompt.version": ("prompt.version", text),
                "traceloop.prompt.version_name": ("prompt.label", text),
                "traceloop.prompt.template": ("prompt.template", text),
                "traceloop.correlation.id": ("conversation_id", text),
                "llm.vendor": ("provider", text),
                "llm.request.model": ("model.request", text),
                "llm.response.model": ("model.response", text),
                "llm.temperature": ("params.temperature", number),
                "llm.top_p": ("params.top_p", number),
                "llm.top_k": ("params.top_k", number),
                "llm.frequency_penalty": ("params.frequency_penalty", number),
                "llm.presence_penalty": ("params.presence_penalty", number),
                "llm.chat.stop_sequences": ("params.stop", whole_strings),
                "llm.is_streaming": ("params.stream", boolean),
                "gen_ai.is_streaming": ("params.stream", boolean),
                "mcp.request.id": ("mcp.request_id", text),
                "llm.user": ("user_id", text),
                "gen_ai.user": ("user_id", text),
                "llm.response.finish_reason": ("response.finish_reasons", strings),
                "llm.response.stop_reason": ("response.finish_reasons", strings),
                "gen_ai.openai.api_base": ("model.api_base", text),
                "gen_ai.openai.system_fingerprint": ("response.system_fingerprint", text),
            }
        ),
        *rules(
            {
                "traceloop.entity.input": ("io.input", entity_input),
                "traceloop.entity.output": ("io.output", entity_output),
                "gen_ai.task.input": ("io.input", entity_input),
                "gen_ai.task.output": ("io.output", entity_output),
                "mcp.request.argument": ("*", mcp_request),
                "mcp.response.value": ("io.output", mcp_response),
                "gen_ai.request.structured_output_schema": ("params.response_format", parse),
            },
            content=True,
        ),
        *_ASSOCIATED,
        Rule("traceloop.entity.input", "metadata", callback_metadata),
        Rule("gen_ai.handoff.to_agent", "metadata", lambda value: {"handoff.to_agent": value} if value else None),
    ),
    many=(
        *INDEXED,
        *_PROPERTIES,
        Many(
            (_VARIABLES,),
            "prompt.variables",
            lambda attributes, keys, notes: {key[len(_VARIABLES) :]: attributes[key] for key in keys},
        ),
    ),
    usage=usage.LLM_USAGE,
    refine=refine,
)
