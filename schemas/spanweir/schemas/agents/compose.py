"""From the facts of a turn (prompt, model calls, tool runs, subagents) to spans in plain OTel GenAI form.

Every agent's module reads its own records into these facts; what a turn looks like is decided here alone:
`invoke_agent` at the top with the prompt and the final answer, `chat` and `execute_tool` below it, subagents nested.
Attribute names: semantic-conventions-genai (`gen_ai.*`), newest form. What the sender had on a span stays beside them.
"""

from typing import Any

import msgspec
import orjson

from spanweir.schemas.agents.facts import Call, Facts, SubAgent, ToolRun, Usage
from spanweir.schemas.agents.turn import Turn, span_hash
from spanweir.schemas.raw import Attributes, RawSpan

UTILITY = "spanweir.agent.utility"
"""On model calls that are not part of the conversation: titles, suggestions, quota probes, memory."""

INTERNAL, CLIENT = 1, 3
_TOOLS_ASKED = frozenset({"tool_use", "tool-calls", "tool_calls"})
ERROR = 2


# ------------------------------------------------------------------------------------------------ messages


def json_or_text(text: str) -> Any:
    """JSON text as a value that is written back verbatim; anything else as a string."""
    head = text.lstrip()[:1]
    if head in ("{", "["):
        try:
            orjson.loads(text)
        except orjson.JSONDecodeError:
            return text
        return orjson.Fragment(text)
    return text


def unwrapped(result: str) -> str:
    """The text of a result that is an object of nothing but `output` or `error`."""
    try:
        value = orjson.loads(result)
    except orjson.JSONDecodeError:
        return result
    only = value.get("output", value.get("error")) if isinstance(value, dict) and len(value) == 1 else None
    return only if isinstance(only, str) else result


def text_part(content: str) -> dict[str, Any]:
    return {"type": "text", "content": content}


def call_part(run: ToolRun) -> dict[str, Any]:
    part: dict[str, Any] = {"type": "tool_call", "name": run.name}
    if run.call_id:
        part["id"] = run.call_id
    if run.arguments:
        part["arguments"] = json_or_text(run.arguments)
    return part


def result_part(run: ToolRun) -> dict[str, Any]:
    part: dict[str, Any] = {"type": "tool_call_response", "response": json_or_text(run.result or run.error)}
    if run.call_id:
        part["id"] = run.call_id
    return part


def message(role: str, parts: list[dict[str, Any]], finish: str = "") -> dict[str, Any]:
    made: dict[str, Any] = {"role": role, "parts": parts}
    if finish:
        made["finish_reason"] = finish
    return made


def dumps(value: Any) -> str:
    return orjson.dumps(value).decode()


def user_messages(text: str) -> str:
    return dumps([message("user", [text_part(text)])]) if text else ""


def answer_messages(text: str) -> str:
    return dumps([message("assistant", [text_part(text)])]) if text else ""


def call_output(call: Call) -> str:
    """What a call answered: its reasoning and text and the tools it asked for."""
    parts: list[dict[str, Any]] = []
    if call.reasoning:
        parts.append({"type": "reasoning", "content": call.reasoning})
    if call.text:
        parts.append(text_part(call.text))
    parts += [call_part(run) for run in call.tools]
    return dumps([message("assistant", parts, call.finish[0] if call.finish else "")]) if parts else ""


def link_conversation(prompt: str, calls: list[Call]) -> None:
    """Give the calls of one agent, in time order, the messages that were new to each: first the prompt, then the
    results of the tools that the call before asked for. Senders that log no request bodies leave us no more than that.
    """
    before: Call | None = None
    for call in calls:
        if not call.input:
            if before is None:
                call.input = user_messages(prompt)
            else:
                parts = [result_part(run) for run in before.tools if run.result or run.error]
                call.input = dumps([message("tool", parts)]) if parts else ""
        if not call.error:
            before = call


# ------------------------------------------------------------------------------------------------ spans


def compose(turn: Turn, facts: Facts) -> list[RawSpan]:
    """The spans of the turn; the root is the first. Utility calls outside of any turn stand alone: no agent ran."""
    if facts.calls and all(call.utility for call in facts.calls) and not (facts.root or facts.prompt or facts.tools):
        return [_chat(turn, call, "") for call in facts.calls]
    for agent in facts.agents:
        said = [call.text for call in facts.calls if call.parent_id == agent.span_id and call.text]
        agent.answer = agent.answer or (said[-1] if said else "")
    spans = [_root(turn, facts)]
    root_id = spans[0].span_id
    spans += [_agent(turn, agent, root_id) for agent in facts.agents]
    spans += [_chat(turn, call, root_id) for call in facts.calls]
    spans += [_tool(turn, run, root_id) for run in facts.tools]
    return spans


def _common(turn: Turn, operation: str) -> Attributes:
    made: Attributes = {"gen_ai.operation.name": operation}
    if turn.session:
        made["gen_ai.conversation.id"] = turn.session
        made["session.id"] = turn.session
    return made


