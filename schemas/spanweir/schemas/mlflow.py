"""Canonical spans in MLflow's form.

Sources: MLflow 3.17 `entities/span.py`, `tracing/constant.py`, `tracing/utils/truncation.py`.
Not here: the shapes of messages and documents (`chat`), what the trace's row needs (`summary`), tables (exporters).
"""

import binascii
from collections.abc import Mapping
from functools import lru_cache
from operator import attrgetter
from typing import Any

import msgspec
import orjson

from spanweir.schemas.chat import tool_definitions
from spanweir.schemas.genai import Costs, GenAISpan, Usage
from spanweir.schemas.raw import RawSpan, Resource, Scope
from spanweir.schemas.shown import inputs_of, outputs_of
from spanweir.schemas.trace import Cost, MappedSpan, TokenUsage
from spanweir.schemas.usage import total_of
from spanweir.schemas.values import UNREADABLE, dumps, encodable

TYPES = {
    "llm": "CHAT_MODEL", "embedding": "EMBEDDING", "retrieval": "RETRIEVER", "rerank": "RERANKER", "tool": "TOOL",
    "agent": "AGENT", "workflow": "WORKFLOW", "chain": "CHAIN", "task": "TASK", "step": "CHAIN", "memory": "MEMORY",
    "guardrail": "GUARDRAIL", "evaluation": "EVALUATOR", "prompt": "CHAIN", "parser": "PARSER", "image": "LLM",
    "audio": "LLM", "moderation": "GUARDRAIL", "mcp": "UNKNOWN", "router": "CHAIN", "hook": "UNKNOWN",
    "other": "UNKNOWN",
}  # fmt: skip
"""Kind -> MLflow's `SpanType`."""

PROVIDERS = {
    "aws.bedrock": "bedrock", "gcp.gemini": "gemini", "gcp.vertex_ai": "vertex_ai", "gcp.gen_ai": "gemini",
    "azure.ai.openai": "azure", "azure.ai.inference": "azure_ai", "mistral_ai": "mistral", "x_ai": "xai",
    "moonshot_ai": "moonshot", "ibm.watsonx.ai": "watsonx", "aws.sagemaker": "sagemaker",
}  # fmt: skip
"""`gen_ai.provider.name` -> the names of MLflow's model catalog, where they differ."""

_KINDS = (
    "SPAN_KIND_UNSPECIFIED",
    "SPAN_KIND_INTERNAL",
    "SPAN_KIND_SERVER",
    "SPAN_KIND_CLIENT",
    "SPAN_KIND_PRODUCER",
    "SPAN_KIND_CONSUMER",
)
_STATUS = ("UNSET", "OK", "ERROR")
_CODES = ("STATUS_CODE_UNSET", "STATUS_CODE_OK", "STATUS_CODE_ERROR")
_CACHED_IDS = 4096
_CACHED_NAMES = 4096


