"""Qwen Code 0.24 (scope `qwen-code`): one trace for each turn, rooted at `qwen-code.interaction`, in `gen_ai.*`.

Content is on the spans; the text of a failed tool only in the log event `tool_call`. Hook spans are marked as failed
when the hook said nothing, and are internal. A background memory agent runs in traces of its own. Version 0.15 sends
log records and metrics only: then a turn is one `prompt_id` of a session.
"""

import msgspec
import orjson

from spanweir.schemas.agents.compose import (
    ERROR,
    UTILITY,
    Call,
    Facts,
    ToolRun,
    Usage,
    compose,
    link_conversation,
)
from spanweir.schemas.agents.gemini_content import output_text, to_messages, user_text
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

NAME = "qwen-code"

_EVENTS = frozenset({"user_prompt", "api_request", "api_response", "api_error", "tool_call"})
_INTERNAL = frozenset({"hook", "tool.execution", "tool.blocked_on_user"})


class QwenCode:
    name = NAME

    def span(self, span: RawSpan, group: Group | None) -> bool:
        if _kind(span) not in _INTERNAL:
            return True
        if group is not None and len(group.links) < 20_000:
            group.links[span.span_id] = span.parent_id
        return False

    def keys(self, trace_id: str, attributes: Attributes) -> tuple[str, str]:
        return trace_id, first_text(attributes, "session.id", "gen_ai.conversation.id")

    def event(self, log: RawLog) -> str:
        name = (text_of(log.attributes.get("event.name")) or log.event_name).removeprefix("qwen-code.")
        return name if name in _EVENTS else ""

    def turns(self, group: Group) -> list[Turn]:
        """By trace; a record without ids (the prompt's always) belongs to the trace that has its prompt id."""
        items = in_order(group.items.values())
        traces: dict[str, str] = {}
        for item in items:
            if item.trace_id and (prompt := first_text(item.attributes, "qwen-code.prompt_id", "prompt_id")):
                traces.setdefault(prompt, item.trace_id)
        turns: dict[str, Turn] = {}
        bare: list[Item] = []
        for item in items:
            trace_id = item.trace_id or traces.get(text_of(item.attributes.get("prompt_id")), "")
            if not trace_id:
                bare.append(item)
                continue
            if trace_id not in turns:
                turns[trace_id] = Turn(trace_id, trace_id, [], group.session, notes=group.links)
            turns[trace_id].items.append(item)
        return [*turns.values(), *_turns_of_session(group, bare)]

    def render(self, turn: Turn) -> list[RawSpan]:
        spans = [item.span for item in turn.items if item.span is not None]
        if spans:
            return _amended(turn, spans)
        read = _Logs(turn)
        return compose(turn, read.facts()) if read.tells_something() else []


def _kind(span: RawSpan) -> str:
    return span.name.removeprefix("qwen-code.")


def _turns_of_session(group: Group, items: list[Item]) -> list[Turn]:
    """Log records without trace ids, by prompt. Calls of subagents have prompt ids that begin with the turn's."""
    prompts = {p for i in items if i.event == "user_prompt" and (p := text_of(i.attributes.get("prompt_id")))}
    prompts |= set(group.closed)
    turns: dict[str, Turn] = {}
    last = ""
    for item in items:
        own = text_of(item.attributes.get("prompt_id"))
        longest = max((p for p in prompts if own.startswith(p)), key=len, default="")
        key = longest or own or last
        last = key
        if key not in turns:
            trace_id = trace_hash(NAME, group.session, key)
            turns[key] = Turn(key, trace_id, [], group.session, span_hash(trace_id))
        turns[key].items.append(item)
    return list(turns.values())


# ------------------------------------------------------------------------------------------------ spans


