"""The canonical GenAI span: what a span means, whichever convention its sender spoke.

Everything here is derived from a `RawSpan` (and log records that belong to it) by `mapping.Mapper` and can be derived
again; nothing is authoritative. Every field has a neutral default, `None`, `""` or empty, that means *not sent*.

Not here: what messages are made of (`message`), how a sender's attributes become these fields (`mapping`,
`conventions`), and MLflow's form (`mlflow`).
"""

import msgspec

from spanweir.schemas.message import (
    Blob,
    Compaction,
    Doc,
    Embedding,
    Evaluation,
    File,
    Json,
    Message,
    Other,
    Part,
    Reasoning,
    Refusal,
    ServerToolCall,
    ServerToolResult,
    Text,
    ToolCall,
    ToolDef,
    ToolResult,
    Uri,
)

__all__ = [
    "KINDS", "Agent", "Blob", "Compaction", "Conflict", "Costs", "DeltaBase", "Doc", "Embedding", "Error",
    "Evaluation", "File", "GenAISpan", "Graph", "Json", "Mcp", "Memory", "Message", "Model", "Other", "Params",
    "Part", "Prompt", "Reasoning", "Refusal", "Rerank", "Response", "Retrieval", "ServerToolCall",
    "ServerToolResult", "Source", "Text", "Timing", "Tool", "ToolCall", "ToolDef", "ToolResult", "TraceIO", "Uri",
    "Usage",
]  # fmt: skip


# ------------------------------------------------------------------------------------------------ groups of fields


class Model(msgspec.Struct, omit_defaults=True, gc=False):
    """The model that was asked for, the one that answered, and where it is served."""

    request: str | None = None
    response: str | None = None
    api_base: str | None = None
    server_address: str | None = None
    server_port: int | None = None


class Params(msgspec.Struct, omit_defaults=True, gc=False):
    """How the model was asked. `extra` holds a provider's own parameters by their own names."""

    temperature: float | None = None
    top_p: float | None = None
    top_k: float | None = None
    max_tokens: int | None = None
    seed: int | None = None
    n: int | None = None
    stop: list[str] | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    stream: bool | None = None
    reasoning_level: str | None = None
    response_format: Json = None
    output_type: str | None = None
    dimensions: int | None = None
    encoding_formats: list[str] | None = None
    service_tier: str | None = None
    tool_choice: Json = None
    extra: dict[str, Json] | None = None


class Response(msgspec.Struct, omit_defaults=True, gc=False):
    """The answer of a model call, without its content."""

    id: str | None = None
    status: str | None = None
    finish_reasons: list[str] | None = None
    """As sent, one for each choice. `values.finish_reason` gives the common form."""
    service_tier: str | None = None
    system_fingerprint: str | None = None
    previous_response_id: str | None = None


class Tool(msgspec.Struct, omit_defaults=True, gc=False):
    """What a tool span executed. `arguments` and `result` are `Raw` JSON, decoded values, or text (`str`)."""

    name: str | None = None
    id: str | None = None
    type: str | None = None
    description: str | None = None
    arguments: Json = None
    result: Json = None
    is_error: bool | None = None
    status: str | None = None


class Mcp(msgspec.Struct, omit_defaults=True, gc=False):
    """One Model Context Protocol call."""

    method: str | None = None
    server: str | None = None
    session_id: str | None = None
    protocol_version: str | None = None
    resource_uri: str | None = None
    request_id: str | None = None


class Retrieval(msgspec.Struct, omit_defaults=True, gc=False):
    """What a retriever was asked. What it found is `GenAISpan.documents`."""

    query: str | None = None
    top_k: int | None = None
    data_source_id: str | None = None
    filter: Json = None


class Rerank(msgspec.Struct, omit_defaults=True, gc=False):
    """The documents that came out are `GenAISpan.documents`."""

    query: str | None = None
    model: str | None = None
    top_n: int | None = None
    input: list[Doc] = []


class Memory(msgspec.Struct, omit_defaults=True, gc=False):
    """One operation on an agent's memory."""

    store_id: str | None = None
    record_id: str | None = None
    query: str | None = None
    records: Json = None
    count: int | None = None
    scope: str | None = None
    type: str | None = None
    update_strategy: str | None = None


