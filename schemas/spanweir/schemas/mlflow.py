"""Canonical spans in MLflow's form.

Sources: MLflow 3.17 `entities/span.py`, `tracing/constant.py`, `tracing/utils/truncation.py`.
Not here: the shapes of messages and documents (`chat`), what the trace's row needs (`summary`), tables (exporters).
"""

from collections.abc import Collection
from functools import lru_cache
from typing import Any

from spanweir.schemas.chat import tool_definitions
from spanweir.schemas.genai import Costs, GenAISpan, ToolDef, Usage
from spanweir.schemas.raw import Attributes, RawSpan
from spanweir.schemas.shown import inputs_of, outputs_of
from spanweir.schemas.span_json import SpanWriter
from spanweir.schemas.trace import Cost, MappedSpan, TokenUsage
from spanweir.schemas.usage import total_of
from spanweir.schemas.values import UNREADABLE, check_json, dumps

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

_STATUS = ("UNSET", "OK", "ERROR")
_CACHED_NAMES = 4096
_REMEMBERED = 32
_REMEMBERED_CHARS = 65_536


class Renderer:
    """Writes MLflow spans. Not thread-safe (it keeps the JSON of the last resource and scope)."""

    def __init__(self, *, keep_originals: bool = False) -> None:
        """`keep_originals`: also keep attributes whose content stands in `mlflow.spanInputs` and the like."""
        self.keep_originals = keep_originals
        self._write = SpanWriter().write
        self._tools = _Tools()

    def render(self, raw: RawSpan, span: GenAISpan | None) -> MappedSpan:
        """The span as MLflow stores it. Never raises."""
        try:
            return self._render(raw, span)
        except Exception:
            return self._render(raw, None)

    def _render(self, raw: RawSpan, span: GenAISpan | None) -> MappedSpan:
        status = status_of(raw, span)
        own: dict[str, str] = {"mlflow.traceRequestId": f'"tr-{raw.trace_id}"'}
        mapped = MappedSpan(
            trace_id=raw.trace_id,
            span_id=raw.span_id,
            parent_id=raw.parent_id or None,
            name=raw.name,
            type="UNKNOWN",
            status=_STATUS[status],
            start_ns=raw.start_ns,
            end_ns=raw.end_ns or None,
            own=own,
            given=raw.attributes,
            raw=raw,
            canonical=span,
        )
        message = raw.status_message
        hidden: tuple[str, ...] = ()
        if span is None:
            own["mlflow.spanType"] = '"UNKNOWN"'
            if raw.issues:
                own["spanweir.flags"] = dumps(raw.issues)
        else:
            shown = _describe(span, mapped, own, self._tools)
            if span.tool is not None and span.kind == "tool":
                mapped.name = _tool_name(raw.name, span.tool.name)
                if mapped.name != raw.name:
                    own["spanweir.span.name"] = dumps(raw.name)
            if raw.issues:
                own["spanweir.flags"] = dumps([*span.flags, *raw.issues])
            consumed = span.consumed
            if consumed is not None and not self.keep_originals:
                for field in shown:
                    if field in consumed:
                        hidden += consumed[field]
            if status == 2 and not message:
                message = _told(raw, span)
            if "mlflow" in span.conventions:
                _keep_encoded(raw.attributes, span, own, hidden)
                mapped.given = {}
        if hidden:
            # A copy is quick, and most of what it has stays.
            mapped.given = mapped.given.copy()
            for key in hidden:
                mapped.given.pop(key, None)
        if not mapped.given.keys().isdisjoint(own):
            mapped.given = {key: value for key, value in mapped.given.items() if key not in own}
        events = _events(raw, span, status) if raw.events or status == 2 else []
        mapped.content = self._write(raw, mapped.name, status, message, events, own, mapped.given)
        return mapped


class _Tools:
    """JSON texts of tools, which come with every call of an agent. Bounded in number and length."""

    def __init__(self) -> None:
        self._known: dict[tuple[int, ...], tuple[list[ToolDef], str]] = {}

    def text(self, tools: list[ToolDef]) -> str:
        """`mlflow.chat.tools`. Calls with the same tools share their objects, which nobody changes (`ToolDef`)."""
        key = tuple(map(id, tools))
        found = self._known.get(key)
        if found is None:
            text = dumps(tool_definitions(tools))
            if len(text) > _REMEMBERED_CHARS:
                return text
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            found = self._known[key] = (list(tools), text)  # as long as the objects live, their ids are theirs
        return found[1]