def _amended(turn: Turn, spans: list[RawSpan]) -> list[RawSpan]:
    """The agent's own spans, which are in plain form already, with what only log records tell; the root first."""
    results = {text_of(i.attributes.get("call_id")): i.log for i in turn.items if i.log and i.event == "tool_call"}
    prompts = [text_of(i.attributes.get("prompt")) for i in turn.items if i.event == "user_prompt"]
    kinds = {span.span_id: _kind(span) for span in spans}
    out: list[RawSpan] = []
    for span in spans:
        kind = kinds[span.span_id]
        if kind in _INTERNAL and not turn.keep:
            continue
        more: Attributes = {}
        if kind == "llm_request":
            _add_call(more, span)
        elif kind == "tool":
            _add_tool(more, span, results.get(first_text(span.attributes, "call_id", "gen_ai.tool.call.id")))
        elif kind in ("interaction", "subagent"):
            more["gen_ai.operation.name"] = "invoke_agent"
            if kind == "interaction" and prompts and "gen_ai.input.messages" not in span.attributes:
                more["gen_ai.input.messages"] = to_messages(prompts[0], "user")
        made = msgspec.structs.replace(span, attributes={**span.attributes, **more})
        made.parent_id = _parent(span.parent_id, turn.notes)
        made.name = _name(kind, made)
        if kind == "tool" and true_of(span.attributes.get("success")) is False:
            made.status_code = ERROR
            made.status_message = text_of(made.attributes.get("error.message")) or span.status_message
        out.append(made)
    return sorted(out, key=lambda span: (kinds[span.span_id] != "interaction", span.start_ns, span.span_id))


def _parent(parent: str, links: dict[str, str]) -> str:
    for _ in range(16):
        if parent not in links:
            return parent
        parent = links[parent]
    return parent


def _name(kind: str, span: RawSpan) -> str:
    own = span.attributes
    if kind in ("interaction", "subagent"):
        return f"invoke_agent {first_text(own, 'gen_ai.agent.name') or NAME}"
    if kind == "llm_request":
        return f"chat {first_text(own, 'gen_ai.request.model')}".strip()
    if kind == "tool":
        return f"execute_tool {first_text(own, 'gen_ai.tool.name')}".strip()
    return span.name


def _add_call(more: Attributes, span: RawSpan) -> None:
    own = span.attributes
    more["gen_ai.operation.name"] = "chat"
    if first_text(own, "llm_request.context") == "standalone":
        more[UTILITY] = _purpose(first_text(own, "qwen-code.prompt_id")) or "standalone"
    thoughts = int_of(own.get("thoughts_token_count"))
    if thoughts and "gen_ai.usage.reasoning.output_tokens" not in own:
        more["gen_ai.usage.reasoning.output_tokens"] = thoughts
    if true_of(own.get("success")) is False and "error.message" not in own and own.get("error") is not None:
        more["error.message"] = own["error"]


def _purpose(prompt_id: str) -> str:
    """Prompt ids are `<session>########<n>`, those of background agents `<session>#<purpose>…`."""
    _, found, rest = prompt_id.partition("#")
    return "" if not found or rest.startswith("#") else rest.partition("#")[0]


def _add_tool(more: Attributes, span: RawSpan, log: RawLog | None) -> None:
    """A result is `{"output": text}` or, when the tool failed, in the log record's `error`."""
    own = span.attributes
    more["gen_ai.operation.name"] = "execute_tool"
    if log is not None:
        if "gen_ai.tool.call.arguments" not in own and (arguments := first_text(log.attributes, "function_args")):
            more["gen_ai.tool.call.arguments"] = arguments
        if error := first_text(log.attributes, "error.message", "error"):
            more["error.message"] = error
            more.setdefault("gen_ai.tool.call.result", error)
    result = text_of(own.get("gen_ai.tool.call.result"))
    if result:
        more["gen_ai.tool.call.result"] = _unwrapped(result)


def _unwrapped(result: str) -> str:
    try:
        value = orjson.loads(result)
    except orjson.JSONDecodeError:
        return result
    if isinstance(value, dict) and len(value) == 1:
        only = value.get("output", value.get("error"))
        if isinstance(only, str):
            return only
    return result


# ------------------------------------------------------------------------------------------------ log records alone