class Renderer:
    """Writes MLflow spans. Not thread-safe (it keeps the JSON of the last resource and scope)."""

    def __init__(self, *, keep_originals: bool = False) -> None:
        """`keep_originals`: also keep attributes whose content stands in `mlflow.spanInputs` and the like."""
        self.keep_originals = keep_originals
        self._resource: Resource | None = None
        self._scope: Scope | None = None
        self._resource_json = self._scope_json = orjson.Fragment(b"{}")

    def render(self, raw: RawSpan, span: GenAISpan | None) -> MappedSpan:
        """The span as MLflow stores it. Never raises."""
        try:
            return self._render(raw, span)
        except Exception:
            return self._render(raw, None)

    def _render(self, raw: RawSpan, span: GenAISpan | None) -> MappedSpan:
        attributes: dict[str, str] = {"mlflow.traceRequestId": f'"tr-{raw.trace_id}"'}
        mapped = MappedSpan(
            trace_id=raw.trace_id,
            span_id=raw.span_id,
            parent_id=raw.parent_id or None,
            name=raw.name,
            type="UNKNOWN",
            status=_STATUS[status_of(raw, span)],
            start_ns=raw.start_ns,
            end_ns=raw.end_ns or None,
            attributes=attributes,
            raw=raw,
            canonical=span,
        )
        shown: tuple[str, ...] = ()
        encoded = False
        if span is not None:
            shown = _describe(span, mapped, attributes)
            encoded = "mlflow" in span.conventions
            if span.tool is not None and span.kind == "tool":
                mapped.name = _tool_name(raw.name, span.tool.name)
                if mapped.name != raw.name:
                    attributes["spanweir.span.name"] = dumps(raw.name)
        else:
            attributes["mlflow.spanType"] = '"UNKNOWN"'
        if raw.issues:
            attributes["spanweir.flags"] = dumps([*(span.flags if span is not None else ()), *raw.issues])
        self._originals(raw, span, shown, encoded, attributes)
        mapped.content = self._content(raw, span, mapped)
        return mapped

    def _originals(
        self, raw: RawSpan, span: GenAISpan | None, shown: tuple[str, ...], encoded: bool, attributes: dict[str, str]
    ) -> None:
        """Keep the sender's attributes, except those whose content is shown already."""
        hidden: set[str] = set()
        fuller = ""
        if span is not None:
            consumed = span.consumed
            if consumed is not None and not self.keep_originals:
                for field in shown:
                    if field in consumed:
                        hidden.update(consumed[field])
            if encoded and span.tools and (consumed is None or "tools" not in consumed):
                fuller = "mlflow.chat.tools"  # the sender's says more than could be understood of it
        dump = orjson.dumps
        for key, value in raw.attributes.items():
            if key in hidden or (key in attributes and key != fuller):
                continue
            kind = value.__class__
            if kind is str:
                # MLflow's SDK sends JSON text already.
                attributes[key] = value if encoded and _is_json(value) else dump(value).decode()  # type: ignore[assignment]
            elif kind is bool:
                attributes[key] = "true" if value else "false"
            elif kind is int:
                attributes[key] = str(value)
            else:
                attributes[key] = dumps(value)

    def _content(self, raw: RawSpan, span: GenAISpan | None, mapped: MappedSpan) -> bytes:
        if raw.resource is not self._resource:
            self._resource = raw.resource
            self._resource_json = _fragment(raw.resource.attributes, {"schema_url": raw.resource.schema_url})
        scope = raw.scope
        if scope is not self._scope:
            self._scope = scope
            named = {"name": scope.name, "version": scope.version, "schema_url": scope.schema_url}
            self._scope_json = _fragment(scope.attributes, named)
        status = status_of(raw, span)
        content: dict[str, Any] = {
            "trace_id": _shared_base64(raw.trace_id),
            "span_id": _base64(raw.span_id),
            "parent_span_id": _shared_base64(raw.parent_id) if raw.parent_id else None,
            "name": mapped.name,
            "kind": _KINDS[raw.kind] if 0 <= raw.kind < 6 else _KINDS[0],
            "start_time_unix_nano": raw.start_ns,
            "end_time_unix_nano": raw.end_ns or None,
            "events": _events(raw, span) if raw.events or status == 2 else [],
            "status": {
                "code": _CODES[status],
                "message": raw.status_message or (_told(raw, span) if status == 2 else ""),
            },
            "attributes": mapped.attributes,
            "links": [_link(link) for link in raw.links] if raw.links else [],
            "resource": self._resource_json,
            "scope": self._scope_json,
        }
        if raw.trace_state:
            content["trace_state"] = raw.trace_state
        if raw.flags:
            content["flags"] = raw.flags
        try:
            return encode_content(content)
        except (TypeError, ValueError):
            # Lone surrogates: JSON text as a whole, without the fragments that only orjson knows.
            content["attributes"] = mapped.attributes
            content["resource"] = {"attributes": raw.resource.attributes, "schema_url": raw.resource.schema_url}
            content["scope"] = {"name": scope.name, "version": scope.version, "attributes": scope.attributes}
            return dumps(content).encode()


