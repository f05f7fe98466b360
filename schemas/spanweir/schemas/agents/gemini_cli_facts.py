"""What the records of one turn of Gemini CLI say: prompt, model calls, tool runs, subagents.

Response-side log records carry no ids: they are joined to the model call that ended when they were written.
"""

from typing import Any

import msgspec
import orjson

from spanweir.schemas.agents.compose import dumps, link_conversation
from spanweir.schemas.agents.facts import Call, Facts, SubAgent, ToolRun, Usage
from spanweir.schemas.agents.gemini_content import add_results, output_text, to_messages, tool_definitions, user_text
from spanweir.schemas.agents.turn import Turn, first_text, int_of, log_time, milliseconds, text_of, true_of
from spanweir.schemas.raw import RawLog, RawSpan

NAME = "gemini-cli"

_SLACK_NS = 10_000_000


def operation_of(span: RawSpan) -> str:
    return first_text(span.attributes, "gen_ai.operation.name") or span.name


class Records:
    """The records of one turn, sorted by what they tell of."""

    def __init__(self, turn: Turn) -> None:
        self.turn = turn
        self.calls: list[RawSpan] = []
        self.tools: list[RawSpan] = []
        self.agents: list[RawSpan] = []
        self.events: dict[str, list[RawLog]] = {}
        self.parents: dict[str, str] = {}
        for item in turn.items:
            if item.log is not None:
                self.events.setdefault(item.event, []).append(item.log)
            elif item.span is not None:
                self._add_span(item.span)

    def _add_span(self, span: RawSpan) -> None:
        self.parents[span.span_id] = span.parent_id
        operation = operation_of(span)
        if operation == "llm_call":
            self.calls.append(span)
        elif operation == "tool_call":
            self.tools.append(span)
        elif operation == "agent_call":
            self.agents.append(span)

    def tells_something(self) -> bool:
        if self.calls or self.tools:
            return True
        with_ids = any(item.trace_id for item in self.turn.items)
        told = self.events.keys() & {"user_prompt", "api_response", "api_error", "tool_call"}
        return bool(told) and (self.turn.final or not with_ids)

    # -------------------------------------------------------------------------------------------- facts

    def facts(self) -> Facts:
        turn = self.turn
        calls = self._calls()
        tools = self._tools()
        add_results(calls, tools)
        agents = self._agents(calls, tools)
        main = [call for call in calls if not call.utility and not call.parent_id]
        for run in tools:
            asked = [call for call in main if call.start_ns <= run.start_ns and call.end_ns <= run.start_ns + _SLACK_NS]
            if asked and not run.parent_id:
                asked[-1].tools.append(run)
        prompt = self._prompt(main or calls)
        link_conversation(prompt, main)
        return Facts(
            agent=NAME,
            start_ns=min([*(item.start_ns for item in turn.items), *(call.start_ns for call in calls)]),
            end_ns=max([*(item.end_ns for item in turn.items), *(call.end_ns for call in calls)]),
            prompt=prompt,
            user=next((user for i in turn.items if (user := first_text(i.attributes, "user.email"))), ""),
            model=next((call.model for call in main if call.model), ""),
            calls=calls,
            tools=tools,
            agents=agents,
        ).close(main, turn.items[0].source)

    def _events(self, name: str) -> list[RawLog]:
        return self.events.get(name, [])

    def _prompt(self, main: list[Call]) -> str:
        texts = [first_text(log.attributes, "prompt") for log in self._events("user_prompt")]
        if any(texts):
            return "\n".join(text for text in texts if text)
        return next((text for call in main if (text := user_text(call.input))), "")

    # -------------------------------------------------------------------------------------------- model calls

    def _calls(self) -> list[Call]:
        calls = [_call(span) for span in self.calls]
        self._join(calls, "api_response", _add_response)
        self._join(calls, "details", _add_details)
        self._join(calls, "api_error", _add_error)
        for log in self._events("api_request"):
            call = next((c for c in calls if c.span_id == log.span_id or _starts(c, log)), None)
            if call is not None:
                call.utility = call.utility or _role(log)
                if not call.input and (contents := text_of(log.attributes.get("request_text"))):
                    call.input = to_messages(contents, "user")
        return sorted(calls, key=lambda call: (call.start_ns, call.end_ns, call.key))

    def _join(self, calls: list[Call], event: str, add: Any) -> None:
        """Give each record of `event` to the call it tells of: by span id, else the one that ended then."""
        taken: set[str] = set()
        for log in sorted(self._events(event), key=log_time):
            own = next((c for c in calls if c.span_id and c.span_id == log.span_id), None)
            call = own or _ended(calls, log, taken)
            if call is None:
                if event == "details" or not (self.turn.final or not log.trace_id):
                    continue
                if self.calls and not self.turn.final:
                    continue
                end = log_time(log)
                start = end - milliseconds(log.attributes.get("duration_ms"))
                call = Call(f"{event}/{start}/{end}", start, end, resource=log.resource, scope=log.scope)
                call.provider = "gcp.gemini"
                calls.append(call)
            taken.add(call.key)
            add(call, log)

    # -------------------------------------------------------------------------------------------- tools

    def _tools(self) -> list[ToolRun]:
        runs = [_tool(span) for span in self.tools]
        spare = list(runs)
        for log in sorted(self._events("tool_call"), key=log_time):
            own, end = log.attributes, log_time(log)
            name, start = first_text(own, "function_name"), end - milliseconds(own.get("duration_ms"))
            fits = [r for r in spare if r.name == name and abs(r.end_ns - end) < 2_000_000_000]
            run = min(fits, key=lambda r: abs(r.end_ns - end), default=None)
            if run is not None:
                spare.remove(run)
            elif self.turn.final or not log.trace_id:
                run = ToolRun(f"tool/{start}/{end}/{name}", start, end, name=name)
                run.resource, run.scope = log.resource, log.scope
                runs.append(run)
            if run is not None:
                run.arguments = run.arguments or first_text(own, "function_args")
                if true_of(own.get("success")) is False:
                    run.error = run.error or first_text(own, "error", "error.message") or "tool failed"
                    run.error_type = first_text(own, "error_type", "error.type") or "tool_error"
        return sorted(runs, key=lambda run: (run.start_ns, run.key))

    def _agents(self, calls: list[Call], tools: list[ToolRun]) -> list[SubAgent]:
        """`agent_call` spans, and the calls and tools whose parents lead to one."""
        made: dict[str, SubAgent] = {}
        for span in self.agents:
            agent = SubAgent(span.span_id, span.start_ns, span.end_ns, span)
            agent.name = first_text(span.attributes, "gen_ai.agent.name")
            agent.parent_id = self._above(span.parent_id, {run.span.span_id for run in tools if run.span})
            made[span.span_id] = agent
        members: list[Call | ToolRun] = [*calls, *tools]
        for member in members:
            if member.span is not None and made:
                member.parent_id = self._above(member.span.parent_id, set(made))
        return list(made.values())

    def _above(self, at: str, wanted: set[str]) -> str:
        for _ in range(16):
            if at in wanted:
                return at
            at = self.parents.get(at, "")
        return ""


