"""Qwen Code 0.24 (scope `qwen-code`): one trace for each turn, rooted at `qwen-code.interaction`, in `gen_ai.*`.

Content is on the spans; the text of a failed tool only in the log event `tool_call`. Hook spans are marked as failed
when the hook said nothing, and are internal. Background agents (`managed-…`) run in traces of their own. Version 0.15
sends log records and metrics only: then a turn is one `prompt_id` of a session. Prompt ids: `<session>########<n>` of
a turn, `<session>#<name>-<tool call id>#<n>` of a subagent, `<session>#managed-<name>-…#<n>` of a background agent.
"""

from bisect import bisect_right

import msgspec

from spanweir.schemas.agents.compose import ERROR, UTILITY, compose, unwrapped
from spanweir.schemas.agents.gemini_content import to_messages
from spanweir.schemas.agents.qwen_code_logs import NAME, Logs, purpose
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
    true_of,
)
from spanweir.schemas.raw import Attributes, RawLog, RawSpan

_EVENTS = frozenset({"user_prompt", "api_request", "api_response", "api_error", "tool_call"})
_INTERNAL = frozenset({"hook", "tool.execution", "tool.blocked_on_user"})
_MAX_LINKS = 20_000


class QwenCode:
    """The `Rules` of Qwen Code."""

    name = NAME

    def span(self, span: RawSpan, group: Group | None) -> bool:
        if _kind(span) not in _INTERNAL:
            return True
        if group is not None and len(group.links) < _MAX_LINKS:
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
        homes = _homes(items)
        placed: dict[str, list[Item]] = {}
        bare: list[Item] = []
        for item in items:
            trace_id = item.trace_id or traces.get(text_of(item.attributes.get("prompt_id")), "")
            trace_id = homes.get(trace_id, trace_id)
            (placed.setdefault(trace_id, []) if trace_id else bare).append(item)
        turns = [turn for trace_id, own in placed.items() for turn in _turns_of_trace(group, trace_id, own)]
        return [*turns, *_turns_of_session(group, bare)]

    def render(self, turn: Turn) -> list[RawSpan]:
        read = Logs(turn)
        spans = [item.span for item in turn.items if item.span is not None]
        if not spans:
            return compose(turn, read.facts()) if read.tells_something() else []
        made = _amended(turn, spans)
        if _strays(turn, spans):
            return _gathered(turn, spans, made, read)
        if read.events and any(not _kept_content(span) for span in made):
            _told(turn, made, read)
        if turn.final:
            made = _completed(turn, made, read)
        return made


def _kind(span: RawSpan) -> str:
    return span.name.removeprefix("qwen-code.")


def _homes(items: list[Item]) -> dict[str, str]:
    """Traces of single model calls and tools, and the trace of the interaction that each belongs to."""
    prompts: dict[str, str] = {}
    begun: list[tuple[int, str]] = []
    for item in items:
        if item.span is not None and _kind(item.span) == "interaction":
            prompts.setdefault(text_of(item.attributes.get("qwen-code.prompt_id")), item.trace_id)
            begun.append((item.start_ns, item.trace_id))
    whole = {i.trace_id for i in items if i.span is not None and _kind(i.span) == "llm_request" and i.span.parent_id}
    if not begun or any(trace_id in whole for _, trace_id in begun):
        return {}
    called = {
        call: text_of(item.attributes.get("prompt_id"))
        for item in items
        if item.event == "tool_call" and (call := text_of(item.attributes.get("call_id")))
    }
    homes: dict[str, str] = {}
    for item in items:
        span = item.span
        if span is None or span.parent_id or _kind(span) not in ("llm_request", "tool"):
            continue
        prompt = text_of(span.attributes.get("qwen-code.prompt_id")) or called.get(_call_id(span), "")
        home = prompts.get(prompt, "")
        if not prompt:
            home = next((trace_id for start, trace_id in reversed(begun) if start <= item.start_ns), "")
        if home:
            homes[span.trace_id] = home
    return homes


def _call_id(span: RawSpan) -> str:
    return first_text(span.attributes, "call_id", "gen_ai.tool.call.id")


