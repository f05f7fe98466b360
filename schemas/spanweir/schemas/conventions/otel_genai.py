"""OpenTelemetry's GenAI semantic conventions, from core 1.26 (2024) to semantic-conventions-genai of August 2026.

Old names stand beside new ones: senders stamp any schema URL on any names, so all are read always. Content is read from
span attributes, span events and log records: `…operation.details` (1.37 on), one event for each message
(1.28 to 1.36), and `gen_ai.content.*` (1.26, 1.27).

Not here: `gen_ai.prompt.0.role` and the like, which were never in the standard (OpenLLMetry).
"""

from collections.abc import Sequence
from typing import Any

from spanweir.schemas import usage
from spanweir.schemas.content import documents, tools
from spanweir.schemas.convention import SEMCONV, WHOLE, Convention, Fields, Many, Occurrence, Rule, rules, verbatim
from spanweir.schemas.genai import Error, Evaluation, Message, Other, Part, Text, ToolResult
from spanweir.schemas.messages import chat, message, messages, otel, otel_parts, parse
from spanweir.schemas.notes import Notes, Shape, id_of
from spanweir.schemas.parts import parts, tool_output
from spanweir.schemas.raw import Attributes, Value
from spanweir.schemas.values import (
    boolean,
    content_state,
    count,
    integer,
    milliseconds,
    model_name,
    number,
    seconds,
    strings,
    text,
    whole_strings,
)


def records(value: Any, notes: Notes) -> Any:
    return parse(value, notes)


def _stops(value: Value) -> list[str] | None:
    return None if value == "Not set" else whole_strings(value)  # Ax, of parameters that were not given


SCALARS = {
    "gen_ai.operation.name": ("op", text),
    "gen_ai.provider.name": ("provider", text),
    "gen_ai.system": ("provider", text),
    "gen_ai.request.model": ("model.request", model_name),
    "gen_ai.response.model": ("model.response", model_name),
    "server.address": ("model.server_address", text),
    "server.port": ("model.server_port", integer),
    "gen_ai.request.temperature": ("params.temperature", number),
    "gen_ai.request.top_p": ("params.top_p", number),
    "gen_ai.request.top_k": ("params.top_k", number),
    "gen_ai.request.max_tokens": ("params.max_tokens", count),
    "gen_ai.request.seed": ("params.seed", integer),
    "gen_ai.openai.request.seed": ("params.seed", integer),
    "gen_ai.request.choice.count": ("params.n", count),
    "gen_ai.request.stop_sequences": ("params.stop", _stops),
    "gen_ai.request.frequency_penalty": ("params.frequency_penalty", number),
    "gen_ai.request.presence_penalty": ("params.presence_penalty", number),
    "gen_ai.request.stream": ("params.stream", boolean),
    "gen_ai.request.reasoning.level": ("params.reasoning_level", text),
    "gen_ai.request.reasoning.effort": ("params.reasoning_level", text),
    "gen_ai.request.reasoning_effort": ("params.reasoning_level", text),
    "gen_ai.request.encoding_formats": ("params.encoding_formats", strings),
    "gen_ai.output.type": ("params.output_type", text),
    "gen_ai.openai.request.response_format": ("params.output_type", text),
    "openai.request.service_tier": ("params.service_tier", text),
    "gen_ai.openai.request.service_tier": ("params.service_tier", text),
    "gen_ai.response.id": ("response.id", text),
    "gen_ai.response.status": ("response.status", text),
    "gen_ai.response.finish_reasons": ("response.finish_reasons", strings),
    "gen_ai.response.finish_reason": ("response.finish_reasons", strings),
    "gen_ai.request.previous_response.id": ("response.previous_response_id", text),
    "openai.response.service_tier": ("response.service_tier", text),
    "gen_ai.openai.response.service_tier": ("response.service_tier", text),
    "gen_ai.response.service_tier": ("response.service_tier", text),
    "gen_ai.response.system_fingerprint": ("response.system_fingerprint", text),
    "openai.response.system_fingerprint": ("response.system_fingerprint", text),
    "gen_ai.openai.response.system_fingerprint": ("response.system_fingerprint", text),
    "gen_ai.response.time_to_first_chunk": ("timing.ttft_ns", seconds),
    "gen_ai.client.operation.time_to_first_chunk": ("timing.ttft_ns", seconds),
    "gen_ai.client.inference.time_to_first_chunk": ("timing.ttft_ns", seconds),
    "gen_ai.server.time_to_first_token": ("timing.ttft_ns", seconds),
    "gen_ai.response.time_to_first_token_ms": ("timing.ttft_ns", milliseconds),
    "gen_ai.client.operation.time_per_output_chunk": ("timing.tpot_ns", seconds),
    "gen_ai.client.inference.time_per_output_chunk": ("timing.tpot_ns", seconds),
    "gen_ai.server.time_per_output_token": ("timing.tpot_ns", seconds),
    "gen_ai.server.request.duration": ("timing.server_ns", seconds),
    "gen_ai.conversation.id": ("conversation_id", text),
    "gen_ai.agent.name": ("agent.name", text),
    "gen_ai.agent.id": ("agent.id", text),
    "gen_ai.agent.description": ("agent.description", text),
    "gen_ai.agent.version": ("agent.version", text),
    "gen_ai.workflow.name": ("graph.workflow", text),
    "gen_ai.tool.name": ("tool.name", text),
    "gen_ai.tool.type": ("tool.type", text),
    "gen_ai.tool.description": ("tool.description", text),
    "gen_ai.tool.call.id": ("tool.id", text),
    "gen_ai.tool.call_id": ("tool.id", text),
    "gen_ai.data_source.id": ("retrieval.data_source_id", text),
    "gen_ai.retrieval.query.text": ("retrieval.query", text),
    "gen_ai.retrieval.top_k": ("retrieval.top_k", count),
    "gen_ai.memory.store.id": ("memory.store_id", text),
    "gen_ai.memory.record.id": ("memory.record_id", text),
    "gen_ai.memory.query.text": ("memory.query", text),
    "gen_ai.memory.record.count": ("memory.count", count),
    "gen_ai.embeddings.dimension.count": ("params.dimensions", count),
    "gen_ai.request.dimensions": ("params.dimensions", count),
    "gen_ai.prompt.name": ("prompt.name", text),
    "gen_ai.prompt.version": ("prompt.version", text),
    "mcp.method.name": ("mcp.method", text),
    "mcp.tool.name": ("tool.name", text),  # before the standard had a place for it: Envoy AI Gateway
    "mcp.session.id": ("mcp.session_id", text),
    "mcp.protocol.version": ("mcp.protocol_version", text),
    "mcp.resource.uri": ("mcp.resource_uri", text),
    "jsonrpc.request.id": ("mcp.request_id", text),
}

