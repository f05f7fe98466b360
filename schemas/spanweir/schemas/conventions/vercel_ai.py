"""Vercel AI SDK 3 to 6 (and 7 with `LegacyOpenTelemetry`): `ai.*` attributes. Version 7's own form is OpenTelemetry's.

The tracer is the user's, so spans are recognised by their keys, not by scope. The outer span of a call
(`ai.generateText`) is the loop and repeats the sum of its steps; `.doGenerate` and `.doStream` are the model calls.
Sources: vercel/ai tags ai@3.4 to ai@7.0 (semconv guide 4).
"""

from collections.abc import Mapping, Sequence
from typing import Any

from spanweir.schemas import associations
from spanweir.schemas.content import request, tools
from spanweir.schemas.convention import NATIVE, Convention, Many, Rule, rules, verbatim
from spanweir.schemas.genai import Agent, Doc, Embedding, GenAISpan, Message, Part, Reasoning, Rerank, Text, Usage
from spanweir.schemas.media import media
from spanweir.schemas.messages import messages, parse
from spanweir.schemas.notes import Notes
from spanweir.schemas.parts import tool_call
from spanweir.schemas.raw import Attributes, RawSpan
from spanweir.schemas.values import count, integer, milliseconds, number, quoted, strings, text

KINDS = {
    "ai.generateText": "agent", "ai.streamText": "agent", "ai.generateObject": "chain", "ai.streamObject": "chain",
    "ai.toolCall": "tool", "ai.embed": "embedding", "ai.embedMany": "embedding", "ai.rerank": "rerank",
    "ai.generateSpeech": "audio", "ai.transcribe": "audio", "ai.streamTranscribe": "audio",
    "ai.generateImage": "image", "ai.decide": "llm",
}  # fmt: skip
_INNER = {"generateSpeech": "audio", "transcribe": "audio", "generateImage": "image", "rerank": "rerank"}


def kind(value: Any) -> str | None:
    """`ai.operationId`: `ai.streamText` is the loop, `ai.streamText.doStream` the call."""
    operation = str(value)
    found = KINDS.get(operation)
    if found is not None:
        return found
    _, outer, inner = (*operation.split("."), "", "")[:3]
    if inner.startswith("doEmbed"):
        return "embedding"
    return _INNER.get(outer, "llm") if inner.startswith("do") else None


def json_strings(value: Any, notes: Notes) -> list[Any] | None:
    """A `string[]` whose items are JSON texts."""
    found = parse(value, notes)
    if isinstance(found, str):
        found = [found]
    return [parse(item, notes) for item in found] if isinstance(found, list) else None


_TEXTS = ("ai.response.text", "ai.result.text", "ai.response.object", "ai.result.object")
_CALLS = ("ai.response.toolCalls", "ai.result.toolCalls")
_FINISH = ("ai.response.finishReason", "ai.finishReason")


def output(attributes: Attributes, keys: Sequence[str], notes: Notes) -> list[Message] | None:
    """The answer, from its text or object, reasoning, tool calls and files."""
    found: list[Part] = []
    if thought := text(attributes.get("ai.response.reasoning")):
        found.append(Reasoning(thought))
    for key in _TEXTS:
        if said := text(attributes.get(key)):
            found.append(Text(said))
            break
    for key in _CALLS:
        calls = parse(attributes.get(key), notes)
        if isinstance(calls, list) and calls:
            found += [tool_call(call, notes) for call in calls if isinstance(call, dict)]
            break
    files = parse(attributes.get("ai.response.files"), notes)
    if isinstance(files, list):
        found += [media(file, notes) for file in files if isinstance(file, dict)]
    reason = next((text(attributes[key]) for key in _FINISH if attributes.get(key)), None)
    return [Message("assistant", found, finish_reason=reason)] if found else None


def embeddings(attributes: Attributes, keys: Sequence[str], notes: Notes) -> list[Embedding] | None:
    """Texts (`ai.value`, `ai.values`) with their vectors (`ai.embedding`, `ai.embeddings`)."""
    values = json_strings(attributes.get("ai.values", attributes.get("ai.value")), notes) or []
    given = attributes.get("ai.embeddings")
    vectors = json_strings(given, notes) if given is not None else None
    if vectors is None and attributes.get("ai.embedding") is not None:
        vectors = [parse(attributes["ai.embedding"], notes)]
    vectors = vectors or []
    pairs = max(len(values), len(vectors))
    return [
        Embedding(
            (values[i] if isinstance(values[i], str) else str(values[i])) if i < len(values) else None,
            vectors[i] if i < len(vectors) else None,
        )
        for i in range(pairs)
    ] or None


