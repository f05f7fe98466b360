"""opencode 1.18 (scope `opencode`, AI SDK spans of the Vercel convention): about a thousand internal spans a run.

A turn is what lies below one `SessionPrompt.prompt`; `SessionPrompt.createUserMessage`, its child, comes out early and
names it. A prompt below another one's tool (`task`) is a subagent. Of the AI SDK's spans `ai.streamText.doStream` is
the model call and `ai.toolCall` the tool; `ai.streamText` repeats both. Calls below `SessionPrompt.ensureTitle` make
titles. In server mode several turns share a trace, under a parent that never comes: each then has a trace of its own.
The last batch is often lost at exit, and with it the chain of parents: what hangs in the air belongs to the prompt
before it. Messages stay in the AI SDK's attributes, which the mapper reads.
"""

from typing import Any

import msgspec
import orjson

from spanweir.schemas.agents.compose import compose
from spanweir.schemas.agents.facts import Call, Facts, SubAgent, ToolRun, Usage
from spanweir.schemas.agents.gemini_content import output_text, user_text
from spanweir.schemas.agents.turn import (
    Group,
    Item,
    Turn,
    above,
    first_text,
    float_of,
    in_order,
    int_of,
    span_hash,
    split,
    text_of,
    trace_hash,
)
from spanweir.schemas.raw import Attributes, RawLog, RawSpan

NAME = "opencode"

_PROMPT = "SessionPrompt.prompt"
_MESSAGE = "SessionPrompt.createUserMessage"
_TITLE = "SessionPrompt.ensureTitle"
_TOOL = "Tool.execute"
_MARKS = frozenset({_PROMPT, _MESSAGE, _TITLE, _TOOL})
_CALLS = (".doStream", ".doGenerate")
_MAX_LINKS = 50_000


class OpenCode:
    """The `Rules` of opencode."""

    name = NAME

    def span(self, span: RawSpan, group: Group | None) -> bool:
        if group is not None:
            if len(group.links) < _MAX_LINKS:
                group.links[span.span_id] = span.parent_id
            if span.name.startswith("http.server") and span.parent_id:
                group.remote = True
        return span.name in _MARKS or bool(_operation(span))

    def keys(self, trace_id: str, attributes: Attributes) -> tuple[str, str]:
        return trace_id, ""

    def event(self, log: RawLog) -> str:
        return ""

    def turns(self, group: Group) -> list[Turn]:
        items = [i for i in in_order(group.items.values()) if i.span is not None]
        trace_id = next(iter(group.traces), "")
        tops = _tops(group, items)
        if not tops:
            if not any(item.span and _operation(item.span) for item in items):
                return []
            return [_turn(trace_id, trace_id, items, group)]
        first = tops[0][1]
        return [
            _turn(top, trace_id if top == first and not group.remote else trace_hash(trace_id, top), own, group)
            for top, own in split(items, tops, group.links, lambda _: "").items()
        ]

    def render(self, turn: Turn) -> list[RawSpan]:
        read = _Read(turn)
        return compose(turn, read.facts()) if read.told else []


def _operation(span: RawSpan) -> str:
    """`call`, `tool` or `outer` for spans of the AI SDK (before version 7 and since), else empty."""
    own = span.attributes
    name = text_of(own.get("ai.operationId"))
    if name.endswith(_CALLS):
        return "call"
    if name:
        return "tool" if name == "ai.toolCall" else "outer"
    return {"chat": "call", "execute_tool": "tool", "invoke_agent": "outer", "agent_step": "outer"}.get(
        text_of(own.get("gen_ai.operation.name")), ""
    )


def _turn(key: str, trace_id: str, items: list[Item], group: Group) -> Turn:
    turn = Turn(key, trace_id, items, "", span_hash(trace_id))
    turn.links = group.links
    return turn


def _tops(group: Group, items: list[Item]) -> list[tuple[int, str]]:
    """Start and span id of the prompts of users, in time order: those that are below no other prompt and no tool."""
    starts: dict[str, int] = {}
    ends: dict[str, int] = {}
    tools = {item.span_id: "" for item in items if item.span and item.span.name == _TOOL}
    for item in items:
        assert item.span is not None
        if item.span.name == _MESSAGE and item.span.parent_id:
            starts.setdefault(item.span.parent_id, item.start_ns)
    for item in items:
        if item.span is not None and item.span.name == _PROMPT:
            starts[item.span_id], ends[item.span_id] = item.start_ns, item.end_ns
    found: list[tuple[int, str]] = []
    before = max((known.start_ns for known in group.closed.values()), default=0)
    for start, prompt in sorted((start, prompt) for prompt, start in starts.items()):
        parent = group.links.get(prompt, "")
        if above(parent, group.links, starts) or above(parent, group.links, tools):
            continue
        if prompt not in ends and found and ends.get(found[-1][1], 0) == 0 and not group.remote:
            continue  # Its chain is not known, and the prompt before it is still running: a subagent, so far.
        found.append((start, prompt))
    known = [(closed.start_ns, closed.key) for closed in group.closed.values() if closed.key not in starts and before]
    return sorted(found + known)


