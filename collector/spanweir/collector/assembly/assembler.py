"""The state machine over all traces.

A trace is *open* until its root has ended and no parent is missing, or until it was idle for too long; then it is
*complete*, and its state is kept for spans that come late: as it is for some time, then encoded. Whatever touches a
trace, the spans that have to be written again and the trace's row come out: values, never increments. A trace that
comes at once (`whole`) never has such a state.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import copy
from itertools import chain

import msgspec

from spanweir.collector.assembly import rows, state, totals, whole
from spanweir.collector.assembly.fold import rewait, unfold
from spanweir.collector.assembly.hydrate import trace_of
from spanweir.collector.assembly.options import Options
from spanweir.collector.assembly.state import Kept, Saved, Trace
from spanweir.collector.assembly.work import Rendered, Work, rendered
from spanweir.collector.processors.api import Item
from spanweir.exporters.api import KnownTrace
from spanweir.schemas.genai import GenAISpan
from spanweir.schemas.mlflow import Renderer
from spanweir.schemas.raw import RawSpan
from spanweir.schemas.trace import Assessment, MappedSpan, TraceRow

_HYDRATE_AGE_NS = 5_000_000_000
_WARM_S = 30.0
_WARM_SPANS = 200
"""Of complete traces that are kept as they are. Few, so that a trace is encoded while it is still in the processor's
cache, and its memory serves the next one: 5,000 cost 2 % of the thread's time and 7 MB."""
_replace = msgspec.structs.replace


class Emission(msgspec.Struct):
    """What has to be written: within it a span and a trace occur once."""

    spans: list[MappedSpan] = []
    traces: list[TraceRow] = []


