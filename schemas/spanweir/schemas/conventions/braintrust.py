"""Braintrust SDKs: `braintrust.input_json` and its siblings. Source: braintrust 0.48 (semconv guide 5.10)."""

from typing import Any

from spanweir.schemas import associations, usage
from spanweir.schemas.content import tools
from spanweir.schemas.convention import WHOLE, Convention, rules, verbatim, word
from spanweir.schemas.genai import Evaluation
from spanweir.schemas.messages import parse
from spanweir.schemas.notes import Notes
from spanweir.schemas.values import number, seconds, strings, text

KINDS = {
    "llm": "llm", "eval": "workflow", "task": "task", "score": "evaluation", "function": "chain", "tool": "tool",
    "automation": "workflow", "facet": "evaluation", "preprocessor": "step",
}  # fmt: skip


def span_attributes(value: Any, notes: Notes) -> dict[str, Any] | None:
    found = parse(value, notes)
    named = word(KINDS)(found.get("type")) if isinstance(found, dict) else None
    return {"kind": named} if named else None


def metrics(value: Any, notes: Notes) -> dict[str, Any] | None:
    """`braintrust.metrics`: token counts, and the time to the first token in seconds."""
    found = parse(value, notes)
    read = usage.from_object(found, exclusive=False)
    fields: dict[str, Any] = {"usage": read} if read is not None else {}
    if isinstance(found, dict) and (first := seconds(found.get("time_to_first_token"))):
        fields["timing.ttft_ns"] = first
    return fields or None


def metadata(value: Any, notes: Notes) -> dict[str, Any] | None:
    """`braintrust.metadata`: among other things the model and the provider."""
    fields = associations.from_object(value, notes)
    if fields is not None:
        for field, name in (("model.request", "model"), ("provider", "provider")):
            if found := text(fields["metadata"].get(name)):
                fields[field] = found
        if offered := tools(fields["metadata"].get("tools"), notes):
            fields["tools"] = offered
    return fields


def scores(value: Any, notes: Notes) -> list[Evaluation] | None:
    """`braintrust.scores`, on the spans of its evaluations: each name with a number from 0 to 1."""
    found = parse(value, notes)
    if not isinstance(found, dict):
        return None
    return [Evaluation(name, score) for name, told in found.items() if (score := number(told)) is not None] or None


_METADATA, _PROPERTIES = associations.bag("braintrust.metadata.")

CONVENTION = Convention(
    name="braintrust",
    marks=("braintrust.",),
    scopes=("braintrust",),
    rank=WHOLE,
    rules=(
        *rules(
            {
                "braintrust.span_attributes.type": ("kind", word(KINDS)),
                "span_attributes.type": ("kind", word(KINDS)),
                "braintrust.tags": ("tags", strings),
                "braintrust.metadata.model": ("model.request", text),
                "braintrust.metadata.provider": ("provider", text),
                "braintrust.metrics.time_to_first_token": ("timing.ttft_ns", seconds),
            }
        ),
        *rules(
            {
                "braintrust.span_attributes": ("*", span_attributes),
                "braintrust.metrics": ("*", metrics),
                "braintrust.metadata": ("*", metadata),
                "braintrust.scores": ("evaluations", scores),
                "braintrust.input_json": ("io.input", verbatim),
                "braintrust.output_json": ("io.output", verbatim),
                "braintrust.input": ("io.input", verbatim),
                "braintrust.output": ("io.output", verbatim),
            },
            content=True,
        ),
        *_METADATA,
    ),
    many=_PROPERTIES,
    usage={
        "braintrust.metrics.prompt_tokens": "input",
        "braintrust.metrics.completion_tokens": "output",
        "braintrust.metrics.tokens": "total",
        "braintrust.metrics.prompt_cached_tokens": "cache_read",
        "braintrust.metrics.prompt_cache_creation_tokens": "cache_write",
        "braintrust.metrics.completion_reasoning_tokens": "reasoning",
    },
)