class _Read:
    def __init__(self, turn: Turn) -> None:
        self.turn = turn
        self.by_id: dict[str, RawSpan] = {}
        self.calls: list[RawSpan] = []
        self.outer: list[RawSpan] = []
        self.tools: list[RawSpan] = []
        self.top: RawSpan | None = None
        for item in turn.items:
            if item.span is not None:
                self._add(item.span)
        if not self.calls:
            # The inner spans are lost or come later: an outer one without them is the call, once that is certain.
            self.calls = [span for span in self.outer if turn.final]
        self.told = bool(self.calls or self.tools or self.top or self._executed())

    def _add(self, span: RawSpan) -> None:
        self.by_id[span.span_id] = span
        operation = _operation(span)
        if operation == "call":
            self.calls.append(span)
        elif operation == "tool":
            self.tools.append(span)
        elif operation:
            self.outer.append(span)
        elif span.name == _PROMPT and span.span_id == self.turn.key:
            self.top = span

    # -------------------------------------------------------------------------------------------- facts

    def facts(self) -> Facts:
        turn = self.turn
        agents = self._agents()
        offered = any(span.attributes.get("ai.prompt.tools") for span in self.calls)
        calls = [self._call(span, agents, offered) for span in self.calls]
        tools = [self._tool(span, agents) for span in [*self.tools, *self._executed()]]
        calls.sort(key=lambda call: (call.start_ns, call.end_ns, call.key))
        tools.sort(key=lambda run: (run.start_ns, run.key))
        members: list[Call | ToolRun] = [*calls, *tools]
        sessions = (_session(one.span.attributes) for one in members if one.span)
        turn.session = next((session for session in sessions if session), turn.session)
        self._add_strays(agents, members)
        main = [call for call in calls if not call.utility and not call.parent_id]
        told = main or calls
        marks = [s for s in self.by_id.values() if s.name == _MESSAGE and s.parent_id == turn.key]
        spans = [*self.calls, *self.tools, *self.outer, *marks]
        some = (spans or [item.span for item in turn.items if item.span])[0]
        prompt = next((text for call in told if call.span and (text := _asked(call.span.attributes))), "")
        answers = [call.text for call in main if call.text and not call.error]
        return Facts(
            agent=NAME,
            root=_unrooted(self.top),
            start_ns=min(span.start_ns for span in [*spans, some]),
            end_ns=max(span.end_ns for span in [*spans, some]),
            prompt=prompt,
            answer=answers[-1] if answers else "",
            user=next((u for s in spans if (u := first_text(s.attributes, "ai.telemetry.metadata.userId"))), ""),
            calls=calls,
            tools=tools,
            agents=list(agents.values()),
            error=told[-1].error if told else "",
            error_type=told[-1].error_type if told else "",
            resource=some.resource,
            scope=some.scope,
        )

    def _call(self, span: RawSpan, agents: dict[str, SubAgent], offered: bool) -> Call:
        own = span.attributes
        call = Call(span.span_id, span.start_ns, span.end_ns, span, native=True)
        call.text = first_text(own, "ai.response.text") or output_text(text_of(own.get("gen_ai.output.messages")))
        call.model = first_text(own, "gen_ai.request.model", "ai.model.id")
        call.usage = _usage(own)
        call.cost = float_of(own.get("opencode.llm.cost.total"))
        if finish := first_text(own, "ai.response.finishReason"):
            call.finish = [finish]
        if span.status_code == 2:
            call.error = span.status_message or "model call failed"
            call.error_type = next((first_text(e.attributes, "exception.type") for e in span.events), "") or "error"
        call.parent_id = self._agent_of(span, agents)
        # With the chain of parents lost, a call without tools beside calls with tools is not the conversation.
        title = self._below(span, _TITLE)
        if title or (offered and not own.get("ai.prompt.tools") and not call.parent_id):
            call.utility = "title" if title else "utility"
        return call

    def _executed(self) -> list[RawSpan]:
        """Tools that only the program's own span tells of: without `experimental.openTelemetry` there are no others."""
        told = {first_text(span.attributes, "ai.toolCall.id", "gen_ai.tool.call.id") for span in self.tools}
        spans = [span for span in self.by_id.values() if span.name == _TOOL] if self.turn.final else []
        return [span for span in spans if first_text(span.attributes, "tool.call_id") not in told]

    def _tool(self, span: RawSpan, agents: dict[str, SubAgent]) -> ToolRun:
        own = span.attributes
        run = ToolRun(span.span_id, span.start_ns, span.end_ns, span)
        run.name = first_text(own, "ai.toolCall.name", "gen_ai.tool.name", "tool.name")
        run.call_id = first_text(own, "ai.toolCall.id", "gen_ai.tool.call.id", "tool.call_id")
        run.arguments = first_text(own, "ai.toolCall.args")
        run.result = _output(first_text(own, "ai.toolCall.result"))
        run.parent_id = self._agent_of(span, agents)
        if span.status_code == 2:
            run.error, run.error_type = span.status_message or "tool failed", "tool_error"
        return run

    def _below(self, span: RawSpan, name: str) -> bool:
        at = span.parent_id
        for _ in range(128):
            known = self.by_id.get(at)
            if known is not None and known.name == name:
                return True
            if not (at := self.turn.links.get(at, "")):
                return False
        return False

    # -------------------------------------------------------------------------------------------- subagents

    def _agents(self) -> dict[str, SubAgent]:
        """Prompts below a tool, by their span id; the AI SDK's span of the tool is found by the tool call's id."""
        calls = {first_text(s.attributes, "ai.toolCall.id"): s for s in self.tools}
        executed = {i: s for i, s in self.by_id.items() if s.name == _TOOL}
        starts: dict[str, RawSpan] = {}
        for span in self.by_id.values():
            if span.name == _MESSAGE and span.parent_id != self.turn.key:
                starts.setdefault(span.parent_id, span)
        starts |= {i: s for i, s in self.by_id.items() if s.name == _PROMPT and i != self.turn.key}
        made: dict[str, SubAgent] = {}
        for prompt, span in starts.items():
            tool = executed.get(above(prompt, self.turn.links, executed))
            if tool is None:
                continue
            starter = calls.get(first_text(tool.attributes, "tool.call_id"))
            agent = SubAgent(span_hash(self.turn.trace_id, prompt), span.start_ns, max(span.end_ns, tool.end_ns))
            agent.resource, agent.scope = span.resource, span.scope
            if starter is not None:
                agent.parent_id = starter.span_id
                agent.name, agent.prompt = _task(first_text(starter.attributes, "ai.toolCall.args"))
            made[prompt] = agent
        return made

    def _agent_of(self, span: RawSpan, agents: dict[str, SubAgent]) -> str:
        found = above(span.parent_id, self.turn.links, agents) if agents else ""
        return agents[found].span_id if found else ""

    def _add_strays(self, agents: dict[str, SubAgent], members: list[Call | ToolRun]) -> None:
        """Another session's calls are a subagent's, also where the chain of parents is lost."""
        for member in members:
            session = _session(member.span.attributes) if member.span else ""
            if member.parent_id or not session or session == self.turn.session:
                continue
            agent = agents.get(session)
            if agent is None:
                span_id = span_hash(self.turn.trace_id, session)
                agent = agents[session] = SubAgent(span_id, member.start_ns, member.end_ns, name="subagent")
                if member.span is not None:
                    agent.resource, agent.scope = member.span.resource, member.span.scope
            agent.start_ns, agent.end_ns = min(agent.start_ns, member.start_ns), max(agent.end_ns, member.end_ns)
            member.parent_id = agent.span_id