class Usage(msgspec.Struct, omit_defaults=True, gc=False):
    """Tokens. `input` includes cache reads and writes, `output` includes reasoning: `usage.settle` made them so.

    The other counts are parts of `input` or `output`, never to be added to them.
    """

    input: int | None = None
    output: int | None = None
    total: int | None = None
    """As reported; `usage.total_of` computes one where it was not."""
    cache_read: int | None = None
    cache_write: int | None = None
    cache_write_5m: int | None = None
    cache_write_1h: int | None = None
    reasoning: int | None = None
    input_text: int | None = None
    input_audio: int | None = None
    input_image: int | None = None
    input_video: int | None = None
    output_text: int | None = None
    output_audio: int | None = None
    output_image: int | None = None
    accepted_prediction: int | None = None
    rejected_prediction: int | None = None
    tool_use_prompt: int | None = None
    other: dict[str, float] | None = None
    """Seconds, characters, images, search units, a provider's own counters."""
    scope: str = "own"
    """`own`: this call's tokens. `rollup`: a sum over spans below. `server_duplicate`: the server's view of a call
    that a client span counts. `estimated`: not from the provider. Only `own` may be added up."""
    running: str = ""
    """Not empty where the counts are sums over the calls of a tool loop so far: `more` where the model asked for tools,
    so that the next call's counts will contain these, else `last`."""
    inclusive: str = "unknown"
    """How it was decided that the sender's input count includes the cache: `total`, `arithmetic`, `emitter`,
    `sanity`, `none` (no cache counts) or `unknown` (assumed)."""


class Costs(msgspec.Struct, omit_defaults=True, gc=False):
    """US dollars as the sender reported them, or as the `cost` processor computed them."""

    input: float | None = None
    output: float | None = None
    cache_read: float | None = None
    cache_write: float | None = None
    total: float | None = None
    other: dict[str, float] | None = None
    """Amounts that are not dollars (premium requests), by their own names."""
    computed: bool = False
    """From a price table; a reported cost is never overwritten."""


class Timing(msgspec.Struct, omit_defaults=True, gc=False):
    """Durations in nanoseconds."""

    ttft_ns: int | None = None
    """From the request to the first token or chunk."""
    tpot_ns: int | None = None
    queue_ns: int | None = None
    prefill_ns: int | None = None
    decode_ns: int | None = None
    server_ns: int | None = None
    completion_start_ns: int | None = None
    """An instant, Unix time."""
    tokens_per_s: float | None = None


class Agent(msgspec.Struct, omit_defaults=True, gc=False):
    """An agent, as its framework describes it."""

    name: str | None = None
    id: str | None = None
    description: str | None = None
    version: str | None = None


class Graph(msgspec.Struct, omit_defaults=True, gc=False):
    """Where in a workflow, graph or list of tasks the span stands."""

    workflow: str | None = None
    workflow_id: str | None = None
    path: str | None = None
    node_id: str | None = None
    node: str | None = None
    parent_node_id: str | None = None
    step: int | None = None
    task: str | None = None
    task_id: str | None = None


class Prompt(msgspec.Struct, omit_defaults=True, gc=False):
    """The managed prompt or template that was used."""

    name: str | None = None
    version: str | None = None
    id: str | None = None
    template: Json = None
    variables: Json = None
    label: str | None = None


class TraceIO(msgspec.Struct, omit_defaults=True, gc=False):
    """What the span took and gave as a whole, where the sender says it in a form of its own; and what a sender said
    about the trace."""

    input: Json = None
    output: Json = None
    trace_input: Json = None
    trace_output: Json = None
    trace_name: str | None = None
    verbatim: bool = False
    """`input` and `output` are what the user's own SDK wants to be shown, whatever was understood of them."""


class Error(msgspec.Struct, omit_defaults=True, gc=False):
    """How a span failed, beyond its OpenTelemetry status."""

    type: str | None = None
    message: str | None = None
    stack: str | None = None
    failed: bool = False
    """The sender says in its own words that the span failed; its OpenTelemetry status does not."""


class Source(msgspec.Struct, omit_defaults=True, gc=False):
    """Where a field came from."""

    convention: str
    keys: list[str] = []
    location: str = "span"
    """`span`, `event`, `log` or `resource`."""


class Conflict(msgspec.Struct, omit_defaults=True, gc=False):
    """A value that lost against another one for the same field. It stays in the raw attributes."""

    field: str
    convention: str
    keys: list[str] = []
    location: str = "span"
    reason: str = ""