class _Logs:
    """A turn from log records alone."""

    def __init__(self, turn: Turn) -> None:
        self.turn = turn
        self.events: dict[str, list[RawLog]] = {}
        for item in turn.items:
            if item.log is not None:
                self.events.setdefault(item.event, []).append(item.log)

    def tells_something(self) -> bool:
        """Spans may still come when a record has a trace id, or is the prompt's, which has none in any case."""
        alone = not any(item.trace_id for item in self.turn.items) and self.events.keys() != {"user_prompt"}
        return self.turn.final or alone

    def facts(self) -> Facts:
        turn = self.turn
        calls = [_call(log) for event in ("api_response", "api_error") for log in self.events.get(event, [])]
        calls.sort(key=lambda call: (call.start_ns, call.end_ns, call.key))
        self._add_requests(calls)
        runs = [_run(log) for log in self.events.get("tool_call", [])]
        runs.sort(key=lambda pair: (pair[0].start_ns, pair[0].key))
        main = [call for call in calls if not call.utility]
        for run, response in runs:
            asked = [c for c in main if c.response_id and c.response_id == response]
            asked = asked or [c for c in main if c.end_ns <= run.start_ns + 10_000_000]
            if asked:
                asked[-1].tools.append(run)
        prompts = [first_text(log.attributes, "prompt") for log in self.events.get("user_prompt", [])]
        prompt = "\n".join(p for p in prompts if p) or next((t for c in main if (t := user_text(c.input))), "")
        link_conversation(prompt, main)
        some = next(log for logs in self.events.values() for log in logs)
        if not turn.root_id:
            turn.root_id = span_hash(turn.trace_id)
        answers = [call.text for call in main if call.text and not call.error]
        return Facts(
            agent=NAME,
            start_ns=min([*(item.start_ns for item in turn.items), *(call.start_ns for call in calls)]),
            end_ns=max(item.end_ns for item in turn.items),
            prompt=prompt,
            answer=answers[-1] if answers else "",
            model=main[0].model if main else "",
            calls=calls,
            tools=[run for run, _ in runs],
            error=main[-1].error if main else "",
            resource=some.resource,
            scope=some.scope,
        )

    def _add_requests(self, calls: list[Call]) -> None:
        """Each request belongs to the call that ended next."""
        for log in sorted(self.events.get("api_request", []), key=log_time):
            call = next((c for c in calls if c.end_ns >= log_time(log) and not c.input), None)
            if call is not None:
                call.input = to_messages(first_text(log.attributes, "request_text"), "user")


def _call(log: RawLog) -> Call:
    own, end = log.attributes, log_time(log)
    start = end - milliseconds(own.get("duration_ms"))
    response = first_text(own, "response_id")
    call = Call(response or f"call/{start}/{end}", start, end, resource=log.resource, scope=log.scope)
    call.model = first_text(own, "model")
    call.provider = {"qwen-oauth": "alibaba", "openai": "openai", "anthropic": "anthropic"}.get(
        first_text(own, "auth_type"), "openai"
    )
    call.response_id = response
    call.text = first_text(own, "response_text")
    if call.text.lstrip()[:1] in ("[", "{"):
        call.output = to_messages(call.text, "assistant")
        call.text = output_text(call.output)
    if "input_token_count" in own:
        cached, thoughts = int_of(own.get("cached_content_token_count")), int_of(own.get("thoughts_token_count"))
        call.usage = Usage(int_of(own.get("input_token_count")), int_of(own.get("output_token_count")), cached or None)
        call.usage.reasoning = thoughts or None
    call.utility = _purpose(first_text(own, "prompt_id"))
    if error := first_text(own, "error.message", "error_message", "error"):
        call.error, call.error_type = error, first_text(own, "error.type", "error_type", "status_code")
    return call


def _run(log: RawLog) -> tuple[ToolRun, str]:
    own, end = log.attributes, log_time(log)
    start = end - milliseconds(own.get("duration_ms"))
    call_id = first_text(own, "call_id")
    run = ToolRun(call_id or f"tool/{start}/{end}", start, end, resource=log.resource, scope=log.scope)
    run.name, run.call_id = first_text(own, "function_name"), call_id
    run.arguments = first_text(own, "function_args")
    if true_of(own.get("success")) is False:
        run.error = first_text(own, "error.message", "error") or "tool failed"
        run.error_type = first_text(own, "error.type", "error_type") or "tool_error"
    return run, first_text(own, "response_id")