def _root(turn: Turn, facts: Facts) -> RawSpan:
    made = _common(turn, "invoke_agent")
    made["gen_ai.agent.name"] = facts.agent
    if facts.user:
        made["user.id"] = facts.user
    if facts.model:
        made["gen_ai.request.model"] = facts.model
    carried = turn.carried
    before = carried.attributes if carried else {}
    prompt = before.get("gen_ai.input.messages") or user_messages(facts.prompt)
    answer = answer_messages(facts.answer) or before.get("gen_ai.output.messages")
    if prompt:
        made["gen_ai.input.messages"] = prompt
    if answer:
        made["gen_ai.output.messages"] = answer
    if facts.error:
        made["error.type"] = facts.error_type or "error"
    base = facts.root or carried
    below: list[Call | ToolRun | SubAgent] = [] if facts.root else [*facts.calls, *facts.tools, *facts.agents]
    spans = [span for span in (base, carried) if span is not None]
    starts = [facts.start_ns, *(one.start_ns for one in below), *(span.start_ns for span in spans)]
    start = min((at for at in starts if at), default=0)
    end = max([facts.end_ns, *(one.end_ns for one in below), *(span.end_ns for span in spans)])
    span = RawSpan(
        trace_id=turn.trace_id,
        span_id=turn.root_id or span_hash(turn.trace_id),
        name=f"invoke_agent {facts.agent}",
        kind=INTERNAL,
        start_ns=start,
        end_ns=end,
        resource=facts.resource,
        scope=facts.scope,
        attributes=made,
    )
    if base:
        span.attributes = {**base.attributes, **span.attributes}
        span.events, span.links, span.resource, span.scope = base.events, base.links, base.resource, base.scope
        span.status_code, span.status_message = base.status_code, base.status_message
        if base.trace_id == turn.trace_id:
            span.parent_id, span.trace_state, span.flags = base.parent_id, base.trace_state, base.flags
    if facts.error:
        span.status_code, span.status_message = ERROR, span.status_message or facts.error
    if _open(turn, facts):
        span.end_ns = 0
    return span


def _open(turn: Turn, facts: Facts) -> bool:
    """Whether more is sure to come: the turn's own span has not been sent, and the last thing known of it is a call
    that asked for tools."""
    if turn.final or facts.root is not None:
        return False
    main = [call for call in facts.calls if not call.utility and not call.parent_id]
    return not main or bool(main[-1].tools) or (main[-1].finish[:1] or [""])[0] in _TOOLS_ASKED


def _agent(turn: Turn, agent: SubAgent, root_id: str) -> RawSpan:
    made = _common(turn, "invoke_agent")
    if agent.name:
        made["gen_ai.agent.name"] = agent.name
    if agent.prompt:
        made["gen_ai.input.messages"] = user_messages(agent.prompt)
    if agent.answer:
        made["gen_ai.output.messages"] = answer_messages(agent.answer)
    name = f"invoke_agent {agent.name}" if agent.name else "invoke_agent"
    return _span(turn, agent.span, agent.span_id, agent.parent_id or root_id, name, INTERNAL, made, agent)


def _chat(turn: Turn, call: Call, root_id: str) -> RawSpan:
    made = _common(turn, "chat")
    for key, text in (
        ("gen_ai.provider.name", call.provider),
        ("gen_ai.request.model", call.model),
        ("gen_ai.response.model", call.response_model),
        ("gen_ai.response.id", call.response_id),
        ("gen_ai.input.messages", call.input),
        ("gen_ai.output.messages", call.output or ("" if call.native else call_output(call))),
        (UTILITY, call.utility),
    ):
        if text:
            made[key] = text
    if call.finish:
        made["gen_ai.response.finish_reasons"] = list(call.finish)
    if call.usage:
        _put_usage(made, call.usage)
    if call.cost is not None:
        made["gen_ai.usage.cost"] = call.cost
    made.update(call.extra)
    name = f"chat {call.model or call.response_model}".strip()
    span_id = call.span_id or span_hash(turn.trace_id, call.key)
    return _span(turn, call.span, span_id, call.parent_id or root_id, name, CLIENT, made, call)


def _put_usage(made: Attributes, usage: Usage) -> None:
    for key, count in (
        ("gen_ai.usage.input_tokens", usage.input),
        ("gen_ai.usage.output_tokens", usage.output),
        ("gen_ai.usage.cache_read.input_tokens", usage.cache_read),
        ("gen_ai.usage.cache_write.input_tokens", usage.cache_write),
        ("gen_ai.usage.cache_creation.input_tokens.ephemeral_1h", usage.cache_write_1h),
        ("gen_ai.usage.reasoning.output_tokens", usage.reasoning),
    ):
        if count is not None:
            made[key] = count


def _tool(turn: Turn, run: ToolRun, root_id: str) -> RawSpan:
    made = _common(turn, "execute_tool")
    for key, text in (
        ("gen_ai.tool.name", run.name),
        ("gen_ai.tool.call.id", run.call_id),
        ("gen_ai.tool.description", run.description),
        ("gen_ai.tool.call.arguments", run.arguments),
        ("gen_ai.tool.call.result", run.result or run.error),
    ):
        if text:
            made[key] = text
    name = f"execute_tool {run.name}".strip()
    span_id = run.span_id or span_hash(turn.trace_id, run.key)
    return _span(turn, run.span, span_id, run.parent_id or root_id, name, INTERNAL, made, run)


def _span(
    turn: Turn,
    base: RawSpan | None,
    span_id: str,
    parent_id: str,
    name: str,
    kind: int,
    made: Attributes,
    facts: Call | ToolRun | SubAgent,
) -> RawSpan:
    error_type = getattr(facts, "error_type", "")
    if facts.error or error_type:
        made["error.type"] = error_type or "error"
    if base is None:
        span = RawSpan(
            trace_id=turn.trace_id,
            span_id=span_id,
            parent_id=parent_id,
            name=name,
            kind=kind,
            start_ns=facts.start_ns,
            end_ns=facts.end_ns,
            attributes=made,
            resource=facts.resource,
            scope=facts.scope,
        )
    else:
        attributes = {**base.attributes, **made}
        span = msgspec.structs.replace(
            base, trace_id=turn.trace_id, parent_id=parent_id, name=name, kind=kind, attributes=attributes
        )
    if facts.error or error_type:
        span.status_code, span.status_message = ERROR, span.status_message or facts.error
    if isinstance(facts, Call) and facts.events:
        span.events = [*span.events, *facts.events]
    return span