def _keep_encoded(given: Attributes, span: GenAISpan, own: dict[str, str], hidden: Collection[str]) -> None:
    """Add what MLflow's SDK sent, which is JSON text as a rule, but what is there already or `hidden`."""
    if span.tools and (span.consumed is None or "tools" not in span.consumed):
        # The sender's says more than could be understood of it.
        more = given.get("mlflow.chat.tools")
        if more is not None:
            own["mlflow.chat.tools"] = _sent(more)
    for key, value in given.items():
        if key not in own and key not in hidden:
            own[key] = _sent(value) if value.__class__ is str else dumps(value)


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


@lru_cache(maxsize=_CACHED_NAMES)
def _name(value: str) -> str:
    """JSON text of a name that many spans have."""
    return dumps(value)


def _sent(value: Any) -> str:
    """JSON text of what MLflow's SDK sent, which is JSON text as a rule."""
    try:
        check_json(value)
    except (*UNREADABLE, TypeError):
        return dumps(value)
    return value if isinstance(value, str) else dumps(value)


def _events(raw: RawSpan, span: GenAISpan | None, status: int) -> list[dict[str, Any]]:
    """The span's events; an exception event is added where the sender gave an error in attributes only."""
    found = [
        {"name": event.name, "time_unix_nano": event.time_ns, "attributes": event.attributes} for event in raw.events
    ]
    if status == 2 and not any(event.name == "exception" for event in raw.events):
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


def _describe(span: GenAISpan, mapped: MappedSpan, attributes: dict[str, str], tools: _Tools) -> tuple[str, ...]:
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
        attributes["mlflow.chat.tools"] = tools.text(span.tools)
    usage = span.usage
    if usage is not None and usage.scope == "own" and _is_counted(usage):
        attributes["mlflow.chat.tokenUsage"] = _usage_text(usage)
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


def _unslotted(span: GenAISpan, attributes: dict[str, str]) -> None:
    """What MLflow has no place for, under spanweir's own prefix; prompts under the name MLflow's SDK gives them."""
    usage = span.usage
    if usage is not None and (usage.other or _has_details(usage)):
        counts = {name: count for name in _COUNTS if (count := getattr(usage, name))}
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


def _is_counted(usage: Usage) -> bool:
    return usage.input is not None or usage.output is not None or usage.total is not None


def tokens_of(usage: Usage) -> TokenUsage | None:
    """MLflow's token counts; None where nothing was counted."""
    if not _is_counted(usage):
        return None
    return TokenUsage(
        input_tokens=usage.input or 0,
        output_tokens=usage.output or 0,
        total_tokens=total_of(usage),
        cache_read_input_tokens=usage.cache_read,
        cache_creation_input_tokens=usage.cache_write,
        cache_creation_input_tokens_above_1hr=usage.cache_write_1h,
    )


def _usage_text(usage: Usage) -> str:
    """JSON text of `mlflow.chat.tokenUsage`."""
    text = f'{{"input_tokens":{usage.input or 0},"output_tokens":{usage.output or 0},"total_tokens":{total_of(usage)}'
    if usage.cache_read is not None:
        text += f',"cache_read_input_tokens":{usage.cache_read}'
    if usage.cache_write is not None:
        text += f',"cache_creation_input_tokens":{usage.cache_write}'
    if usage.cache_write_1h is not None:
        text += f',"cache_creation_input_tokens_above_1hr":{usage.cache_write_1h}'
    return text + "}"


def _has_details(usage: Usage) -> bool:
    """Whether any of `_COUNTS` is there. Written out, since most spans have none and are asked too."""
    return bool(
        usage.reasoning
        or usage.input_text
        or usage.input_audio
        or usage.input_image
        or usage.input_video
        or usage.output_text
        or usage.output_audio
        or usage.output_image
        or usage.accepted_prediction
        or usage.rejected_prediction
        or usage.tool_use_prompt
        or usage.cache_write_5m
    )


def cost_of(costs: Costs) -> Cost | None:
    """MLflow's cost. Where only a total was reported, the halves are 0."""
    if costs.input is None and costs.output is None and costs.total is None:
        return None
    total = costs.total if costs.total is not None else (costs.input or 0.0) + (costs.output or 0.0)
    return Cost(
        input_cost=costs.input or 0.0, output_cost=costs.output or 0.0, total_cost=total, reported=not costs.computed
    )
