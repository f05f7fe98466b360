"""The fluent and the client API: one function per operation of the GenAI conventions.

Each gives an `Operation`: a context manager, a decorator, and (`.start()`) explicit spans. A decorator may be written
without parentheses (`@tool`). Content arguments are snapshots: later changes to a list do not change what is recorded.
The signature of each is its second overload; what its arguments are called on the span stands in the table before it.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from typing import Any, ParamSpec, TypeVar, overload

from opentelemetry.trace import SpanKind

from spanweir.instrumentation import names
from spanweir.instrumentation.operation import Operation

P = ParamSpec("P")
R = TypeVar("R")

_INPUT = {"input": (names.INPUT_MESSAGES, "input")}
_PROMPT = {
    **_INPUT,
    "system": (names.SYSTEM_INSTRUCTIONS, "system"),
    "tools": (names.TOOL_DEFINITIONS, "tools"),
}
_WHOSE = {"session": (names.CONVERSATION_ID, names.SESSION_ID), "user": (names.USER_ID,)}


@dataclasses.dataclass(frozen=True)
class Table:
    """How the arguments of one operation stand on its span."""

    operation: str
    target: str = ""
    """The attribute of what the operation is called by; that is also part of the span's name."""
    attributes: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    content: Mapping[str, tuple[str, str]] = dataclasses.field(default_factory=dict)
    """Attribute and form (`policy.FORMS`)."""
    kind: SpanKind = SpanKind.INTERNAL
    forms: tuple[tuple[str, str], tuple[str, str]] = (
        (names.INPUT_MESSAGES, "input"),
        (names.OUTPUT_MESSAGES, "output"),
    )
    """Of what `set_input` and `set_output` are given."""
    always: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def __call__(self, target: Any, given: dict[str, Any]) -> Any:
        for name in given:
            if name not in self.attributes and name not in self.content:
                known = ", ".join([*self.attributes, *self.content])
                raise TypeError(f"{self.operation}: there is no argument {name!r}, there are {known}")
        attributes = {key: given.get(name) for name, keys in self.attributes.items() for key in keys}
        content = {key: (form, given.get(name)) for name, (key, form) in self.content.items()}
        if isinstance(target, Enum):
            target = target.value
        operation = Operation(
            self.operation,
            target if isinstance(target, str) else None,
            {**attributes, **self.always},
            kind=self.kind,
            forms=self.forms,
            content=content,
            target_attribute=self.target,
        )
        without_parentheses = callable(target) or isinstance(target, classmethod)  # `@tool`
        return operation(target) if without_parentheses else operation


_WORKFLOW = Table("invoke_workflow", names.WORKFLOW_NAME, _WHOSE, _INPUT)


@overload
def workflow(name: Callable[P, R], /) -> Callable[P, R]: ...
@overload
def workflow(
    name: str | None = None, /, *, input: Any = None, session: str | None = None, user: str | None = None
) -> Operation: ...
def workflow(name: Any = None, /, **given: Any) -> Any:
    """A whole piece of work made of several steps: usually the root of a trace.

    Emits `gen_ai.operation.name` = `invoke_workflow`, `gen_ai.workflow.name`, `gen_ai.input.messages`,
    `gen_ai.output.messages`, `gen_ai.conversation.id` and `session.id` (session), `user.id` (user).
    """
    return _WORKFLOW(name, given)


_AGENT = Table(
    "invoke_agent",
    names.AGENT_NAME,
    {
        "id": (names.AGENT_ID,),
        "description": (names.AGENT_DESCRIPTION,),
        "version": (names.AGENT_VERSION,),
        "model": (names.REQUEST_MODEL,),
        "provider": (names.PROVIDER,),
        **_WHOSE,
    },
    _PROMPT,
)


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
def agent(name: Any = None, /, **given: Any) -> Any:
    """An agent that decides by itself which model and tool calls to make.

    Emits `gen_ai.operation.name` = `invoke_agent`, `gen_ai.agent.{name,id,description,version}`,
    `gen_ai.request.model`, `gen_ai.provider.name`, `gen_ai.system_instructions`, `gen_ai.tool.definitions`,
    `gen_ai.input.messages`, `gen_ai.output.messages`, `gen_ai.conversation.id`, `session.id`, `user.id`.
    """
    return _AGENT(name, given)


