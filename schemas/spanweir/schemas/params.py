"""Invocation parameters of a model call, as providers' APIs and SDKs name them.

Not here: whole requests (`content`), attributes of their own (`conventions`).
"""

from collections.abc import Callable
from typing import Any

from spanweir.schemas.messages import parse
from spanweir.schemas.notes import Notes
from spanweir.schemas.values import integer, number


def _flag(value: Any) -> bool | None:
    return value if isinstance(value, bool) else None


def _word(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _words(value: Any) -> list[str] | None:
    if isinstance(value, str):
        return [value]
    return value if isinstance(value, list) and all(isinstance(item, str) for item in value) else None


def _as_it_is(value: Any) -> Any:
    return value


PARAMS: dict[str, tuple[str, Callable[[Any], Any]]] = {
    name: (f"params.{field}", read)
    for field, read, names in (
        ("temperature", number, ("temperature",)),
        ("top_p", number, ("top_p", "topP")),
        ("top_k", number, ("top_k", "topK")),
        ("max_tokens", integer, ("max_tokens", "max_output_tokens", "max_completion_tokens", "maxTokens")),
        ("max_tokens", integer, ("maxOutputTokens", "max_tokens_to_sample")),
        ("seed", integer, ("seed",)),
        ("n", integer, ("n", "candidate_count")),
        ("frequency_penalty", number, ("frequency_penalty",)),
        ("presence_penalty", number, ("presence_penalty",)),
        ("reasoning_level", _word, ("reasoning_effort",)),
        ("stream", _flag, ("stream",)),
        ("stop", _words, ("stop", "stop_sequences")),
        ("response_format", _as_it_is, ("response_format",)),
        ("tool_choice", _as_it_is, ("tool_choice",)),
        ("service_tier", _word, ("service_tier",)),
        ("dimensions", integer, ("dimensions",)),
    )
    for name in names
}
"""Name -> field and reader, which gives None for what the field cannot hold."""


def params(value: Any, notes: Notes) -> dict[str, Any] | None:
    """Invocation parameters as fields `params.*`; those without a field of their own in `params.extra`."""
    value = parse(value, notes)
    if not isinstance(value, dict):
        return None
    found: dict[str, Any] = {}
    extra: dict[str, Any] = {}
    for key, item in value.items():
        if item is None or item == "":
            continue
        known = PARAMS.get(key)
        if known is not None:
            field, reader = known
            read = reader(item)
            if read is not None:
                found.setdefault(field, read)
                continue
        elif key in _NO_PARAMS:
            continue
        elif key in ("config", "generation_config", "generationConfig") and isinstance(item, dict):
            found.update(params(item, notes) or {})
            continue
        extra[key] = item
    if extra:
        found["params.extra"] = extra
    return found or None


_NO_PARAMS = frozenset(
    {"messages", "input", "contents", "tools", "model", "model_name", "system", "instructions", "prompt", "functions"}
    | {"system_instruction", "systemInstruction", "inputs", "tool_config", "response_schema"}
)
