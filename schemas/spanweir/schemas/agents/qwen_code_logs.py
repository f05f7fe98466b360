"""What log records alone say of a turn of Qwen Code: prompt, model calls, tool runs, subagents."""

from spanweir.schemas.agents.compose import link_conversation
from spanweir.schemas.agents.facts import Call, Facts, SubAgent, ToolRun, Usage
from spanweir.schemas.agents.gemini_content import add_results, output_text, to_messages, user_text
from spanweir.schemas.agents.turn import (
    Turn,
    first_text,
    int_of,
    log_time,
    milliseconds,
    span_hash,
    true_of,
)
from spanweir.schemas.raw import RawLog

NAME = "qwen-code"

_SLACK_NS = 10_000_000


def purpose(prompt_id: str) -> str:
    """Name (with tool call id) of the subagent or background agent; empty for the agent itself."""
    _, found, rest = prompt_id.partition("#")
    return "" if not found or rest.startswith("#") else rest.partition("#")[0]


class Logs:
    """The log records of one turn by what they are."""

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
        calls.sort(key=lambda pair: (pair[0].start_ns, pair[0].end_ns, pair[0].key))
        runs = [_run(log) for log in self.events.get("tool_call", [])]
        runs.sort(key=lambda pair: (pair[0].start_ns, pair[0].key))
        self._add_requests([call for call, _ in calls])
        add_results([call for call, _ in calls], [run for run, _ in runs])
        agents = self._agents(calls, runs)
        own = [call for call, _ in calls if not call.utility]
        for run, log in runs:
            lane = [call for call in own if call.parent_id == run.parent_id]
            response = first_text(log.attributes, "response_id")
            asked = [c for c in lane if c.response_id and c.response_id == response]
            asked = asked or [c for c in lane if c.end_ns <= run.start_ns + _SLACK_NS]
            if asked:
                asked[-1].tools.append(run)
        main = [call for call in own if not call.parent_id]
        prompts = [first_text(log.attributes, "prompt") for log in self.events.get("user_prompt", [])]
        prompt = "\n".join(p for p in prompts if p) or next((t for c in main if (t := user_text(c.input))), "")
        link_conversation(prompt, main)
        some = next((log for logs in self.events.values() for log in logs), None)
        span = next((item.span for item in turn.items if item.span is not None), None)
        return Facts(
            agent=NAME,
            start_ns=min([*(item.start_ns for item in turn.items), *(call.start_ns for call, _ in calls)]),
            end_ns=max(item.end_ns for item in turn.items),
            prompt=prompt,
            model=main[0].model if main else "",
            calls=[call for call, _ in calls],
            tools=[run for run, _ in runs],
            agents=agents,
        ).close(main, some or span)

    def _add_requests(self, calls: list[Call]) -> None:
        """Each request belongs to the call that ended next."""
        for log in sorted(self.events.get("api_request", []), key=log_time):
            call = next((c for c in calls if c.end_ns >= log_time(log) and not c.input), None)
            if call is not None:
                call.input = to_messages(first_text(log.attributes, "request_text"), "user")

    def _agents(self, calls: list[tuple[Call, RawLog]], runs: list[tuple[ToolRun, RawLog]]) -> list[SubAgent]:
        made: dict[str, SubAgent] = {}
        members: list[tuple[Call | ToolRun, RawLog]] = [*calls, *runs]
        for member, log in members:
            name = purpose(first_text(log.attributes, "prompt_id"))
            if not name:
                continue
            if name.startswith("managed-"):
                if isinstance(member, Call):
                    member.utility = name
                continue
            agent = made.get(name)
            if agent is None:
                agent = made[name] = SubAgent(span_hash(self.turn.trace_id, name), member.start_ns, member.end_ns)
                agent.resource, agent.scope = log.resource, log.scope
            agent.start_ns, agent.end_ns = min(agent.start_ns, member.start_ns), max(agent.end_ns, member.end_ns)
            member.parent_id = agent.span_id
        for name, agent in made.items():
            started = next((run for run, _ in runs if run.call_id and run.call_id in name), None)
            agent.name = name.replace(f"-{started.call_id}", "") if started else name
            agent.parent_id = (started.span_id or span_hash(self.turn.trace_id, started.key)) if started else ""
        return list(made.values())


def _call(log: RawLog) -> tuple[Call, RawLog]:
    own, end = log.attributes, log_time(log)
    start = end - milliseconds(own.get("duration_ms"))
    response = first_text(own, "response_id")
    call = Call(response or f"call/{start}/{end}", start, end, resource=log.resource, scope=log.scope)
    call.own_id = log.span_id
    call.model = first_text(own, "model")
    auth = first_text(own, "auth_type")
    call.provider = {"qwen-oauth": "alibaba", "anthropic": "anthropic", "gemini": "gcp.gemini"}.get(auth, "openai")
    call.response_id = response
    call.text = first_text(own, "response_text")
    if call.text.lstrip()[:1] in ("[", "{") and (messages := to_messages(call.text, "assistant")):
        call.output, call.text = messages, output_text(messages)
    if "input_token_count" in own:
        cached, thoughts = int_of(own.get("cached_content_token_count")), int_of(own.get("thoughts_token_count"))
        call.usage = Usage(int_of(own.get("input_token_count")), int_of(own.get("output_token_count")), cached or None)
        call.usage.reasoning = thoughts or None
    if error := first_text(own, "error.message", "error_message", "error"):
        call.error, call.error_type = error, first_text(own, "error.type", "error_type", "status_code")
    return call, log


def _run(log: RawLog) -> tuple[ToolRun, RawLog]:
    own, end = log.attributes, log_time(log)
    start = end - milliseconds(own.get("duration_ms"))
    call_id = first_text(own, "call_id")
    run = ToolRun(call_id or f"tool/{start}/{end}", start, end, resource=log.resource, scope=log.scope)
    run.own_id = log.span_id
    run.name, run.call_id = first_text(own, "function_name"), call_id
    run.arguments = first_text(own, "function_args")
    if true_of(own.get("success")) is False:
        run.error = first_text(own, "error.message", "error") or "tool failed"
        run.error_type = first_text(own, "error.type", "error_type") or "tool_error"
    return run, log
