"""Tool definitions, documents, embeddings, and whole requests and responses of a provider's API, in every shape.

`request` and `response` give canonical fields by name (`input`, `tools`, `model.request`, …) from JSON that holds a
whole call, as many SDKs put into one attribute.

Not here: messages (`messages`).
"""

from functools import lru_cache
from typing import Any

import msgspec

from spanweir.schemas import langchain
from spanweir.schemas import usage as tokens
from spanweir.schemas.genai import Doc, Embedding, Message, Text, ToolDef
from spanweir.schemas.messages import messages, otel_parts, parse
from spanweir.schemas.notes import Notes, Shape, first, id_of, name_of, rest
from spanweir.schemas.params import PARAMS, params
from spanweir.schemas.printed import printed
from spanweir.schemas.streams import folded
from spanweir.schemas.values import UNREADABLE, dumps, integer, number

# ------------------------------------------------------------------------------------------------ tools

_TOOL = frozenset(
    {"type", "name", "description", "parameters", "strict", "function", "input_schema", "inputSchema", "toolSpec"}
    | {"json", "parametersJsonSchema", "parameters_json_schema", "args_schema", "inputJSONSchema", "parameters_schema"}
)

MAX_CACHED_CHARS = 65_536


def tools(value: Any, notes: Notes) -> list[ToolDef] | None:
    """Tools offered to a model: OTel's flat form, OpenAI's, Anthropic's, Bedrock's, Gemini's, MCP's; or bare names.

    The same JSON text comes with every call of an agent, so it is read once.
    """
    if value.__class__ is str and len(value) <= MAX_CACHED_CHARS:
        found, lossy, flags = _tools_of_text(value)
        notes.lossy = notes.lossy or lossy
        notes.flags += flags
        return list(found) or None
    return _tools(value, notes)


@lru_cache(maxsize=128)
def _tools_of_text(value: str) -> tuple[tuple[ToolDef, ...], bool, tuple[str, ...]]:
    notes = Notes()
    found = _tools(value, notes)
    return tuple(found or ()), notes.lossy, tuple(notes.flags)


def _tools(value: Any, notes: Notes) -> list[ToolDef] | None:
    value = parse(value, notes)
    if isinstance(value, dict):
        inner = first(value, "tools", "functionDeclarations", "function_declarations", "functions", "function_tools")
        if isinstance(inner, list):
            return tools(inner, notes)
        if not {"name", "function", "toolSpec"} & set(value):
            # {name: definition}
            named = [{"name": key, **item} for key, item in value.items() if isinstance(item, dict)]
            return tools(named, notes) if named and len(named) == len(value) else None
        value = [value]
    if not isinstance(value, list):
        return None
    found: list[ToolDef] = []
    for item in value:
        item = parse(item, notes)
        if isinstance(item, str) and isinstance(shown := printed(item), dict) and "name" in shown:
            item = {key: told for key, told in shown.items() if key in _TOOL and not _is_code(told)}
            notes.lossy = True
        if isinstance(item, str):
            found.append(ToolDef(item))
        elif isinstance(item, dict):
            declarations = first(item, "functionDeclarations", "function_declarations")
            if isinstance(declarations, list):
                found += tools(declarations, notes) or ()
            elif isinstance(data := item.get("data"), dict) and str(item.get("type")).startswith("haystack."):
                found.append(_tool(data, notes))  # Haystack's own dump of a tool
            else:
                found.append(_tool(item, notes))
    return found or None


def _is_code(value: Any) -> bool:
    """Whether a printed object's field is a function or a class (`<function f at 0x7f>`)."""
    return isinstance(value, str) and value[:1] == "<"


def _tool(item: Shape, notes: Notes) -> ToolDef:
    rest(item, _TOOL, notes)
    function = first(item, "function", "toolSpec")
    inner: Shape = function if isinstance(function, dict) else item
    if inner is not item:
        rest(inner, _TOOL, notes)
    schema = first(
        inner, "parameters", "input_schema", "inputSchema", "parametersJsonSchema", "parameters_json_schema",
        "args_schema", "inputJSONSchema", "parameters_schema",
    )  # fmt: skip
    if isinstance(schema, dict) and set(schema) == {"json"}:
        schema = schema["json"]
    if isinstance(schema, str):
        schema = parse(schema, notes)
    strict = inner.get("strict")
    kind = item.get("type")
    return ToolDef(
        name_of(inner, "name") or name_of(item, "name") or (kind if isinstance(kind, str) else ""),
        kind if isinstance(kind, str) and kind not in ("object", "custom") else "function",
        id_of(inner, "description"),
        schema,
        strict if isinstance(strict, bool) else None,
    )


# ------------------------------------------------------------------------------------------------ documents

