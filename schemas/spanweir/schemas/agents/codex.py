"""Codex CLI 0.169 (scopes `codex_exec`, `codex_cli_rs`, `codex_app_server`, logs `codex_otel.*`).

A turn is a trace with one `session_task.turn` (`turn.id`); of its hundreds of spans only `codex.sampling` (a model
call), the tool's own span (`tool_name` and `call_id`) and the turn itself say something. Content is in log records:
`codex.user_prompt`, `codex.agent_response`, `codex.tool_result`. Tokens are on the `handle_responses` span that saw
the end of the stream, and on `codex.sse_event` of kind `response.completed`, which has no ids: joined by conversation
and time. Without spans a turn is what follows a `codex.user_prompt`. Numbers are often strings.
"""

from bisect import bisect_right

import msgspec

from spanweir.schemas.agents.compose import Call, Facts, ToolRun, Usage, compose, link_conversation
from spanweir.schemas.agents.turn import (
    Group,
    Item,
    Turn,
    first_text,
    in_order,
    int_of,
    log_time,
    milliseconds,
    span_hash,
    text_of,
    trace_hash,
    true_of,
)
from spanweir.schemas.raw import Attributes, RawLog, RawSpan

NAME = "codex"

_EVENTS = frozenset(
    {"conversation_starts", "user_prompt", "agent_response", "tool_result", "tool_decision", "api_request", "sse_event"}
)
_TURN_SPANS = frozenset({"session_task.turn", "turn/start", "codex.turn_input", "run_turn"})
_REDACTED = "[REDACTED]"
_SLACK_NS = 2_000_000
"""Log records and spans of one moment are stamped a little apart."""


class Codex:
    name = NAME

    def span(self, span: RawSpan, group: Group | None) -> bool:
        name, attributes = span.name, span.attributes
        if name == "codex.sampling" or name in _TURN_SPANS or _is_tool(span):
            return True
        if name == "receiving_stream" and group is not None and len(group.links) < 20_000:
            group.links[span.span_id] = span.parent_id
        return name == "handle_responses" and "gen_ai.usage.input_tokens" in attributes

    def keys(self, trace_id: str, attributes: Attributes) -> tuple[str, str]:
        session = first_text(attributes, "conversation.id", "conversation_id", "thread_id")
        if not session and len(thread := text_of(attributes.get("thread.id"))) == 36:
            session = thread  # A task's thread is its conversation; an operating system's thread is a small number.
        return trace_id, session

    def event(self, log: RawLog) -> str:
        name = (text_of(log.attributes.get("event.name")) or log.event_name).removeprefix("codex.")
        if name == "sse_event":
            kind = text_of(log.attributes.get("event.kind"))
            told = "input_token_count" in log.attributes or "error.message" in log.attributes
            return name if kind in ("response.completed", "response.failed") and told else ""
        return name if name in _EVENTS else ""

    # -------------------------------------------------------------------------------------------- turns

    def turns(self, group: Group) -> list[Turn]:
        """By trace id where a record has one, by time since the prompt where it has none.

        A trace that holds several `turn.id`s (a session traced as one) is split; its first turn keeps the trace id.
        """
        items = in_order(group.items.values())
        session = group.session
        marks: list[tuple[int, str]] = []
        turn_traces = _turn_traces(items)
        spans = _spans_of_turns(items)
        for item in items:
            if item.event == "conversation_starts" and (provider := first_text(item.attributes, "provider_name")):
                group.notes["provider"] = provider.lower()
            if item.event == "user_prompt" and not _running(spans, item):
                key = item.trace_id if item.trace_id in turn_traces else f"{session}/{item.start_ns}"
                marks.append((item.start_ns, key))
        for known in group.closed.values():
            if known.start_ns:
                marks.append((known.start_ns, known.key))
        marks.sort()
        turns: dict[str, Turn] = {}
        for item in items:
            key = item.trace_id if item.trace_id in turn_traces else ""
            if item.event == "conversation_starts":
                continue
            if not key and item.span is None:
                key = _running(spans, item)
            if not key and item.span is None:
                at = bisect_right(marks, (item.start_ns, "\uffff"))
                key = marks[at - 1][1] if at else ""
            if not key:
                continue
            if key not in turns:
                trace_id = trace_hash(NAME, key) if "/" in key else key
                turns[key] = Turn(key, trace_id, [], session, span_hash(trace_id))
            turns[key].items.append(item)
        split = [part for turn in turns.values() for part in _by_turn_id(turn)]
        for turn in split:
            turn.notes = group.notes
        return split

    def render(self, turn: Turn) -> list[RawSpan]:
        read = _Read(turn)
        return compose(turn, read.facts()) if read.tells_something() else []


