"""Anthropic's own SDKs: OpenTelemetry's newest keys with `anthropic.*` beside them.

Source: anthropic 2.12, scope `com.anthropic.sdk.python`; beta since 2026 (semconv guide 5.12).
"""

from typing import Any

from spanweir.schemas.convention import NATIVE, Convention, rules
from spanweir.schemas.values import count, strings, text


def thinking(value: Any) -> dict[str, Any] | None:
    """How much the model may think."""
    found = count(value)
    return {"thinking_budget_tokens": found} if found is not None else None


CONVENTION = Convention(
    name="anthropic_sdk",
    marks=("anthropic.message.", "anthropic.usage.", "anthropic.response.", "anthropic.request."),
    scopes=("com.anthropic.sdk",),
    rank=NATIVE,
    rules=rules(
        {
            "anthropic.message.stop_reason": ("response.finish_reasons", strings),
            "anthropic.response.service_tier": ("response.service_tier", text),
            "anthropic.request.service_tier": ("params.service_tier", text),
            "anthropic.session.id": ("session_id", text),
            "anthropic.session.thread.id": ("conversation_id", text),
            "anthropic.thinking.budget_tokens": ("params.extra", thinking),
            "anthropic.usage.cache_creation.ephemeral_5m_input_tokens": ("usage.cache_write_5m", count),
            "anthropic.usage.cache_creation.ephemeral_1h_input_tokens": ("usage.cache_write_1h", count),
        }
    ),
    excludes=lambda raw, span: (False, False),
)
