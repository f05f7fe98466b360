"""What the records of one turn of Claude Code say: prompt, model calls, tool runs, subagents.

Joins: log records to model calls by `request_id`, to tools by `tool_use_id`; request bodies by `request_body_id`.
"""

from typing import Any

import orjson

from spanweir.schemas.agents.bodies import anthropic_request, anthropic_response, tool_result
from spanweir.schemas.agents.compose import link_conversation
from spanweir.schemas.agents.facts import Call, Facts, SubAgent, ToolRun, Usage
from spanweir.schemas.agents.turn import (
    Turn,
    first_text,
    float_of,
    int_of,
    log_time,
    milliseconds,
    span_hash,
    text_of,
    true_of,
)
from spanweir.schemas.raw import Attributes, RawLog, RawSpan

NAME = "claude-code"

_REDACTED = "<REDACTED>"
_MAIN_SOURCES = ("repl_main", "sdk", "main", "interactive", "cli")
_TOKENS = ("input_tokens", "output_tokens")
_AGENT_TOOLS = frozenset({"Agent", "Task"})


def kind_of(span: RawSpan) -> str:
    return text_of(span.attributes.get("span.type")) or span.name.removeprefix("claude_code.")


class Records:
    """The records of one turn by what they are."""

    def __init__(self, turn: Turn) -> None:
        self.turn = turn
        self.root: RawSpan | None = None
        self.requests: list[RawSpan] = []
        self.tools: list[RawSpan] = []
        self.executions: dict[str, RawSpan] = {}
        self.events: dict[str, list[RawLog]] = {}
        self.by_request: dict[str, dict[str, RawLog]] = {}
        self.by_tool: dict[str, dict[str, RawLog]] = {}
        for item in turn.items:
            if item.span is not None:
                self._add_span(item.span)
            elif item.log is not None:
                self._add_log(item.event, item.log)
        self.parents = {s.span_id: s.parent_id for s in (*self.requests, *self.tools, *self.executions.values())}
        self.bodies = {
            text_of(log.attributes.get("request_body_id")): log for log in self.events.get("api_request_body", [])
        }

    def _add_span(self, span: RawSpan) -> None:
        kind = kind_of(span)
        if kind == "interaction":
            self.root = span
        elif kind == "llm_request":
            self.requests.append(span)
        elif kind == "tool":
            self.tools.append(span)
        elif kind == "tool.execution":
            self.executions[span.parent_id] = span

    def _add_log(self, event: str, log: RawLog) -> None:
        self.events.setdefault(event, []).append(log)
        if request := text_of(log.attributes.get("request_id")):
            self.by_request.setdefault(request, {})[event] = log
        if tool := text_of(log.attributes.get("tool_use_id")):
            self.by_tool.setdefault(tool, {})[event] = log

    def tells_something(self) -> bool:
        told = self.root or self.requests or self.tools
        return bool(told or self.events.keys() & {"user_prompt", "api_request", "api_error", "tool_result"})

    # -------------------------------------------------------------------------------------------- facts

    def facts(self) -> Facts:
        turn = self.turn
        calls = self._calls()
        tools = self._tools()
        agents = self._agents(calls, tools)
        asked: dict[str, Call] = {call.key: call for call in calls}
        for run in tools:
            request = self._request_of(run)
            if request in asked:
                asked[request].tools.append(run)
        lanes: dict[str, list[Call]] = {}
        for call in calls:
            lanes.setdefault(call.utility or call.parent_id, []).append(call)
        prompt = self._prompt()
        prompts = {agent.span_id: agent.prompt for agent in agents}
        for lane, lane_calls in lanes.items():
            if not lane_calls[0].utility:
                link_conversation(prompts.get(lane, prompt), lane_calls)
        for call in calls:
            _add_reminders(call)
        main = [call for call in calls if not call.utility and not call.parent_id]
        return Facts(
            agent=NAME,
            root=self.root,
            start_ns=min(item.start_ns for item in turn.items),
            end_ns=max(item.end_ns for item in turn.items),
            prompt=prompt,
            user=next((user for item in turn.items if (user := first_text(item.attributes, "user.id"))), ""),
            calls=calls,
            tools=tools,
            agents=agents,
        ).close(main, turn.items[0].source)

    def _prompt(self) -> str:
        texts = [text_of(self.root.attributes.get("user_prompt"))] if self.root else []
        texts += [first_text(log.attributes, "prompt", "prompt_text") for log in self.events.get("user_prompt", [])]
        return next((text for text in texts if text and text != _REDACTED), "")

    def _request_of(self, run: ToolRun) -> str:
        logs = self.by_tool.get(run.call_id, {})
        return next((r for log in logs.values() if (r := text_of(log.attributes.get("request_id")))), "")

    # -------------------------------------------------------------------------------------------- model calls

    def _calls(self) -> list[Call]:
        calls = [self._call(span, span.attributes, span.start_ns, span.end_ns) for span in self.requests]
        known = {call.key for call in calls}
        if self.turn.final or not any(item.trace_id for item in self.turn.items):
            for event in ("api_request", "api_error", "api_refusal"):
                for log in self.events.get(event, []):
                    end = log_time(log)
                    start = end - milliseconds(log.attributes.get("duration_ms"))
                    call = self._call(None, log.attributes, start, end)
                    call.resource, call.scope = log.resource, log.scope
                    if call.key not in known:
                        known.add(call.key)
                        calls.append(call)
        return sorted(calls, key=lambda call: (call.start_ns, call.end_ns, call.key))

    def _call(self, span: RawSpan | None, own: Attributes, start: int, end: int) -> Call:
        request = text_of(own.get("request_id"))
        logs = self.by_request.get(request, {})
        log = logs.get("api_request") or logs.get("api_error")
        if not request:
            log = self._nearest("api_request", own, end) if span else None
            said = self._nearest("assistant_response", {}, end)
            logs = {"assistant_response": said} if said else {}
        more = {**log.attributes, **own} if log else own
        call = Call(
            key=request or (span.span_id if span else f"{start}/{end}"),
            start_ns=start,
            end_ns=end,
            span=span,
            model=first_text(more, "model", "gen_ai.request.model"),
            provider="anthropic",
            usage=_usage(more),
            cost=float_of(more.get("cost_usd")),
            text=_said(own, logs),
            source=_source(more),
            utility=_utility(more),
        )
        # Vertex and Bedrock serve the same API: `anthropic.provider` tells where it runs, the model's maker is one.
        if stop := first_text(own, "stop_reason"):
            call.finish = [stop]
        if true_of(own.get("success")) is False or (span is None and text_of(own.get("error"))):
            call.error = first_text(own, "error") or (span.status_message if span else "") or "model call failed"
            call.error_type = first_text(own, "error_class", "error.type", "status_code")
        self._add_bodies(call, logs)
        return call

    def _nearest(self, event: str, own: Attributes, end: int) -> RawLog | None:
        """The record without request id that was written when a call without one ended, with the same tokens."""
        fits = [
            log
            for log in self.events.get(event, [])
            if not log.attributes.get("request_id")
            and abs(log_time(log) - end) < 2_000_000_000
            and all(int_of(log.attributes.get(k)) == int_of(own.get(k)) for k in _TOKENS if k in own)
        ]
        return min(fits, key=lambda log: abs(log_time(log) - end), default=None)

    def _add_bodies(self, call: Call, logs: dict[str, RawLog]) -> None:
        """Raw request and response bodies, when their logging is on."""
        response = logs.get("api_response_body")
        if response is not None:
            anthropic_response(call, text_of(response.attributes.get("body")))
            request = self.bodies.get(text_of(response.attributes.get("request_body_id")))
            if request is not None:
                anthropic_request(call, text_of(request.attributes.get("body")))
        if "gen_ai.system_instructions" in call.extra:
            return
        hashed = text_of(call.span.attributes.get("system_prompt_hash")) if call.span else ""
        for log in self.events.get("system_prompt", []) if hashed else []:
            if log.attributes.get("system_prompt_hash") == hashed:
                call.extra["gen_ai.system_instructions"] = orjson.dumps(
                    [{"type": "text", "content": text_of(log.attributes.get("system_prompt"))}]
                ).decode()
        self._add_tools_offered(call)

    def _add_tools_offered(self, call: Call) -> None:
        """`tools` on the span names the tools with hashes; a `tool` event holds each definition once a session."""
        try:
            offered: Any = orjson.loads(text_of(call.span.attributes.get("tools")) if call.span else "")
        except orjson.JSONDecodeError:
            return
        known = {text_of(log.attributes.get("tool_hash")): log for log in self.events.get("tool", [])}
        made: list[Any] = []
        for tool in offered if isinstance(offered, list) else []:
            if not isinstance(tool, dict) or "name" not in tool:
                continue
            entry: dict[str, Any] = {"type": "function", "name": tool["name"]}
            log = known.get(str(tool.get("hash")))
            try:
                full: Any = orjson.loads(text_of(log.attributes.get("tool"))) if log else None
            except orjson.JSONDecodeError:
                full = None
            if isinstance(full, dict):
                entry |= {"description": full.get("description"), "parameters": full.get("input_schema")}
            made.append(entry)
        if made:
            call.extra["gen_ai.tool.definitions"] = orjson.dumps(made).decode()

    # -------------------------------------------------------------------------------------------- tools, subagents

    def _tools(self) -> list[ToolRun]:
        runs = [self._tool(span, span.attributes, span.start_ns, span.end_ns) for span in self.tools]
        known = {run.call_id for run in runs}
        if self.turn.final or not any(item.trace_id for item in self.turn.items):
            for log in self.events.get("tool_result", []):
                end = log_time(log)
                run = self._tool(None, log.attributes, end - milliseconds(log.attributes.get("duration_ms")), end)
                run.resource, run.scope = log.resource, log.scope
                if run.call_id not in known or not run.call_id:
                    known.add(run.call_id)
                    runs.append(run)
        return sorted(runs, key=lambda run: (run.start_ns, run.key))

    def _tool(self, span: RawSpan | None, own: Attributes, start: int, end: int) -> ToolRun:
        call_id = first_text(own, "tool_use_id", "gen_ai.tool.call.id")
        log = self.by_tool.get(call_id, {}).get("tool_result") if call_id else None
        more = {**own, **log.attributes} if log else own
        execution = self.executions.get(span.span_id) if span else None
        run = ToolRun(
            key=call_id or (span.span_id if span else f"{start}/{end}"),
            start_ns=start,
            end_ns=end,
            span=span,
            name=first_text(more, "tool_name", "gen_ai.tool.name"),
            call_id=call_id,
            arguments=_arguments(more),
            result=_result(span, more) or self._result_in_bodies(call_id),
        )
        failed = true_of(more.get("success")) is False or (execution is not None and execution.status_code == 2)
        if failed:
            said = execution.status_message or first_text(execution.attributes, "error") if execution else ""
            run.error = said or first_text(more, "error") or "tool failed"
            run.error_type = first_text(execution.attributes if execution else more, "error.type", "error_type")
            run.error_type = run.error_type or "tool_error"
        return run

    def _result_in_bodies(self, call_id: str) -> str:
        """A result as the model got it: the next request's `tool_result` block."""
        bodies = (text_of(log.attributes.get("body")) for log in self.bodies.values())
        return next((found for body in bodies if call_id and (found := tool_result(body, call_id))), "")

    def _agents(self, calls: list[Call], tools: list[ToolRun]) -> list[SubAgent]:
        """Subagents: model calls and tools below a tool that started them, or, in logs, within its time."""
        made: dict[str, SubAgent] = {}
        starters = [run for run in tools if run.name in _AGENT_TOOLS]
        members: list[Call | ToolRun] = [*calls, *tools]
        lanes = {call.key: call.source for call in calls}
        by_id = {run.span.span_id: run for run in tools if run.span is not None}
        for member in members:
            source = member.source if isinstance(member, Call) else lanes.get(self._request_of(member), "")
            starter = self._starter(member, source, starters, by_id)
            if starter is member or (starter is None and (member.span is not None or not source.startswith("agent"))):
                continue
            key = (starter.span_id or span_hash(self.turn.trace_id, starter.key)) if starter else source
            agent = made.get(key)
            if agent is None:
                agent = made[key] = _subagent(self.turn.trace_id, key, starter, member)
            member.parent_id = agent.span_id
        return list(made.values())

    def _starter(
        self, member: Call | ToolRun, source: str, starters: list[ToolRun], by_id: dict[str, ToolRun]
    ) -> ToolRun | None:
        if member.span is not None:
            at = member.span.parent_id
            for _ in range(8):
                if at in by_id:
                    return by_id[at]
                at = self.parents.get(at, "")
            return None
        if not source.startswith("agent"):
            return None
        return next((s for s in starters if s.start_ns <= member.start_ns and member.end_ns <= s.end_ns + 1), None)