CONTENT = {
    "gen_ai.system_instructions": ("system", otel_parts),
    "gen_ai.input.messages": ("input", otel),
    "gen_ai.output.messages": ("output", otel),
    "gen_ai.tool.definitions": ("tools", tools),
    "gen_ai.tool.call.arguments": ("tool.arguments", verbatim),
    "gen_ai.tool.call.result": ("tool.result", verbatim),
    "gen_ai.retrieval.documents": ("documents", documents),
    "gen_ai.memory.records": ("memory.records", records),
}

COST = {
    "gen_ai.usage.cost": ("cost.total", number),
    "gen_ai.usage.total_cost": ("cost.total", number),
    "gen_ai.usage.cost_usd": ("cost.total", number),
    "gen_ai.usage.cost.total": ("cost.total", number),
    "gen_ai.usage.input_cost": ("cost.input", number),
    "gen_ai.usage.output_cost": ("cost.output", number),
}
"""Dollars. Not in the standard; OpenLIT, LiteLLM, OpenRouter, Bifrost, Cloudflare and Laminar agree on these."""

LOOSE = {
    **{f"gen_ai.tool.{name}": ("tool.arguments", verbatim) for name in ("arguments", "args", "input")},
    **{f"gen_ai.tool.{name}": ("tool.result", verbatim) for name in ("result", "output")},
    "gen_ai.agent.input": ("io.input", verbatim),
    "gen_ai.agent.output": ("io.output", verbatim),
}
"""Never in the standard, but written by many who wrote down a tool's run before the standard had names for it."""

_REFS = ("input.messages", "output.messages", "system_instructions", "tool.definitions")
_REF_FIELDS = {
    f"gen_ai.{name}_ref": field for name, field in zip(_REFS, ("input", "output", "system", "tools"), strict=True)
}


def _refs(attributes: Attributes, keys: Sequence[str], notes: Notes) -> dict[str, str]:
    """Content that an upload hook put elsewhere (util-genai `…_COMPLETION_HOOK=upload`)."""
    return {_REF_FIELDS[key]: uri for key in keys if (uri := text(attributes[key]))}


