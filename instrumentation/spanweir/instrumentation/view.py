"""A trace as a tree of plain values for people to look at. Not here: HTML (`html`), when to show it (`notebook`).

Reads ended spans of the OpenTelemetry SDK (any convention, newest GenAI best), and stored traces of MLflow as objects
or as the dictionaries of `Trace.to_dict()`.
"""

import dataclasses
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from spanweir.instrumentation import names
from spanweir.instrumentation.messages import parsed, to_documents, to_messages

_KINDS = {
    "invoke_workflow": "workflow",
    "invoke_agent": "agent",
    "chat": "model",
    "generate_content": "model",
    "text_completion": "model",
    "embeddings": "embeddings",
    "retrieval": "retrieval",
    "rerank": "rerank",
    "execute_tool": "tool",
    "apply_guardrail": "guardrail",
    "evaluate": "evaluation",
    "chat_model": "model",
    "llm": "model",
    "retriever": "retrieval",
    "embedding": "embeddings",
    "reranker": "rerank",
    "evaluator": "evaluation",
}
_USAGE = {
    "input_tokens": (names.INPUT_TOKENS, "llm.token_count.prompt"),
    "output_tokens": (names.OUTPUT_TOKENS, "llm.token_count.completion"),
}


@dataclasses.dataclass
class Node:
    """One span. Times in nanoseconds since the epoch; `end_ns` is None while it runs. `cost` in US dollars."""

    id: str
    parent: str | None
    name: str
    kind: str
    start_ns: int
    end_ns: int | None
    error: str | None = None
    stack: str | None = None
    model: str | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    cost: float | None = None
    system: list[Any] = dataclasses.field(default_factory=list)
    inputs: list[Any] = dataclasses.field(default_factory=list)
    """Messages `{role, parts}`."""
    outputs: list[Any] = dataclasses.field(default_factory=list)
    documents: list[Any] = dataclasses.field(default_factory=list)
    values: dict[str, Any] = dataclasses.field(default_factory=dict)
    """Inputs and outputs that are no messages: query, arguments, result."""
    attributes: dict[str, Any] = dataclasses.field(default_factory=dict)
    children: list["Node"] = dataclasses.field(default_factory=list)

    @property
    def duration_ns(self) -> int:
        return 0 if self.end_ns is None else self.end_ns - self.start_ns


@dataclasses.dataclass
class TraceView:
    """A whole trace: its roots in order of time, and totals over the model calls."""

    trace_id: str
    roots: list[Node]
    nodes: list[Node]
    session: str | None = None
    user: str | None = None

    @property
    def start_ns(self) -> int:
        return min((node.start_ns for node in self.nodes), default=0)

    @property
    def end_ns(self) -> int:
        return max((node.end_ns or node.start_ns for node in self.nodes), default=0)

    def total(self, field: str) -> float | None:
        """Sum of `input_tokens`, `output_tokens` or `cost` over the nodes that have none below them with the same."""
        found = [value for root in self.roots for value in _leaves(root, field)]
        return sum(found) if found else None


def _leaves(node: Node, field: str) -> list[float]:
    below = [value for child in node.children for value in _leaves(child, field)]
    own = getattr(node, field)
    return below or ([] if own is None else [own])


def of_spans(spans: Iterable[Any]) -> TraceView:
    """From ended spans of the SDK, all of one trace."""
    nodes, trace_id, session, user = [], "", None, None
    for span in spans:
        attributes = dict(span.attributes or {})
        node = _node(
            format(span.context.span_id, "016x"),
            format(span.parent.span_id, "016x") if span.parent is not None else None,
            span.name,
            span.start_time,
            span.end_time,
            attributes,
        )
        trace_id = format(span.context.trace_id, "032x")
        if span.status.status_code.name == "ERROR":
            node.error = span.status.description or str(attributes.get(names.ERROR_TYPE, "error"))
        for event in span.events:
            if event.name == "exception":
                node.stack = str((event.attributes or {}).get("exception.stacktrace", ""))
        session = session or attributes.get(names.CONVERSATION_ID) or attributes.get(names.SESSION_ID)
        user = user or attributes.get(names.USER_ID)
        nodes.append(node)
    return _tree(trace_id, nodes, session, user)


def of_stored(trace: Any) -> TraceView:
    """From an MLflow `Trace`, or from the dictionary of its `to_dict()`.

    Raises:
        TypeError: it is neither.
    """
    if hasattr(trace, "to_dict"):
        trace = trace.to_dict()
    if not isinstance(trace, Mapping) or "data" not in trace:
        raise TypeError(f"a trace, the dictionary of one, or spans: {type(trace).__name__} is none of them")
    metadata = trace.get("info", {}).get("trace_metadata") or {}
    nodes = []
    for span in trace["data"].get("spans") or ():
        attributes = {key: decoded(value) for key, value in (span.get("attributes") or {}).items()}
        node = _node(
            str(span.get("span_id")),
            span.get("parent_span_id") or span.get("parent_id") or None,
            str(span.get("name")),
            int(span.get("start_time_unix_nano") or 0),
            int(span["end_time_unix_nano"]) if span.get("end_time_unix_nano") else None,
            attributes,
        )
        status = span.get("status") or {}
        if "ERROR" in str(status.get("code") or status.get("status_code")):
            node.error = status.get("message") or "error"
        for event in span.get("events") or ():
            if event.get("name") == "exception":
                node.stack = str((event.get("attributes") or {}).get("exception.stacktrace", ""))
        nodes.append(node)
    identifier = str(trace.get("info", {}).get("trace_id", ""))
    return _tree(identifier, nodes, metadata.get("mlflow.trace.session"), metadata.get("mlflow.trace.user"))


