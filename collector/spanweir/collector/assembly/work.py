"""One trace while a group of its spans is taken in: what has to be rendered, kept and written again."""

from collections.abc import Callable, Mapping, Sequence

import msgspec

from spanweir.collector.assembly import lifting, rows, state
from spanweir.collector.assembly.fold import fold, route, take_content
from spanweir.collector.assembly.options import Options
from spanweir.collector.assembly.state import Content, First, Trace
from spanweir.collector.processors.api import Item
from spanweir.schemas.genai import GenAISpan, TraceIO
from spanweir.schemas.mlflow import Renderer
from spanweir.schemas.raw import RawSpan
from spanweir.schemas.sizes import content_bytes
from spanweir.schemas.summary import Summary, summarise
from spanweir.schemas.trace import MappedSpan

_RUNNING_MAX = 16
_KEPT_OVERHEAD = 512
_replace = msgspec.structs.replace


class Rendered(msgspec.Struct, gc=False):
    """A span in MLflow's form."""

    item: Item
    mapped: MappedSpan
    told: Summary | None = None

    @property
    def summary(self) -> Summary:
        """Made when it is asked for first."""
        summary = self.told
        if summary is None:
            summary = self.told = summarise(self.item.raw, self.item.span, self.mapped)
        return summary


def rendered(item: Item, renderer: Renderer, canonical: bool) -> Rendered:
    mapped = renderer.render(item.raw, item.span)
    if not canonical:
        mapped.canonical = None
    return Rendered(item, mapped)


