"""MLflow's own SDK (3.x), exporting over OTLP: every value is JSON text, and may be JSON text of JSON text.

Inputs and outputs are shown as the SDK wrote them (`io.verbatim`), with what only the events of a stream say; messages
are understood besides, for previews, for redaction and for forwarding in other conventions. With
`MLFLOW_ENABLE_OTEL_GENAI_SEMCONV` the SDK sends `gen_ai.*` attributes instead, which `otel_genai` reads.
"""

from collections.abc import Sequence
from typing import Any

import orjson

from spanweir.schemas import content, streams, usage
from spanweir.schemas.convention import OVERRIDE, WHOLE, Convention, Many, Rule, rules
from spanweir.schemas.genai import GenAISpan, Model, Usage
from spanweir.schemas.notes import Notes
from spanweir.schemas.raw import Attributes, RawSpan
from spanweir.schemas.values import json_or_text, number, plain, quoted

KINDS = {
    "LLM": "llm", "CHAT_MODEL": "llm", "CHAIN": "chain", "AGENT": "agent", "TOOL": "tool", "RETRIEVER": "retrieval",
    "PARSER": "parser", "EMBEDDING": "embedding", "RERANKER": "rerank", "MEMORY": "memory", "WORKFLOW": "workflow",
    "TASK": "task", "GUARDRAIL": "guardrail", "EVALUATOR": "evaluation",
}  # fmt: skip


def unquoted(value: Any) -> str | None:
    """A string under one or two layers of JSON quotes."""
    once = quoted(value)
    return quoted(once) if once is not None and once[:1] == '"' else once


def kind(value: Any) -> str | None:
    found = unquoted(value)
    return KINDS.get(found.upper()) if found is not None else None


def span_type(value: Any) -> str | None:
    found = unquoted(value)
    return found if found and found != "UNKNOWN" else None


def decoded(value: Any) -> Any:
    """The value itself, from JSON text or JSON text of JSON text."""
    found = value
    for _ in range(2):
        if not isinstance(found, str):
            return found
        try:
            found = orjson.loads(found)
        except ValueError:
            return found
    return found


def io(value: Any, notes: Notes) -> Any:
    """Inputs or outputs: JSON text stays as it is; a string that was quoted is the text within."""
    if isinstance(value, str) and value[:1] == '"':
        inner = quoted(value)
        return json_or_text(inner) if inner is not None and inner[:1] in ("{", "[", '"') else inner
    found = json_or_text(value)
    return decoded(found) if isinstance(found, str) else found


def token_usage(value: Any, notes: Notes) -> Usage | None:
    return usage.from_object(decoded(value))


def _cost(name: str) -> Any:
    def read(value: Any) -> float | None:
        found = decoded(value)
        return number(found.get(name)) if isinstance(found, dict) else None

    return read


def _tags(attributes: Attributes, keys: Sequence[str], notes: Notes) -> dict[str, str]:
    return {key.removeprefix("mlflow.traceTag."): tag for key in keys if (tag := unquoted(attributes[key])) is not None}


def _tools(value: Any, notes: Notes) -> Any:
    return content.tools(decoded(value), notes)


def refine(raw: RawSpan, span: GenAISpan, notes: Notes) -> None:
    if span.io is not None and ("mlflow.spanInputs" in raw.attributes or "mlflow.spanOutputs" in raw.attributes):
        span.io.verbatim = True
        if raw.events and span.kind == "llm":
            whole = streams.completed(plain(span.io.output), raw.events)
            if whole is not None:
                span.io.output = whole
    # Automatic logging of before 3.10 sets the call's own parameters as attributes, and the model only so.
    if span.model is None and span.kind in ("llm", "embedding") and (name := unquoted(raw.attributes.get("model"))):
        span.model = Model(name)


CONVENTION = Convention(
    name="mlflow",
    marks=("mlflow.spanType", "mlflow.spanInputs", "mlflow.spanOutputs", "mlflow.traceRequestId", "mlflow.chat."),
    rank=OVERRIDE,
    rules=(
        *rules(
            {
                "mlflow.spanType": ("kind!", kind),
                "mlflow.llm.model": ("model.response", unquoted),
                "mlflow.llm.provider": ("provider", unquoted),
                "mlflow.trace.session": ("session_id", unquoted),
                "mlflow.trace.user": ("user_id", unquoted),
                "mlflow.traceName": ("io.trace_name", unquoted),
                "mlflow.spanFunctionName": ("graph.task", unquoted),
                "session.id": ("session_id", unquoted),
                "user.id": ("user_id", unquoted),
            }
        ),
        Rule("mlflow.spanType", "mlflow_type", span_type),
        *(Rule("mlflow.llm.cost", f"cost.{name}", _cost(f"{name}_cost")) for name in ("input", "output", "total")),
        *rules(
            {
                "mlflow.spanInputs": ("io.input", io),
                "mlflow.spanOutputs": ("io.output", io),
                "mlflow.chat.tools": ("tools", _tools),
            },
            content=True,
        ),
        Rule("mlflow.chat.tokenUsage", "usage", token_usage, content=True),
    ),
    many=(Many(("mlflow.traceTag.",), "trace_tags", _tags, WHOLE, content=False),),
    refine=refine,
)
