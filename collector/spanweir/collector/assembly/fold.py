"""One span into the state of its trace."""

import re
from collections.abc import Iterable

from spanweir.collector.assembly import totals
from spanweir.collector.assembly.assessments import assessment_of
from spanweir.collector.assembly.state import CALLS, Facts, First, Node, Trace, dollars_of, earlier, tokens_of
from spanweir.collector.processors.api import Item
from spanweir.schemas.genai import GenAISpan
from spanweir.schemas.raw import RawSpan, Resource
from spanweir.schemas.summary import Summary, request_preview, response_preview, said
from spanweir.schemas.trace import MappedSpan

ASSESSMENTS_MAX = 1000
KEYS_MAX = 200
_HTTP_NAME = re.compile(r"(?:HTTP |GET|POST|PUT|PATCH|DELETE|HEAD|OPTIONS|CONNECT|TRACE)\b")
_SERVER, _PRODUCER, _CONSUMER = 2, 4, 5
_TITLED = frozenset({"agent", "workflow"})
_MLFLOW, _TRACE_TAG = "mlflow.", "mlflow.traceTag."
_WEAKER_NS = 1 << 62
"""Added to the start of a span that gives a value for want of a better one: any real one is then the earlier."""
_INPUTS, _OUTPUTS = "mlflow.spanInputs", "mlflow.spanOutputs"
_RESOURCE_HIDDEN = ("telemetry.sdk.", "mlflow.", "process.", "host.", "os.")


def fold(trace: Trace, raw: RawSpan, summary: Summary, mapped: MappedSpan) -> bool:
    """Put a span into the state; a span that was there is replaced. True if that changed anything."""
    span_id = summary.span_id
    node = _node(summary, mapped, raw.scope.name)
    parent = trace.parent_of(node.parent) if trace.dropped else node.parent
    node.parent = "" if parent == span_id else parent
    old = trace.nodes.get(span_id)
    if old is not None:
        changed = _replace(trace, span_id, old, node)
    else:
        changed = True
        _insert(trace, span_id, node)
    changed = tell(trace, span_id, summary) or changed
    if summary.evaluations:
        changed = _judged(trace, span_id, summary) or changed
    if node.parent and trace.root == span_id:
        # What was made of a coding agent's records had no parent, its span has one, perhaps a remote one.
        trace.root, trace.root_ended = "", False
    if not node.parent and (not trace.root or _precedes(trace, span_id, node)):
        take_root(trace, raw, summary)
    return changed


def _node(summary: Summary, mapped: MappedSpan, scope: str) -> Node:
    usage, aggregate = summary.usage, False
    if usage is None:
        usage, aggregate = summary.rollup, summary.rollup is not None
    elif summary.kind not in CALLS:
        aggregate = True
    return Node(
        summary.parent_id,
        summary.start_ns,
        summary.end_ns,
        summary.kind,
        summary.error,
        None if usage is None else tokens_of(usage),
        aggregate,
        None if summary.cost is None else dollars_of(summary.cost),
        len(mapped.content),
        summary.response_id or "",
        scope,
        summary.running,
    )


def _insert(trace: Trace, span_id: str, node: Node) -> None:
    nodes = trace.nodes
    nodes[span_id] = node
    parent = node.parent
    children = trace.waiting.pop(span_id, None) if trace.waiting else None
    if children:
        trace.outermost = None
        totals.meet(trace, span_id, children)
    if parent and parent not in nodes:
        trace.waiting.setdefault(parent, []).append(span_id)
    if node.usage is not None or node.cost is not None or span_id in trace.below:
        totals.add(trace, span_id, node)
    trace.size_bytes += node.size_bytes
    if not trace.start_ns or node.start_ns < trace.start_ns:
        trace.start_ns = node.start_ns
    if node.end_ns > trace.end_ns:
        trace.end_ns = node.end_ns


def _replace(trace: Trace, span_id: str, old: Node, node: Node) -> bool:
    if old == node:
        return False
    trace.nodes[span_id] = node
    trace.size_bytes += node.size_bytes - old.size_bytes
    if old.parent != node.parent:
        rewait(trace)
    if (old.usage, old.cost, old.aggregate, old.parent, old.kind, old.response_id, old.running) != (
        node.usage, node.cost, node.aggregate, node.parent, node.kind, node.response_id, node.running,
    ):  # fmt: skip
        totals.rebuild(trace)
    if (old.start_ns, old.end_ns) != (node.start_ns, node.end_ns):
        trace.start_ns = min(n.start_ns for n in trace.nodes.values())
        trace.end_ns = max(n.end_ns for n in trace.nodes.values())
    return True


def unfold(trace: Trace, span_ids: Iterable[str]) -> bool:
    """Take spans out that no longer stand. True if any was there."""
    gone = [i for i in span_ids if i in trace.nodes]
    if not gone:
        return False
    for span_id in gone:
        trace.size_bytes -= trace.nodes.pop(span_id).size_bytes
        trace.kept.pop(span_id, None)
        if span_id in trace.running:
            trace.running.remove(span_id)
    if trace.root in gone:
        trace.root, trace.root_ended = "", False
    rewait(trace)
    totals.rebuild(trace)
    trace.start_ns = min((n.start_ns for n in trace.nodes.values()), default=0)
    trace.end_ns = max((n.end_ns for n in trace.nodes.values()), default=0)
    return True


def rewait(trace: Trace) -> None:
    """Find anew which parents are missing."""
    trace.waiting = {}
    for span_id, node in trace.nodes.items():
        if node.parent and node.parent not in trace.nodes:
            trace.waiting.setdefault(node.parent, []).append(span_id)


