"""LiteLLM's proxy and SDK: standard and indexed keys on one span, a child that repeats the provider's raw request,
costs, and dozens of `metadata.*`. Source: litellm 1.106 (semconv guide 5.11).
"""

from collections.abc import Sequence
from typing import Any

from spanweir.schemas import associations, usage
from spanweir.schemas.content import request, response
from spanweir.schemas.convention import INDEXED, OVERRIDE, WHOLE, Convention, Many, Rule, rules
from spanweir.schemas.genai import GenAISpan, Message, Part, ToolCall
from spanweir.schemas.indexed import nested
from spanweir.schemas.messages import parse
from spanweir.schemas.notes import Notes, arguments
from spanweir.schemas.raw import Attributes, RawSpan
from spanweir.schemas.values import number, strings, text


def calls(attributes: Attributes, keys: Sequence[str], notes: Notes) -> list[Message] | None:
    """`gen_ai.completion.N.function_call.*`: N counts tool calls here, not choices."""
    found: list[Part] = []
    for item in nested(attributes, keys, "gen_ai.completion."):
        call = item.get("function_call") if isinstance(item, dict) else None
        if isinstance(call, dict) and (name := text(call.get("name"))):
            found.append(ToolCall(name, text(call.get("id")), arguments(call.get("arguments"))))
    reason = text(attributes.get("gen_ai.completion.0.finish_reason"))
    return [Message("assistant", found, finish_reason=reason)] if found else None


def refine(raw: RawSpan, span: GenAISpan, notes: Notes) -> None:
    """The raw request repeats its parent; answers whose parts were left out are made whole from the indexed calls; a
    proxy tells its own name for the model as the one that answered."""
    group = raw.attributes.get("litellm.model_group")
    if span.model is not None and group and span.model.response == group and span.model.request:
        span.model.response = span.model.request
    if raw.name == "raw_gen_ai_request" or any(
        key.startswith("llm.") and key.endswith(".messages") for key in raw.attributes
    ):
        if span.usage is not None:
            span.usage.scope = "server_duplicate"
        if span.kind == "other":
            span.kind = "llm"
    indexed = [key for key in raw.attributes if key.startswith("gen_ai.completion.") and ".function_call." in key]
    if indexed and not any(isinstance(part, ToolCall) for message in span.output for part in message.parts):
        found = calls(raw.attributes, indexed, notes)
        if found:
            if span.output:
                span.output[-1].parts += found[0].parts
            else:
                span.output = found


def raw_request(attributes: Attributes, keys: Sequence[str], notes: Notes) -> dict[str, Any] | None:
    """`llm.<provider>.<parameter>`: the request and the answer that went over the wire, values as Python reprs."""
    found = {key.split(".", 2)[2]: parse(attributes[key], notes) for key in keys if key.count(".") >= 2}
    said = {key: value for key, value in found.items() if key not in ("messages", "input", "contents")}
    fields = {**(request(found, notes) or {}), **(response(said, notes) or {})}
    if "usage" not in fields and (counts := usage.from_object(found.get("usage"))) is not None:
        fields["usage"] = counts
    if "response.id" not in fields and (answered := text(found.get("id"))):
        fields["response.id"] = answered
    notes.lossy = True
    return fields or None


def hidden(value: Any, notes: Notes) -> dict[str, Any] | None:
    """`hidden_params`: where the call went and what it cost."""
    found = parse(value, notes)
    if not isinstance(found, dict):
        return None
    fields: dict[str, Any] = {}
    if cost := number(found.get("response_cost")):
        fields["cost.total"] = cost
    if base := text(found.get("api_base")):
        fields["model.api_base"] = base
    return fields or None


def usage_object(value: Any, notes: Notes) -> dict[str, Any] | None:
    """`metadata.usage_object`: the provider's counts as a Python repr."""
    read = usage.from_object(parse(value, notes))
    return {"usage": read} if read is not None else None


def requester(value: Any, notes: Notes) -> dict[str, Any] | None:
    """`metadata.requester_metadata`: what a proxy's client sent as `metadata`, as a Python repr."""
    fields = associations.from_object(value, notes)
    if fields is not None:
        del fields["metadata"]  # `metadata.*` has it
        notes.lossy = True
    return fields


def first_of(value: Any) -> str | None:
    """`openai/gpt-4o-mini` -> `openai`."""
    found = text(value)
    return found.partition("/")[0] if found and "/" in found else None


_PROVIDERS = ("openai", "anthropic", "azure", "bedrock", "vertex_ai", "gemini", "cohere", "mistral", "groq", "None")
_METADATA, _PROPERTIES = associations.bag("metadata.")
_OWN, _OWN_PROPERTIES = associations.bag("litellm.metadata.")

CONVENTION = Convention(
    name="litellm",
    marks=("litellm.", "hidden_params", "metadata.user_api_key", *(f"llm.{name}." for name in _PROVIDERS)),
    scopes=("litellm",),
    rank=WHOLE,
    rules=(
        *rules(
            {
                "litellm.provider.model": ("provider", first_of),
                "gen_ai.cost.input_cost": ("cost.input", number),
                "gen_ai.cost.output_cost": ("cost.output", number),
                "gen_ai.cost.total_cost": ("cost.total", number),
                "litellm.cost.total": ("cost.total", number),
                "metadata.user_api_key_end_user_id": ("user_id", text),
                "metadata.user_api_key_user_id": ("user_id", text),
                "metadata.requester_metadata.session_id": ("session_id", text),
            }
        ),
        *rules({"gen_ai.response.finish_reasons": ("response.finish_reasons", strings)}, rank=OVERRIDE),
        *rules({"hidden_params": ("*", hidden), "metadata.usage_object": ("*", usage_object)}, content=True),
        Rule("metadata.requester_metadata", "*", requester, content=True),
        *_METADATA,
        *_OWN,
    ),
    many=(
        Many(tuple(f"llm.{name}." for name in _PROVIDERS), "*", raw_request),
        Many(("gen_ai.completion.#.function_call.",), "output", calls, INDEXED),
        *_PROPERTIES,
        *_OWN_PROPERTIES,
    ),
    refine=refine,
)