def _is_tool(span: RawSpan) -> bool:
    """Several spans tell of one tool run; the one named after the tool spans it all."""
    return "call_id" in span.attributes and span.attributes.get("tool_name") == span.name


def _turn_traces(items: list[Item]) -> set[str]:
    """Traces that are turns; all others are the agent's own business (start, shutdown, RPC)."""
    found = set()
    for item in items:
        if item.span is not None:
            if item.span.name != "turn/start":
                found.add(item.trace_id)
        elif item.trace_id and item.event in ("user_prompt", "tool_result", "agent_response", "api_request"):
            found.add(item.trace_id)
    return found


def _spans_of_turns(items: list[Item]) -> list[tuple[int, int, str]]:
    """Start, end and trace id of turns that have spans."""
    found: dict[str, tuple[int, int]] = {}
    for item in items:
        if item.span is not None:
            start, end = found.get(item.trace_id, (item.start_ns, item.end_ns))
            found[item.trace_id] = (min(start, item.start_ns), max(end, item.end_ns))
    return sorted((start, end, trace_id) for trace_id, (start, end) in found.items())


def _running(spans: list[tuple[int, int, str]], item: Item) -> str:
    """The trace whose turn was running when the record was written; records of a turn trail it a little."""
    at = bisect_right(spans, (item.start_ns + _SLACK_NS, 0, "")) - 1
    return spans[at][2] if at >= 0 and item.start_ns <= spans[at][1] + 100 * _SLACK_NS else ""


def _by_turn_id(turn: Turn) -> list[Turn]:
    starts: dict[str, int] = {}
    for item in turn.items:
        if item.span is not None and (turn_id := first_text(item.attributes, "turn.id", "turn_id")):
            starts.setdefault(turn_id, item.start_ns)
    tops = {first_text(i.attributes, "turn.id") for i in turn.items if i.span and i.span.name == "session_task.turn"}
    if len(tops) < 2 and len(starts) < 2:
        return [turn]
    order = sorted((start, turn_id) for turn_id, start in starts.items())
    parts: dict[str, Turn] = {}
    for n, (_, turn_id) in enumerate(order):
        trace_id = trace_hash(turn.trace_id, turn_id) if n else turn.trace_id
        parts[turn_id] = Turn(f"{turn.key}/{turn_id}" if n else turn.key, trace_id, [], turn.session)
        parts[turn_id].root_id = span_hash(trace_id)
    for item in turn.items:
        own = first_text(item.attributes, "turn.id", "turn_id")
        if own not in parts:
            at = bisect_right(order, (item.start_ns, "\uffff"))
            own = order[max(at - 1, 0)][1]
        parts[own].items.append(item)
    return [part for part in parts.values() if part.items]


