"""The fluent and the client API: one function per operation of the GenAI conventions.

Each gives an `Operation`: a context manager, a decorator, and (`.start()`) explicit spans. A decorator may be written
without parentheses (`@tool`). Content arguments are snapshots: later changes to a list do not change what is recorded.
"""

from collections.abc import Callable, Sequence
from typing import Any, ParamSpec, TypeVar, overload

from opentelemetry.trace import SpanKind

from spanweir.instrumentation import names
from spanweir.instrumentation.operation import Operation

P = ParamSpec("P")
R = TypeVar("R")

_TOOL_FORMS = ((names.TOOL_ARGUMENTS, "json"), (names.TOOL_RESULT, "json"))
_RETRIEVAL_FORMS = ((names.QUERY_TEXT, "text"), (names.DOCUMENTS, "documents"))


def _given(operation: Operation, target: Any) -> Any:
    """`@tool` without parentheses: the target is the function itself."""
    return operation(target) if callable(target) else operation


def _named(target: Any) -> str | None:
    return target if isinstance(target, str) else None


@overload
def workflow(name: Callable[P, R], /) -> Callable[P, R]: ...
@overload
def workflow(
    name: str | None = None, /, *, input: Any = None, session: str | None = None, user: str | None = None
) -> Operation: ...
def workflow(name: Any = None, /, *, input: Any = None, session: str | None = None, user: str | None = None) -> Any:
    """A whole piece of work made of several steps: usually the root of a trace.

    Emits `gen_ai.operation.name` = `invoke_workflow`, `gen_ai.workflow.name`, `gen_ai.input.messages`,
    `gen_ai.output.messages`, `gen_ai.conversation.id` and `session.id` (session), `user.id` (user).
    """
    operation = Operation(
        "invoke_workflow",
        _named(name),
        {names.CONVERSATION_ID: session, names.SESSION_ID: session, names.USER_ID: user},
        content={names.INPUT_MESSAGES: ("input", input)},
        target_attribute=names.WORKFLOW_NAME,
    )
    return _given(operation, name)


@overload
def agent(name: Callable[P, R], /) -> Callable[P, R]: ...
@overload
def agent(
    name: str | None = None,
    /,
    *,
    id: str | None = None,
    description: str | None = None,
    version: str | None = None,
    model: str | None = None,
    provider: str | None = None,
    input: Any = None,
    system: Any = None,
    tools: Any = None,
    session: str | None = None,
    user: str | None = None,
) -> Operation: ...
def agent(
    name: Any = None,
    /,
    *,
    id: str | None = None,
    description: str | None = None,
    version: str | None = None,
    model: str | None = None,
    provider: str | None = None,
    input: Any = None,
    system: Any = None,
    tools: Any = None,
    session: str | None = None,
    user: str | None = None,
) -> Any:
    """An agent that decides by itself which model and tool calls to make.

    Emits `gen_ai.operation.name` = `invoke_agent`, `gen_ai.agent.{name,id,description,version}`,
    `gen_ai.request.model`, `gen_ai.provider.name`, `gen_ai.system_instructions`, `gen_ai.tool.definitions`,
    `gen_ai.input.messages`, `gen_ai.output.messages`, `gen_ai.conversation.id`, `session.id`, `user.id`.
    """
    operation = Operation(
        "invoke_agent",
        _named(name),
        {
            names.AGENT_ID: id,
            names.AGENT_DESCRIPTION: description,
            names.AGENT_VERSION: version,
            names.REQUEST_MODEL: model,
            names.PROVIDER: provider,
            names.CONVERSATION_ID: session,
            names.SESSION_ID: session,
            names.USER_ID: user,
        },
        content={
            names.INPUT_MESSAGES: ("input", input),
            names.SYSTEM_INSTRUCTIONS: ("system", system),
            names.TOOL_DEFINITIONS: ("tools", tools),
        },
        target_attribute=names.AGENT_NAME,
    )
    return _given(operation, name)