_VARIABLE = "gen_ai.prompt.variable."


def _variables(attributes: Attributes, keys: Sequence[str], notes: Notes) -> dict[str, Any]:
    return {key.removeprefix(_VARIABLE): attributes[key] for key in keys}


# ------------------------------------------------------------------------------------------------ evaluations, events


def evaluation(attributes: Attributes, time_ns: int = 0) -> Evaluation | None:
    """A `gen_ai.evaluation.*` set of attributes."""
    name = text(attributes.get("gen_ai.evaluation.name"))
    if name is None:
        return None
    return Evaluation(
        name,
        number(attributes.get("gen_ai.evaluation.score.value")),
        text(attributes.get("gen_ai.evaluation.score.label")) or text(attributes.get("gen_ai.evaluation.label")),
        text(attributes.get("gen_ai.evaluation.explanation")),
        text(attributes.get("gen_ai.response.id")),
        error=text(attributes.get("error.type")),
        time_ns=time_ns,
    )


_OTHER_COUNTS = tuple(
    f"gen_ai.usage.{name}"
    for name in ("seconds", "characters", "images", "search_units", "billed_units", "duration_seconds", "requests")
)
"""Not in the standard; speech, transcription, image and rerank calls of the AI SDK 7 and of gateways."""


def _counts(attributes: Attributes, keys: Sequence[str], notes: Notes) -> dict[str, float]:
    return {
        key.removeprefix("gen_ai.usage."): amount for key in keys if (amount := number(attributes[key])) is not None
    }


def _evaluation(attributes: Attributes, keys: Sequence[str], notes: Notes) -> list[Evaluation] | None:
    found = evaluation(attributes)
    return [found] if found is not None else None


MESSAGE_EVENTS = {
    "gen_ai.system.message": "system",
    "gen_ai.developer.message": "developer",
    "gen_ai.user.message": "user",
    "gen_ai.assistant.message": "assistant",
    "gen_ai.tool.message": "tool",
}
CHOICE = "gen_ai.choice"
_PROMPT, _COMPLETION = "gen_ai.content.prompt", "gen_ai.content.completion"
_EVALUATION, _EXCEPTION = "gen_ai.evaluation.result", "gen_ai.client.operation.exception"


def payload(one: Occurrence, notes: Notes) -> dict[str, Any]:
    """What a message event says: its body (structured, or JSON text), `gen_ai.event.content`, else its attributes."""
    body = one.body
    if body is None or body == "":
        body = one.attributes.get("gen_ai.event.content")
    if isinstance(body, str):
        body = parse(body, notes) if body.lstrip()[:1] == "{" else body
        if isinstance(body, str) and body:
            return {"content": body}
    if isinstance(body, dict):
        return dict(body)
    return {key.removeprefix("gen_ai.event."): value for key, value in one.attributes.items()}


def event_parts(value: Any, notes: Notes) -> list[Part]:
    """Content of a message event: text; parts; or JSON text of parts, taken as such only where all are known shapes."""
    if isinstance(value, dict) and isinstance(value.get("parts"), list):  # a Gemini Content (google-genai, ADK)
        value = value["parts"]
    if isinstance(value, str) and value[:1] in ("[", "{"):
        found = parse(value, Notes())
        if isinstance(found, (list, dict)) and found:
            read = parts(found, notes)
            if read and not any(isinstance(p, Other) for p in read):
                return read
    return parts(value, notes)


def message_event(one: Occurrence, speaker: str, notes: Notes) -> Message | None:
    """`gen_ai.user.message` and its siblings."""
    said = payload(one, notes)
    content = said.get("content")
    if content_state(content) == "elided":  # ADK, with the capture of content off
        return None
    who = said.get("role")
    if who is None and isinstance(content, dict):  # a Gemini Content: ADK for Go has the model's turns as the user's
        who = content.get("role")
    who = who if isinstance(who, str) and who else speaker
    if who == "tool" and not isinstance(content, list):
        blocks = event_parts(content, notes) if isinstance(content, str) and "toolResult" in content else []
        if blocks and all(isinstance(block, ToolResult) for block in blocks):  # Strands: JSON text of Bedrock's blocks
            return Message("tool", blocks)
        result = ToolResult(tool_output(content), id_of(said, "id", "tool_call_id"), id_of(said, "name"))
        return Message("tool", [result])
    calls = said.get("tool_calls")
    item: Shape = {
        "role": who,
        "content": None,
        "tool_calls": parse(calls, notes),
        "name": said.get("name"),
        "refusal": said.get("refusal"),
    }
    found = (chat(item, notes) or [Message(who)])[0]
    found.parts = event_parts(content, notes) + found.parts
    return found if found.parts else None