class _Read:
    """The records of one turn by what they are."""

    def __init__(self, turn: Turn) -> None:
        self.turn = turn
        self.top: RawSpan | None = None
        self.sampling: list[RawSpan] = []
        self.usage: list[RawSpan] = []
        self.tools: list[RawSpan] = []
        self.kept: list[RawSpan] = []
        self.events: dict[str, list[RawLog]] = {}
        for item in turn.items:
            if item.log is not None:
                self.events.setdefault(item.event, []).append(item.log)
            elif item.span is not None:
                self._add_span(item.span)

    def _add_span(self, span: RawSpan) -> None:
        if span.name == "session_task.turn":
            self.top = span
        elif span.name == "codex.sampling":
            self.sampling.append(span)
        elif span.name == "handle_responses" and "gen_ai.usage.input_tokens" in span.attributes:
            self.usage.append(span)
        elif _is_tool(span):
            self.tools.append(span)
        elif self.turn.keep:
            self.kept.append(span)

    def tells_something(self) -> bool:
        told = self.top or self.sampling or self.tools
        if told:
            return True
        if not self.events.keys() & {"user_prompt", "agent_response", "tool_result", "api_request", "sse_event"}:
            return False
        return self.turn.final or not any(item.trace_id for item in self.turn.items if item.event == "user_prompt")

    # -------------------------------------------------------------------------------------------- facts

    def facts(self) -> Facts:
        turn = self.turn
        calls = self._calls()
        tools = self._tools()
        for run in tools:
            asked = _within(calls, run.start_ns, run.end_ns)
            if asked is not None:
                asked.tools.append(run)
        prompt = self._prompt()
        link_conversation(prompt, calls)
        own = turn.items
        first = own[0]
        source = first.log if first.log is not None else first.span
        answers = [text for log in self._events("agent_response") if (text := _answer(log))]
        model = first_text(self.top.attributes, "model") if self.top else ""
        facts = Facts(
            agent=NAME,
            root=_unrooted(self.top),
            start_ns=min(item.start_ns for item in own),
            end_ns=max([*(item.end_ns for item in own), *(call.end_ns for call in calls)]),
            prompt=prompt,
            answer=answers[-1] if answers else "",
            user=first_text(first.attributes, "user.email", "user.account_id"),
            model=model or next((call.model for call in calls if call.model), ""),
            calls=calls,
            tools=tools,
            kept=self.kept,
            error=calls[-1].error if calls and calls[-1].error else "",
        )
        if source is not None:
            facts.resource, facts.scope = source.resource, source.scope
        return facts

    def _events(self, name: str) -> list[RawLog]:
        return self.events.get(name, [])

    def _prompt(self) -> str:
        texts = [first_text(log.attributes, "prompt") for log in self._events("user_prompt")]
        return "\n".join(text for text in texts if text and text != _REDACTED)

    # -------------------------------------------------------------------------------------------- model calls

    def _calls(self) -> list[Call]:
        calls = [Call(span.span_id, span.start_ns, span.end_ns, span) for span in self.sampling]
        self._add_usage_spans(calls)
        self._add_usage_events(calls)
        self._add_requests(calls)
        calls.sort(key=lambda call: (call.start_ns, call.end_ns, call.key))
        model = first_text(self.top.attributes, "model") if self.top else ""
        for call in calls:
            call.provider = self.turn.notes.get("provider", "openai")
            call.model = call.model or model or self._model_by_log()
        for log in self._events("agent_response"):
            answered = _within(calls, log_time(log), log_time(log))
            if answered is not None and (text := _answer(log)):
                answered.text = f"{answered.text}\n{text}" if answered.text else text
        return calls

    def _model_by_log(self) -> str:
        logs = [log for name in ("sse_event", "user_prompt", "api_request") for log in self._events(name)]
        return next((model for log in logs if (model := first_text(log.attributes, "model", "slug"))), "")

    def _add_usage_spans(self, calls: list[Call]) -> None:
        """`handle_responses` hangs below `receiving_stream`, whose parent is the parent of `codex.sampling`."""
        for span in self.usage:
            own = span.attributes
            usage = Usage(
                int_of(own.get("gen_ai.usage.input_tokens")),
                int_of(own.get("gen_ai.usage.output_tokens")),
                int_of(own.get("gen_ai.usage.cache_read.input_tokens")) or None,
                int_of(own.get("gen_ai.usage.cache_write.input_tokens")) or None,
                None,
                int_of(own.get("codex.usage.reasoning_output_tokens")) or None,
            )
            call = _without_usage(calls, span.start_ns, span.end_ns)
            if call is None:
                call = Call(span.span_id, span.start_ns, span.end_ns, span)
                calls.append(call)
            call.usage = usage
            if effort := first_text(own, "codex.request.reasoning_effort"):
                call.extra["gen_ai.request.reasoning.level"] = effort

    def _add_usage_events(self, calls: list[Call]) -> None:
        """One `response.completed` of each pair has the tokens. A call whose span has them already is left alone."""
        for log in self._events("sse_event"):
            own, at = log.attributes, log_time(log)
            usage = Usage(
                int_of(own.get("input_token_count")),
                int_of(own.get("output_token_count")),
                int_of(own.get("cached_token_count")) or None,
                int_of(own.get("cache_write_token_count")) or None,
                None,
                int_of(own.get("reasoning_token_count")) or None,
            )
            failed = text_of(own.get("event.kind")) == "response.failed" or "error.message" in own
            if not failed and any(_same(call, usage, at) for call in calls):
                continue
            call = _without_usage(calls, at, at)
            if call is None:
                if not self._may_make(log):
                    continue
                call = Call(f"completed/{at}", at, at, resource=log.resource, scope=log.scope)
                calls.append(call)
            if failed:
                call.error = first_text(own, "error.message") or "model call failed"
            else:
                call.usage = usage
            call.model = first_text(own, "model", "slug")

    def _may_make(self, log: RawLog) -> bool:
        """Whether a call may be made from a log record alone: no spans come, or none has for a while."""
        return self.turn.final or not any(item.trace_id for item in self.turn.items)

    def _add_requests(self, calls: list[Call]) -> None:
        """`codex.api_request` tells when a call began, and that it failed; retries share their call."""
        requests = sorted(self._events("api_request"), key=log_time)
        made = {call.key for call in calls if call.span is None}
        for n, log in enumerate(requests):
            own, end = log.attributes, log_time(log)
            start = end - milliseconds(own.get("duration_ms"))
            status = int_of(own.get("http.response.status_code")) or 0
            problem = first_text(own, "error.message") or (f"http {status}" if status >= 400 else "")
            later = [c for c in calls if c.key in made and c.start_ns >= end - _SLACK_NS]
            following = log_time(requests[n + 1]) if n + 1 < len(requests) else 0
            mine = next((c for c in later if not following or c.start_ns < following or problem), None)
            spanned = _within(calls, start, end) if not mine else None
            if mine is not None:
                mine.start_ns = min(mine.start_ns, start)
                if not problem:
                    made.discard(mine.key)
            elif spanned is not None and spanned.span is not None:
                if problem and not spanned.usage and (status or "error.message" in own):
                    spanned.error, spanned.error_type = problem, str(status or "error")
            elif problem and not following and self._may_make(log):
                failed = Call(f"request/{end}", start, end, error=problem, error_type=str(status or "error"))
                failed.resource, failed.scope, failed.model = log.resource, log.scope, first_text(own, "model")
                calls.append(failed)

    # -------------------------------------------------------------------------------------------- tools

    def _tools(self) -> list[ToolRun]:
        results = {text_of(log.attributes.get("call_id")): log for log in self._events("tool_result")}
        runs = [
            _tool(span, results.get(text_of(span.attributes.get("call_id"))), span.start_ns, span.end_ns)
            for span in self.tools
        ]
        known = {run.call_id for run in runs}
        for call_id, log in results.items():
            if call_id not in known and self._may_make(log):
                end = log_time(log)
                runs.append(_tool(None, log, end - milliseconds(log.attributes.get("duration_ms")), end))
        return sorted(runs, key=lambda run: (run.start_ns, run.key))