def ranked(attributes: Attributes, keys: Sequence[str], notes: Notes) -> dict[str, Any] | None:
    """`ai.documents` in, `ai.ranking` (positions and scores) out."""
    given = json_strings(attributes.get("ai.documents"), notes) or []
    docs = [Doc(item if isinstance(item, str) else str(item), index=i) for i, item in enumerate(given)]
    order = json_strings(attributes.get("ai.ranking"), notes) or []
    out: list[Doc] = []
    for item in order:
        if isinstance(item, dict):
            at = integer(item.get("originalIndex", item.get("index")))
            content = docs[at].content if at is not None and 0 <= at < len(docs) else None
            out.append(Doc(content, score=number(item.get("relevanceScore", item.get("score"))), index=at))
    fields: dict[str, Any] = {"rerank": Rerank(input=docs)} if docs else {}
    if out:
        fields["documents"] = out
    return fields or None


def refine(raw: RawSpan, span: GenAISpan, notes: Notes) -> None:
    """Outer spans repeat what their steps say; Anthropic's cache counts stood in its own metadata before version 6."""
    operation = str(raw.attributes.get("ai.operationId", ""))
    if operation in ("ai.embed", "ai.embedMany", "ai.rerank") and span.usage is not None:
        span.usage.scope = "rollup"
    if span.kind == "agent" and (function := text(raw.attributes.get("ai.telemetry.functionId"))):
        span.agent = span.agent or Agent()
        span.agent.name = span.agent.name or function
    if span.usage is not None and "ai.usage.inputTokenDetails.cacheReadTokens" not in raw.attributes:
        _provider_counts(span.usage, _provider_metadata(raw))


_PROVIDER_COUNTS = {
    "cache_read_input_tokens": "cache_read", "cacheReadInputTokens": "cache_read", "cachedPromptTokens": "cache_read",
    "promptCacheHitTokens": "cache_read", "cachedContentTokenCount": "cache_read",
    "cache_creation_input_tokens": "cache_write", "cacheCreationInputTokens": "cache_write",
    "cacheWriteInputTokens": "cache_write", "reasoningTokens": "reasoning", "thoughtsTokenCount": "reasoning",
    "acceptedPredictionTokens": "accepted_prediction", "rejectedPredictionTokens": "rejected_prediction",
}  # fmt: skip
"""In `providerMetadata.<provider>`, its `usage` or its `usageMetadata`: until version 5 or 6 the only place."""


def _provider_metadata(raw: RawSpan) -> dict[str, Any]:
    """What the providers said, by name, their usage objects merged into one; empty for none."""
    given = raw.attributes.get("ai.response.providerMetadata")
    found = parse(given, Notes()) if given is not None else None
    said: dict[str, Any] = {}
    for one in found.values() if isinstance(found, dict) else ():
        if isinstance(one, dict):
            for part in (one, one.get("usage"), one.get("usageMetadata")):
                said |= part if isinstance(part, dict) else {}
    return said


def _provider_counts(usage: Usage, said: Mapping[str, Any]) -> None:
    for name, field in _PROVIDER_COUNTS.items():
        if getattr(usage, field) is None and (amount := count(said.get(name))) is not None:
            setattr(usage, field, amount)


def excludes(raw: RawSpan, span: GenAISpan) -> tuple[bool | None, bool | None]:
    """Version 4 passes on what the provider says, version 5 does so for Anthropic, version 6 sums the cache into the
    input; where the provider's own count is there, it tells."""
    said = _provider_metadata(raw)
    own = count(said.get("input_tokens"))
    if own is not None and span.usage is not None and said.keys() & _ANTHROPIC:
        return own == span.usage.input, False
    if "ai.usage.inputTokens" in raw.attributes:
        return False, False
    return (True, False) if said.keys() & _ANTHROPIC else (None, None)


_ANTHROPIC = frozenset(
    {"cacheReadInputTokens", "cacheCreationInputTokens", "cacheWriteInputTokens"}
    | {"cache_read_input_tokens", "cache_creation_input_tokens"}
)
"""Names of Anthropic and Bedrock, whose input does not include the cache."""