def _subagent(trace_id: str, key: str, starter: ToolRun | None, member: Call | ToolRun) -> SubAgent:
    """The agent that a tool started; of one that runs in the background only its name is known."""
    source = starter or member
    agent = SubAgent(span_hash(trace_id if starter is None else key, key, "agent"), source.start_ns, source.end_ns)
    agent.resource = source.span.resource if source.span else source.resource
    agent.scope = source.span.scope if source.span else source.scope
    agent.name = key.rpartition(":")[2] if starter is None else "subagent"
    if starter is not None:
        agent.parent_id, agent.answer, agent.error = key, starter.result, starter.error
        try:
            given: Any = orjson.loads(starter.arguments)
            agent.name = str(given.get("subagent_type") or agent.name)
            agent.prompt = str(given.get("prompt") or "")
        except (orjson.JSONDecodeError, AttributeError):
            pass
    return agent


# ------------------------------------------------------------------------------------------------ values


def _usage(attributes: Attributes) -> Usage | None:
    bare = int_of(attributes.get("input_tokens"))
    output = int_of(attributes.get("output_tokens"))
    if bare is None and output is None:
        return None
    read = int_of(attributes.get("cache_read_tokens"))
    write = int_of(attributes.get("cache_creation_tokens"))
    hour = int_of(attributes.get("cache_creation_1h_tokens"))
    total = (bare or 0) + (read or 0) + (write or 0)
    return Usage(total, output, read or None, write or None, hour or None)


