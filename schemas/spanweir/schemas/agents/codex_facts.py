"""What the records of one turn of Codex say: prompt, answers, model calls, tool runs.

Tool results are joined by `call_id`; tokens, answers and failed requests to the model call that was running then.
"""

import re

import msgspec

from spanweir.schemas.agents.compose import link_conversation
from spanweir.schemas.agents.facts import Call, Facts, ToolRun, Usage
from spanweir.schemas.agents.turn import Turn, first_text, int_of, log_time, milliseconds, text_of, true_of
from spanweir.schemas.raw import Attributes, Event, RawLog, RawSpan

NAME = "codex"
SLACK_NS = 2_000_000
"""Log records and spans of one moment are stamped a little apart."""

_REDACTED = "[REDACTED]"
_SAID = re.compile(r'OutputText \{ text: "((?:[^"\\]|\\.)*)"', re.DOTALL)
_ESCAPE = re.compile(r"\\(?:u\{([0-9a-fA-F]{1,6})\}|(.))", re.DOTALL)
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t", "0": "\0"}


def is_tool(span: RawSpan) -> bool:
    """Several spans tell of one tool run; the one named after the tool spans it all."""
    return "call_id" in span.attributes and span.attributes.get("tool_name") == span.name


def spoken(span: RawSpan) -> str:
    """What the assistant said in an output item that versions about 0.74 print, as Rust does for debugging, into an
    event of the span that handles it."""
    for event in span.events:
        item = text_of(event.attributes.get("item"))
        if item.startswith("Message {") and 'role: "assistant"' in item:
            return "\n".join(_ESCAPE.sub(_unescaped, text) for text in _SAID.findall(item))
    return ""


def _unescaped(match: re.Match[str]) -> str:
    point, char = match.groups()
    if point is None:
        return _ESCAPES.get(char, char)
    return chr(code) if (code := int(point, 16)) <= 0x10FFFF else match[0]


class Records:
    """The records of one turn by what they are."""

    def __init__(self, turn: Turn) -> None:
        self.turn = turn
        self.top: RawSpan | None = None
        self.sampling: list[RawSpan] = []
        self.attempts: list[RawSpan] = []
        self.usage: list[RawSpan] = []
        self.tools: list[RawSpan] = []
        self.said: list[tuple[int, str]] = []
        """When, and what the assistant answered."""
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
        elif span.name == "try_run_sampling_request":
            self.attempts.append(span)
        elif span.name == "handle_responses" and "gen_ai.usage.input_tokens" in span.attributes:
            self.usage.append(span)
        elif is_tool(span):
            self.tools.append(span)
        elif span.name == "handle_output_item_done" and (text := spoken(span)):
            self.said.append((span.start_ns, text))

    def _answers(self) -> list[tuple[int, str]]:
        """By log record, or by the spans of versions that log none."""
        logged = [(log_time(log), text) for log in self._events("agent_response") if (text := _answer(log))]
        return logged or sorted(self.said)

    def tells_something(self) -> bool:
        told = self.top or self.sampling or self.tools or self.said
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
        answers = [text for _, text in self._answers()]
        model = first_text(self.top.attributes, "model") if self.top else ""
        return Facts(
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
        ).close(calls, first.source)

    def _events(self, name: str) -> list[RawLog]:
        return self.events.get(name, [])

    def _prompt(self) -> str:
        texts = [first_text(log.attributes, "prompt") for log in self._events("user_prompt")]
        return "\n".join(text for text in texts if text and text != _REDACTED)

    # -------------------------------------------------------------------------------------------- model calls

    def _calls(self) -> list[Call]:
        # Versions without `codex.sampling` have only the span around it, which also waits for the tools.
        spans = self.sampling or (self.attempts if self.top or self.turn.final else [])
        calls = [Call(span.span_id, span.start_ns, span.end_ns, span) for span in spans]
        self._add_usage_spans(calls)
        self._add_usage_events(calls)
        self._add_requests(calls)
        calls.sort(key=lambda call: (call.start_ns, call.end_ns, call.key))
        model = first_text(self.top.attributes, "model") if self.top else ""
        for call in calls:
            call.provider = self.turn.notes.get("provider", "openai")
            call.model = call.model or model or self._model_by_log()
        for at, text in self._answers():
            answered = _within(calls, at, at)
            if answered is not None:
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
            beside = self.turn.links.get(span.parent_id, "-")
            call = next((c for c in calls if c.span and c.span.parent_id == beside), None)
            call = call or _without_usage(calls, span.start_ns, span.end_ns)
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
            later = [c for c in calls if c.key in made and c.start_ns >= end - SLACK_NS]
            following = log_time(requests[n + 1]) if n + 1 < len(requests) else 0
            mine = next((c for c in later if not following or c.start_ns < following or problem), None)
            spanned = _within(calls, start, end) if not mine else None
            if problem and (call := mine or spanned):
                told = {k: v for k, v in own.items() if k in ("attempt", "http.response.status_code", "error.message")}
                call.events.append(Event(name="codex.api_request", time_ns=end, attributes=told))
            if mine is not None:
                mine.start_ns = min(mine.start_ns, start)
                if not problem:
                    made.discard(mine.key)
            elif spanned is not None and spanned.span is not None:
                if problem and not spanned.usage:
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
    return call.start_ns - SLACK_NS <= at <= call.end_ns + SLACK_NS * 10


def _within(calls: list[Call], start: int, end: int) -> Call | None:
    """The call that a moment belongs to: the last that began before it."""
    found = None
    for call in calls:
        if call.start_ns - SLACK_NS <= start and (found is None or call.start_ns > found.start_ns):
            found = call
    return found


def _without_usage(calls: list[Call], start: int, end: int) -> Call | None:
    """The call whose stream ended at that time and whose tokens are not known yet."""
    fitting = [
        call
        for call in calls
        if call.usage is None and call.start_ns - SLACK_NS <= start and end <= call.end_ns + SLACK_NS * 5
    ]
    return max(fitting, key=lambda call: call.start_ns, default=None)