def _usage(own: Attributes) -> Usage | None:
    """Since version 5 input includes cache tokens and output includes reasoning."""
    usage = Usage(
        int_of(own.get("ai.usage.inputTokens", own.get("ai.usage.promptTokens"))),
        int_of(own.get("ai.usage.outputTokens", own.get("ai.usage.completionTokens"))),
        int_of(own.get("ai.usage.inputTokenDetails.cacheReadTokens", own.get("ai.usage.cachedInputTokens"))) or None,
        int_of(own.get("ai.usage.inputTokenDetails.cacheWriteTokens")) or None,
        None,
        int_of(own.get("ai.usage.outputTokenDetails.reasoningTokens", own.get("ai.usage.reasoningTokens"))) or None,
    )
    return None if usage.input is None and usage.output is None else usage


def _unrooted(top: RawSpan | None) -> RawSpan | None:
    return None if top is None else msgspec.structs.replace(top, trace_id="", parent_id="")


def _session(attributes: Attributes) -> str:
    return first_text(attributes, "session.id", "ai.telemetry.metadata.sessionId")


def _task(arguments: str) -> tuple[str, str]:
    try:
        given: Any = orjson.loads(arguments)
        return str(given.get("subagent_type") or "subagent"), str(given.get("prompt") or "")
    except (orjson.JSONDecodeError, AttributeError):
        return "subagent", ""


def _output(result: str) -> str:
    """What the model was told, of the tool's `{title, metadata, output}`."""
    try:
        value: Any = orjson.loads(result)
    except orjson.JSONDecodeError:
        return result
    if isinstance(value, dict) and isinstance(value.get("output"), str):
        return str(value["output"])
    return str(value) if isinstance(value, str) else result


def _asked(attributes: Attributes) -> str:
    """The last text a user wrote, of the AI SDK's messages."""
    if plain := text_of(attributes.get("gen_ai.input.messages")):
        return user_text(plain)
    text = first_text(attributes, "ai.prompt.messages", "ai.prompt")
    try:
        value: Any = orjson.loads(text)
    except orjson.JSONDecodeError:
        return ""
    messages = value.get("messages") if isinstance(value, dict) else value
    for message in reversed(messages if isinstance(messages, list) else []):
        if not isinstance(message, dict) or message.get("role") != "user":
            continue
        content = message.get("content")
        if isinstance(content, str):
            return str(content)
        texts = [str(p["text"]) for p in content or () if isinstance(p, dict) and isinstance(p.get("text"), str)]
        if texts:
            return texts[-1]
    return ""
