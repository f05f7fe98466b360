"""Token counts: by which names senders report them, and how they are made to mean one thing.

`Usage.input` includes what was read from and written to a cache, `Usage.output` includes reasoning. Senders disagree;
`settle` decides which they meant and adds what is missing (semconv guide 7.2). Counts of two conventions are never
mixed: one may include the cache where the other does not.

Not here: sums over a trace (the collector's assembly), prices (the collector's `cost` processor).
"""

from collections.abc import Mapping
from typing import Any

from spanweir.schemas.genai import Usage
from spanweir.schemas.values import count

GEN_AI = {
    "gen_ai.usage.input_tokens": "input",
    "gen_ai.usage.prompt_tokens": "input",
    "gen_ai.usage.output_tokens": "output",
    "gen_ai.usage.completion_tokens": "output",
    "gen_ai.usage.total_tokens": "total",
    "llm.usage.total_tokens": "total",
    "gen_ai.usage.cache_read.input_tokens": "cache_read",
    "gen_ai.usage.cache_read_input_tokens": "cache_read",
    "gen_ai.usage.cached_input_tokens": "cache_read",
    "gen_ai.usage.cached_tokens": "cache_read",
    "gen_ai.usage.input_tokens.cached": "cache_read",
    "gen_ai.usage.input_tokens.cache_read": "cache_read",
    "gen_ai.usage.details.cache_read_tokens": "cache_read",
    "gen_ai.usage.details.cached_tokens": "cache_read",
    "gen_ai.usage.details.cache_read_input_tokens": "cache_read",
    "gen_ai.usage.details.input_tokens.cached": "cache_read",
    "gen_ai.usage.experimental.cached_tokens": "cache_read",
    "gen_ai.usage.cache_write.input_tokens": "cache_write",
    "gen_ai.usage.cache_creation.input_tokens": "cache_write",
    "gen_ai.usage.cache_creation_input_tokens": "cache_write",
    "gen_ai.usage.cache_write_input_tokens": "cache_write",
    "gen_ai.usage.input_tokens.cache_write": "cache_write",
    "gen_ai.usage.input_tokens.cache_creation": "cache_write",
    "gen_ai.usage.details.cache_write_tokens": "cache_write",
    "gen_ai.usage.details.cache_creation_input_tokens": "cache_write",
    "gen_ai.usage.cache_creation.input_tokens.ephemeral_5m": "cache_write_5m",
    "gen_ai.usage.cache_creation_5m.input_tokens": "cache_write_5m",
    "gen_ai.usage.cache_creation.5m_input_tokens": "cache_write_5m",
    "gen_ai.usage.cache_creation.input_tokens.ephemeral_1h": "cache_write_1h",
    "gen_ai.usage.cache_creation_1h.input_tokens": "cache_write_1h",
    "gen_ai.usage.cache_creation.1h_input_tokens": "cache_write_1h",
    "gen_ai.usage.reasoning.output_tokens": "reasoning",
    "gen_ai.usage.reasoning_tokens": "reasoning",
    "gen_ai.usage.reasoning_output_tokens": "reasoning",
    "gen_ai.usage.output_tokens.reasoning": "reasoning",
    "gen_ai.usage.details.reasoning_tokens": "reasoning",
    "gen_ai.usage.details.thoughts_tokens": "reasoning",
    "gen_ai.usage.experimental.reasoning_tokens": "reasoning",
    "gen_ai.usage.text.input_tokens": "input_text",
    "gen_ai.usage.image.input_tokens": "input_image",
    "gen_ai.usage.audio.input_tokens": "input_audio",
    "gen_ai.usage.audio_input_tokens": "input_audio",
    "gen_ai.usage.input_tokens.audio": "input_audio",
    "gen_ai.usage.input_tokens.video": "input_video",
    "gen_ai.usage.text.output_tokens": "output_text",
    "gen_ai.usage.image.output_tokens": "output_image",
    "gen_ai.usage.output_tokens.image": "output_image",
    "gen_ai.usage.audio.output_tokens": "output_audio",
    "gen_ai.usage.audio_output_tokens": "output_audio",
    # Microsoft.Extensions.AI, agentgateway.
    "gen_ai.usage.input_text_tokens": "input_text",
    "gen_ai.usage.input_audio_tokens": "input_audio",
    "gen_ai.usage.output_text_tokens": "output_text",
    "gen_ai.usage.output_image_tokens": "output_image",
    "gen_ai.usage.output_audio_tokens": "output_audio",
    # Bifrost.
    "gen_ai.usage.prompt_token_details.cached_read_tokens": "cache_read",
    "gen_ai.usage.prompt_token_details.cached_write_tokens": "cache_write",
    "gen_ai.usage.prompt_token_details.text_tokens": "input_text",
    "gen_ai.usage.prompt_token_details.image_tokens": "input_image",
    "gen_ai.usage.prompt_token_details.audio_tokens": "input_audio",
    "gen_ai.usage.completion_token_details.reasoning_tokens": "reasoning",
    "gen_ai.usage.completion_token_details.text_tokens": "output_text",
    "gen_ai.usage.completion_token_details.image_tokens": "output_image",
    "gen_ai.usage.completion_token_details.audio_tokens": "output_audio",
    "gen_ai.usage.completion_token_details.accepted_prediction_tokens": "accepted_prediction",
    "gen_ai.usage.completion_token_details.rejected_prediction_tokens": "rejected_prediction",
}
"""The standard's names of every age, and the names that senders invented below `gen_ai.usage.`."""