_CHAT = Table(
    "chat",
    names.REQUEST_MODEL,
    {
        "provider": (names.PROVIDER,),
        "temperature": ("gen_ai.request.temperature",),
        "top_p": ("gen_ai.request.top_p",),
        "max_tokens": ("gen_ai.request.max_tokens",),
        "stop": ("gen_ai.request.stop_sequences",),
        "seed": ("gen_ai.request.seed",),
        "reasoning_level": ("gen_ai.request.reasoning.level",),
        "server_address": ("server.address",),
        "server_port": ("server.port",),
    },
    _PROMPT,
    SpanKind.CLIENT,
)


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
def chat(model: Any = None, /, **given: Any) -> Any:
    """A call of a model (a span of kind CLIENT).

    Emits `gen_ai.operation.name` = `chat`, `gen_ai.provider.name`, `gen_ai.request.{model,temperature,top_p,max_tokens,
    stop_sequences,seed,reasoning.level,stream}`, `server.{address,port}`, `gen_ai.system_instructions`,
    `gen_ai.tool.definitions`, `gen_ai.input.messages`, `gen_ai.output.messages`, and from the span or the response
    `gen_ai.response.{id,model,finish_reasons,time_to_first_chunk}` and `gen_ai.usage.*`.

    A decorated function's arguments `model`, `messages` (or `input`, `prompt`), `system`, `tools`, `temperature`,
    `top_p`, `max_tokens` and `seed` are recognised by name, given or by default, and a returned stream is observed to
    its end.
    """
    if isinstance(given.get("stop"), str):
        given["stop"] = [given["stop"]]
    return _CHAT(model, given)


_EMBEDDINGS = Table(
    "embeddings",
    names.REQUEST_MODEL,
    {"provider": (names.PROVIDER,), "dimensions": (names.DIMENSION_COUNT,)},
    _INPUT,
    SpanKind.CLIENT,
)


@overload
def embeddings(model: Callable[P, R], /) -> Callable[P, R]: ...
@overload
def embeddings(
    model: str | None = None, /, *, provider: str | None = None, input: Any = None, dimensions: int | None = None
) -> Operation: ...
def embeddings(model: Any = None, /, **given: Any) -> Any:
    """A call of an embedding model. The vectors themselves are not recorded.

    Emits `gen_ai.operation.name` = `embeddings`, `gen_ai.request.model`, `gen_ai.provider.name`,
    `gen_ai.embeddings.dimension.count`, `gen_ai.input.messages` (the texts) and `gen_ai.usage.input_tokens`.
    """
    return _EMBEDDINGS(model, given)


_RETRIEVAL = Table(
    "retrieval",
    names.DATA_SOURCE_ID,
    {"top_k": (names.TOP_K,)},
    {"query": (names.QUERY_TEXT, "text")},
    SpanKind.CLIENT,
    ((names.QUERY_TEXT, "text"), (names.DOCUMENTS, "documents")),
)


@overload
def retrieval(source: Callable[P, R], /) -> Callable[P, R]: ...
@overload
def retrieval(source: str | None = None, /, *, query: Any = None, top_k: int | None = None) -> Operation: ...
def retrieval(source: Any = None, /, **given: Any) -> Any:
    """A search in a vector store, index or data source.

    Emits `gen_ai.operation.name` = `retrieval`, `gen_ai.data_source.id`, `gen_ai.retrieval.query.text`,
    `gen_ai.retrieval.top_k` and, from `set_output` or the return value, `gen_ai.retrieval.documents` with id, score,
    content and metadata of each document.
    """
    return _RETRIEVAL(source, given)


