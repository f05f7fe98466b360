"""OpenInference (Arize): every indexed family, and the same lists as JSON text, which some exporters send.

Spec of August 2026, PyPI `openinference-semantic-conventions` 0.1.42. Lists are flattened to one attribute a leaf
(`llm.input_messages.0.message.contents.1.message_content.text`); they are gathered by index here, so that gaps, order
of arrival and indices of any size do not matter. `__REDACTED__` stands for hidden values.

Not here: what an `input.value` holds (`settle`, by the kind of span).
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from spanweir.schemas import content, evaluations, usage
from spanweir.schemas.convention import INDEXED, WHOLE, Convention, Many, Rule, rules
from spanweir.schemas.conventions.autogen import function_results
from spanweir.schemas.conventions.general import metadata
from spanweir.schemas.conventions.smolagents import is_inputs
from spanweir.schemas.genai import (
    Doc,
    Embedding,
    GenAISpan,
    Message,
    Part,
    Reasoning,
    Text,
    ToolCall,
    ToolDef,
    ToolResult,
)
from spanweir.schemas.indexed import flatten, gather
from spanweir.schemas.media import media
from spanweir.schemas.messages import messages, parse
from spanweir.schemas.notes import Notes, arguments, rest
from spanweir.schemas.params import params
from spanweir.schemas.parts import tool_output
from spanweir.schemas.raw import Attributes, RawSpan, Value
from spanweir.schemas.values import count, json_or_text, model_name, number, quoted, strings, text
from spanweir.schemas.vocabulary import role

KINDS = {
    "LLM": "llm", "EMBEDDING": "embedding", "CHAIN": "chain", "RETRIEVER": "retrieval", "RERANKER": "rerank",
    "TOOL": "tool", "AGENT": "agent", "GUARDRAIL": "guardrail", "EVALUATOR": "evaluation", "PROMPT": "prompt",
    "DECISION": "router",
}  # fmt: skip


def kind(value: Any) -> str | None:
    return KINDS.get(value.upper()) if isinstance(value, str) else None


# ------------------------------------------------------------------------------------------------ messages


def _message(item: Mapping[str, Value], notes: Notes) -> Message:
    get = item.get
    raw_role, said = get("message.role"), get("message.content")
    speaker = role(raw_role) if isinstance(raw_role, str) and raw_role else ""
    if len(item) == 2 and speaker and speaker != "tool" and isinstance(said, str) and said:
        return Message(speaker, [Text(said)])
    found: list[Part] = []
    calls: list[ToolCall] = []
    contents, tool_calls, named, more = (_layout if len(item) <= _LAYOUT_KEYS else _layout.__wrapped__)(tuple(item))
    for one in gather(item, contents, "message.contents.", notes) if contents else ():
        read = _content(one, notes)
        if isinstance(read, ToolCall):
            calls.append(read)
        elif read is not None:
            found.append(read)
    if isinstance(said, str) and said:
        if not any(isinstance(p, Text) for p in found):
            found.append(Text(said))
        elif said not in [p.content for p in found if isinstance(p, Text)]:
            notes.lossy = True
    elif said not in (None, ""):
        structured = messages([{"role": "user", "content": said}], notes)
        found += structured[0].parts if structured else []
    for one in gather(item, tool_calls, "message.tool_calls.", notes) if tool_calls else ():
        if not any(one.values()):
            continue  # some say nothing
        call = _call(one, notes)
        same = [
            c for c in calls if (c.id == call.id if call.id else (c.name, c.arguments) == (call.name, call.arguments))
        ]
        if not same:
            calls.append(call)
    if not named and speaker != "tool":
        return Message(speaker or ("assistant" if calls else "user"), [*found, *calls])
    if name := text(get("message.function_call_name")):
        calls.append(ToolCall(name, None, arguments(get("message.function_call_arguments_json"))))
    results = function_results(item, notes) if more else []
    answers, name = text(get("message.tool_call_id")), text(get("message.name"))
    notes.lossy = notes.lossy or (more and not _KNOWN.issuperset(key for key in item if not key.startswith(_LISTS)))
    if results:
        notes.lossy = notes.lossy or bool(answers)
        return Message(speaker or "tool", [*found, *calls, *results], name)
    if answers is not None or (speaker == "tool" and not calls):
        texts = [p.content for p in found if isinstance(p, Text)]
        notes.lossy = notes.lossy or bool(calls) or len(texts) != len(found)
        return Message(speaker or "tool", [ToolResult("\n".join(texts) if texts else None, answers, name)])
    return Message(speaker or ("assistant" if calls else "user"), [*found, *calls], name)


@lru_cache(maxsize=1024)
def _layout(keys: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[str, ...], bool, bool]:
    """Keys of contents, and of calls; whether there are others than role and content; whether an unusual one is."""
    contents = tuple(key for key in keys if key.startswith("message.contents."))
    calls = tuple(key for key in keys if key.startswith("message.tool_calls."))
    others = set(keys).difference(contents, calls)
    return contents, calls, bool(others - {"message.role", "message.content"}), not _KNOWN.issuperset(others)


_LAYOUT_KEYS = 64
_LISTS = ("message.contents.", "message.tool_calls.", "function.")
_KNOWN = frozenset(
    f"message.{name}"
    for name in ("role", "content", "name", "tool_call_id", "function_call_name", "function_call_arguments_json")
)


_CALL = frozenset({"type", "tool_call.function.name", "tool_call.function.arguments"})
_CALL |= {f"tool_call.{name}" for name in ("id", "name", "arguments")}
_REASONING = frozenset(f"message_content.{name}" for name in ("type", "text", "id", "signature", "data"))
_TEXT = frozenset({"message_content.type", "message_content.text"})
_TOOL = frozenset({"tool.name", "tool.description", "tool.parameters"})
_EMBEDDING = frozenset({"embedding.text", "embedding.vector"})


def _call(one: Mapping[str, Value], notes: Notes) -> ToolCall:
    rest(one, _CALL, notes)
    name = text(one.get("tool_call.function.name")) or text(one.get("tool_call.name")) or ""
    given = one.get("tool_call.function.arguments")
    if isinstance(given, str) and given[:2] == '"{':  # JSON text as JSON text (openinference-vercel 3)
        given = json_or_text(given)
    return ToolCall(
        name, text(one.get("tool_call.id")), arguments(given if given is not None else one.get("tool_call.arguments"))
    )


def _content(one: Mapping[str, Value], notes: Notes) -> Part | None:
    get = one.get
    what = get("message_content.type")
    if what == "tool_use" or "tool_call.function.name" in one:
        return _call({key.removeprefix("message_content."): value for key, value in one.items()}, notes)
    if what == "reasoning" or what == "thinking" or what == "redacted_thinking":
        rest(one, _REASONING, notes)
        return Reasoning(
            text(get("message_content.text")) or "",
            text(get("message_content.id")),
            text(get("message_content.signature")),
            text(get("message_content.data")) or text(get("message_content.encrypted_content")),
        )
    said = get("message_content.text")
    if isinstance(said, str) and _TEXT.issuperset(one):
        return Text(said)
    for modality in ("image", "audio", "video", "document"):
        start = f"message_content.{modality}."
        inner = {key.rpartition(".")[2]: value for key, value in one.items() if key.startswith(start)}
        if inner:
            notes.lossy = notes.lossy or len(inner) + ("message_content.type" in one) < len(one)
            return media(inner, notes, modality)
    rest(one, _TEXT if isinstance(said, str) else frozenset({"message_content.type"}), notes)
    return Text(said) if isinstance(said, str) else None


def message_list(prefix: str) -> Any:
    """A reader for an indexed list of messages."""

    def read(attributes: Attributes, keys: Sequence[str], notes: Notes) -> list[Message] | None:
        items = gather(attributes, keys, prefix, notes)
        read = [_message(item, notes) for item in items]
        found = [m for m in read if m.parts or m.name or m.role != "user"]
        if len(found) < len(items) and any(item.get("message.role") not in ("user", "", None) for item in items):
            notes.lossy = True
        return found or None

    return read


def marshalled(value: Any, notes: Notes) -> list[Message] | None:
    """The whole list as JSON text, each message with dotted or nested names, or in any other shape."""
    value = parse(value, notes)
    if isinstance(value, list) and value and isinstance(value[0], dict):
        nested = isinstance(value[0].get("message"), dict) and "role" not in value[0]
        if nested or any(str(key).startswith("message.") for key in value[0]):
            return [_message(flatten(item), notes) for item in value if isinstance(item, dict)]
    return messages(value, notes)


def _prompts(attributes: Attributes, keys: Sequence[str], notes: Notes) -> list[Message] | None:
    found = gather(attributes, keys, "llm.prompts.", notes)
    return [Message("user", [Text(said)]) for one in found if (said := text(one.get("prompt.text")))] or None


def _choices(attributes: Attributes, keys: Sequence[str], notes: Notes) -> list[Message] | None:
    found = gather(attributes, keys, "llm.choices.", notes)
    return [
        Message("assistant", [Text(said)], index=index)
        for index, one in enumerate(found)
        if (said := text(one.get("completion.text")))
    ] or None


# ------------------------------------------------------------------------------------------------ other families


def _tools(attributes: Attributes, keys: Sequence[str], notes: Notes) -> list[ToolDef] | None:
    found: list[ToolDef] = []
    for one in gather(attributes, keys, "llm.tools.", notes):
        schema = one.get("tool.json_schema")
        read = content.tools(schema, notes) if schema else None
        rest(one, _TOOL if read is None else frozenset({"tool.json_schema", "tool.name"}), notes)
        if read is None and (name := text(one.get("tool.name"))):
            read = [ToolDef(name, description=text(one.get("tool.description")), parameters=one.get("tool.parameters"))]
        found += read or ()
    return found or None


_DOCUMENT = frozenset({"id", "score", "content", "metadata", "url", "mime_type", "name", "type"})


def document(one: Mapping[str, Value], notes: Notes) -> Doc:
    plain = {key.removeprefix("document."): value for key, value in one.items()}
    if plain.keys() - _DOCUMENT or plain.get("mime_type"):
        notes.lossy = True
    more = plain.get("metadata")
    if more is None:
        more = {key[9:]: value for key, value in plain.items() if key.startswith("metadata.")} or None
    return Doc(
        text(plain.get("content")),
        text(plain.get("id")),
        text(plain.get("name")),
        text(plain.get("url")),
        number(plain.get("score")),
        parse(more, notes) or None,
    )


def document_list(prefix: str) -> Any:
    def read(attributes: Attributes, keys: Sequence[str], notes: Notes) -> list[Doc] | None:
        return [document(one, notes) for one in gather(attributes, keys, prefix, notes)] or None

    return read


def _embeddings(attributes: Attributes, keys: Sequence[str], notes: Notes) -> list[Embedding] | None:
    found: list[Embedding] = []
    for one in gather(attributes, keys, "embedding.embeddings.", notes):
        rest(one, _EMBEDDING, notes)
        vector = one.get("embedding.vector")
        if isinstance(vector, str):
            vector = parse(vector, notes)
        size = len(vector) if isinstance(vector, list) else None
        found.append(Embedding(text(one.get("embedding.text")), vector, size))
    return found or None


def whole(name: str) -> Any:
    """A reader for `input.value` or `output.value`, JSON where its MIME type or its beginning says so."""
    value_key, type_key = f"{name}.value", f"{name}.mime_type"

    def read(attributes: Attributes, keys: Sequence[str], notes: Notes) -> Any:
        if (value := attributes.get(value_key)) == "__REDACTED__":
            return None
        if attributes.get(type_key) == "text/plain":
            return value or None
        return json_or_text(value)

    return read


def _parameters(value: Any, notes: Notes) -> dict[str, Any] | None:
    """Invocation parameters; the model that was asked for is among them, and with some senders the tools."""
    value = parse(value, notes)
    found = params(value, notes) or {}
    if isinstance(value, dict):
        model = value.get("model") or value.get("model_name")
        if isinstance(model, str):
            found["model.request"] = model
        if defs := content.tools(value.get("tools") or value.get("functions"), notes):
            found["tools"] = defs
        if said := text(value.get("inputText")):  # Titan on Bedrock
            found["input"] = [Message("user", [Text(said)])]
        elif isinstance(value.get("messages"), list) and (asked := content.request(value, notes)):  # Claude on Bedrock
            found |= {field: asked[field] for field in ("system", "input") if field in asked}
    return found or None


def _tool_parameters(value: Any, notes: Notes) -> Any:
    """`tool.parameters` of a tool span: the arguments, or with some senders the schema, which is no argument."""
    found = json_or_text(value)
    read = parse(value, Notes())
    is_schema = isinstance(read, dict) and ((read.get("type") == "object" and "properties" in read) or is_inputs(read))
    return None if is_schema else found


def _function_call(value: Any, notes: Notes) -> list[Message] | None:
    """`llm.function_call`, of senders that do not put it into the output messages."""
    found = parse(value, notes)
    if not isinstance(found, dict) or not (name := text(found.get("name"))):
        return None
    return [Message("assistant", [ToolCall(name, None, arguments(found.get("arguments")))])]


def _json(value: Any, notes: Notes) -> Any:
    return tool_output(parse(value, notes))


def refine(raw: RawSpan, span: GenAISpan, notes: Notes) -> None:
    """LlamaIndex's preparation of a call (`OpenAI._prepare_chat_with_tools`) is none, though it is marked LLM."""
    if span.kind == "llm" and "._prepare_" in raw.name:
        span.kind = "chain"