class Work:
    """One trace while a group of its spans is taken in."""

    def __init__(
        self,
        trace: Trace,
        group: Mapping[str, Item],
        renderer: Renderer,
        remap: Callable[[RawSpan], GenAISpan | None],
        options: Options,
        canonical: bool,
    ) -> None:
        self.trace = trace
        self.group = group
        self.mapped: dict[str, MappedSpan] = {}
        self._renderer = renderer
        self._remap = remap
        self._limit = int(options.content_max)
        self._canonical = canonical
        self._lifted = False

    def fold(self, rendered: Sequence[Rendered] | None = None) -> bool:
        """Take the spans in, `rendered` before or not. True if that changed anything."""
        trace, changed = self.trace, False
        if rendered is None:
            rendered = [self._render(item) for item in self.group.values()]
        for one in rendered:
            item, mapped, summary = one.item, one.mapped, one.summary
            self.mapped[mapped.span_id] = mapped
            changed = fold(trace, item.raw, summary, mapped) or changed
            route(trace, item)
            if trace.root == mapped.span_id:
                take_content(trace, item.span, mapped)
        if not (trace.own_request and trace.own_response):
            for one in rendered:
                if one.mapped.span_id != trace.root:
                    lifted = lifting.offer(trace, one.item.span, one.mapped, one.summary, self._limit)
                    self._lifted = lifted or self._lifted
        elif trace.question is not None or trace.answer is not None:
            trace.question = trace.answer = None
        return changed

    def _render(self, item: Item) -> Rendered:
        trace, raw = self.trace, item.raw
        if trace.dropped and raw.parent_id in trace.dropped:
            item.raw = _replace(raw, parent_id=trace.parent_of(raw.parent_id))
        return rendered(item, self._renderer, self._canonical)

    def settle(self) -> bool:
        """Find the root, or who stands in for it, and emit it again where that or its content changed."""
        trace = self.trace
        before = (trace.adopted, trace.placeholders, rows.root_of(trace))
        adopted, placeholders = self._stand_ins()
        trace.adopted, trace.placeholders = adopted, placeholders
        root = rows.root_of(trace)
        if before[0] and before[0] != adopted and before[0] not in self.mapped:
            self._again(before[0])
        self._keep()
        if trace.root:
            if self._lacking() and (root in self.mapped or self._lifted or before[2] != root):
                self._again(root, lift=True)
        elif adopted and (adopted in self.mapped or self._lifted or before[0] != adopted):
            self._again(adopted, lift=True)
        for span_id in placeholders:
            raw = rows.placeholder(trace, span_id)
            span = self._with_lifted(None) if span_id == root else None
            self._write(span_id, raw, span)
        return before != (adopted, placeholders, root)

    def _stand_ins(self) -> tuple[str, list[str]]:
        trace = self.trace
        if not trace.finalised or not trace.nodes:
            return "", []
        missing = sorted(
            trace.waiting, key=lambda parent: min((trace.nodes[i].start_ns, i) for i in trace.waiting[parent])
        )
        if not trace.root and len(missing) == 1:
            children = trace.waiting[missing[0]]
            if len(children) == 1 and (children[0] in trace.kept or children[0] in self.group):
                return children[0], []
        return "", missing[: rows.PLACEHOLDERS_MAX]

    def _lacking(self) -> bool:
        """There is content that the root does not have."""
        trace = self.trace
        return (not trace.own_request and (trace.question or trace.given_request) is not None) or (
            not trace.own_response and (trace.answer or trace.given_response) is not None
        )

    def _keep(self) -> None:
        """Keep the one span that may have to be sent again: a root without content of its own, or the first orphan."""
        trace = self.trace
        if trace.root:
            wanted = trace.root if not (trace.own_request and trace.own_response and trace.root_ended) else ""
        else:
            orphans = [i for ids in trace.waiting.values() for i in ids]
            wanted = min(orphans, key=lambda i: (trace.nodes[i].start_ns, -trace.nodes[i].end_ns, i), default="")
        if wanted and wanted in self.group:
            self._freeze(wanted)
        for span_id in list(trace.kept):
            if span_id not in (wanted, trace.adopted) and span_id not in trace.running:
                del trace.kept[span_id]

    def _freeze(self, span_id: str) -> None:
        raw = self.group[span_id].raw
        if _size(raw) <= self._limit:
            self.trace.kept[span_id] = state.freeze(raw)

    def move(self, span_ids: Sequence[str]) -> None:
        """Write spans again whose parents were taken out."""
        for span_id in span_ids:
            self._again(span_id)

    def mend_running(self) -> None:
        """Spans without an end: kept while the trace is open, then ended where the trace ends."""
        trace = self.trace
        for span_id in self.group:
            node = trace.nodes[span_id]
            if node.end_ns == 0 and span_id not in trace.running and len(trace.running) < _RUNNING_MAX:
                self._freeze(span_id)
                if span_id in trace.kept:
                    trace.running.append(span_id)
        for span_id in list(trace.running):
            if trace.nodes[span_id].end_ns:
                trace.running.remove(span_id)
            elif trace.complete:
                self._again(span_id, lift=span_id == rows.root_of(trace), end=True)

    def _again(self, span_id: str, *, lift: bool = False, end: bool = False) -> None:
        """Render a span once more, with its place, its end or its content as they now are."""
        trace, item = self.trace, self.group.get(span_id)
        if item is not None:
            raw, span = item.raw, item.span
        elif span_id in trace.kept:
            raw = state.thaw(trace.kept[span_id])
            span = self._remap(raw)
        else:
            return
        parent = "" if span_id == trace.adopted else trace.nodes[span_id].parent
        if end:
            stop = max(trace.end_ns, raw.start_ns)
            raw = _replace(raw, end_ns=stop, issues=(*raw.issues, "no_end"), parent_id=parent)
        elif raw.parent_id != parent:
            raw = _replace(raw, parent_id=parent)
        span = self._with_lifted(span) if lift else span
        self._write(span_id, raw, span)

    def _write(self, span_id: str, raw: RawSpan, span: GenAISpan | None) -> None:
        mapped = self.mapped[span_id] = self._renderer.render(raw, span)
        if not self._canonical:
            mapped.canonical = None

    def _with_lifted(self, span: GenAISpan | None) -> GenAISpan | None:
        """`span` with the trace's question and answer where it has no inputs or outputs itself."""
        trace = self.trace
        request = response = None
        if not trace.own_request:
            request = _best(trace.given_request, trace.question)
        if not trace.own_response:
            response = _best(trace.given_response, trace.answer)
        if request is None and response is None:
            return span
        io = (span.io if span is not None else None) or TraceIO()
        io = _replace(
            io,
            input=io.input if request is None or io.input is not None else msgspec.Raw(request),
            output=io.output if response is None or io.output is not None else msgspec.Raw(response),
        )
        return _replace(span, io=io) if span is not None else GenAISpan(kind="other", io=io)


def _best(given: First | None, content: Content | None) -> bytes | None:
    if given is not None:
        return given[2].encode("utf-8", "replace")
    return content.value if content is not None else None


def _size(raw: RawSpan) -> int:
    return _KEPT_OVERHEAD + content_bytes(raw)
