"""The trace of a request inside the answer to it: `databricks_output.trace`, in the form of MLflow's `Trace.to_dict()`.

Collects ended spans of the traces that somebody waits for. Not here: who waits, and for what answer (`serving`); the
mapping of stored traces, which knows many more conventions, is the collector's.
"""

import base64
import datetime
import json
import os
import threading
from collections.abc import Iterable, Mapping
from typing import Any

from opentelemetry.sdk.trace import ReadableSpan

from spanweir.instrumentation import names, setup, state, view, wire
from spanweir.instrumentation.encode import dumps

MAX_SPANS = 10_000
"""Of one request; later ones are not in the answer."""
_TYPES = {
    "workflow": "WORKFLOW",
    "agent": "AGENT",
    "model": "CHAT_MODEL",
    "embeddings": "EMBEDDING",
    "retrieval": "RETRIEVER",
    "rerank": "RERANKER",
    "tool": "TOOL",
    "guardrail": "GUARDRAIL",
    "evaluation": "EVALUATOR",
    "chain": "CHAIN",
}
_PREVIEW_CHARS = 1000

Spans = list[ReadableSpan]


class Waiting:
    """The spans that have ended, of traces in which a request is waited for. Costs nothing while there are none."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._traces: dict[int, list[Spans]] = {}

    def watch(self, trace_id: int) -> Spans | None:
        """A list that spans of the trace are added to as they end; None where spans are not exported at all."""
        worker = setup.worker()
        if worker is None:
            return None
        worker.listen(self.ended)
        spans: Spans = []
        with self._lock:
            self._traces.setdefault(trace_id, []).append(spans)
        return spans

    def forget(self, trace_id: int, spans: Spans) -> None:
        with self._lock:
            left = [kept for kept in self._traces.pop(trace_id, ()) if kept is not spans]
            if left:
                self._traces[trace_id] = left

    def ended(self, span: ReadableSpan) -> None:
        if not self._traces or span.context is None:
            return
        with self._lock:
            for spans in self._traces.get(span.context.trace_id, ()):
                if len(spans) < MAX_SPANS:
                    spans.append(span)

    def reset(self) -> None:
        """In a forked child: another thread of the parent may have held the lock."""
        self._lock = threading.RLock()
        self._traces = {}


waiting = Waiting()
os.register_at_fork(after_in_child=waiting.reset)


def output(spans: Iterable[ReadableSpan], root_id: int) -> dict[str, Any]:
    """The value of `databricks_output`: the span `root_id` and all below it, first the root, then by start.

    What the policy withholds from the collector is withheld here too.
    """
    policy = state.policy()
    chosen = [wire.governed(span, policy) for span in _below(list(spans), root_id)]
    shown = {node.id: node for node in view.of_spans(chosen).nodes}
    trace_id = "tr-" + format(chosen[0].context.trace_id, "032x") if chosen else ""
    contents = [_span(span, shown[_id(span)], trace_id, root_id) for span in chosen]
    info = _info(trace_id, chosen, contents) if chosen else {}
    return {"trace": {"info": info, "data": {"spans": contents}}, "databricks_request_id": trace_id}


def _below(spans: Spans, root_id: int) -> Spans:
    """One trace may hold several requests at once. Spans whose parent has not ended belong to the root."""
    root = next((span for span in spans if span.context and span.context.span_id == root_id), None)
    if root is None:
        return []
    parents = {s.context.span_id: s.parent.span_id if s.parent else 0 for s in spans if s.context}
    outside = root.parent.span_id if root.parent else 0

    def belongs(span: ReadableSpan) -> bool:
        at, seen = span.context.span_id if span.context else 0, set()
        while at in parents and at != root_id and at not in seen:
            seen.add(at)
            at = parents[at]
        return at == root_id or (at not in parents and at != outside)

    found = [span for span in spans if span is not root and belongs(span)]
    return [root, *sorted(found, key=lambda span: span.start_time or 0)]


def _id(span: ReadableSpan) -> str:
    return format(span.context.span_id, "016x") if span.context else ""


def _base64(number: int, size: int) -> str:
    return base64.b64encode(number.to_bytes(size, "big")).decode()


def _span(span: ReadableSpan, node: view.Node, trace_id: str, root_id: int) -> dict[str, Any]:
    """`Span.to_dict()`: every attribute is JSON text."""
    assert span.context is not None
    top = span.context.span_id == root_id or span.parent is None
    attributes = {"mlflow.traceRequestId": trace_id, "mlflow.spanType": _TYPES.get(node.kind, "UNKNOWN")}
    raw = span.attributes or {}
    tools = {key: raw[key] for key in (names.TOOL_DEFINITIONS,) if key in raw}
    rendered: dict[str, Any] = {**node.attributes, **tools, **_content(node, raw), **attributes}
    return {
        "trace_id": _base64(span.context.trace_id, 16),
        "span_id": _base64(span.context.span_id, 8),
        "parent_span_id": None if top or span.parent is None else _base64(span.parent.span_id, 8),
        "name": span.name,
        "start_time_unix_nano": span.start_time,
        "end_time_unix_nano": span.end_time,
        "events": [
            {"name": event.name, "time_unix_nano": event.timestamp, "attributes": dict(event.attributes or {})}
            for event in span.events
        ],
        "status": {
            "code": f"STATUS_CODE_{span.status.status_code.name}",
            "message": span.status.description or "",
        },
        "attributes": {key: dumps(value).decode() for key, value in rendered.items()},
        "links": [],
    }


def _content(node: view.Node, raw: Mapping[str, Any]) -> dict[str, Any]:
    """What MLflow shows of a span, under the names that it looks for."""
    found: dict[str, Any] = {}
    given = node.values.get("arguments", node.values.get("query", node.values.get("input")))
    if given is None and (node.system or node.inputs):
        system = [{"role": "system", "parts": node.system}] if node.system else []
        given = {"messages": [_message(message) for message in (*system, *node.inputs)]}
    made = node.values.get("result", node.values.get("output"))
    if made is None and node.documents:
        made = [_document(document) for document in node.documents]
    if made is None and node.outputs:
        made = {"choices": [{"index": n, "message": _message(m)} for n, m in enumerate(node.outputs)]}
    for key, value in (("mlflow.spanInputs", given), ("mlflow.spanOutputs", made)):
        if key in raw:
            found[key] = view.decoded(raw[key])
        elif value is not None:
            found[key] = value
    if node.model:
        found["mlflow.llm.model"] = node.model
    if node.input_tokens is not None or node.output_tokens is not None:
        read, written = node.input_tokens or 0, node.output_tokens or 0
        found["mlflow.chat.tokenUsage"] = {
            "input_tokens": read,
            "output_tokens": written,
            "total_tokens": read + written,
        }
    return found


def _message(message: Any) -> Any:
    """Messages of nothing but text in the form that every reader shows; others with their parts."""
    if not isinstance(message, dict) or not isinstance(message.get("parts"), list):
        return message
    parts = message["parts"]
    if all(isinstance(part, dict) and part.get("type") == "text" for part in parts):
        text = "\n".join(str(part.get("content", "")) for part in parts)
        return {**{key: value for key, value in message.items() if key != "parts"}, "content": text}
    return message


def _document(document: Any) -> Any:
    if not isinstance(document, dict):
        return document
    rest = {key: value for key, value in document.items() if key not in ("content", "metadata")}
    metadata = document.get("metadata") if isinstance(document.get("metadata"), dict) else {}
    return {"page_content": document.get("content"), "metadata": {**rest, **(metadata or {})}}


def _info(trace_id: str, spans: Spans, contents: list[dict[str, Any]]) -> dict[str, Any]:
    """`TraceInfo.to_dict()`."""
    root, first = spans[0], contents[0]
    attributes = root.attributes or {}
    start, end = root.start_time or 0, root.end_time or root.start_time or 0
    when = datetime.datetime.fromtimestamp(start / 1e9, datetime.UTC)
    metadata = {"mlflow.trace_schema.version": "3"}
    for key, sources in (
        ("mlflow.trace.session", (names.CONVERSATION_ID, names.SESSION_ID)),
        ("mlflow.trace.user", (names.USER_ID,)),
    ):
        known = next((str(attributes[source]) for source in sources if source in attributes), None)
        if known is not None:
            metadata[key] = known
    usage = view.of_spans(spans)
    if usage.total("input_tokens") is not None or usage.total("output_tokens") is not None:
        read, written = int(usage.total("input_tokens") or 0), int(usage.total("output_tokens") or 0)
        total = {"input_tokens": read, "output_tokens": written, "total_tokens": read + written}
        metadata["mlflow.trace.tokenUsage"] = json.dumps(total)
    info: dict[str, Any] = {
        "trace_id": trace_id,
        "trace_location": {"type": "MLFLOW_EXPERIMENT", "mlflow_experiment": {"experiment_id": "0"}},
        "request_time": when.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "execution_duration_ms": (end - start) // 1_000_000,
        "state": "ERROR" if root.status.status_code.name == "ERROR" else "OK",
        "trace_metadata": metadata,
        "tags": {"mlflow.traceName": root.name},
    }
    client = attributes.get("mlflow.clientRequestId")
    if client:
        info["client_request_id"] = str(client)
    for key, source in (("request_preview", "mlflow.spanInputs"), ("response_preview", "mlflow.spanOutputs")):
        if source in first["attributes"]:
            info[key] = first["attributes"][source][:_PREVIEW_CHARS]
    return info
