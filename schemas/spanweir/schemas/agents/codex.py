"""Codex CLI 0.169 (scopes `codex_exec`, `codex_cli_rs`, `codex_app_server`, logs `codex_otel.*`).

A turn is a trace with one `session_task.turn` (`turn.id`); of its hundreds of spans only `codex.sampling` (a model
call), the tool's own span (`tool_name` and `call_id`) and the turn itself say something. Content is in log records:
`codex.user_prompt`, `codex.agent_response`, `codex.tool_result`; 0.74 tells answers in span events only. Tokens are on
the `handle_responses` span that saw the end of the stream, and on `codex.sse_event` of kind `response.completed`,
which has no ids: joined by conversation and time. Without spans a turn is what follows a `codex.user_prompt`. Numbers
are often strings.
"""

from bisect import bisect_right

from spanweir.schemas.agents.codex_facts import NAME, SLACK_NS, Records, is_tool, spoken
from spanweir.schemas.agents.compose import compose
from spanweir.schemas.agents.turn import Group, Item, Turn, first_text, in_order, span_hash, text_of, trace_hash
from spanweir.schemas.raw import Attributes, RawLog, RawSpan

_EVENTS = frozenset(
    {"conversation_starts", "user_prompt", "agent_response", "tool_result", "tool_decision", "api_request", "sse_event"}
)
_TURN_SPANS = frozenset({"session_task.turn", "turn/start", "codex.turn_input", "run_turn", "try_run_sampling_request"})


class Codex:
    """The `Rules` of Codex."""

    name = NAME

    def span(self, span: RawSpan, group: Group | None) -> bool:
        name, attributes = span.name, span.attributes
        if name == "codex.sampling" or name in _TURN_SPANS or is_tool(span):
            return True
        if name == "handle_output_item_done":
            return bool(spoken(span))
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
            turn.notes, turn.links = group.notes, group.links
        return split

    def render(self, turn: Turn) -> list[RawSpan]:
        read = Records(turn)
        return compose(turn, read.facts()) if read.tells_something() else []


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
    at = bisect_right(spans, (item.start_ns + SLACK_NS, 0, "")) - 1
    return spans[at][2] if at >= 0 and item.start_ns <= spans[at][1] + 100 * SLACK_NS else ""


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