# ------------------------------------------------------------------------------------------------ the span

KINDS = (
    "llm", "embedding", "retrieval", "rerank", "tool", "agent", "workflow", "chain", "task", "step", "memory",
    "guardrail", "evaluation", "prompt", "parser", "image", "audio", "moderation", "mcp", "router", "hook", "other",
)  # fmt: skip
"""What `GenAISpan.kind` can be. `other` is a span that says something about a session, user or error only."""


class GenAISpan(msgspec.Struct, omit_defaults=True, kw_only=True, gc=False):
    """What one span means. Identity, times, status, links, scope and resource are the `RawSpan`'s."""

    kind: str = "other"
    """One of `KINDS`."""
    mlflow_type: str | None = None
    """MLflow's span type, where the sender is MLflow's SDK; any string."""
    op: str | None = None
    """`gen_ai.operation.name` as sent, else what it would be."""
    provider: str | None = None
    """In the spelling of `gen_ai.provider.name`."""
    provider_raw: str | None = None
    """As sent, where `provider` is a translation."""
    framework: str | None = None
    """Agent framework or gateway that stands where a provider is expected."""
    model: Model | None = None
    """The model that was asked for, the one that answered, and where."""
    params: Params | None = None
    """How it was asked: temperature, limits, response format."""
    response: Response | None = None
    """Id, status and finish reasons of the answer."""
    system: list[Part] = []
    """System instructions that were sent apart from the messages. System messages in `input` stay there."""
    input: list[Message] = []
    """Messages that went in, oldest first."""
    output: list[Message] = []
    """Messages that came out, one for each choice."""
    tools: list[ToolDef] = []
    """What the model was allowed to call."""
    tool: Tool | None = None
    """What a tool span executed: name, arguments, result."""
    mcp: Mcp | None = None
    """Method, server and session of a Model Context Protocol call."""
    documents: list[Doc] = []
    """What a retriever or reranker gave."""
    retrieval: Retrieval | None = None
    """Query and data source of a retriever."""
    rerank: Rerank | None = None
    """Query and input of a reranker."""
    embeddings: list[Embedding] = []
    """Texts that were embedded, and vectors where they were sent."""
    memory: Memory | None = None
    """What an agent's memory was asked or told."""
    evaluations: list[Evaluation] = []
    """Judgements that came with the span; they become assessments."""
    usage: Usage | None = None
    """Tokens, all from one convention."""
    cost: Costs | None = None
    """US dollars, reported or computed."""
    timing: Timing | None = None
    """Time to the first token, and other durations inside of the call."""
    session_id: str | None = None
    """The application's session."""
    conversation_id: str | None = None
    """The thread that model calls belong to; stands for the session where there is none."""
    user_id: str | None = None
    """Who the application worked for."""
    tags: list[str] = []
    """Labels of the span."""
    trace_tags: dict[str, str] | None = None
    """Tags that the sender put on the whole trace, by name."""
    metadata: dict[str, Json] | None = None
    """The sender's own facts, by name."""
    agent: Agent | None = None
    """The agent that acts."""
    graph: Graph | None = None
    """Where in a workflow the span stands."""
    prompt: Prompt | None = None
    """The managed prompt or template that was used."""
    io: TraceIO | None = None
    """What the span took and gave as a whole, where the sender says it in a form of its own."""
    error: Error | None = None
    """What went wrong."""
    content_state: dict[str, str] | None = None
    """Of content fields that are not whole: `partial`, `redacted`, `truncated`, `elided` or `external`."""
    refs: dict[str, str] | None = None
    """Of content fields that were uploaded elsewhere: their URIs."""
    base: "DeltaBase | None" = None
    """`input` continues that of another span, and holds only what is new."""
    flags: list[str] = []
    """What was odd, `reason:attribute key`, for counters and `spanweir explain`."""
    conventions: tuple[str, ...] = ()
    """The conventions that gave fields, strongest first."""
    consumed: dict[str, tuple[str, ...]] | None = None
    """Of content fields, the keys of the span attributes that say nothing which the field does not say: they need not
    be stored beside it."""


class DeltaBase(msgspec.Struct, omit_defaults=True, gc=False):
    """`input` continues the input of another span: that one's messages less the last `dropped`, then these."""

    span_id: str
    dropped: int = 0