SCALARS = {
    "openinference.span.kind": ("kind", kind),
    "llm.response.model_name": ("model.response", model_name),
    "llm.request.model_name": ("model.request", model_name),
    "llm.model_name": ("model.response", model_name),
    "embedding.model_name": ("model.response", text),
    "decision.response.model_name": ("model.response", text),
    "decision.model_name": ("model.response", text),
    "decision.request.model_name": ("model.request", text),
    "llm.provider": ("provider", text),
    "decision.provider": ("provider", text),
    "llm.system": ("provider", text),
    "llm.finish_reason": ("response.finish_reasons", strings),
    "llm.response.finish_reasons": ("response.finish_reasons", strings),  # its Java instrumentations
    "tool.name": ("tool.name", text),
    "tool_call.function.name": ("tool.name", text),
    "tool.description": ("tool.description", text),
    "tool.id": ("tool.id", text),
    "tool_call.id": ("tool.id", text),
    "agent.name": ("agent.name", text),
    "graph.node.id": ("graph.node_id", text),
    "graph.node.name": ("graph.node", text),
    "graph.node.parent_id": ("graph.parent_node_id", text),
    "reranker.query": ("rerank.query", text),
    "reranker.model_name": ("rerank.model", text),
    "reranker.top_k": ("rerank.top_n", count),
    "llm.prompt_template.version": ("prompt.version", text),
    "prompt.id": ("prompt.id", text),
    "prompt.name": ("prompt.name", text),
    "session.id": ("session_id", quoted),
    "user.id": ("user_id", quoted),
    "llm.cost.prompt": ("cost.input", number),
    "llm.cost.completion": ("cost.output", number),
    "llm.cost.total": ("cost.total", number),
    "llm.cost.prompt_details.cache_read": ("cost.cache_read", number),
    "llm.cost.prompt_details.cache_input": ("cost.cache_read", number),
    "llm.cost.prompt_details.cache_write": ("cost.cache_write", number),
}