def _turns_of_trace(group: Group, trace_id: str, items: list[Item]) -> list[Turn]:
    """A trace is a turn; of several that share one (a remote parent) the first keeps the trace id."""
    tops = [(i.start_ns, i.span_id) for i in items if i.span is not None and _kind(i.span) == "interaction"]
    tops += [
        (known.start_ns, known.key.rpartition("/")[2])
        for known in group.closed.values()
        if known.key.startswith(f"{trace_id}/") and known.key.rpartition("/")[2] not in dict(tops).values()
    ]
    tops.sort()
    apart = later([item for item in items if item.span is not None and _kind(item.span) == "interaction"])
    if len(tops) < 2 and not apart:
        return [Turn(trace_id, trace_id, items, group.session, links=group.links)]
    parents = {**group.links, **{i.span_id: i.span.parent_id for i in items if i.span is not None}}
    prompts = {
        prompt: i.span_id
        for i in items
        if i.span is not None and _kind(i.span) == "interaction"
        if (prompt := text_of(i.attributes.get("qwen-code.prompt_id")))
    }
    parts = split(items, tops, parents, lambda item: prompts.get(text_of(item.attributes.get("prompt_id")), ""))
    first = tops[0][1]
    return [
        Turn(
            trace_id if top == first and top not in apart else f"{trace_id}/{top}",
            trace_id if top == first and top not in apart else trace_hash(trace_id, top),
            own,
            group.session,
            top,
            links=group.links,
        )
        for top, own in parts.items()
    ]


def _turns_of_session(group: Group, items: list[Item]) -> list[Turn]:
    """Log records without trace ids, by prompt; subagents belong to the prompt before them."""
    prompts = [(item.start_ns, text_of(item.attributes.get("prompt_id"))) for item in items if _asks(item)]
    prompts += [(known.start_ns, known.key) for known in group.closed.values() if "########" in known.key]
    prompts.sort()
    turns: dict[str, Turn] = {}
    for item in items:
        own = text_of(item.attributes.get("prompt_id"))
        if not own or (purpose(own) and not purpose(own).startswith("managed-")):
            at = bisect_right(prompts, (item.start_ns, "\uffff"))
            own = prompts[at - 1][1] if at else own
        elif purpose(own):
            own = own.rpartition("#")[0]
        if own not in turns:
            trace_id = trace_hash(NAME, group.session, own)
            turns[own] = Turn(own, trace_id, [], group.session, span_hash(trace_id))
        turns[own].items.append(item)
    return list(turns.values())


def _asks(item: Item) -> bool:
    return item.event == "user_prompt" or "########" in text_of(item.attributes.get("prompt_id"))


# ------------------------------------------------------------------------------------------------ spans


def _amended(turn: Turn, spans: list[RawSpan]) -> list[RawSpan]:
    """The agent's own spans, which are in plain form already, with what only log records tell; the root first."""
    results = {text_of(i.attributes.get("call_id")): i.log for i in turn.items if i.log and i.event == "tool_call"}
    prompts = [text_of(i.attributes.get("prompt")) for i in turn.items if i.event == "user_prompt"]
    kinds = {span.span_id: _kind(span) for span in spans}
    out: list[RawSpan] = []
    for span in spans:
        kind = kinds[span.span_id]
        if kind in _INTERNAL:
            continue
        more: Attributes = {}
        if kind == "llm_request":
            _add_call(more, span)
        elif kind == "tool":
            _add_tool(more, span, results.get(_call_id(span)))
        elif kind in ("interaction", "subagent"):
            more["gen_ai.operation.name"] = "invoke_agent"
            if kind == "interaction" and prompts and "gen_ai.input.messages" not in span.attributes:
                more["gen_ai.input.messages"] = to_messages(prompts[0], "user")
        made = msgspec.structs.replace(span, attributes={**span.attributes, **more})
        made.trace_id, made.parent_id = turn.trace_id, _parent(span.parent_id, turn.links)
        if span.span_id == turn.root_id and span.trace_id != turn.trace_id:
            made.parent_id = ""
        made.name = _name(kind, made)
        if kind == "tool" and true_of(span.attributes.get("success")) is False:
            made.status_code = ERROR
            made.status_message = text_of(made.attributes.get("error.message")) or span.status_message
        out.append(made)
    return sorted(out, key=lambda span: (kinds[span.span_id] != "interaction", span.start_ns, span.span_id))


