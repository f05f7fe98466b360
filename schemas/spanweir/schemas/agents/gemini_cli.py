"""Gemini CLI 0.61 (scope `gemini-cli`): every model call and every batch of tool calls is a trace of its own.

A turn is one prompt id of a session (`<session>########<n>`); non-interactive runs use the session id itself, then a
turn is one process, split at the log event `gemini_cli.user_prompt`. Messages are Gemini contents on the spans, one
message for each chunk when streamed. Output tokens exclude thoughts. Cached and thought tokens, response id and finish
reasons come in log records without ids (`api_response`, `gen_ai.client.inference.operation.details`), joined by time.
"""

from bisect import bisect_right

from spanweir.schemas.agents.compose import compose
from spanweir.schemas.agents.gemini_cli_facts import NAME, Records, operation_of
from spanweir.schemas.agents.turn import Closed, Group, Item, Turn, first_text, in_order, span_hash, text_of, trace_hash
from spanweir.schemas.raw import Attributes, RawLog, RawSpan

_EVENTS = frozenset({"user_prompt", "api_request", "api_response", "api_error", "tool_call"})
_DETAILS = "gen_ai.client.inference.operation.details"
_SPANS = frozenset({"llm_call", "tool_call", "schedule_tool_calls", "agent_call"})


class GeminiCli:
    """The `Rules` of Gemini CLI."""

    name = NAME

    def span(self, span: RawSpan, group: Group | None) -> bool:
        return operation_of(span) in _SPANS

    def keys(self, trace_id: str, attributes: Attributes) -> tuple[str, str]:
        return trace_id, first_text(attributes, "gen_ai.conversation.id", "session.id")

    def event(self, log: RawLog) -> str:
        name = (text_of(log.attributes.get("event.name")) or log.event_name).removeprefix("gemini_cli.")
        if name == _DETAILS:
            return "details" if "gen_ai.response.id" in log.attributes or _has_usage(log.attributes) else ""
        return name if name in _EVENTS else ""

    # -------------------------------------------------------------------------------------------- turns

    def turns(self, group: Group) -> list[Turn]:
        items = in_order(group.items.values())
        session = group.session
        traces: dict[str, str] = {}
        for item in items:
            if item.trace_id and (prompt := _prompt_id(item)):
                traces.setdefault(item.trace_id, prompt)
        numbered = _starts(items, group.closed, session)
        starts: dict[str, list[int]] = {}
        places: list[tuple[Item, str]] = []
        for item in items:
            prompt = _prompt_id(item) or traces.get(item.trace_id, "")
            if not prompt and numbered:
                prompt = numbered[max(bisect_right(numbered, (item.start_ns, "\uffff")) - 1, 0)][1]
            if prompt in ("", session):
                prompt = _process(item)
            places.append((item, prompt))
            if item.event == "user_prompt" and not _numbered(prompt):
                starts.setdefault(prompt, []).append(item.start_ns)
        for known in group.closed.values():
            if "@" in known.key:
                starts.setdefault(known.key.rpartition("@")[0], []).append(known.start_ns)
        turns: dict[str, Turn] = {}
        for item, prompt in places:
            key = prompt if _numbered(prompt) else _since(prompt, sorted(starts.get(prompt, [])), item)
            if key not in turns:
                trace_id = trace_hash(NAME, session, key)
                turns[key] = Turn(key, trace_id, [], session, span_hash(trace_id))
            turns[key].items.append(item)
        return list(turns.values())

    def render(self, turn: Turn) -> list[RawSpan]:
        read = Records(turn)
        return compose(turn, read.facts()) if read.tells_something() else []


def _has_usage(attributes: Attributes) -> bool:
    return attributes.get("gen_ai.usage.input_tokens") is not None


def _prompt_id(item: Item) -> str:
    if prompt := first_text(item.attributes, "prompt_id", "gen_ai.prompt.name"):
        return prompt
    if item.span is not None and operation_of(item.span) in ("tool_call", "schedule_tool_calls"):
        given = text_of(item.attributes.get("gen_ai.input.messages"))
        _, found, rest = given.partition('"prompt_id":"')
        return rest.partition('"')[0] if found else ""
    return ""


def _numbered(prompt: str) -> bool:
    """Whether the prompt id tells turns of a session apart."""
    return "########" in prompt


def _starts(items: list[Item], closed: dict[str, Closed], session: str) -> list[tuple[int, str]]:
    """When each prompt with an id of its own is first heard of: records without one belong to the one before them.

    Up to 0.29 a process that answers one prompt gives it a random id, later the session's.
    """
    found = {key.partition("@")[0]: known.start_ns for key, known in closed.items()}
    found = {prompt: start for prompt, start in found.items() if prompt and not _is_process(prompt)}
    for item in items:
        prompt = _prompt_id(item)
        if _numbered(prompt) or (item.event == "user_prompt" and prompt not in ("", session)):
            found[prompt] = min(item.start_ns, found.get(prompt, item.start_ns))
    return sorted((start, prompt) for prompt, start in found.items())


def _is_process(prompt: str) -> bool:
    return len(prompt) < 8 and prompt.isdigit()


def _process(item: Item) -> str:
    source = item.span or item.log
    resource = source.resource.attributes if source is not None else {}
    return text_of(resource.get("process.pid")) or "0"


def _since(prompt: str, starts: list[int], item: Item) -> str:
    """The turn of a record by the prompt before it. The first turn of a process has no mark, so that its records stay
    where they are when the prompt's own record comes last."""
    at = bisect_right(starts, item.start_ns) - 1
    return f"{prompt}@{starts[at]}" if at > 0 else f"{prompt}@"