def _role(log: RawLog) -> str:
    """`role` tells what a call is for: `main`, `subagent`, `utility_*`."""
    role = first_text(log.attributes, "role")
    return role if role.startswith("utility") else ""


def _starts(call: Call, log: RawLog) -> bool:
    return call.span is None and not log.trace_id and 0 <= call.end_ns - log_time(log) < 600_000_000_000


def _ended(calls: list[Call], log: RawLog, taken: set[str]) -> Call | None:
    at = log_time(log)
    fits = [c for c in calls if c.key not in taken and c.start_ns - _SLACK_NS <= at <= c.end_ns + _SLACK_NS]
    return min(fits, key=lambda c: abs(c.end_ns - at), default=None)


_OWN_NAMES = {
    "gen_ai.prompt.name": "gemini_cli.prompt_id",
    "gen_ai.tool.call_id": "gemini_cli.tool.call_id",
    "gen_ai.input.messages": "gemini_cli.request",
    "gen_ai.output.messages": "gemini_cli.response",
}
"""`gen_ai` names that mean something else here, or hold another form than the standard's."""

_CONVERTED = frozenset({"gemini_cli.request", "gemini_cli.response"})
"""Of model calls: their messages are converted without loss."""


def _renamed(span: RawSpan) -> RawSpan:
    own = {_OWN_NAMES.get(key, key): value for key, value in span.attributes.items()}
    return msgspec.structs.replace(span, attributes=own)


def _call(span: RawSpan) -> Call:
    own = span.attributes
    call = Call(span.span_id, span.start_ns, span.end_ns, _renamed(span))
    if call.span is not None:
        call.span.attributes = {k: v for k, v in call.span.attributes.items() if k not in _CONVERTED}
    call.model = first_text(own, "gen_ai.request.model")
    call.response_model = first_text(own, "gen_ai.response.model")
    call.provider = first_text(own, "gen_ai.provider.name") or "gcp.gemini"
    call.input = to_messages(text_of(own.get("gen_ai.input.messages")), "user")
    call.output = to_messages(text_of(own.get("gen_ai.output.messages")), "assistant")
    call.text = output_text(call.output)
    if system := text_of(own.get("gen_ai.system_instructions")):
        call.extra["gen_ai.system_instructions"] = _system(system)
    if tools := tool_definitions(text_of(own.get("gen_ai.tool.definitions"))):
        call.extra["gen_ai.tool.definitions"] = tools
    bare, output = int_of(own.get("gen_ai.usage.input_tokens")), int_of(own.get("gen_ai.usage.output_tokens"))
    if bare is not None or output is not None:
        call.usage = Usage(bare, output)
    if span.status_code == 2:
        call.error = span.status_message or "model call failed"
        call.error_type = next((first_text(e.attributes, "exception.type") for e in span.events), "") or "error"
    return call