def decision(attributes: Attributes, keys: Sequence[str], notes: Notes) -> dict[str, Any] | None:
    """`ai.decision.*` of version 7: what is to be decided, and what was."""
    asked = {
        name: parse(attributes[key], notes)
        for name in ("state", "questions")
        if (key := f"ai.decision.{name}") in attributes
    }
    fields: dict[str, Any] = {"io.input": asked} if asked else {}
    if "ai.decision.answers" in attributes:
        fields["io.output"] = parse(attributes["ai.decision.answers"], notes)
    return fields or None


_METADATA, _PROPERTIES = associations.bag("ai.telemetry.metadata.")
_CONTEXT, _CONTEXT_PROPERTIES = associations.bag("ai.settings.context.")

CONVENTION = Convention(
    name="vercel_ai",
    marks=(
        "ai.operationId",
        "ai.model.",
        "ai.prompt",
        "ai.response.",
        "ai.result.",
        "ai.usage.",
        "ai.toolCall.",
        "ai.settings.",
        "ai.telemetry.",
        "ai.value",
        "ai.embedding",
        "ai.finishReason",
        "ai.documents",
        "ai.ranking",
        "ai.decision.",
    ),
    rank=NATIVE,
    rules=(
        *rules(
            {
                "ai.operationId": ("kind!", kind),
                "ai.model.provider": ("provider", text),
                "ai.model.id": ("model.request", text),
                "ai.response.model": ("model.response", text),
                "ai.response.id": ("response.id", text),
                "ai.response.finishReason": ("response.finish_reasons", strings),
                "ai.finishReason": ("response.finish_reasons", strings),
                "ai.settings.maxOutputTokens": ("params.max_tokens", count),
                "ai.settings.maxTokens": ("params.max_tokens", count),
                "ai.settings.temperature": ("params.temperature", number),
                "ai.settings.topP": ("params.top_p", number),
                "ai.settings.topK": ("params.top_k", number),
                "ai.settings.seed": ("params.seed", integer),
                "ai.settings.presencePenalty": ("params.presence_penalty", number),
                "ai.settings.frequencyPenalty": ("params.frequency_penalty", number),
                "ai.response.msToFirstChunk": ("timing.ttft_ns", milliseconds),
                "ai.stream.msToFirstChunk": ("timing.ttft_ns", milliseconds),
                "ai.response.avgOutputTokensPerSecond": ("timing.tokens_per_s", number),
                "ai.response.avgCompletionTokensPerSecond": ("timing.tokens_per_s", number),
                "ai.toolCall.name": ("tool.name", text),
                "ai.toolCall.id": ("tool.id", text),
            }
        ),
        *rules(
            {
                "ai.prompt": ("*", request),
                "ai.prompt.messages": ("input", lambda value, notes: messages(parse(value, notes), notes)),
                "ai.prompt.tools": ("tools", lambda value, notes: tools(json_strings(value, notes), notes)),
                "ai.prompt.toolChoice": ("params.tool_choice", parse),
                "ai.toolCall.args": ("tool.arguments", verbatim),
                "ai.toolCall.result": ("tool.result", verbatim),
                "ai.schema": ("params.response_format", parse),
            },
            content=True,
        ),
        *_METADATA,
        *_CONTEXT,
        Rule("opencode.llm.cost.total", "cost.total", number),
        Rule("ai.schema.name", "params.extra", lambda value: {"schema_name": quoted(value)}),
    ),
    many=(
        Many((*_TEXTS, *_CALLS, "ai.response.reasoning", "ai.response.files"), "output", output),
        Many(("ai.value", "ai.values", "ai.embedding", "ai.embeddings"), "embeddings", embeddings),
        Many(("ai.documents", "ai.ranking"), "*", ranked),
        Many(("ai.decision.",), "*", decision),
        *_PROPERTIES,
        *_CONTEXT_PROPERTIES,
    ),
    usage={
        "ai.usage.inputTokens": "input",
        "ai.usage.promptTokens": "input",
        "ai.usage.tokens": "input",
        "ai.usage.outputTokens": "output",
        "ai.usage.completionTokens": "output",
        "ai.usage.totalTokens": "total",
        "ai.usage.inputTokenDetails.cacheReadTokens": "cache_read",
        "ai.usage.cachedInputTokens": "cache_read",
        "ai.usage.inputTokenDetails.cacheWriteTokens": "cache_write",
        "ai.usage.outputTokenDetails.reasoningTokens": "reasoning",
        "ai.usage.reasoningTokens": "reasoning",
        "ai.usage.outputTokenDetails.textTokens": "output_text",
    },
    excludes=excludes,
    refine=refine,
)