@overload
def chat(model: Callable[P, R], /) -> Callable[P, R]: ...
@overload
def chat(
    model: str | None = None,
    /,
    *,
    provider: str | None = None,
    input: Any = None,
    system: Any = None,
    tools: Any = None,
    temperature: float | None = None,
    top_p: float | None = None,
    max_tokens: int | None = None,
    stop: Sequence[str] | None = None,
    seed: int | None = None,
    reasoning_level: str | None = None,
    server_address: str | None = None,
    server_port: int | None = None,
) -> Operation: ...
def chat(
    model: Any = None,
    /,
    *,
    provider: str | None = None,
    input: Any = None,
    system: Any = None,
    tools: Any = None,
    temperature: float | None = None,
    top_p: float | None = None,
    max_tokens: int | None = None,
    stop: Sequence[str] | None = None,
    seed: int | None = None,
    reasoning_level: str | None = None,
    server_address: str | None = None,
    server_port: int | None = None,
) -> Any:
    """A call of a model (a span of kind CLIENT).

    Emits `gen_ai.operation.name` = `chat`, `gen_ai.provider.name`, `gen_ai.request.{model,temperature,top_p,max_tokens,
    stop_sequences,seed,reasoning.level,stream}`, `server.{address,port}`, `gen_ai.system_instructions`,
    `gen_ai.tool.definitions`, `gen_ai.input.messages`, `gen_ai.output.messages`, and from the span or the response
    `gen_ai.response.{id,model,finish_reasons,time_to_first_chunk}` and `gen_ai.usage.*`.

    A decorated function's arguments `model`, `messages` (or `input`, `prompt`), `system`, `tools`, `temperature`,
    `top_p`, `max_tokens` and `seed` are recognised by name, and a returned stream is observed to its end.
    """
    operation = Operation(
        "chat",
        _named(model),
        {
            names.PROVIDER: provider,
            "gen_ai.request.temperature": temperature,
            "gen_ai.request.top_p": top_p,
            "gen_ai.request.max_tokens": max_tokens,
            "gen_ai.request.stop_sequences": [stop] if isinstance(stop, str) else None if stop is None else list(stop),
            "gen_ai.request.seed": seed,
            "gen_ai.request.reasoning.level": reasoning_level,
            "server.address": server_address,
            "server.port": server_port,
        },
        kind=SpanKind.CLIENT,
        content={
            names.INPUT_MESSAGES: ("input", input),
            names.SYSTEM_INSTRUCTIONS: ("system", system),
            names.TOOL_DEFINITIONS: ("tools", tools),
        },
        target_attribute=names.REQUEST_MODEL,
    )
    return _given(operation, model)


@overload
def embeddings(model: Callable[P, R], /) -> Callable[P, R]: ...
@overload
def embeddings(
    model: str | None = None, /, *, provider: str | None = None, input: Any = None, dimensions: int | None = None
) -> Operation: ...
def embeddings(
    model: Any = None, /, *, provider: str | None = None, input: Any = None, dimensions: int | None = None
) -> Any:
    """A call of an embedding model. The vectors themselves are not recorded.

    Emits `gen_ai.operation.name` = `embeddings`, `gen_ai.request.model`, `gen_ai.provider.name`,
    `gen_ai.embeddings.dimension.count`, `gen_ai.input.messages` (the texts) and `gen_ai.usage.input_tokens`.
    """
    operation = Operation(
        "embeddings",
        _named(model),
        {names.PROVIDER: provider, names.DIMENSION_COUNT: dimensions},
        kind=SpanKind.CLIENT,
        content={names.INPUT_MESSAGES: ("input", input)},
        target_attribute=names.REQUEST_MODEL,
    )
    return _given(operation, model)


@overload
def retrieval(source: Callable[P, R], /) -> Callable[P, R]: ...
@overload
def retrieval(source: str | None = None, /, *, query: Any = None, top_k: int | None = None) -> Operation: ...
def retrieval(source: Any = None, /, *, query: Any = None, top_k: int | None = None) -> Any:
    """A search in a vector store, index or data source.

    Emits `gen_ai.operation.name` = `retrieval`, `gen_ai.data_source.id`, `gen_ai.retrieval.query.text`,
    `gen_ai.retrieval.top_k` and, from `set_output` or the return value, `gen_ai.retrieval.documents` with id, score,
    content and metadata of each document.
    """
    operation = Operation(
        "retrieval",
        _named(source),
        {names.TOP_K: top_k},
        kind=SpanKind.CLIENT,
        forms=_RETRIEVAL_FORMS,
        content={names.QUERY_TEXT: ("text", query)},
        target_attribute=names.DATA_SOURCE_ID,
    )
    return _given(operation, source)


