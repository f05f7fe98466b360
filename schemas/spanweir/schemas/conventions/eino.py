"""CloudWeGo Eino's callback handler `apmplus` (Go): every component's input and output as an indexed message, of which
all but a model's texts are JSON of what the component was called with.

`gen_ai.span.kind` says `workflow` for any span without a parent; `runinfo.component` says what it is. `runinfo.type` is
the implementation, of models the provider. Source: eino-ext of July 2026 with eino 0.7.

Not here: `gen_ai.session.id` and `gen_ai.user.id` (`dify`), the indexed keys (`openllmetry`).
"""

from typing import Any

from spanweir.schemas import usage
from spanweir.schemas.content import documents, texts
from spanweir.schemas.convention import NATIVE, WHOLE, Convention, rules, word
from spanweir.schemas.genai import GenAISpan, Message, Other, Params, Retrieval, Text, Tool, TraceIO
from spanweir.schemas.messages import messages, otel, parse
from spanweir.schemas.notes import Notes, arguments
from spanweir.schemas.raw import RawSpan
from spanweir.schemas.values import count, text, whole_strings
from spanweir.schemas.vocabulary import provider

KINDS = {
    "chatmodel": "llm", "tool": "tool", "toolsnode": "chain", "retriever": "retrieval", "embedding": "embedding",
    "chattemplate": "prompt", "agent": "agent", "lambda": "chain", "graph": "workflow", "chain": "workflow",
    "workflow": "workflow", "indexer": "other", "loader": "other", "documenttransformer": "other",
}  # fmt: skip


def without_zeros(params: Params) -> None:
    """Senders that cannot tell a parameter that is not set from 0. No model takes 0 for `top_p` or `max_tokens`."""
    if params.top_p == 0:
        params.top_p = None
        params.temperature = params.temperature or None
    params.max_tokens = params.max_tokens or None


def refine(raw: RawSpan, span: GenAISpan, notes: Notes) -> None:
    """Give the JSON in the messages its place by the span's kind."""
    if span.params is not None:
        without_zeros(span.params)
    span.input = _reread(span, "input", notes)
    span.output = _reread(span, "output", notes)
    if span.kind in ("llm", "embedding"):
        span.provider = span.provider or provider(raw.attributes.get("runinfo.type"))[0]
    if span.kind == "llm":
        return
    given, returned = _value(span.input), _value(span.output)
    if span.kind == "tool":
        span.tool = span.tool or Tool(text(raw.attributes.get("runinfo.name")) or raw.name)
        span.tool.arguments = arguments(given) if isinstance(given, str) else given
        span.tool.result = arguments(returned) if isinstance(returned, str) else returned
    elif span.kind == "retrieval":
        query = given.get("Query") if isinstance(given, dict) else given
        span.retrieval = Retrieval(text(query), count(given.get("TopK")) if isinstance(given, dict) else None)
        found = returned.get("Docs") if isinstance(returned, dict) else returned
        span.documents = documents(_docs(found), notes) or []
    elif span.kind == "embedding":
        inputs = given.get("Texts") if isinstance(given, dict) else given
        span.embeddings = texts(inputs, notes) or [] if isinstance(inputs, list) else []
        if isinstance(returned, dict) and isinstance(counts := returned.get("TokenUsage"), dict):
            span.usage = usage.from_object({"prompt_tokens": counts.get("PromptTokens")})
    else:
        span.io = span.io or TraceIO(given, returned)
        if given is None and returned is None:
            return
    span.input, span.output = [], []


def _reread(span: GenAISpan, field: str, notes: Notes) -> list[Message]:
    """Messages whose text is JSON of messages: the handler has columns for text only, and puts calls there whole."""
    found: list[Message] = []
    for said in getattr(span, field):
        items = _messages(said)
        read = messages(items, Notes(), said.role) if items else None
        if not read:
            found.append(said)
            continue
        notes.taken.pop(field, None)
        meta = items[-1].get("response_meta")
        if isinstance(meta, dict):
            read[-1].finish_reason = read[-1].finish_reason or text(meta.get("finish_reason"))
            counts = usage.from_object(meta.get("usage")) if field == "output" else None
            if span.usage is not None and counts is not None:
                span.usage.cache_read = span.usage.cache_read or counts.cache_read
        found += read
    return found


def _messages(said: Message) -> list[dict[str, Any]]:
    """The messages that the text of a message is JSON of; a list of them was taken for content parts."""
    one = _text(said)
    items = parse(one, Notes()) if one is not None and one.startswith('{"role":') else None
    found = [items] if items is not None else [part.value for part in said.parts if part.__class__ is Other]
    return [item for item in found if isinstance(item, dict) and "role" in item]


def _text(said: Message) -> str | None:
    only = said.parts[0] if len(said.parts) == 1 else None
    return only.content if only.__class__ is Text else None


def _value(told: list[Message]) -> Any:
    """The JSON that stands for a component's input or output; None where there are messages instead."""
    one = _text(told[0]) if len(told) == 1 else None
    return parse(one, Notes()) if one is not None and one[:1] in ("{", "[", '"') else None


def _docs(found: Any) -> Any:
    """Eino's documents: the metadata are `meta_data`, in which the score is `_score`."""
    if not isinstance(found, list):
        return None
    shaped = []
    for item in found:
        if isinstance(item, dict):
            meta = item.get("meta_data")
            meta = dict(meta) if isinstance(meta, dict) else {}
            score = meta.pop("_score", None)
            item = {"id": item.get("id"), "content": item.get("content"), "metadata": meta, "score": score}
        shaped.append(item)
    return shaped


CONVENTION = Convention(
    name="eino",
    marks=("runinfo.component",),
    scopes=("github.com/cloudwego/eino-ext/",),
    rank=NATIVE,
    rules=(
        *rules(
            {
                "runinfo.component": ("kind!", word(KINDS)),
                "gen_ai.request.stop": ("params.stop", whole_strings),
            }
        ),
        *rules({"gen_ai.input": ("input", otel), "gen_ai.output": ("output", otel)}, rank=WHOLE, content=True),
    ),
    refine=refine,
)