def encode_content(content: dict[str, Any]) -> bytes:
    """JSON of a span as `spans.content` holds it; `content` is changed. Raises TypeError for lone surrogates.

    A blank stands between an attribute's key and its value, as MLflow's `span.attributes.x RLIKE ...` looks for it in
    the text (3.18, `sqlalchemy_store.py`): orjson writes one only where it indents.
    """
    content["attributes"] = orjson.Fragment(orjson.dumps(content["attributes"], option=orjson.OPT_INDENT_2))
    return orjson.dumps(content, default=encodable)


def status_of(raw: RawSpan, span: GenAISpan | None) -> int:
    """OpenTelemetry's status code; 2 also where the sender says of a failure in its own words only."""
    if span is not None and span.error is not None and span.error.failed:
        return 2
    return raw.status_code if 0 <= raw.status_code < 3 else 0


def _told(raw: RawSpan, span: GenAISpan | None) -> str:
    """The message of a failure that is no OpenTelemetry status."""
    if raw.status_code == 2 or span is None or span.error is None or not span.error.failed:
        return ""
    return span.error.message or ""


def _tool_name(name: str, tool: str | None) -> str:
    """Names that say only that a tool ran (`ai.toolCall`, `running tool`) say which, for MLflow's charts."""
    return f"{name} {tool}" if tool and tool not in name else name


def _base64(hex_id: str) -> str:
    try:
        return binascii.b2a_base64(binascii.unhexlify(hex_id), newline=False).decode()
    except ValueError:
        return hex_id


_shared_base64 = lru_cache(maxsize=_CACHED_IDS)(_base64)
"""For ids that many spans name: of traces and parents."""


@lru_cache(maxsize=_CACHED_NAMES)
def _name(value: str) -> str:
    """JSON text of a name that many spans have."""
    return dumps(value)


def _is_json(value: Any) -> bool:
    try:
        msgspec.json.decode(value, type=msgspec.Raw)
    except UNREADABLE:
        return False
    return True


def _fragment(attributes: Mapping[str, Any], more: dict[str, str]) -> orjson.Fragment:
    body: dict[str, Any] = {key: value for key, value in more.items() if value}
    if attributes:
        body["attributes"] = attributes
    return orjson.Fragment(dumps(body).encode())


def _link(link: Any) -> dict[str, Any]:
    body = {"trace_id": f"tr-{link.trace_id}", "span_id": link.span_id, "attributes": link.attributes}
    if link.trace_state:
        body["trace_state"] = link.trace_state
    return body


def _events(raw: RawSpan, span: GenAISpan | None) -> list[dict[str, Any]]:
    """The span's events; an exception event is added where the sender gave an error in attributes only."""
    found = [
        {"name": event.name, "time_unix_nano": event.time_ns, "attributes": event.attributes} for event in raw.events
    ]
    if status_of(raw, span) == 2 and not any(event.name == "exception" for event in raw.events):
        error = span.error if span is not None else None
        kind = error.type if error is not None else raw.attributes.get("error.type")
        message = (error.message if error is not None else None) or raw.status_message
        if kind or message:
            attributes: dict[str, Any] = {"exception.type": str(kind or "Error"), "exception.message": message or ""}
            if error is not None and error.stack:
                attributes["exception.stacktrace"] = error.stack
            found.append({"name": "exception", "time_unix_nano": raw.end_ns, "attributes": attributes})
    return found


# ------------------------------------------------------------------------------------------------ one span's meaning


