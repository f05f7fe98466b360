"""The canonical span in the newest OpenTelemetry GenAI conventions, for exporters that forward it normalised.

Source: semantic-conventions-genai 1.42-dev (attribute registry and `non-normative/models.py`). Content attributes are
JSON text, as OpenTelemetry's own Python instrumentations write them on spans. Not here: how any convention is read.
"""

from collections.abc import Callable
from operator import attrgetter
from typing import Any

import msgspec

from spanweir.schemas.genai import GenAISpan, Json
from spanweir.schemas.raw import Attributes, RawSpan


def _text(value: Json) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def _seconds(nanoseconds: int) -> float:
    return nanoseconds / 1e9


_SCALARS: tuple[tuple[str, str], ...] = (
    ("op", "gen_ai.operation.name"),
    ("provider", "gen_ai.provider.name"),
    ("model.request", "gen_ai.request.model"),
    ("model.response", "gen_ai.response.model"),
    ("model.server_address", "server.address"),
    ("model.server_port", "server.port"),
    ("params.temperature", "gen_ai.request.temperature"),
    ("params.top_p", "gen_ai.request.top_p"),
    ("params.max_tokens", "gen_ai.request.max_tokens"),
    ("params.seed", "gen_ai.request.seed"),
    ("params.n", "gen_ai.request.choice.count"),
    ("params.stop", "gen_ai.request.stop_sequences"),
    ("params.frequency_penalty", "gen_ai.request.frequency_penalty"),
    ("params.presence_penalty", "gen_ai.request.presence_penalty"),
    ("params.stream", "gen_ai.request.stream"),
    ("params.reasoning_level", "gen_ai.request.reasoning.level"),
    ("params.output_type", "gen_ai.output.type"),
    ("params.dimensions", "gen_ai.embeddings.dimension.count"),
    ("params.encoding_formats", "gen_ai.request.encoding_formats"),
    ("response.id", "gen_ai.response.id"),
    ("response.status", "gen_ai.response.status"),
    ("response.finish_reasons", "gen_ai.response.finish_reasons"),
    ("usage.input", "gen_ai.usage.input_tokens"),
    ("usage.output", "gen_ai.usage.output_tokens"),
    ("usage.cache_read", "gen_ai.usage.cache_read.input_tokens"),
    ("usage.cache_write", "gen_ai.usage.cache_write.input_tokens"),
    ("usage.reasoning", "gen_ai.usage.reasoning.output_tokens"),
    ("conversation_id", "gen_ai.conversation.id"),
    ("session_id", "session.id"),
    ("user_id", "user.id"),
    ("agent.name", "gen_ai.agent.name"),
    ("agent.id", "gen_ai.agent.id"),
    ("agent.description", "gen_ai.agent.description"),
    ("agent.version", "gen_ai.agent.version"),
    ("graph.workflow", "gen_ai.workflow.name"),
    ("tool.name", "gen_ai.tool.name"),
    ("tool.id", "gen_ai.tool.call.id"),
    ("tool.type", "gen_ai.tool.type"),
    ("tool.description", "gen_ai.tool.description"),
    ("retrieval.query", "gen_ai.retrieval.query.text"),
    ("retrieval.top_k", "gen_ai.retrieval.top_k"),
    ("retrieval.data_source_id", "gen_ai.data_source.id"),
    ("memory.store_id", "gen_ai.memory.store.id"),
    ("memory.record_id", "gen_ai.memory.record.id"),
    ("memory.query", "gen_ai.memory.query.text"),
    ("mcp.method", "mcp.method.name"),
    ("mcp.session_id", "mcp.session.id"),
    ("mcp.protocol_version", "mcp.protocol.version"),
    ("mcp.resource_uri", "mcp.resource.uri"),
    ("prompt.name", "gen_ai.prompt.name"),
    ("prompt.version", "gen_ai.prompt.version"),
    ("error.type", "error.type"),
)
"""Field and attribute. The path's first part may be `None`, then the attribute is absent."""

_CONVERTED: tuple[tuple[str, str, Callable[[Any], Any]], ...] = (
    ("params.top_k", "gen_ai.request.top_k", int),
    ("timing.ttft_ns", "gen_ai.response.time_to_first_chunk", _seconds),
    ("tool.arguments", "gen_ai.tool.call.arguments", _text),
    ("tool.result", "gen_ai.tool.call.result", _text),
    ("memory.records", "gen_ai.memory.records", _text),
    ("system", "gen_ai.system_instructions", _text),
    ("input", "gen_ai.input.messages", _text),
    ("output", "gen_ai.output.messages", _text),
    ("tools", "gen_ai.tool.definitions", _text),
    ("documents", "gen_ai.retrieval.documents", _text),
)

_OPERATIONS = {
    "llm": "chat", "embedding": "embeddings", "retrieval": "retrieval", "tool": "execute_tool", "agent": "invoke_agent",
    "workflow": "invoke_workflow",
}  # fmt: skip
"""`gen_ai.operation.name` of kinds whose sender named none; the conventions have no other value for the rest."""

_ROWS = tuple(
    (field.partition(".")[0], attrgetter(field), key, convert)
    for field, key, convert in (*((field, key, None) for field, key in _SCALARS), *_CONVERTED)
)


def attributes(raw: RawSpan, span: GenAISpan | None) -> Attributes:
    """The span's attributes, normalised: what the conventions name under the newest names, everything else as sent.

    Attributes whose content stands whole in the canonical span are replaced by the newest form of it.
    """
    if span is None:
        return raw.attributes
    consumed = {key for keys in (span.consumed or {}).values() for key in keys}
    result = {key: value for key, value in raw.attributes.items() if key not in consumed}
    if operation := _OPERATIONS.get(span.kind):
        result["gen_ai.operation.name"] = operation
    for group, get, key, convert in _ROWS:
        if getattr(span, group) is None:
            continue
        value = get(span)
        if value is None or value == []:
            continue
        result[key] = value if convert is None else convert(value)
    return result
