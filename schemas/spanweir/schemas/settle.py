"""What can only be decided when all fields are there: a span's kind, whether tokens include the cache, and what an
attribute with a whole call's input or output means for a span of that kind.

Not here: single fields (`mapping`), what only a whole trace tells (the collector's assembly).
"""

from spanweir.schemas import usage
from spanweir.schemas.genai import (
    Embedding,
    GenAISpan,
    Message,
    Model,
    Reasoning,
    Text,
    Timing,
    ToolCall,
    TraceIO,
    Usage,
)
from spanweir.schemas.messages import parse
from spanweir.schemas.notes import Notes
from spanweir.schemas.parts import part
from spanweir.schemas.plan import Shape
from spanweir.schemas.raw import RawSpan
from spanweir.schemas.streams import complete, first_chunk_ns
from spanweir.schemas.values import plain, text
from spanweir.schemas.vocabulary import OPERATIONS, STANDARD_OPERATIONS, provider
from spanweir.schemas.whole import read_whole

ROLLUP_KINDS = frozenset({"agent", "workflow", "chain", "step", "task"})
"""Kinds whose token counts are those of the model calls below them."""


def settle(raw: RawSpan, span: GenAISpan, shape: Shape, notes: Notes) -> None:
    """Complete `span` in place."""
    told = _kind(raw, span, shape)
    if told is not None:
        span.kind = told
    if shape.refines:
        _refine(raw, span, shape, notes)
    kind = span.kind
    if kind == "other":
        kind = span.kind = _guess(raw, span)
    if span.usage is not None:
        _tokens(raw, span, shape)
    model = span.model
    if model is not None:
        # Google's resource names without where they are: `projects/p/…/publishers/google/models/gemini-2.5`.
        if model.request is not None and "/" in model.request:
            model.request = _short_name(model.request)
        if model.response is not None and "/" in model.response:
            model.response = _short_name(model.response)
    cost = span.cost
    if cost is not None and not (cost.total or cost.input or cost.output or cost.other):
        span.cost = None  # senders without a price for a model report 0 (OpenLIT)
    if kind == "llm" and raw.events:
        _first_chunk(raw, span)
    if span.io is not None:
        read_whole(span, notes)
    if kind == "llm":
        if raw.events and not (span.io is not None and span.io.verbatim):
            complete(span, raw.events)
        if len(span.output) > 1:
            items = raw.attributes.get("openai.api.type") == "responses"
            span.output = _turns(span.output, items, "google_adk" in span.conventions, notes)
    if span.metadata:
        _metadata(span)
    if kind == "embedding" and span.input and not span.embeddings:
        span.embeddings = [Embedding(p.content) for m in span.input for p in m.parts if hasattr(p, "content")]


def _refine(raw: RawSpan, span: GenAISpan, shape: Shape, notes: Notes) -> None:
    io, taken = span.io, notes.taken
    given, said = (None, None) if io is None else (io.input, io.output)
    for refine in shape.refines:
        try:
            refine(raw, span, notes)
        except Exception as error:
            notes.flags.append(f"failed:{type(error).__name__}:{refine.__module__}")
    if not taken or io is None or (span.io is io and io.input is given and io.output is said):
        return
    # What was unwrapped is no longer all that the attribute says.
    now = span.io or TraceIO()
    if now.input is not given and "io.input" in taken and now.input != plain(given):
        del taken["io.input"]
    if now.output is not said and "io.output" in taken and now.output != plain(said):
        del taken["io.output"]


def _kind(raw: RawSpan, span: GenAISpan, shape: Shape) -> str | None:
    """Semconv guide 7.3.iv: a standard operation name, else what other conventions call it, else any operation name."""
    attributes = raw.attributes
    for key, read in shape.forced_kinds:
        kind = read(attributes[key])
        if kind is not None:
            return str(kind)
    op = span.op
    if span.tool is not None and span.tool.id is not None and span.model is None and op != "invoke_agent":
        return "tool"
    if op is not None and op in STANDARD_OPERATIONS:
        return OPERATIONS[op]
    for key, read in shape.kinds:
        kind = read(attributes[key])
        if kind is not None:
            return str(kind)
    return OPERATIONS.get(op.lower()) if op is not None else None


def _guess(raw: RawSpan, span: GenAISpan) -> str:
    """The kind of a span that does not say what it is, from what it has."""
    if span.mcp is not None:
        return "tool" if span.mcp.method == "tools/call" else "mcp"
    if span.tool is not None and span.model is None:
        return "tool"
    if span.documents or span.retrieval is not None:
        return "rerank" if span.rerank is not None else "retrieval"
    if span.embeddings:
        return "embedding"
    if span.input or span.output or span.usage is not None:
        return "llm"
    if span.model is not None and _named(span.model):
        # A web framework's span that names the model is about the request, not the call.
        return "llm" if raw.kind == _CLIENT or _WEB.isdisjoint(raw.attributes) else "other"
    return "other"