def _said(own: Attributes, logs: dict[str, RawLog]) -> str:
    log = logs.get("assistant_response")
    texts = [text_of(log.attributes.get("response"))] if log else []
    texts.append(text_of(own.get("response.model_output")))
    return next((text for text in texts if text and text != _REDACTED), "")


def _source(attributes: Attributes) -> str:
    source = first_text(attributes, "query_source", "query_source_safe")
    return source if source.startswith("agent") or not attributes.get("agent_id") else f"agent:{source}"


def _utility(attributes: Attributes) -> str:
    source = _source(attributes)
    if source.startswith("agent"):
        return ""
    if source:
        return "" if source.startswith(_MAIN_SOURCES) else source
    return "standalone" if first_text(attributes, "llm_request.context") == "standalone" else ""


def _add_reminders(call: Call) -> None:
    """Detailed spans hold what the agent put before the messages; request bodies have it in its place already."""
    reminders = text_of(call.span.attributes.get("system_reminders")) if call.span else ""
    if reminders and reminders != _REDACTED and not call.whole:
        message = orjson.dumps({"role": "system", "parts": [{"type": "text", "content": reminders}]}).decode()
        call.input = f"[{message},{call.input[1:]}" if call.input else f"[{message}]"


def _arguments(attributes: Attributes) -> str:
    if given := first_text(attributes, "tool_input"):
        if given.startswith("[TOOL INPUT"):
            given = given.partition("\n")[2]
        return "" if given == _REDACTED else given
    named = {"full_command": "command", "file_path": "file_path"}
    found = {name: text for key, name in named.items() if (text := first_text(attributes, key))}
    if found:
        return orjson.dumps(found).decode()
    return first_text(attributes, "tool_parameters")


def _result(span: RawSpan | None, attributes: Attributes) -> str:
    for event in span.events if span else ():
        if event.name == "tool.output":
            if text := first_text(event.attributes, "output", "content", "result", "diff"):
                return "" if text == _REDACTED else text
            rest = {key: value for key, value in event.attributes.items() if isinstance(value, str)}
            return orjson.dumps(rest).decode() if rest else ""
    return first_text(attributes, "tool_output", "tool_result")
