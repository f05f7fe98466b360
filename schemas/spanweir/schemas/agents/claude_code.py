"""Claude Code 2.1: `claude_code.*` spans (scope `com.anthropic.claude_code.tracing`) and log events (`….events`).

A turn is one `claude_code.interaction` span; its log records carry the trace and span id of the interaction (or of a
tool that runs a subagent), never of the model call: they are joined by `request_id` and `tool_use_id`. Without spans a
turn is one `prompt.id` of a session. `input_tokens` excludes cache tokens. `gen_ai.response.id` is the HTTP request id.
"""

from spanweir.schemas.agents.claude_code_facts import NAME, Records, kind_of
from spanweir.schemas.agents.compose import compose
from spanweir.schemas.agents.turn import (
    Group,
    Item,
    Turn,
    first_text,
    in_order,
    int_of,
    later,
    span_hash,
    split,
    text_of,
    trace_hash,
)
from spanweir.schemas.raw import Attributes, RawLog, RawSpan

_EVENTS = frozenset(
    {
        "user_prompt",
        "assistant_response",
        "api_request",
        "api_error",
        "api_refusal",
        "api_retries_exhausted",
        "tool_result",
        "tool_decision",
        "api_request_body",
        "api_response_body",
        "system_prompt",
        "tool",
        "subagent_completed",
    }
)


class ClaudeCode:
    """The `Rules` of Claude Code."""

    name = NAME

    def span(self, span: RawSpan, group: Group | None) -> bool:
        kind = kind_of(span)
        if kind in ("interaction", "llm_request", "tool", "tool.execution"):
            return True
        if group is not None:
            group.links[span.span_id] = span.parent_id
        return False

    def keys(self, trace_id: str, attributes: Attributes) -> tuple[str, str]:
        return trace_id, first_text(attributes, "session.id", "gen_ai.conversation.id")

    def event(self, log: RawLog) -> str:
        name = (text_of(log.attributes.get("event.name")) or log.event_name or text_of(log.body)).removeprefix(
            "claude_code."
        )
        return name if name in _EVENTS else ""

    # -------------------------------------------------------------------------------------------- turns

    def turns(self, group: Group) -> list[Turn]:
        """By trace where there are spans, with the log records without ids that tell of the same calls; the rest by
        prompt."""
        items = in_order(group.items.values())
        traces: dict[str, list[Item]] = {}
        bare: list[Item] = []
        for item in items:
            (traces.setdefault(item.trace_id, []) if item.trace_id else bare).append(item)
        if traces and bare:
            bare = _placed(traces, bare)
        turns = [turn for trace_id, own in traces.items() for turn in _turns_of_trace(group, trace_id, in_order(own))]
        return [*turns, *_turns_of_session(group, bare)]

    # -------------------------------------------------------------------------------------------- facts

    def render(self, turn: Turn) -> list[RawSpan]:
        read = Records(turn)
        if not read.tells_something() or not (turn.root_id or turn.final):
            return []
        return compose(turn, read.facts())


def _turn(key: str, trace_id: str, items: list[Item], root_id: str) -> Turn:
    return Turn(key, trace_id, items, _session(items), root_id)


def _session(items: list[Item]) -> str:
    return next((s for i in items if (s := first_text(i.attributes, "session.id", "gen_ai.conversation.id"))), "")


def _placed(traces: dict[str, list[Item]], bare: list[Item]) -> list[Item]:
    """Put records without ids where a span or record with the same prompt, request or tool is; return the others.

    Versions that open spans without making them current log without ids.
    """
    known: dict[str, str] = {}
    for trace_id, items in traces.items():
        for item in items:
            for name in ("prompt.id", "request_id", "tool_use_id"):
                if text := text_of(item.attributes.get(name)):
                    known.setdefault(text, trace_id)
    prompts: dict[str, str] = {}
    for item in bare:
        prompt = text_of(item.attributes.get("prompt.id"))
        for name in ("prompt.id", "request_id", "tool_use_id"):
            place = known.get(text_of(item.attributes.get(name)), "")
            if prompt and place:
                prompts.setdefault(prompt, place)
    rest: list[Item] = []
    for item in bare:
        ids = [text_of(item.attributes.get(name)) for name in ("request_id", "tool_use_id")]
        place = next((known[i] for i in ids if i in known), "") or prompts.get(
            text_of(item.attributes.get("prompt.id")), ""
        )
        place = place or _running(traces, item)
        (traces[place] if place else rest).append(item)
    return rest


def _running(traces: dict[str, list[Item]], item: Item) -> str:
    """The trace whose turn was running then."""
    for trace_id, items in traces.items():
        for own in items:
            turn = own.span is not None and kind_of(own.span) == "interaction"
            if turn and own.start_ns <= item.start_ns <= own.end_ns:
                return trace_id
    return ""


def _turns_of_trace(group: Group, trace_id: str, items: list[Item]) -> list[Turn]:
    """A trace is a turn; of several turns that share one (a remote parent) the first keeps the trace id."""
    anchors = _anchors(group, trace_id, items)
    apart = later(items)
    if len(anchors) <= 1:
        root_id = anchors[0][1] if anchors else ""
        own_id = trace_hash(trace_id, root_id) if root_id in apart else trace_id
        return [_turn(f"{trace_id}/{root_id}", own_id, items, root_id)]
    parents = {**group.links, **{i.span_id: i.span.parent_id for i in items if i.span is not None}}
    prompts = {text_of(i.attributes.get("prompt.id")): i.span_id for i in items if i.event == "user_prompt"}
    parts = split(items, anchors, parents, lambda item: prompts.get(text_of(item.attributes.get("prompt.id")), ""))
    first = anchors[0][1]
    return [
        _turn(
            f"{trace_id}/{top}", trace_id if top == first and top not in apart else trace_hash(trace_id, top), own, top
        )
        for top, own in parts.items()
    ]


def _anchors(group: Group, trace_id: str, items: list[Item]) -> list[tuple[int, str]]:
    """Start and span id of the turns of a trace, known from the turn's span or from its prompt's log record."""
    found: dict[str, int] = {}
    for known in group.closed.values():
        if known.key.startswith(trace_id):
            found[known.key.rpartition("/")[2]] = known.start_ns
    for item in items:
        if item.event == "user_prompt" and item.span_id:
            found.setdefault(item.span_id, item.start_ns)
    for item in items:
        if item.span is not None and kind_of(item.span) == "interaction":
            found[item.span_id] = item.start_ns
    found.pop("", None)
    if not found:
        parents = [i.span.parent_id for i in items if i.span is not None and kind_of(i.span) == "llm_request"]
        if parents and parents[0]:
            found[parents[0]] = 0
    return sorted((start, anchor) for anchor, start in found.items())


def _turns_of_session(group: Group, items: list[Item]) -> list[Turn]:
    """Log records without any trace id: by `prompt.id`; records without one belong to the prompt before them."""
    turns: dict[str, Turn] = {}
    last = ""
    for item in sorted(items, key=lambda i: (i.start_ns, int_of(i.attributes.get("event.sequence")) or 0, i.key)):
        prompt = text_of(item.attributes.get("prompt.id"))
        if not prompt and item.event == "user_prompt":
            prompt = str(item.start_ns)
        last = prompt or last
        if last not in turns:
            trace_id = trace_hash(NAME, group.session, last)
            turns[last] = Turn(last, trace_id, [], group.session, span_hash(trace_id))
        turns[last].items.append(item)
    return list(turns.values())