def decoded(value: Any) -> Any:
    """MLflow keeps every attribute as JSON text."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except ValueError:
        return value


def _tree(trace_id: str, nodes: list[Node], session: Any, user: Any) -> TraceView:
    known = {node.id: node for node in nodes}
    roots: list[Node] = []
    for node in sorted(nodes, key=lambda n: n.start_ns):
        parent = known.get(node.parent or "")
        (roots if parent is None or parent is node else parent.children).append(node)
    text = [None if value is None else str(value) for value in (session, user)]
    return TraceView(trace_id, roots, nodes, text[0], text[1])


def _node(
    span_id: str, parent: str | None, name: str, start_ns: int, end_ns: int | None, attributes: dict[str, Any]
) -> Node:
    kind = str(
        attributes.pop("mlflow.spanType", None)
        or attributes.get(names.OPERATION)
        or attributes.get(names.OPENINFERENCE_KIND)
        or "span"
    ).lower()
    node = Node(span_id, parent, name, _KINDS.get(kind, kind if kind != "unknown" else "span"), start_ns, end_ns)
    model = attributes.get(names.RESPONSE_MODEL) or attributes.get(names.REQUEST_MODEL)
    node.model = model or attributes.get("mlflow.llm.model") or attributes.get("llm.model_name")
    _take_usage(node, attributes)
    _take_content(node, attributes)
    node.attributes = attributes
    return node


def _take_usage(node: Node, attributes: dict[str, Any]) -> None:
    usage = attributes.get("mlflow.chat.tokenUsage")
    for field, keys in _USAGE.items():
        found = (
            usage.get(field)
            if isinstance(usage, dict)
            else next((attributes[k] for k in keys if k in attributes), None)
        )
        if isinstance(found, int):
            setattr(node, field, found)
    cost = attributes.get("mlflow.llm.cost")
    if isinstance(cost, dict) and isinstance(cost.get("total_cost"), (int, float)):
        node.cost = float(cost["total_cost"])
    elif node.kind in ("model", "embeddings") and node.model:
        node.cost = estimate(node.model, attributes.get(names.PROVIDER), node.input_tokens, node.output_tokens)


def estimate(model: str, provider: Any, input_tokens: int | None, output_tokens: int | None) -> float | None:
    """US dollars by the price table of genai-prices, None where it is not installed or does not know the model."""
    try:
        from genai_prices import Usage, calc_price
    except ImportError:
        return None
    try:
        usage = Usage(input_tokens=input_tokens or 0, output_tokens=output_tokens or 0)
        return float(calc_price(usage, model_ref=model, provider_id=provider).total_price)
    except Exception:
        return None


def _take_content(node: Node, attributes: dict[str, Any]) -> None:
    """Move content from the attributes to where the view shows it."""
    given = attributes.pop("mlflow.spanInputs", None)
    made = attributes.pop("mlflow.spanOutputs", None)
    read = {key: parsed(attributes.pop(key)) for key in sorted(names.CONTENT & attributes.keys())}
    node.system = _listed(read.get(names.SYSTEM_INSTRUCTIONS))
    node.inputs = _listed(read.get(names.INPUT_MESSAGES))
    node.outputs = _listed(read.get(names.OUTPUT_MESSAGES))
    node.documents = _listed(read.get(names.DOCUMENTS))
    for key, label in (
        (names.QUERY_TEXT, "query"),
        (names.RERANK_QUERY, "query"),
        (names.TOOL_ARGUMENTS, "arguments"),
        (names.TOOL_RESULT, "result"),
        (names.EVALUATION_EXPLANATION, "explanation"),
    ):
        if key in read:
            node.values[label] = read[key]
    if names.TOOL_DEFINITIONS in read:
        node.values["tools"] = read[names.TOOL_DEFINITIONS]
    given = given if given is not None else parsed(attributes.get("input.value"))
    made = made if made is not None else parsed(attributes.get("output.value"))
    if given is not None and not node.inputs and not node.values:
        if _conversation(given):
            node.inputs = to_messages(given, "user")
        else:
            node.values["input"] = given
    if made is not None and not node.outputs and not node.documents and "result" not in node.values:
        if node.kind == "retrieval" and isinstance(made, list):
            node.documents = to_documents(made)
        elif _conversation(made):
            node.outputs = to_messages(made, "assistant")
        else:
            node.values["output"] = made


def _listed(value: Any) -> list[Any]:
    return (
        list(value) if isinstance(value, Sequence) and not isinstance(value, str) else [] if value is None else [value]
    )


def _conversation(value: Any) -> bool:
    if isinstance(value, dict):
        return "messages" in value or "choices" in value or ("role" in value and "content" in value)
    return isinstance(value, list) and bool(value) and all(isinstance(i, dict) and "role" in i for i in value)