OPENINFERENCE = {
    "llm.token_count.prompt": "input",
    "llm.token_count.completion": "output",
    "llm.token_count.total": "total",
    "llm.token_count.prompt_details.cache_read": "cache_read",
    "llm.token_count.prompt_details.cache_input": "cache_read",
    "llm.token_count.prompt_details.cache_write": "cache_write",
    "llm.token_count.prompt_details.cache_creation": "cache_write",  # Envoy AI Gateway
    "llm.token_count.prompt_details.audio": "input_audio",
    "llm.token_count.completion_details.reasoning": "reasoning",
    "llm.token_count.completion_details.audio": "output_audio",
}

LLM_USAGE = {
    "llm.usage.prompt_tokens": "input",
    "llm.usage.completion_tokens": "output",
    "llm.usage.total_tokens": "total",
    "llm.usage.cache_read_input_tokens": "cache_read",
    "llm.usage.cache_creation_input_tokens": "cache_write",
    "llm.usage.reasoning_tokens": "reasoning",
}

# Names inside a usage object of a provider's response or an SDK's, by field; nested names are joined with a dot.
_OBJECT = {
    "input_tokens": "input", "prompt_tokens": "input", "inputTokens": "input", "promptTokens": "input",
    "prompt_token_count": "input", "promptTokenCount": "input", "input": "input", "input_token_count": "input",
    "output_tokens": "output", "completion_tokens": "output", "outputTokens": "output", "completionTokens": "output",
    "candidates_token_count": "output", "candidatesTokenCount": "output", "output": "output",
    "output_token_count": "output",
    "total_tokens": "total", "totalTokens": "total", "total_token_count": "total", "totalTokenCount": "total",
    "total": "total", "tokens": "total",
    "cache_read_input_tokens": "cache_read", "cacheReadInputTokens": "cache_read", "cached_tokens": "cache_read",
    "cachedInputTokens": "cache_read", "cached_content_token_count": "cache_read",
    "cachedContentTokenCount": "cache_read", "cachedContentTokens": "cache_read", "cache_read_tokens": "cache_read",
    "prompt_token_details.cached_tokens": "cache_read", "prompt_tokens_details.cached_tokens": "cache_read",
    "input_tokens_details.cached_tokens": "cache_read",
    "input_token_details.cache_read": "cache_read", "prompt_cached_tokens": "cache_read",
    "inputTokenDetails.cacheReadTokens": "cache_read", "input_cached_tokens": "cache_read",
    "input_cache_read": "cache_read", "cached_input_tokens": "cache_read",
    "cache_creation_input_tokens": "cache_write", "cacheWriteInputTokens": "cache_write",
    "cacheCreationInputTokens": "cache_write", "cache_write_tokens": "cache_write",
    "cache_write_input_tokens": "cache_write", "input_token_details.cache_creation": "cache_write",
    "inputTokenDetails.cacheWriteTokens": "cache_write", "input_cache_creation": "cache_write",
    "prompt_cache_creation_tokens": "cache_write", "cache_creation_tokens": "cache_write",
    "cache_creation_input_tokens_above_1hr": "cache_write_1h",
    "cache_creation.ephemeral_5m_input_tokens": "cache_write_5m",
    "cache_creation.ephemeral_1h_input_tokens": "cache_write_1h",
    "completion_tokens_details.reasoning_tokens": "reasoning", "output_tokens_details.reasoning_tokens": "reasoning",
    "output_token_details.reasoning": "reasoning", "reasoning_tokens": "reasoning", "reasoningTokens": "reasoning",
    "thoughts_token_count": "reasoning", "thoughtsTokenCount": "reasoning", "thoughtsTokens": "reasoning",
    "outputTokenDetails.reasoningTokens": "reasoning", "output_reasoning_tokens": "reasoning",
    "completion_reasoning_tokens": "reasoning", "reasoning_output_tokens": "reasoning", "output_reasoning": "reasoning",
    "prompt_tokens_details.audio_tokens": "input_audio", "input_token_details.audio": "input_audio",
    "completion_tokens_details.audio_tokens": "output_audio", "output_token_details.audio": "output_audio",
    "completion_tokens_details.accepted_prediction_tokens": "accepted_prediction",
    "completion_tokens_details.rejected_prediction_tokens": "rejected_prediction",
    "tool_use_prompt_token_count": "tool_use_prompt", "toolUsePromptTokenCount": "tool_use_prompt",
}  # fmt: skip

