"""What a model client's response says about itself: id, model, finish reasons, tokens. Cheap: no content is read."""

from typing import Any

from spanweir.instrumentation import names


def get(value: Any, key: str) -> Any:
    """A field of a dict or of an object's own dictionary; properties and `__getattr__` are not called."""
    if isinstance(value, dict):
        return value.get(key)
    fields = getattr(value, "__dict__", None)
    return fields.get(key) if isinstance(fields, dict) else None


def attributes_of(response: Any) -> dict[str, Any]:
    """Span attributes of a response of OpenAI (chat, responses, embeddings), Anthropic or Gemini; empty otherwise."""
    usage = get(response, "usage")
    model = get(response, "model")
    if get(response, "usage_metadata") is not None and get(response, "candidates") is not None:
        return _gemini(response)
    if usage is None and not isinstance(model, str):
        return {}
    found: dict[str, Any] = {names.RESPONSE_MODEL: model, names.RESPONSE_ID: get(response, "id")}
    choices = get(response, "choices")
    if isinstance(choices, list):
        found[names.FINISH_REASONS] = [r for r in (get(choice, "finish_reason") for choice in choices) if r]
    elif get(response, "stop_reason"):
        found[names.FINISH_REASONS] = [get(response, "stop_reason")]
    found.update(usage_of(usage))
    return {key: value for key, value in found.items() if isinstance(value, (str, int)) or value}


def _gemini(response: Any) -> dict[str, Any]:
    """Gemini counts thoughts beside the output; the total includes them."""
    usage = get(response, "usage_metadata")
    thoughts, produced = get(usage, "thoughts_token_count"), get(usage, "candidates_token_count")
    reasons = [get(candidate, "finish_reason") for candidate in get(response, "candidates") or ()]
    found = {
        names.RESPONSE_MODEL: get(response, "model_version"),
        names.RESPONSE_ID: get(response, "response_id"),
        names.FINISH_REASONS: [str(getattr(reason, "value", reason)) for reason in reasons if reason],
        names.INPUT_TOKENS: get(usage, "prompt_token_count"),
        names.OUTPUT_TOKENS: produced + (thoughts or 0) if isinstance(produced, int) else None,
        names.CACHE_READ_TOKENS: get(usage, "cached_content_token_count"),
        names.REASONING_TOKENS: thoughts,
    }
    return {key: value for key, value in found.items() if value}


def usage_of(usage: Any) -> dict[str, int]:
    """`gen_ai.usage.*` from a usage object. Anthropic counts cached input beside the input; the total includes it."""
    if usage is None:
        return {}
    read = get(usage, "cache_read_input_tokens")
    written = get(usage, "cache_creation_input_tokens")
    given = get(usage, "input_tokens")
    if given is None:
        given = get(usage, "prompt_tokens")
    elif isinstance(given, int) and (isinstance(read, int) or isinstance(written, int)):
        given += (read or 0) + (written or 0)
    produced = get(usage, "output_tokens")
    details_in = get(usage, "input_tokens_details") or get(usage, "prompt_tokens_details")
    details_out = get(usage, "output_tokens_details") or get(usage, "completion_tokens_details")
    found = {
        names.INPUT_TOKENS: given,
        names.OUTPUT_TOKENS: produced if produced is not None else get(usage, "completion_tokens"),
        names.CACHE_READ_TOKENS: read or get(details_in, "cached_tokens"),
        names.CACHE_WRITE_TOKENS: written,
        names.REASONING_TOKENS: get(details_out, "reasoning_tokens"),
    }
    totals = (names.INPUT_TOKENS, names.OUTPUT_TOKENS)
    return {key: n for key, n in found.items() if isinstance(n, int) and (n or key in totals)}