_RERANK = Table(
    "rerank",
    names.REQUEST_MODEL,
    {"provider": (names.PROVIDER,), "top_k": (names.RERANK_TOP_K,)},
    {"query": (names.RERANK_QUERY, "text")},
    SpanKind.CLIENT,
    ((names.RERANK_QUERY, "text"), (names.DOCUMENTS, "documents")),
    {names.OPENINFERENCE_KIND: "RERANKER"},
)


@overload
def rerank(model: Callable[P, R], /) -> Callable[P, R]: ...
@overload
def rerank(
    model: str | None = None, /, *, provider: str | None = None, query: Any = None, top_k: int | None = None
) -> Operation: ...
def rerank(model: Any = None, /, **given: Any) -> Any:
    """A reordering of documents by a model.

    Emits `gen_ai.operation.name` = `rerank` and `openinference.span.kind` = `RERANKER` (the conventions have no kind of
    their own yet), `gen_ai.request.model`, `gen_ai.provider.name`, `reranker.query`, `reranker.top_k`, and the
    documents in their new order as `gen_ai.retrieval.documents`.
    """
    return _RERANK(model, given)


_TOOL = Table(
    "execute_tool",
    names.TOOL_NAME,
    {
        "type": (names.TOOL_TYPE,),
        "call_id": (names.TOOL_CALL_ID,),
        "description": (names.TOOL_DESCRIPTION,),
    },
    {"arguments": (names.TOOL_ARGUMENTS, "json")},
    forms=((names.TOOL_ARGUMENTS, "json"), (names.TOOL_RESULT, "json")),
)


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
def tool(name: Any = None, /, **given: Any) -> Any:
    """The execution of a tool.

    Emits `gen_ai.operation.name` = `execute_tool`, `gen_ai.tool.{name,type,description}`, `gen_ai.tool.call.id`,
    `gen_ai.tool.call.arguments` (an object; of a decorated function all its arguments) and `gen_ai.tool.call.result`.
    """
    return _TOOL(name, {"type": "function", **given})


_GUARDRAIL = Table("apply_guardrail", content=_INPUT, always={names.OPENINFERENCE_KIND: "GUARDRAIL"})


@overload
def guardrail(name: Callable[P, R], /) -> Callable[P, R]: ...
@overload
def guardrail(name: str | None = None, /, *, input: Any = None) -> Operation: ...
def guardrail(name: Any = None, /, **given: Any) -> Any:
    """A check that may stop or change a request or an answer.

    Emits `gen_ai.operation.name` = `apply_guardrail` and `openinference.span.kind` = `GUARDRAIL` (the conventions have
    no kind of their own yet), `gen_ai.input.messages`, `gen_ai.output.messages`, and `gen_ai.evaluation.score.*` for
    the verdict (a returned bool, number, label or object with `score`, `label`, `explanation`).
    """
    return _GUARDRAIL(name, given)


_EVALUATION = Table("evaluate", names.EVALUATION_NAME, content=_INPUT, always={names.OPENINFERENCE_KIND: "EVALUATOR"})


@overload
def evaluation(name: Callable[P, R], /) -> Callable[P, R]: ...
@overload
def evaluation(name: str | None = None, /, *, input: Any = None) -> Operation: ...
def evaluation(name: Any = None, /, **given: Any) -> Any:
    """A judgement of an answer.

    Emits `gen_ai.operation.name` = `evaluate` and `openinference.span.kind` = `EVALUATOR`,
    `gen_ai.evaluation.{name,score.value,score.label,explanation}` (from `set_score` or a returned bool, number, label
    or object with `score`, `label`, `explanation`), a `gen_ai.evaluation.result` event of the same, and
    `gen_ai.input.messages` and `gen_ai.output.messages`.
    """
    return _EVALUATION(name, given)