def _tool(span: RawSpan | None, log: RawLog | None, start: int, end: int) -> ToolRun:
    own: Attributes = {**(span.attributes if span else {}), **(log.attributes if log else {})}
    call_id = first_text(own, "call_id")
    run = ToolRun(call_id or (span.span_id if span else f"{start}/{end}"), start, end, span)
    run.name, run.call_id = first_text(own, "tool_name"), call_id
    if log is not None:
        run.arguments = text_of(own.get("arguments"))
        run.result = text_of(own.get("output"))
        if span is None:
            run.resource, run.scope = log.resource, log.scope
    if true_of(own.get("success")) is False or (span is not None and span.status_code == 2):
        run.error = run.result or (span.status_message if span else "") or "tool failed"
        run.error_type = "tool_error"
    return run


def _unrooted(top: RawSpan | None) -> RawSpan | None:
    """The turn's span as base of the root, without its parents: they are internal and dropped."""
    return None if top is None else msgspec.structs.replace(top, trace_id="", parent_id="")


def _answer(log: RawLog) -> str:
    text = first_text(log.attributes, "response")
    return "" if text == _REDACTED else text


def _same(call: Call, usage: Usage, at: int) -> bool:
    """The call's span already told of this response."""
    known = call.usage
    if known is None or call.span is None or (known.input, known.output) != (usage.input, usage.output):
        return False
    return call.start_ns - _SLACK_NS <= at <= call.end_ns + _SLACK_NS * 10


def _within(calls: list[Call], start: int, end: int) -> Call | None:
    """The call that a moment belongs to: the last that began before it."""
    found = None
    for call in calls:
        if call.start_ns - _SLACK_NS <= start and (found is None or call.start_ns > found.start_ns):
            found = call
    return found


def _without_usage(calls: list[Call], start: int, end: int) -> Call | None:
    """The call whose stream ended at that time and whose tokens are not known yet."""
    fitting = [
        call
        for call in calls
        if call.usage is None and call.start_ns - _SLACK_NS <= start and end <= call.end_ns + _SLACK_NS * 5
    ]
    return max(fitting, key=lambda call: call.start_ns, default=None)