_DOC = frozenset(
    {"id", "page_content", "content", "text", "metadata", "score", "title", "uri", "url", "index", "meta"}
    | {"relevance_score", "similarity", "distance", "document", "type", "name", "pageContent", "doc_id"}
)


# Haystack 2 writes a document flat: what is none of its own fields was its metadata.
_HAYSTACK = frozenset({"id", "content", "blob", "score", "embedding", "sparse_embedding", "dataframe"})
_DOCS = msgspec.json.Decoder(list[Doc])


def documents(value: Any, notes: Notes) -> list[Doc] | None:
    """Documents of a retriever or reranker: a list of documents, `(document, score)` pairs or texts."""
    if value.__class__ is str:
        try:
            return _DOCS.decode(value) or None
        except UNREADABLE:
            value = parse(value, notes)
    if isinstance(value, dict):
        inner = first(value, "documents", "docs", "results", "source_nodes", "nodes", "matches", "data", "output")
        if isinstance(inner, (list, dict)):
            return documents(inner, notes)
        value = [value] if {"page_content", "content", "text", "document"} & set(value) else None
    if not isinstance(value, list):
        return None
    found = [doc for item in value if (doc := document(item, notes)) is not None]
    return found or None


def document(item: Any, notes: Notes) -> Doc | None:
    if isinstance(item, str):
        return Doc(item) if item else None
    if isinstance(item, list) and len(item) == 2 and isinstance(item[0], (dict, str)):
        doc = document(item[0], notes)
        if doc is not None:
            doc.score = number(item[1])
        return doc
    if not isinstance(item, dict):
        return None
    if isinstance(item.get("kwargs"), dict) and "lc" in item:  # LangChain constructor dump
        item = item["kwargs"]
    node = item.get("node")
    if isinstance(node, dict):  # LlamaIndex NodeWithScore
        item = {**node, "score": item.get("score")}
    rest(item, _DOC, notes)
    inner = item.get("document")
    if isinstance(inner, (dict, str)):
        doc = document(inner, notes) or Doc()
    else:
        content = first(item, "page_content", "content", "text", "pageContent")
        doc = Doc(_said(content))
        metadata = first(item, "metadata", "meta")
        if metadata is None and "sparse_embedding" in item:
            metadata = {key: value for key, value in item.items() if key not in _HAYSTACK} or None
        doc.metadata = parse(metadata, notes) if metadata not in (None, "", {}) else None
    doc.id = doc.id or id_of(item, "id", "doc_id", "id_")
    doc.title = doc.title or id_of(item, "title", "name")
    doc.uri = doc.uri or id_of(item, "uri", "url")
    score = number(first(item, "score", "relevance_score", "similarity", "distance"))
    doc.score = score if score is not None else doc.score
    doc.index = integer(item.get("index")) if item.get("index") is not None else doc.index
    return doc


def _said(content: Any) -> str | None:
    """A document's text; Genkit and Bedrock write it as parts `[{text}]`."""
    if isinstance(content, list) and content and all(isinstance(p, dict) and set(p) == {"text"} for p in content):
        return "".join(str(part["text"]) for part in content)
    return content if isinstance(content, str) else None if content is None else dumps(content)


# ------------------------------------------------------------------------------------------------ embeddings


def texts(value: Any, notes: Notes) -> list[Embedding] | None:
    """The input of an embedding call: one text or a list of texts."""
    value = parse(value, notes)
    if isinstance(value, dict):
        value = first(value, "input", "inputs", "texts", "text", "content", "contents", "query", "documents", "values")
    if isinstance(value, str):
        value = [value]
    if not isinstance(value, list):
        return None
    return [Embedding(item if isinstance(item, str) else dumps(item)) for item in value if item is not None] or None


# ------------------------------------------------------------------------------------------------ whole calls

_CONFIGS = ("config", "generation_config", "generationConfig", "kwargs")  # the last one: LlamaIndex
_SYSTEMS = ("system", "instructions", "system_instruction", "systemInstruction", "system_prompt")
_OFFERS = ("tools", "functions", "toolConfig")
_MODELS = ("model", "model_name", "modelId", "model_id")
_ASKED = frozenset({*_CONFIGS, *_SYSTEMS, *_OFFERS, *_MODELS, *PARAMS})
"""What a request may have besides messages."""