def _strays(turn: Turn, spans: list[RawSpan]) -> bool:
    """Whether the turn was put together from several traces."""
    own = [span for span in spans if _kind(span) == "interaction"]
    return len(own) == 1 and any(span.trace_id != own[0].trace_id for span in spans)


def _gathered(turn: Turn, spans: list[RawSpan], made: list[RawSpan], read: Logs) -> list[RawSpan]:
    """Spans of several traces below their interaction, with the content that their log records have."""
    root = made[0]
    turn.root_id = root.span_id
    told = {span.span_id: span for span in compose(turn, read.facts())} if read.events else {}
    astray = {span.span_id for span in spans if span.trace_id != root.trace_id}
    for span in made:
        if span is not root and not span.parent_id:
            span.parent_id = root.span_id
        if span.span_id in astray and span.attributes.get(UTILITY) == "standalone":
            del span.attributes[UTILITY]  # what it says of every call
        if known := told.get(span.span_id):
            span.attributes = {**known.attributes, **span.attributes}
    root.end_ns = max(span.end_ns for span in made)
    return made


_CONTENT = ("gen_ai.input.messages", "gen_ai.output.messages", "gen_ai.tool.call.arguments", "gen_ai.tool.call.result")


def _kept_content(span: RawSpan) -> bool:
    """Content is on the spans, or the span is none that has any."""
    operation = _kind_made(span)
    needed = {"chat": _CONTENT[0], "execute_tool": _CONTENT[3]}.get(operation, "")
    return not needed or needed in span.attributes


def _told(turn: Turn, made: list[RawSpan], read: Logs) -> None:
    """Content from the log records: by default (0.22, 0.23) the spans have none."""
    composed = compose(turn, read.facts())
    known = {span.span_id: span.attributes for span in composed[1:]}
    known |= {call: span.attributes for span in composed if (call := _call_id(span))}
    top = next((span for span in made if not span.parent_id and _kind_made(span) == "invoke_agent"), None)
    for span in made:
        told = known.get(_call_id(span) or span.span_id, {})
        if span is top and _kind_made(composed[0]) == "invoke_agent":
            told = composed[0].attributes
        for key in _CONTENT:
            if key in told and key not in span.attributes:
                span.attributes[key] = told[key]


def _completed(turn: Turn, spans: list[RawSpan], read: Logs) -> list[RawSpan]:
    """Spans that were lost, from their log records, under the ids that the records name."""
    known = {span.span_id for span in spans}
    if any(_kind_made(span) == "invoke_agent" and span.parent_id not in known for span in spans):
        return spans
    above = sorted({span.parent_id for span in spans} - known - {""}) or [""]
    told = any(not _purpose_of(span) for span in spans)
    if not told and not read.events.keys() & {"user_prompt", "tool_call"}:
        return spans
    turn.root_id = above[0] or span_hash(turn.trace_id)
    made = compose(turn, read.facts())
    # A record's span id is that of the span it was written in: the model call's, or the tool's.
    spans += [span for span in made if span.span_id not in known]
    roots = {span.span_id for span in made}
    for span in spans:
        if span.parent_id not in roots | known and span.span_id != turn.root_id:
            span.parent_id = turn.root_id
    return sorted(spans, key=lambda span: (span.span_id != turn.root_id, span.start_ns, span.span_id))


def _kind_made(span: RawSpan) -> str:
    return text_of(span.attributes.get("gen_ai.operation.name"))


def _purpose_of(span: RawSpan) -> str:
    return text_of(span.attributes.get(UTILITY))


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
        more[UTILITY] = purpose(first_text(own, "qwen-code.prompt_id")) or "standalone"
    thoughts = int_of(own.get("thoughts_token_count"))
    if thoughts and "gen_ai.usage.reasoning.output_tokens" not in own:
        more["gen_ai.usage.reasoning.output_tokens"] = thoughts
    if true_of(own.get("success")) is False and "error.message" not in own and own.get("error") is not None:
        more["error.message"] = own["error"]


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
    if result := text_of(own.get("gen_ai.tool.call.result")):
        more["gen_ai.tool.call.result"] = unwrapped(result)