CONTENT = {
    "llm.input_messages": ("input", marshalled),
    "llm.output_messages": ("output", marshalled),
    "llm.tools": ("tools", content.tools),
    "llm.prompts": ("input", marshalled),
    "retrieval.documents": ("documents", content.documents),
    "llm.invocation_parameters": ("*", _parameters),
    "embedding.invocation_parameters": ("*", _parameters),
    "llm.prompt_template.template": ("prompt.template", _json),
    "llm.prompt_template.variables": ("prompt.variables", metadata),
    "tool.parameters": ("tool.arguments", _tool_parameters),
    "tool_call.function.arguments": ("tool.arguments", _tool_parameters),
}

CONVENTION = Convention(
    name="openinference",
    marks=(
        "openinference.", "llm.input_messages", "llm.output_messages", "llm.token_count", "llm.model_name",
        "llm.invocation_parameters", "llm.tools.", "embedding.embeddings", "embedding.model_name",
        "retrieval.documents", "reranker.",
    ),
    scopes=("openinference.", "@arizeai/openinference"),
    rank=INDEXED,
    rules=(
        *rules(SCALARS),
        *rules(CONTENT, content=True),
        Rule("tag.tags", "tags", strings),
        Rule("llm.function_call", "output", _function_call, WHOLE, content=True),
    ),
    many=(
        Many(("llm.input_messages.#.",), "input", message_list("llm.input_messages.")),
        Many(("llm.output_messages.#.",), "output", message_list("llm.output_messages.")),
        Many(("llm.prompts.#.",), "input", _prompts),
        Many(("llm.choices.#.",), "output", _choices),
        Many(("llm.tools.#.",), "tools", _tools),
        Many(("retrieval.documents.#.",), "documents", document_list("retrieval.documents.")),
        Many(("reranker.output_documents.#.",), "documents", document_list("reranker.output_documents.")),
        Many(("reranker.input_documents.#.",), "rerank.input", document_list("reranker.input_documents.")),
        Many(("embedding.embeddings.#.",), "embeddings", _embeddings),
        Many(tuple(f"{prefix}#." for prefix in evaluations.PREFIXES), "evaluations", evaluations.indexed),
        Many(("input.value", "input.mime_type"), "io.input", whole("input"), WHOLE),
        Many(("output.value", "output.mime_type"), "io.output", whole("output"), WHOLE),
    ),
    usage=usage.OPENINFERENCE | {"decision.token_count.input": "input", "decision.token_count.output": "output"},
    refine=refine,
)  # fmt: skip