class Assembler:
    """Not thread-safe. `remap` gives the canonical span of a raw one that is sent again (mapping and processors);
    `hydrate` asks a destination for what it has of traces; `count` moves a counter by its name. Without `canonical`
    the spans that come out hold no canonical span: it goes as soon as it was rendered, while it is at hand."""

    def __init__(
        self,
        renderer: Renderer,
        remap: Callable[[RawSpan], GenAISpan | None],
        options: Options | None = None,
        *,
        hydrate: Callable[[Sequence[str]], Mapping[str, KnownTrace]] | None = None,
        count: Callable[[str, int], None] = lambda name, n: None,
        canonical: bool = True,
    ) -> None:
        self._renderer = renderer
        self._remap = remap
        self._options = options or Options()
        self._hydrate = hydrate
        self._count = count
        self._canonical = canonical
        self._open: OrderedDict[str, Trace] = OrderedDict()
        self._open_bytes = 0
        self._warm: OrderedDict[str, Trace] = OrderedDict()
        self._warm_spans = self._warm_bytes = 0
        self._closed: OrderedDict[str, Kept] = OrderedDict()
        self._closed_bytes = 0

    # ---------------------------------------------------------------------------------------- in

    def process(
        self,
        items: Iterable[Item],
        now_s: float,
        now_ns: int,
        *,
        dropped: Iterable[RawSpan] = (),
        assessments: Iterable[tuple[str, Assessment]] = (),
        retracted: Iterable[tuple[str, str]] = (),
    ) -> Emission:
        """Take in spans; `dropped` are spans that a processor took out: their children move up to their parents.
        `retracted` are (trace, span) ids that were taken in before and no longer stand.

        `now_s` is monotonic and times traces out, `now_ns` is Unix time and tells old spans from new ones.
        """
        groups: dict[str, dict[str, Item]] = {}
        for item in items:
            raw = item.raw
            group = groups.get(raw.trace_id)
            if group is None:
                groups[raw.trace_id] = {raw.span_id: item}
            else:
                group[raw.span_id] = item
        removed: dict[str, list[RawSpan]] = {}
        for raw in dropped:
            removed.setdefault(raw.trace_id, []).append(raw)
        judged: dict[str, list[Assessment]] = {}
        for trace_id, assessment in assessments:
            judged.setdefault(trace_id, []).append(assessment)
        gone: dict[str, list[str]] = {}
        for trace_id, span_id in retracted:
            gone.setdefault(trace_id, []).append(span_id)
        known = self._ask(groups, judged, now_ns) if self._hydrate else {}
        emission = Emission()
        if not (removed or judged or gone):
            for trace_id, group in groups.items():
                self._group(trace_id, group, known.get(trace_id), now_s, emission)
            self._bound(now_s, emission)
            return emission
        for trace_id in dict.fromkeys((*groups, *removed, *judged, *gone)):
            group = groups.get(trace_id, {})
            trace = self._take(trace_id, known.get(trace_id), now_s)
            moved = self._remove(trace, removed.get(trace_id, ()), group)
            changed = self._judge(trace, judged.get(trace_id, ())) or bool(moved)
            changed = unfold(trace, [i for i in gone.get(trace_id, ()) if i not in group]) or changed
            self._assemble(trace, group, changed, now_s, emission, moved)
        self._bound(now_s, emission)
        return emission

    def _group(
        self, trace_id: str, group: Mapping[str, Item], known: KnownTrace | None, now_s: float, emission: Emission
    ) -> None:
        """Spans of one trace."""
        shown: list[Rendered] | None = None
        if known is None and not self.knows(trace_id) and (parents := whole.parents_of(group)) is not None:
            renderer, canonical = self._renderer, self._canonical
            shown = [rendered(item, renderer, canonical) for item in group.values()]
            told = whole.told(trace_id, shown, parents, int(self._options.content_max))
            if told is not None:
                row, kept = told
                emission.spans += [one.mapped for one in shown]
                emission.traces.append(row)
                self._keep(trace_id, kept)
                return
        self._assemble(self._take(trace_id, known, now_s), group, False, now_s, emission, (), shown)

    def tick(self, now_s: float) -> Emission:
        """Finalise traces that were idle for too long."""
        emission = Emission()
        while self._warm and next(iter(self._warm.values())).touched_s <= now_s - _WARM_S:
            self._freeze_oldest()
        idle_since = now_s - self._options.idle_timeout
        while self._open:
            trace = next(iter(self._open.values()))
            if trace.touched_s > idle_since:
                break
            self._finalise(trace, now_s, emission)
        return emission

    def finalise(self, keep: Callable[[str], bool], now_s: float) -> Emission:
        """Finalise every open trace but those that `keep` names."""
        emission = Emission()
        for trace in list(self._open.values()):
            if not keep(trace.trace_id):
                self._finalise(trace, now_s, emission)
        return emission

    def knows(self, trace_id: str) -> bool:
        return trace_id in self._open or trace_id in self._warm or trace_id in self._closed

    def is_open(self, trace_id: str) -> bool:
        return trace_id in self._open

    @property
    def sizes(self) -> tuple[int, int, int]:
        """Open traces, complete traces that are kept, and the bytes of these."""
        return len(self._open), len(self._warm) + len(self._closed), self._closed_bytes

    # ---------------------------------------------------------------------------------------- snapshots

    def snapshot(self, closed_max: int = 2 << 20) -> bytes:
        """Every open trace, and the newest complete ones up to `closed_max` bytes."""
        closed: list[Kept] = []
        warm = (state.keep(copy(trace)) for trace in reversed(self._warm.values()))
        for kept in chain(warm, reversed(self._closed.values())):
            closed_max -= kept.size_bytes
            if closed_max < 0:
                break
            closed.append(kept)
        closed.reverse()
        return state.encode(Saved(list(self._open.values()), closed))

    def restore(self, data: bytes, now_s: float) -> None:
        """Take over what `snapshot` wrote. Raises msgspec.MsgspecError."""
        saved = state.decode_saved(data)
        for trace in saved.opened:
            trace.touched_s = trace.opened_s = now_s
            self._open[trace.trace_id] = trace
            self._open_bytes += trace.weight
        for kept in saved.closed:
            self._keep(state.of(kept).trace_id, kept)

    # ---------------------------------------------------------------------------------------- traces

    def _take(self, trace_id: str, known: KnownTrace | None, now_s: float) -> Trace:
        # To pop a key that is not there is slow, and most traces are new.
        if trace_id in self._open:
            trace = self._open.pop(trace_id)
            self._open_bytes -= trace.weight
            return trace
        if trace_id in self._warm:
            trace = self._warm.pop(trace_id)
            self._warm_spans -= len(trace.nodes)
            self._warm_bytes -= trace.weight
            return trace
        if trace_id in self._closed:
            kept = self._closed.pop(trace_id)
            self._closed_bytes -= kept.size_bytes
            trace = whole.thaw(kept)
        elif known is not None:
            self._count("spanweir_assembly_hydrated_traces", 1)
            trace = trace_of(known)
        else:
            trace = Trace(trace_id=trace_id)
        trace.opened_s = now_s
        return trace

    def _ask(
        self, groups: Mapping[str, Mapping[str, Item]], judged: Mapping[str, object], now_ns: int
    ) -> Mapping[str, KnownTrace]:
        """What a destination knows of traces that are not known here and did not begin just now."""
        unknown = [trace_id for trace_id in judged if trace_id not in groups and not self.knows(trace_id)]
        for trace_id, group in groups.items():
            for item in group.values():
                if not item.raw.parent_id:
                    break
            else:
                began_ns = min(item.raw.start_ns for item in group.values())
                if began_ns < now_ns - _HYDRATE_AGE_NS and not self.knows(trace_id):
                    unknown.append(trace_id)
        if not unknown or self._hydrate is None:
            return {}
        return self._hydrate(unknown)

    def _bound(self, now_s: float, emission: Emission) -> None:
        options = self._options
        while len(self._open) > options.open_max or (self._open_bytes > options.held_max and len(self._open) > 1):
            self._count("spanweir_assembly_finalised_for_room", 1)
            self._finalise(next(iter(self._open.values())), now_s, emission)

    def _finalise(self, trace: Trace, now_s: float, emission: Emission) -> None:
        if self._open.pop(trace.trace_id, None) is not None:
            self._open_bytes -= trace.weight
        trace.finalised = True
        self._count("spanweir_assembly_finalised_traces", 1)
        self._assemble(trace, {}, True, now_s, emission)

    def _close(self, trace: Trace) -> None:
        self._warm[trace.trace_id] = trace
        self._warm_spans += len(trace.nodes)
        self._warm_bytes += trace.weight
        while (self._warm_spans > _WARM_SPANS or self._warm_bytes > self._options.closed_max) and len(self._warm) > 1:
            self._freeze_oldest()

    def _freeze_oldest(self) -> None:
        trace_id, trace = self._warm.popitem(last=False)
        self._warm_spans -= len(trace.nodes)
        self._warm_bytes -= trace.weight
        self._keep(trace_id, state.keep(trace))

    def _keep(self, trace_id: str, kept: Kept) -> None:
        self._closed[trace_id] = kept
        self._closed_bytes += kept.size_bytes
        while self._closed_bytes > self._options.closed_max and len(self._closed) > 1:
            self._closed_bytes -= self._closed.popitem(last=False)[1].size_bytes

    # ---------------------------------------------------------------------------------------- one trace

    def _remove(self, trace: Trace, removed: Iterable[RawSpan], group: dict[str, Item]) -> list[str]:
        """Note the spans that were taken out. The kept children of theirs that were written before are returned.

        Where such a child cannot be written again, the span is put back, bare: a gap in the tree is worse.
        """
        moved: list[str] = []
        for raw in removed:
            written = [i for i in trace.waiting.get(raw.span_id, ()) if i not in group]
            if any(i not in trace.kept for i in written):
                self._count("spanweir_filter_kept_parents", 1)
                group[raw.span_id] = Item(_replace(raw, attributes={}, events=[], links=[]))
                continue
            moved += written
            if trace.dropped.get(raw.span_id) == raw.parent_id:
                continue
            trace.dropped[raw.span_id] = raw.parent_id
            totals.drop(trace, raw.span_id)
            trace.outermost = None
            parent = trace.parent_of(raw.span_id)
            for span_id in trace.waiting.get(raw.span_id, ()):
                trace.nodes[span_id].parent = parent
            rewait(trace)
        return moved

    def _judge(self, trace: Trace, assessments: Iterable[Assessment]) -> bool:
        changed = False
        for assessment in assessments:
            if trace.assessments.get(assessment.assessment_id) != assessment:
                trace.assessments[assessment.assessment_id] = assessment
                changed = True
        return changed

    def _assemble(
        self,
        trace: Trace,
        group: Mapping[str, Item],
        changed: bool,
        now_s: float,
        emission: Emission,
        moved: Sequence[str] = (),
        shown: Sequence[Rendered] | None = None,
    ) -> None:
        """Fold the spans of `group` in, settle who the root is, and emit what has to be written."""
        work = Work(trace, group, self._renderer, self._remap, self._options, self._canonical)
        changed = work.fold(shown) or changed
        work.move(moved)
        wait = self._options.max_wait
        if wait and not trace.complete and trace.nodes and now_s - trace.opened_s > wait:
            trace.finalised = True
        changed = work.settle() or changed
        trace.complete = trace.finalised or (trace.root_ended and not trace.waiting)
        work.mend_running()
        if trace.complete and changed:
            trace.revision += 1
        trace.touched_s = now_s
        if trace.nodes:
            emission.spans.extend(work.mapped.values())
            emission.traces.append(rows.row(trace))
        trace.forget(int(self._options.content_max))
        trace.weigh()
        if trace.complete:
            self._close(trace)
        elif trace.nodes or trace.dropped or trace.assessments:
            self._open[trace.trace_id] = trace
            self._open_bytes += trace.weight