@overload
def rerank(model: Callable[P, R], /) -> Callable[P, R]: ...
@overload
def rerank(
    model: str | None = None, /, *, provider: str | None = None, query: Any = None, top_k: int | None = None
) -> Operation: ...
def rerank(model: Any = None, /, *, provider: str | None = None, query: Any = None, top_k: int | None = None) -> Any:
    """A reordering of documents by a model.

    Emits `gen_ai.operation.name` = `rerank` and `openinference.span.kind` = `RERANKER` (the conventions have no kind of
    their own yet), `gen_ai.request.model`, `gen_ai.provider.name`, `reranker.query`, `reranker.top_k`, and the
    documents in their new order as `gen_ai.retrieval.documents`.
    """
    operation = Operation(
        "rerank",
        _named(model),
        {names.PROVIDER: provider, names.RERANK_TOP_K: top_k, names.OPENINFERENCE_KIND: "RERANKER"},
        kind=SpanKind.CLIENT,
        forms=((names.RERANK_QUERY, "text"), (names.DOCUMENTS, "documents")),
        content={names.RERANK_QUERY: ("text", query)},
        target_attribute=names.REQUEST_MODEL,
    )
    return _given(operation, model)


@overload
def tool(name: Callable[P, R], /) -> Callable[P, R]: ...
@overload
def tool(
    name: str | None = None,
    /,
    *,
    call_id: str | None = None,
    arguments: Any = None,
    description: str | None = None,
    type: str = "function",
) -> Operation: ...
def tool(
    name: Any = None,
    /,
    *,
    call_id: str | None = None,
    arguments: Any = None,
    description: str | None = None,
    type: str = "function",
) -> Any:
    """The execution of a tool.

    Emits `gen_ai.operation.name` = `execute_tool`, `gen_ai.tool.{name,type,description}`, `gen_ai.tool.call.id`,
    `gen_ai.tool.call.arguments` (an object; of a decorated function all its arguments) and `gen_ai.tool.call.result`.
    """
    operation = Operation(
        "execute_tool",
        _named(name),
        {names.TOOL_TYPE: type, names.TOOL_CALL_ID: call_id, names.TOOL_DESCRIPTION: description},
        forms=_TOOL_FORMS,
        content={names.TOOL_ARGUMENTS: ("json", arguments)},
        target_attribute=names.TOOL_NAME,
    )
    return _given(operation, name)


@overload
def guardrail(name: Callable[P, R], /) -> Callable[P, R]: ...
@overload
def guardrail(name: str | None = None, /, *, input: Any = None) -> Operation: ...
def guardrail(name: Any = None, /, *, input: Any = None) -> Any:
    """A check that may stop or change a request or an answer.

    Emits `gen_ai.operation.name` = `apply_guardrail` and `openinference.span.kind` = `GUARDRAIL` (the conventions have
    no kind of their own yet), `gen_ai.input.messages`, `gen_ai.output.messages`, and `gen_ai.evaluation.score.*` for
    the verdict (a returned bool, number, label or object with `score`, `label`, `explanation`).
    """
    operation = Operation(
        "apply_guardrail",
        _named(name),
        {names.OPENINFERENCE_KIND: "GUARDRAIL"},
        content={names.INPUT_MESSAGES: ("input", input)},
    )
    return _given(operation, name)


@overload
def evaluation(name: Callable[P, R], /) -> Callable[P, R]: ...
@overload
def evaluation(name: str | None = None, /, *, input: Any = None) -> Operation: ...
def evaluation(name: Any = None, /, *, input: Any = None) -> Any:
    """A judgement of an answer.

    Emits `gen_ai.operation.name` = `evaluate` and `openinference.span.kind` = `EVALUATOR`,
    `gen_ai.evaluation.{name,score.value,score.label,explanation}` (from `set_score` or a returned bool, number, label
    or object with `score`, `label`, `explanation`), a `gen_ai.evaluation.result` event of the same, and
    `gen_ai.input.messages` and `gen_ai.output.messages`.
    """
    operation = Operation(
        "evaluate",
        _named(name),
        {names.OPENINFERENCE_KIND: "EVALUATOR"},
        content={names.INPUT_MESSAGES: ("input", input)},
        target_attribute=names.EVALUATION_NAME,
    )
    return _given(operation, name)
