"""GitHub Copilot, command line 1.0 (scope `github.copilot`) and VS Code (`copilot-chat`): plain `gen_ai.*` spans.

One trace for each turn: `invoke_agent` > `chat`, `execute_tool`, nested `invoke_agent`. Each `chat` holds only the
messages that were new to it. `invoke_agent` repeats the sum of its model calls' tokens: it stays readable under names
that nothing adds up. `github.copilot.cost` counts premium requests, not dollars.
Source: microsoft/vscode `extensions/copilot/docs/monitoring/agent_monitoring.md`.
"""

from typing import Any

import msgspec
import orjson

from spanweir.schemas.agents.compose import answer_messages, user_messages
from spanweir.schemas.agents.gemini_content import output_text, user_text
from spanweir.schemas.agents.turn import Group, Turn, above, first_text, in_order, int_of, split, text_of, trace_hash
from spanweir.schemas.raw import Attributes, RawLog, RawSpan

NAME = "copilot"

_INTERNAL = frozenset({"execute_hook"})
_SESSION = ("gen_ai.conversation.id", "session.id", "copilot_chat.chat_session_id", "copilot_chat.session_id")


class Copilot:
    """The `Rules` of GitHub Copilot."""

    name = NAME

    def span(self, span: RawSpan, group: Group | None) -> bool:
        if _operation(span) not in _INTERNAL:
            return True
        if group is not None and len(group.links) < 20_000:
            group.links[span.span_id] = span.parent_id
        return False

    def keys(self, trace_id: str, attributes: Attributes) -> tuple[str, str]:
        return trace_id, ""

    def event(self, log: RawLog) -> str:
        name = text_of(log.attributes.get("event.name")) or log.event_name
        return "details" if log.span_id and name == "gen_ai.client.inference.operation.details" else ""

    def turns(self, group: Group) -> list[Turn]:
        """One trace is one turn, unless several top agents share it (a remote parent that never comes)."""
        items = in_order(group.items.values())
        trace_id = next(iter(group.traces), "")
        parents = {**group.links, **{i.span_id: i.span.parent_id for i in items if i.span is not None}}
        agents = {i.span_id: i.start_ns for i in items if i.span is not None and _operation(i.span) == "invoke_agent"}
        tops = [(start, span_id) for span_id, start in agents.items() if not above(parents[span_id], parents, agents)]
        tops += [(known.start_ns, known.key) for known in group.closed.values() if known.key not in agents]
        tops.sort()
        if len(tops) < 2:
            return [Turn(tops[0][1] if tops else trace_id, trace_id, items, _first(items), links=group.links)]
        return [
            Turn(
                top,
                trace_id if top == tops[0][1] else trace_hash(trace_id, top),
                own,
                _first(own),
                top,
                links=group.links,
            )
            for top, own in split(items, tops, parents, lambda _: "").items()
        ]

    def render(self, turn: Turn) -> list[RawSpan]:
        details = {item.span_id: item.log for item in turn.items if item.log is not None}
        spans = [item.span for item in turn.items if item.span is not None]
        told = any(_operation(s) == "chat" and "gen_ai.usage.input_tokens" in s.attributes for s in spans)
        out = [_amended(turn, span, details.get(span.span_id), told) for span in spans]
        known = {span.span_id for span in out}
        tops = [s for s in out if s.parent_id not in known and _operation(s) == "invoke_agent"]
        if tops:
            _add_content(tops[0], out)
            out.sort(key=lambda span: (span is not tops[0], span.start_ns, span.span_id))
        return out


def _operation(span: RawSpan) -> str:
    return first_text(span.attributes, "gen_ai.operation.name") or span.name.partition(" ")[0]


def _first(items: list[Any]) -> str:
    return next((session for item in items if (session := first_text(item.attributes, *_SESSION))), "")


def _amended(turn: Turn, span: RawSpan, details: RawLog | None, told: bool) -> RawSpan:
    own = dict(span.attributes)
    for key, value in (details.attributes if details is not None else {}).items():
        own.setdefault(key, orjson.dumps(value).decode() if isinstance(value, (list, dict)) else value)
    if turn.session:
        own.setdefault("gen_ai.conversation.id", turn.session)
    if user := first_text(own, "user.id", "enduser.id", "enduser.pseudo.id", "user.name"):
        own["user.id"] = user
    if _operation(span) == "invoke_agent":
        if told:
            _set_apart(own)
    elif int_of(own.get("gen_ai.usage.reasoning_tokens")) and "gen_ai.usage.reasoning.output_tokens" not in own:
        own["gen_ai.usage.reasoning.output_tokens"] = own["gen_ai.usage.reasoning_tokens"]
    parent = span.parent_id
    for _ in range(16):
        parent = turn.links.get(parent, parent)
    made = msgspec.structs.replace(span, trace_id=turn.trace_id, parent_id=parent, attributes=own)
    if turn.trace_id != span.trace_id and span.span_id == turn.root_id:
        made.parent_id = ""
    return made


def _set_apart(own: Attributes) -> None:
    """Sums that repeat what the model calls below say."""
    for key in [key for key in own if key.startswith("gen_ai.usage.")]:
        own[key.replace("gen_ai.usage.", "gen_ai.aggregated_usage.", 1)] = own.pop(key)


def _add_content(top: RawSpan, spans: list[RawSpan]) -> None:
    """Prompt and answer of the turn, from its own model calls when the agent span has none."""
    calls = sorted(
        (s for s in spans if _operation(s) == "chat" and s.parent_id == top.span_id), key=lambda s: s.start_ns
    )
    if not top.attributes.get("gen_ai.input.messages"):
        asked = (user_text(text_of(call.attributes.get("gen_ai.input.messages"))) for call in calls)
        if prompt := next((text for text in asked if text), ""):
            top.attributes["gen_ai.input.messages"] = user_messages(prompt)
    if not top.attributes.get("gen_ai.output.messages"):
        said = (output_text(text_of(call.attributes.get("gen_ai.output.messages"))) for call in reversed(calls))
        if answer := next((text for text in said if text), ""):
            top.attributes["gen_ai.output.messages"] = answer_messages(answer)
