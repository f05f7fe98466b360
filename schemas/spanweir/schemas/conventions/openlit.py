"""OpenLIT: OpenTelemetry's conventions with extras, and in old versions events of flattened text.

Source: openlit 1.45 (semconv guide 5.4). Time to first token is in seconds, as OpenTelemetry has it.
"""

from typing import Any

from spanweir.schemas.convention import NATIVE, Convention, rules
from spanweir.schemas.genai import GenAISpan
from spanweir.schemas.notes import Notes
from spanweir.schemas.raw import RawSpan
from spanweir.schemas.values import boolean, number, seconds, text


def retrieval_op(raw: RawSpan, span: GenAISpan, notes: Notes) -> None:
    """A vector database call retrieves only where it queries; inserting documents is no retrieval."""
    if span.kind == "retrieval" and span.op == "vectordb":
        operation = str(raw.attributes.get("db.operation.name") or raw.attributes.get("db.operation") or "").lower()
        if operation and not any(word in operation for word in ("query", "search", "get", "retrieve", "fetch")):
            span.kind = "other"


def dollars(value: Any) -> float | None:
    """OpenLIT writes 0 for models it has no price for."""
    found = number(value)
    return found if found else None


CONVENTION = Convention(
    name="openlit",
    marks=("gen_ai.request.is_stream", "gen_ai.server.ttft", "gen_ai.endpoint", "openlit."),
    scopes=("openlit",),
    rank=NATIVE,
    rules=rules(
        {
            "gen_ai.request.is_stream": ("params.stream", boolean),
            "gen_ai.request.user": ("user_id", text),
            "gen_ai.server.ttft": ("timing.ttft_ns", seconds),
            "gen_ai.server.tbt": ("timing.tpot_ns", seconds),
            "gen_ai.endpoint": ("model.api_base", text),
            "gen_ai.usage.cost": ("cost.total", dollars),
        }
    ),
    refine=retrieval_op,
)