def _system(text: str) -> str:
    """Instructions are a JSON-quoted string on spans, OTel parts in log records."""
    try:
        value: Any = orjson.loads(text)
    except orjson.JSONDecodeError:
        value = text
    if isinstance(value, str):
        return dumps([{"type": "text", "content": value}])
    return text


def _add_response(call: Call, log: RawLog) -> None:
    own = log.attributes
    call.model = call.model or first_text(own, "model")
    thoughts = int_of(own.get("thoughts_token_count"))
    output = int_of(own.get("output_token_count"))
    usage = Usage(int_of(own.get("input_token_count")), output)
    if output is not None and thoughts:
        usage.output, usage.reasoning = output + thoughts, thoughts
    usage.cache_read = int_of(own.get("cached_content_token_count")) or None
    if usage.input is not None or usage.output is not None:
        call.usage = usage
    call.utility = call.utility or _role(log)
    _add_finish(call, own.get("finish_reasons"))
    if not call.output and (text := text_of(own.get("response_text"))):
        call.output = to_messages(text, "assistant")
        call.text = output_text(call.output)


def _add_details(call: Call, log: RawLog) -> None:
    own = log.attributes
    call.response_id = first_text(own, "gen_ai.response.id")
    call.response_model = call.response_model or first_text(own, "gen_ai.response.model")
    call.provider = first_text(own, "gen_ai.provider.name") or call.provider
    _add_finish(call, own.get("gen_ai.response.finish_reasons"))
    if not call.output and (text := text_of(own.get("gen_ai.output.messages"))):
        call.output = to_messages(text, "assistant")
        call.text = output_text(call.output)
    if not call.input and (text := text_of(own.get("gen_ai.input.messages"))):
        call.input = to_messages(text, "user")
    for key in ("system_instructions", "request.temperature", "request.top_p", "request.top_k", "request.max_tokens"):
        value = own.get(f"gen_ai.{key}")
        if value is not None:
            call.extra.setdefault(f"gen_ai.{key}", value)


def _add_error(call: Call, log: RawLog) -> None:
    own = log.attributes
    call.model = call.model or first_text(own, "model", "model_name")
    call.error = call.error or first_text(own, "error.message", "error") or "model call failed"
    call.error_type = first_text(own, "error.type", "error_type", "status_code") or call.error_type
    call.utility = call.utility or _role(log)


def _add_finish(call: Call, value: object) -> None:
    """One reason for each chunk of the stream: the last is the answer's."""
    if isinstance(value, list) and value:
        call.finish = [str(value[-1])]


def _tool(span: RawSpan) -> ToolRun:
    own = span.attributes
    run = ToolRun(span.span_id, span.start_ns, span.end_ns, _renamed(span))
    run.name = first_text(own, "gen_ai.tool.name")
    run.call_id = first_text(own, "gen_ai.tool.call_id", "gen_ai.tool.call.id")
    asked = _object(text_of(own.get("gen_ai.input.messages")))
    done = _object(text_of(own.get("gen_ai.output.messages")))
    request = asked or done.get("request")
    if isinstance(request, dict) and "args" in request:
        run.arguments = dumps(request["args"])
    response = done.get("response")
    run.result = _result(response) if isinstance(response, dict) else ""
    if done.get("status") == "error" or span.status_code == 2:
        run.error = run.result or span.status_message or "tool failed"
        run.error_type = str(response.get("errorType")) if isinstance(response, dict) else ""
        run.error_type = run.error_type or "tool_error"
    return run


def _object(text: str) -> dict[str, Any]:
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        return {}
    return value if isinstance(value, dict) else {}


def _result(response: dict[str, Any]) -> str:
    """What the model was told: `output` or `error` of the function response."""
    for part in response.get("responseParts") or ():
        told = part.get("functionResponse", {}).get("response") if isinstance(part, dict) else None
        if isinstance(told, dict):
            said = told.get("output", told.get("error"))
            return said if isinstance(said, str) else dumps(told)
    display = response.get("resultDisplay")
    return display if isinstance(display, str) else dumps(display) if display else ""