def _short_name(name: str) -> str:
    return name.rpartition("/models/")[2].removeprefix("models/") if name.startswith(_RESOURCES) else name


_RESOURCES = ("projects/", "publishers/", "models/")
_WEB = frozenset({"http.request.method", "http.method", "http.route"})
_CLIENT = 3


_SESSION_NAMES = ("session_id", "sessionId", "conversation_id", "thread_id", "threadId")
_USER_NAMES = ("user_id", "userId")
_TELLING = frozenset({*_SESSION_NAMES, *_USER_NAMES, "ls_provider", "ls_model_name"})


def _metadata(span: GenAISpan) -> None:
    """What applications commonly put into metadata: session and user; and LangChain's provider and model."""
    metadata = span.metadata
    assert metadata is not None
    if _TELLING.isdisjoint(metadata):
        return
    if span.session_id is None and span.conversation_id is None:
        span.session_id = next((found for name in _SESSION_NAMES if (found := text(metadata.get(name)))), None)
    if span.user_id is None:
        span.user_id = next((found for name in _USER_NAMES if (found := text(metadata.get(name)))), None)
    if span.provider is None and "ls_provider" in metadata:
        span.provider, framework = provider(metadata["ls_provider"])
        span.framework = span.framework or framework
    if span.kind == "llm" and span.model is None and (name := text(metadata.get("ls_model_name"))) is not None:
        span.model = Model(name)


def _turns(said: list[Message], items: bool, chunks: bool, notes: Notes) -> list[Message]:
    """One message for each choice: a turn that was told piece by piece is put together.

    Pieces are the items of a Responses API answer (`items`; util-genai), reasoning or calls by themselves, and
    `chunks` of a stream, of which only the last says why it ended (Google ADK).
    """
    turns: list[Message] = []
    for place, message in enumerate(said):
        if place + 1 < len(said):
            _reasoning_item(message, notes)
        last = turns[-1] if turns else None
        if last is None or last.role != message.role or last.index != message.index:
            turns.append(message)
        elif items or _begun(last) or (chunks and message.finish_reason and not last.finish_reason):
            turns[-1] = _joined(last, message)
        else:
            turns.append(message)
    return turns


def _begun(message: Message) -> bool:
    """Whether a message is only the beginning of a turn: reasoning, or calls without a word on why it ended."""
    kinds = {part.__class__ for part in message.parts}
    return kinds == {Reasoning} or (bool(kinds) and kinds <= {Reasoning, ToolCall} and not message.finish_reason)


def _joined(first: Message, more: Message) -> Message:
    parts = list(first.parts)
    rest = more.parts
    if parts and rest and isinstance(parts[-1], Text) and isinstance(rest[0], Text):
        parts[-1] = Text(parts[-1].content + rest[0].content)
        rest = rest[1:]
    return Message(
        first.role, [*parts, *rest], first.name or more.name, more.finish_reason, first.id or more.id, first.index
    )


def _reasoning_item(message: Message, notes: Notes) -> None:
    """MLflow's SDK 3.17 writes a Responses API item that is no message as JSON in a text part."""
    said = message.parts[0] if len(message.parts) == 1 else None
    if isinstance(said, Text) and said.content[:1] == "{" and '"type": "reasoning"' in said.content:
        own = Notes()
        found = part(parse(said.content, own), own)
        if isinstance(found, Reasoning):
            message.parts = [found]
            if own.lossy:
                notes.taken.pop("output", None)


def _first_chunk(raw: RawSpan, span: GenAISpan) -> None:
    timing = span.timing
    if timing is not None and timing.ttft_ns is not None:
        return
    first = first_chunk_ns(raw.events)
    if first is not None and first >= raw.start_ns:
        span.timing = timing = timing or Timing()
        timing.ttft_ns = first - raw.start_ns


def _named(model: Model) -> bool:
    return model.request is not None or model.response is not None


def _thoughts(found: Usage) -> None:
    """Gemini's total counts thoughts that its output does not, and some senders report no thoughts (OpenLLMetry)."""
    if found.input is None or found.output is None or found.reasoning is not None or found.tool_use_prompt:
        return
    assert found.total is not None
    thoughts = found.total - found.input - found.output
    if thoughts > 0 and not found.cache_write:
        found.reasoning = thoughts
        found.output += thoughts


def _tokens(raw: RawSpan, span: GenAISpan, shape: Shape) -> None:
    found = span.usage
    assert found is not None
    if found.total is not None and span.provider is not None and span.provider.startswith("gcp."):
        _thoughts(found)
    if found.cache_read or found.cache_write or found.reasoning or found.cache_write_5m:
        excludes: tuple[bool | None, bool | None] = (None, None)
        for decide in shape.excludes:
            excludes = decide(raw, span)
            if excludes != (None, None):
                break
        if found.inclusive == "unknown":
            usage.settle(found, *excludes)
    else:
        found.inclusive = "none"
    if found.scope == "own" and span.kind in ROLLUP_KINDS:
        found.scope = "rollup"
