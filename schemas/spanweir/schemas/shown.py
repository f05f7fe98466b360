"""What MLflow shows as a span's inputs and outputs, by the span's kind.

Not here: the shapes of messages and documents (`chat`), everything else of a span (`mlflow`).
"""

from typing import Any

from spanweir.schemas.chat import chat_messages, choices, docs
from spanweir.schemas.genai import GenAISpan, Message, Other, Params


def inputs_of(span: GenAISpan) -> tuple[Any, tuple[str, ...]]:
    """What `mlflow.spanInputs` is, and the canonical fields that it shows whole."""
    io = span.io
    if io is not None and io.input is not None and io.verbatim:
        return io.input, ("io.input",)
    kind = span.kind
    if kind == "tool":
        if span.tool is not None and span.tool.arguments is not None:
            return span.tool.arguments, ("tool.arguments",)
    elif kind == "retrieval":
        if span.retrieval is not None and span.retrieval.query is not None:
            return _only(query=span.retrieval.query, top_k=span.retrieval.top_k), ()
    elif kind == "rerank":
        if span.rerank is not None:
            body = _only(query=span.rerank.query, top_n=span.rerank.top_n, model=span.rerank.model)
            if span.rerank.input:
                body["documents"] = docs(span.rerank.input)
            return body, ("rerank.input",)
    elif kind == "embedding":
        if span.embeddings:
            return _embedding_input(span), ()
    elif kind == "memory" and span.memory is not None:
        memory = span.memory
        body = _only(query=memory.query, store_id=memory.store_id, record_id=memory.record_id)
        if memory.records is not None and span.op not in (None, "search_memory"):
            body["records"] = memory.records
            return body, ("memory.records",)
        if body:
            return body, ()
    if kind != "llm" and not span.system and (value := _sole_value(span.input)) is not None:
        return value, ("input",)
    if span.input or (span.system and (io is None or io.input is None)):
        body = {"messages": chat_messages(span.input, span.system)}
        if kind == "llm":
            _call(span, body)
        return body, ("input", "system")
    return (io.input, ("io.input",)) if io is not None and io.input is not None else (None, ())


def outputs_of(span: GenAISpan) -> tuple[Any, tuple[str, ...]]:
    io = span.io
    if io is not None and io.output is not None and io.verbatim:
        return io.output, ("io.output",)
    kind = span.kind
    if kind == "tool":
        if span.tool is not None and span.tool.result is not None:
            return span.tool.result, ("tool.result",)
    elif kind in ("retrieval", "rerank"):
        if span.documents:
            return docs(span.documents), ("documents",)
    elif kind == "embedding":
        if any(one.vector is not None for one in span.embeddings):
            data = [{"index": i, "embedding": one.vector} for i, one in enumerate(span.embeddings)]
            return {"data": data}, ("embeddings",)
    elif kind == "memory":
        memory = span.memory
        if memory is not None and memory.records is not None and span.op in (None, "search_memory"):
            return memory.records, ("memory.records",)
    if kind != "llm" and (value := _sole_value(span.output)) is not None:
        return value, ("output",)
    if span.output:
        response = span.response
        body: dict[str, Any] = {}
        if response is not None and response.id is not None:
            body["id"] = response.id
        if span.model is not None and span.model.response is not None:
            body["model"] = span.model.response
        body["choices"] = choices(span.output, response.finish_reasons if response is not None else None)
        return body, ("output",)
    if io is not None and io.output is not None:
        return io.output, ("io.output",)
    if span.documents:
        return docs(span.documents), ("documents",)
    if span.response is not None and span.response.finish_reasons and kind == "llm":
        # Content was not captured; why the model stopped was.
        reasons = span.response.finish_reasons
        return {"choices": choices([Message("assistant") for _ in reasons], reasons)}, ()
    return None, ()


def _sole_value(messages: list[Message]) -> Any:
    """The arguments or the result of a function, which spanweir's own API sends as one message with one `json` part."""
    if len(messages) != 1 or len(messages[0].parts) != 1:
        return None
    part = messages[0].parts[0]
    if part.__class__ is not Other or part.kind != "json" or not isinstance(part.value, dict):
        return None
    return part.value.get("content")


def _only(**items: Any) -> dict[str, Any]:
    return {key: value for key, value in items.items() if value is not None}


def _embedding_input(span: GenAISpan) -> dict[str, Any]:
    texts = [one.text for one in span.embeddings if one.text is not None]
    body: dict[str, Any] = {"input": texts[0] if len(texts) == 1 else texts}
    if span.model is not None and (model := span.model.request or span.model.response) is not None:
        body["model"] = model
    return body


def _call(span: GenAISpan, body: dict[str, Any]) -> None:
    """How the model was asked, in the names of OpenAI's API."""
    if span.model is not None and (model := span.model.request or span.model.response) is not None:
        body["model"] = model
    if span.params is not None:
        _parameters(span.params, body)


def _parameters(params: Params, body: dict[str, Any]) -> None:
    """Written out: as a loop over names it costs four times as much, for every model call."""
    if params.temperature is not None:
        body["temperature"] = params.temperature
    if params.top_p is not None:
        body["top_p"] = params.top_p
    if params.top_k is not None:
        body["top_k"] = params.top_k
    if params.max_tokens is not None:
        body["max_tokens"] = params.max_tokens
    if params.n is not None:
        body["n"] = params.n
    if params.seed is not None:
        body["seed"] = params.seed
    if params.stop is not None:
        body["stop"] = params.stop
    if params.frequency_penalty is not None:
        body["frequency_penalty"] = params.frequency_penalty
    if params.presence_penalty is not None:
        body["presence_penalty"] = params.presence_penalty
    if params.stream is not None:
        body["stream"] = params.stream
    if params.response_format is not None:
        body["response_format"] = params.response_format
    if params.tool_choice is not None:
        body["tool_choice"] = params.tool_choice
    if params.reasoning_level is not None:
        body["reasoning_effort"] = params.reasoning_level