def choice_event(one: Occurrence, notes: Notes) -> Message | None:
    """`gen_ai.choice`: `{index, finish_reason, message}`; the message may be structured, JSON text or plain text."""
    said = payload(one, notes)
    inner = said.get("message")
    if inner is None:
        inner = said.get("content")
    if isinstance(inner, str) and inner[:1] in ("{", "["):
        found_json = parse(inner, Notes())
        if isinstance(found_json, dict) and {"role", "content", "tool_calls", "parts"} & set(found_json):
            inner = found_json
    if isinstance(inner, dict):
        read = message(inner if "role" in inner else {"role": "assistant", **inner}, notes, "assistant")
        found = read[0] if read else Message("assistant")
        if len(found.parts) == 1 and isinstance(found.parts[0], Text):
            found.parts = event_parts(found.parts[0].content, notes)
    elif content_state(inner) == "elided":
        found = Message("assistant")
    else:
        found = Message("assistant", event_parts(inner, notes))
    calls = said.get("tool_calls")
    if calls and not any(p.__class__.__name__ == "ToolCall" for p in found.parts):
        more = chat({"role": "assistant", "tool_calls": parse(calls, notes)}, notes)
        found.parts += more[0].parts if more else []
    reason = said.get("finish_reason")
    found.finish_reason = text(reason) or found.finish_reason
    index = integer(said.get("index"))
    found.index = index if index is not None else found.index
    return found if found.parts or found.finish_reason else None


def read_events(occurrences: list[Occurrence], notes: Notes) -> Fields:
    """Messages from one event for each; evaluations; exceptions; prompts and completions of 1.26."""
    given: list[Message] = []
    said: list[Message] = []
    evaluations: list[Evaluation] = []
    fields: Fields = {}
    for one in occurrences:
        name = one.name
        if name in MESSAGE_EVENTS:
            found = message_event(one, MESSAGE_EVENTS[name], notes)
            given += [found] if found else []
        elif name == CHOICE:
            found = choice_event(one, notes)
            said += [found] if found else []
        elif name == _EVALUATION:
            judged = evaluation(one.attributes, one.time_ns)
            evaluations += [judged] if judged else []
        elif name == _PROMPT:
            given += messages(parse(one.attributes.get("gen_ai.prompt"), notes), notes) or []
        elif name == _COMPLETION:
            said += messages(parse(one.attributes.get("gen_ai.completion"), notes), notes, "assistant") or []
        elif name == _EXCEPTION:
            at = one.attributes
            fields["error"] = Error(
                text(at.get("exception.type")), text(at.get("exception.message")), text(at.get("exception.stacktrace"))
            )
        if "provider" not in fields and one.attributes.get("gen_ai.system"):
            fields["provider"] = one.attributes["gen_ai.system"]
    if given:
        fields["input"] = given
    if said:
        fields["output"] = sorted(said, key=lambda m: m.index or 0)
    if evaluations:
        fields["evaluations"] = evaluations
    return fields


CONVENTION = Convention(
    name="otel_genai",
    marks=("gen_ai.", "mcp."),
    rank=SEMCONV,
    rules=(
        *rules(SCALARS),
        *rules(COST),
        *rules(CONTENT, content=True),
        *rules(LOOSE, rank=WHOLE, content=True),
        Rule("gen_ai.framework", "framework", text),
    ),
    many=(
        Many(tuple(_REF_FIELDS), "refs", _refs),
        Many((_VARIABLE,), "prompt.variables", _variables),
        Many(_OTHER_COUNTS, "usage.other", _counts, content=False),
        Many(("gen_ai.evaluation.name",), "evaluations", _evaluation, WHOLE),
    ),
    usage=usage.GEN_AI,
    events=(*MESSAGE_EVENTS, CHOICE, _PROMPT, _COMPLETION, _EVALUATION, _EXCEPTION),
    read_events=read_events,
    like_span=("gen_ai.client.inference.operation.details", "gen_ai.usage"),  # the second: Ax
)