# Objects whose input does not include the cache: Anthropic's and Bedrock's own.
_EXCLUSIVE_INPUT = frozenset(
    {"cache_read_input_tokens", "cache_creation_input_tokens", "cacheReadInputTokens", "cacheWriteInputTokens"}
)
# Objects whose output does not include reasoning: Gemini's own, and Genkit's of it.
_EXCLUSIVE_OUTPUT = frozenset({"thoughts_token_count", "thoughtsTokenCount", "thoughtsTokens"})


def from_object(value: Any, *, exclusive: bool | None = None) -> Usage | None:
    """A usage object of a provider's API or an SDK, settled; None where it holds no counts.

    `exclusive`: whether input excludes the cache, where the caller knows; else it is decided from the names.
    """
    if not isinstance(value, dict):
        return None
    counts: dict[str, Any] = {}
    exclusive_input: bool | None = None
    exclusive_output: bool | None = None
    for name, item in value.items():
        if isinstance(item, dict):
            if (nested := _NESTED.get(name)) is not None:
                _nested_counts(item, nested, counts)
            continue
        field = _OBJECT.get(name)
        if field is None:
            continue
        amount = item if item.__class__ is int and item >= 0 else count(item)
        if amount is None or (field in counts and (amount == 0 or "." in name)):
            continue
        counts[field] = amount
        if name in _EXCLUSIVE_INPUT:
            exclusive_input = True
        elif name in _EXCLUSIVE_OUTPUT:
            exclusive_output = True
    if not counts:
        return None
    usage = Usage(**counts)
    if exclusive is None and usage.total is None:
        exclusive = exclusive_input
    return settle(usage, exclusive, exclusive_output)


_NESTED: dict[str, dict[str, str]] = {}
"""`_OBJECT`'s nested names: of each object, the fields of its members."""
for _name, _field in _OBJECT.items():
    if "." in _name:
        _NESTED.setdefault(_name.partition(".")[0], {})[_name.partition(".")[2]] = _field


def _nested_counts(value: Mapping[str, Any], fields: Mapping[str, str], counts: dict[str, Any]) -> None:
    """Add what is not counted yet."""
    for name, item in value.items():
        field = fields.get(name)
        if field is not None and field not in counts and (amount := count(item)) is not None:
            counts[field] = amount


def settle(usage: Usage, exclusive_input: bool | None = None, exclusive_output: bool | None = None) -> Usage:
    """Make `input` include the cache and `output` the reasoning. The first of these decides:

    a reported total that fits exactly one way of adding up; what the emitter is known to do (the arguments); a cache
    larger than the input; else counts are taken to be inclusive, as the standard says. Changes and returns `usage`.
    """
    cache = (usage.cache_read or 0) + (usage.cache_write or 0)
    if not cache and usage.cache_write_5m is not None and usage.cache_write is None:
        usage.cache_write = (usage.cache_write_5m or 0) + (usage.cache_write_1h or 0)
        cache = usage.cache_write
    reasoning = usage.reasoning or 0
    if not cache and not reasoning:
        usage.inclusive = "none"
        return usage
    if usage.input is None and usage.output is None:
        return usage
    add_cache, add_reasoning, how = _decide(usage, cache, reasoning, exclusive_input, exclusive_output)
    if add_cache and usage.input is not None:
        usage.input += cache
    if add_reasoning and usage.output is not None:
        usage.output += reasoning
    usage.inclusive = how
    return usage


def _decide(
    usage: Usage, cache: int, reasoning: int, exclusive_input: bool | None, exclusive_output: bool | None
) -> tuple[bool, bool, str]:
    tokens_in, tokens_out = usage.input or 0, usage.output or 0
    if usage.total and usage.input is not None and usage.output is not None:
        ways = {
            (bool(with_cache), bool(with_reasoning))
            for with_cache in (0, cache)
            for with_reasoning in (0, reasoning)
            if tokens_in + with_cache + tokens_out + with_reasoning == usage.total
        }
        if len(ways) == 1:
            add_cache, add_reasoning = ways.pop()
            # A total that is the bare sum of exclusive counts proves nothing about an emitter known to exclude, nor
            # where the cache is larger than the input (OpenLLMetry's Anthropic).
            excluding = exclusive_input or exclusive_output or (exclusive_input is None and cache > tokens_in)
            if add_cache or add_reasoning or not excluding:
                return add_cache, add_reasoning, "total"
    add_cache = bool(cache) and (exclusive_input if exclusive_input is not None else cache > tokens_in)
    add_reasoning = bool(reasoning) and (
        exclusive_output if exclusive_output is not None else tokens_out < reasoning and usage.output is not None
    )
    if exclusive_input is not None or exclusive_output is not None:
        return add_cache, add_reasoning, "emitter"
    return add_cache, add_reasoning, "sanity" if add_cache or add_reasoning else "unknown"


def total_of(usage: Usage) -> int:
    """Input and output together, whatever total was reported."""
    if usage.input is None and usage.output is None:
        return usage.total or 0
    return (usage.input or 0) + (usage.output or 0)