def _precedes(trace: Trace, span_id: str, node: Node) -> bool:
    root = trace.nodes.get(trace.root)
    return root is None or (node.start_ns, span_id) <= (root.start_ns, trace.root)


def take_root(trace: Facts, raw: RawSpan, summary: Summary) -> None:
    """Let the trace have this span's name and tags."""
    trace.root = summary.span_id
    trace.root_name = summary.name
    trace.root_generic = summary.kind in ("", "other", "hook") and (
        raw.kind in (_SERVER, _PRODUCER, _CONSUMER) or _HTTP_NAME.match(summary.name) is not None
    )
    trace.root_ended = summary.end_ns > 0
    trace.root_tags = _resource_tags(raw.resource)
    attributes = raw.attributes
    own = [key for key in attributes if key.startswith(_MLFLOW)]
    if not own:
        return
    given = ((key[len(_TRACE_TAG) :], attributes[key]) for key in own if key.startswith(_TRACE_TAG))
    trace.root_tags = {**trace.root_tags, **{key: value for key, value in given if isinstance(value, str)}}
    trace.client_request_id = _text(attributes.get("mlflow.clientRequestId")) or trace.client_request_id
    trace.model_id = _text(attributes.get("mlflow.modelId")) or trace.model_id
    trace.run_id = trace.run_id or _text(attributes.get("mlflow.sourceRun"))


_last_resource: tuple[Resource | None, dict[str, str]] = (None, {})


def _resource_tags(resource: Resource) -> dict[str, str]:
    """Resource attributes as trace tags, as MLflow 3.15+ has them, less what describes the process and its host."""
    global _last_resource
    last, tags = _last_resource
    if last is not resource:
        tags = {
            key: value if isinstance(value, str) else str(value)
            for key, value in resource.attributes.items()
            if value is not None and not key.startswith(_RESOURCE_HIDDEN)
        }
        _last_resource = (resource, tags)
    return tags


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def take_content(facts: Facts, span: GenAISpan | None, mapped: MappedSpan) -> None:
    """The root's own inputs and outputs."""
    inputs, outputs = said(mapped, _INPUTS), said(mapped, _OUTPUTS)
    facts.request = facts.response = facts.request_preview = facts.response_preview = None
    if inputs:
        facts.request = inputs.encode("utf-8", "replace")
        facts.request_preview = request_preview(span, mapped)
    if outputs:
        facts.response = outputs.encode("utf-8", "replace")
        facts.response_preview = response_preview(span, mapped)
    # Inputs of which nothing can be shown, such as a graph's empty state, are no question.
    facts.own_request = facts.request_preview is not None
    facts.own_response = facts.response_preview is not None


def route(facts: Facts, item: Item) -> None:
    """Where the trace goes: the first span that says so decides."""
    if item.experiment and not facts.experiment:
        facts.experiment = item.experiment
    if item.tenant and not facts.tenant:
        facts.tenant = item.tenant
    if item.run_id and not facts.run_id:
        facts.run_id = item.run_id


def tell(trace: Facts, span_id: str, summary: Summary) -> bool:
    """Values of the trace that any of its spans may give. True if that changed any."""
    start, changed = summary.start_ns, False
    if not trace.root and summary.name:
        changed = _offer(trace, "first_name", (start, span_id, summary.name))
    if summary.kind in _TITLED and (title := summary.title or summary.name):
        changed = _offer(trace, "title", (start, span_id, title)) or changed
    if summary.session_id:
        changed = _offer(trace, "session", (start, span_id, summary.session_id)) or changed
    elif summary.conversation_id:
        weaker = start if summary.session_id is not None else start + _WEAKER_NS
        changed = _offer(trace, "session", (weaker, span_id, summary.conversation_id)) or changed
    if summary.user_id:
        changed = _offer(trace, "user", (start, span_id, summary.user_id)) or changed
    if summary.trace_name:
        changed = _offer(trace, "given_name", (start, span_id, summary.trace_name)) or changed
    if summary.trace_request:
        changed = _offer(trace, "given_request", (start, span_id, summary.trace_request)) or changed
    if summary.trace_response:
        changed = _offer(trace, "given_response", (start, span_id, summary.trace_response)) or changed
    if summary.tags:
        changed = _merge(trace.tags, summary.tags, start, span_id) or changed
    if summary.metadata:
        changed = _merge(trace.metadata, summary.metadata, start, span_id) or changed
    return changed


def _offer(trace: Facts, field: str, value: First) -> bool:
    old: First | None = getattr(trace, field)
    if old is not None and (value == old or earlier(old, value) is old):
        return False
    setattr(trace, field, value)
    return True


def _judged(trace: Trace, span_id: str, summary: Summary) -> bool:
    changed = False
    session = summary.session_id or summary.conversation_id or (trace.session[2] if trace.session else None)
    for i, evaluation in enumerate(summary.evaluations):
        assessment = assessment_of(evaluation, trace.trace_id, span_id, i, session)
        if trace.assessments.get(assessment.assessment_id) != assessment and len(trace.assessments) < ASSESSMENTS_MAX:
            trace.assessments[assessment.assessment_id] = assessment
            changed = True
    return changed


def _merge(into: dict[str, tuple[int, str, str]], values: dict[str, str], start: int, span_id: str) -> bool:
    changed = False
    for key, value in values.items():
        old = into.get(key)
        if old is None and len(into) >= KEYS_MAX:
            continue
        best = earlier(old, (start, span_id, value))
        if best != old:
            into[key] = best
            changed = True
    return changed