def request(value: Any, notes: Notes) -> dict[str, Any] | None:
    """Fields of a whole model request: OpenAI chat or Responses, Anthropic, Gemini, Bedrock, LangChain, or messages."""
    value = parse(value, notes)
    if isinstance(value, list):
        found = messages(value, notes)
        return {"input": found} if found else None
    if not isinstance(value, dict):
        return None
    fields: dict[str, Any] = {}
    given = first(value, "messages", "contents", "input", "chat_history", "message", "new_message")
    if given is None and isinstance(value.get("prompt"), (str, list)):
        given = value["prompt"]
    if given is None and "role" in value:
        given = [value]
    if isinstance(given, str):
        found = [Message("user", [Text(given)])] if given else None
    else:
        found = messages(given, notes) if given is not None else None
    if found:
        fields["input"] = found
    if _ASKED.isdisjoint(value):
        return fields or None
    config = first(value, *_CONFIGS)
    config = config if isinstance(config, dict) else {}
    system = first(value, *_SYSTEMS) or first(config, "system_instruction", "systemInstruction")
    if system and found and (read := otel_parts(system, notes)):
        fields["system"] = read
    offered = first(value, *_OFFERS) or config.get("tools")
    if offered and found and (defs := tools(offered, notes)):
        fields["tools"] = defs
    model = first(value, *_MODELS)
    if isinstance(model, str) and found:
        fields["model.request"] = model
    if found:
        fields.update(params(value, notes) or {})
        fields.pop("params.extra", None)
    return fields or None


def response(value: Any, notes: Notes, *, counted: bool = False) -> dict[str, Any] | None:
    """Fields of a whole model response: OpenAI chat or Responses, Anthropic, Gemini, Bedrock, LangChain, messages;
    without tokens where these are `counted`."""
    value = parse(value, notes)
    if isinstance(value, list) and (answer := folded(value)) is not None:
        value = answer
    if isinstance(value, list):
        found = messages(value, notes, "assistant")
        last = value[-1] if value else None
        if found and found[-1].finish_reason is None and isinstance(last, dict) and _is_item(last):
            found[-1].finish_reason = id_of(last, "status")
        return {"output": found} if found else None
    if not isinstance(value, dict):
        return None
    if _is_item(value):
        return response([value], notes, counted=counted)
    fields: dict[str, Any] = {}
    given = first(value, "choices", "candidates", "generations", "output", "messages", "message", "response", "replies")
    if isinstance(given, dict) and isinstance(given.get("message"), dict):  # Bedrock {"output": {"message"}}
        given = given["message"]
    if isinstance(given, list) and "generations" in value:
        given = langchain.generations(given)
    if given is None and ("role" in value or "content" in value or "lc" in value or "parts" in value):
        given = [value]
    if given is None and isinstance(value.get("text"), str):  # the AI SDK's and Mastra's result
        calls = first(value, "toolCalls", "tool_calls")
        thought = first(value, "reasoningText", "reasoning")
        given = [{"role": "assistant", "content": value["text"], "tool_calls": calls, "reasoning": thought}]
    if given is None and isinstance(value.get("data"), dict):  # OpenInference's Mistral 1, of streams
        return response(value["data"], notes, counted=counted)
    found = messages(given, notes, "assistant") if given is not None else None
    if not found:
        return None
    fields["output"] = found
    reason = id_of(value, "stop_reason", "stopReason", "finish_reason", "finishReason", "done_reason")
    if reason is None and value.get("object") == "response":
        details = value.get("incomplete_details")
        reason = (details.get("reason") if isinstance(details, dict) else None) or id_of(value, "status")
    if reason is None and found[-1].finish_reason is None:
        reason = _status(given)
    if reason and found[-1].finish_reason is None:
        found[-1].finish_reason = reason
    model = first(value, "model", "modelVersion", "model_version", "model_name")
    if isinstance(model, str):
        fields["model.response"] = model
    if isinstance(value.get("id"), str):
        fields["response.id"] = value["id"]
    told = value.get("llm_output")
    if isinstance(told, dict) and isinstance(told.get("model_name"), str):
        fields.setdefault("model.response", told["model_name"])
    if not counted and (read := tokens.from_object(_counts(value, given))) is not None:
        fields["usage"] = read
    return fields


def _counts(value: Shape, given: Any) -> Any:
    """Token counts: the response's own, its LangChain output's, or those of a message in LangChain's streams."""
    counts = first(value, "usage", "usageMetadata", "usage_metadata", "token_usage", "tokenUsage")
    if counts is None and isinstance(value.get("llm_output"), dict):
        counts = first(value["llm_output"], "token_usage", "usage")
    if counts is None and "generations" in value and isinstance(given, list):
        counts = next((read for item in given if (read := langchain.message_usage(item)) is not None), None)
    return counts


def _is_item(value: Shape) -> bool:
    """Whether this is an output item of OpenAI's Responses API: its `id` is its own, its `status` ends the turn."""
    return value.get("type") in ("message", "function_call") and "status" in value


def _status(given: Any) -> str | None:
    """The status of the last item in a message that LangChain made of a Responses API answer: content is its items."""
    message = given[-1] if isinstance(given, list) and given else given
    items = message.get("content") if isinstance(message, dict) else None
    for item in reversed(items) if isinstance(items, list) else ():
        if isinstance(item, dict) and item.get("type") in ("message", "function_call", "reasoning"):
            return item["status"] if isinstance(item.get("status"), str) else None
    return None