def _describe(span: GenAISpan, mapped: MappedSpan, attributes: dict[str, str]) -> tuple[str, ...]:
    """Write MLflow's own attributes; returns the canonical fields whose whole content they show."""
    kind = span.kind
    mapped.type = span.mlflow_type or ("LLM" if span.op == "text_completion" else TYPES.get(kind, "UNKNOWN"))
    attributes["mlflow.spanType"] = f'"{mapped.type}"' if span.mlflow_type is None else _name(mapped.type)
    shown: tuple[str, ...] = ("tools",) if span.tools else ()
    given, of_input = inputs_of(span)
    if given is not None:
        attributes["mlflow.spanInputs"] = dumps(given)
        shown += of_input
    said, of_output = outputs_of(span)
    if said is not None:
        attributes["mlflow.spanOutputs"] = dumps(said)
        shown += of_output
    if span.tools:
        attributes["mlflow.chat.tools"] = dumps(tool_definitions(span.tools))
    if span.usage is not None and span.usage.scope == "own" and tokens_of(span.usage) is not None:
        attributes["mlflow.chat.tokenUsage"] = dumps(_usage_dict(span.usage))
    if span.model is not None:
        mapped.model = span.model.response or span.model.request
        if mapped.model is not None:
            attributes["mlflow.llm.model"] = _name(mapped.model)
    if span.provider is not None and kind not in ("tool", "other"):
        mapped.provider = PROVIDERS.get(span.provider, span.provider)
        attributes["mlflow.llm.provider"] = _name(mapped.provider)
    if span.cost is not None and (cost := cost_of(span.cost)) is not None:
        mapped.cost = cost
        attributes["mlflow.llm.cost"] = dumps(
            {"input_cost": cost.input_cost, "output_cost": cost.output_cost, "total_cost": cost.total_cost}
        )
    _unslotted(span, attributes)
    return shown


_COUNTS = (
    "reasoning", "input_text", "input_audio", "input_image", "input_video", "output_text", "output_audio",
    "output_image", "accepted_prediction", "rejected_prediction", "tool_use_prompt", "cache_write_5m",
)  # fmt: skip
_counts_of = attrgetter(*_COUNTS)


def _unslotted(span: GenAISpan, attributes: dict[str, str]) -> None:
    """What MLflow has no place for, under spanweir's own prefix; prompts under the name MLflow's SDK gives them."""
    usage = span.usage
    if usage is not None:
        values = _counts_of(usage)
        if usage.other or any(values):
            counts = {name: count for name, count in zip(_COUNTS, values, strict=True) if count}
            attributes["spanweir.usage"] = dumps({**counts, **(usage.other or {})})
    if span.timing is not None and span.timing.ttft_ns is not None:
        attributes["spanweir.time_to_first_token_ms"] = dumps(span.timing.ttft_ns / 1e6)
    if span.content_state is not None:
        attributes["spanweir.content_state"] = dumps(span.content_state)
    if span.flags:
        attributes["spanweir.flags"] = dumps(span.flags)
    prompt = span.prompt
    if prompt is not None and prompt.name is not None and prompt.version is not None:
        attributes.setdefault("mlflow.linkedPrompts", dumps([{"name": prompt.name, "version": prompt.version}]))


# ------------------------------------------------------------------------------------------------ tokens and cost


def tokens_of(usage: Usage) -> TokenUsage | None:
    """MLflow's token counts; None where nothing was counted."""
    if usage.input is None and usage.output is None and usage.total is None:
        return None
    return TokenUsage(
        input_tokens=usage.input or 0,
        output_tokens=usage.output or 0,
        total_tokens=total_of(usage),
        cache_read_input_tokens=usage.cache_read,
        cache_creation_input_tokens=usage.cache_write,
        cache_creation_input_tokens_above_1hr=usage.cache_write_1h,
    )


def _usage_dict(usage: Usage) -> dict[str, int]:
    body = {"input_tokens": usage.input or 0, "output_tokens": usage.output or 0, "total_tokens": total_of(usage)}
    if usage.cache_read is not None:
        body["cache_read_input_tokens"] = usage.cache_read
    if usage.cache_write is not None:
        body["cache_creation_input_tokens"] = usage.cache_write
    if usage.cache_write_1h is not None:
        body["cache_creation_input_tokens_above_1hr"] = usage.cache_write_1h
    return body


def cost_of(costs: Costs) -> Cost | None:
    """MLflow's cost. Where only a total was reported, the halves are 0."""
    if costs.input is None and costs.output is None and costs.total is None:
        return None
    total = costs.total if costs.total is not None else (costs.input or 0.0) + (costs.output or 0.0)
    return Cost(
        input_cost=costs.input or 0.0, output_cost=costs.output or 0.0, total_cost=total, reported=not costs.computed
    )
