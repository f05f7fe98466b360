"""Coding agents: their spans and log records, regrouped into one trace for each user turn.

Command-line agents split a turn over many traces, bury it in internal spans, or send log records only. `Agents` holds
the records of open turns, and hands on what it can tell of each turn as spans in plain OTel GenAI form, so that nothing
after it needs to know of agents. What goes out is a pure function of the records that came, in whatever order: a span
that later records change goes out again under the same ids, and one that no longer stands is named in `retractions`.

Bounded: by records, bytes and age for each turn, and by bytes in all; what was let go leaves its root behind, so that
late records still find the trace. State is rebuilt by reading the queue again from `low_water`.

Not here: what an agent's records mean (one module for each), and what a turn's spans look like (`compose`).
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from functools import lru_cache

import msgspec

from spanweir.schemas.agents import emit
from spanweir.schemas.agents.claude_code import ClaudeCode
from spanweir.schemas.agents.codex import Codex
from spanweir.schemas.agents.copilot import Copilot
from spanweir.schemas.agents.gemini_cli import GeminiCli
from spanweir.schemas.agents.opencode import OpenCode
from spanweir.schemas.agents.qwen_code import QwenCode
from spanweir.schemas.agents.turn import Group, Item, Key, Rules, log_time, text_of
from spanweir.schemas.raw import Attributes, RawLog, RawSpan, Resource, Scope
from spanweir.schemas.sizes import attributes_bytes, content_bytes, value_bytes

SECOND = 1_000_000_000
MIB = 1 << 20
_RECORD_BYTES = 500
_SLOW_RECORDS = 250
"""A turn is made anew from all of its records each time: the more it has, the less often."""
LINK_BYTES = 200
"""About what a dropped span's id and its parent's take."""


class Limits(msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """When turns go out and how much is held for them."""

    settle_ns: int = 1 * SECOND
    """A turn goes out when nothing has arrived for it for so long."""
    hold_ns: int = 5 * SECOND
    """A turn that keeps growing goes out at least so often."""
    final_ns: int = 10 * SECOND
    """Silence after which calls and tools are made from log records alone, and a missing root is made up."""
    idle_ns: int = 300 * SECOND
    """Silence after which the records of a turn are let go; later ones are added to its trace without joins."""
    forget_ns: int = 3600 * SECOND
    """Silence after which nothing is known of a session any more."""
    max_turn_bytes: int = 16 * MIB
    """Records held for one session; the oldest turns are let go first."""
    max_bytes: int = 48 * MIB
    """Records held in all; the sessions that were silent longest are let go first."""
    max_records: int = 20_000
    """Records held for one session."""
    max_groups: int = 20_000
    """Sessions known."""
    keep_internal: bool = False
    """Hand on the agents' internal spans too."""


_BY_SCOPE: tuple[tuple[str, str], ...] = (
    ("com.anthropic.claude_code", "claude-code"),
    ("codex", "codex"),
    ("gemini-cli", "gemini-cli"),
    ("gemini_cli", "gemini-cli"),
    ("qwen-code", "qwen-code"),
    ("github.copilot", "copilot"),
    ("@github/copilot", "copilot"),
    ("copilot-chat", "copilot"),
    ("opencode", "opencode"),
)
"""Scope name prefixes. Scopes are set by the tools, service names by their users, so scopes come first."""

_BY_SERVICE: dict[str, str] = {
    "claude-code": "claude-code",
    "gemini-cli": "gemini-cli",
    "opencode": "opencode",
    "copilot-chat": "copilot",
    "github-copilot": "copilot",
}
"""Default service names of agents whose processes also send spans of other scopes (HTTP clients, the AI SDK)."""


@lru_cache(10_000)
def agent_of(scope_name: str, service_name: str) -> str:
    """The coding agent whose records of this scope and service are; empty for none."""
    agent = next((agent for prefix, agent in _BY_SCOPE if scope_name.startswith(prefix)), "")
    return agent or _BY_SERVICE.get(service_name, "")


class Agents:
    """Regroups coding agents' records. Not thread-safe. Never raises for what a record holds.

    Times: `now_ns` is the clock of the caller (when the record was received); record times are the senders'.
    Tenants are never mixed. `route` is the caller's own and never looked into; `route_of` gives it back for a trace.
    """

    def __init__(self, limits: Limits | None = None) -> None:
        self.limits = limits or Limits()
        self.counters: Counter[str] = Counter()
        """`internal.<agent>`: spans dropped as noise; `merged.<agent>`: spans of which others tell now;
        `late.<agent>`: turns that went out again after their records were let go; `failed.<agent>`: turns whose records
        could not be read, their spans handed on untouched."""
        self._counted: Counter[str] = Counter()
        self._rules: dict[str, Rules] = {
            rules.name: rules for rules in (ClaudeCode(), Codex(), GeminiCli(), QwenCode(), Copilot(), OpenCode())
        }
        self._groups: dict[Group, None] = {}
        self._active: dict[Group, None] = {}
        """Groups that hold records."""
        self._by_key: dict[Key, Group] = {}
        self._sweep_ns = 0
        self._routes: dict[str, object] = {}
        self._retracted: list[tuple[str, str]] = []
        self._bytes = 0

    # -------------------------------------------------------------------------------------------- in

    def spans(
        self, spans: Sequence[RawSpan], now_ns: int, sequence: int = 0, tenant: str = "", route: object = None
    ) -> list[RawSpan]:
        """Take spans; return those that go on now: all that are no agent's, untouched and in order."""
        if not self._any(spans):
            return spans if isinstance(spans, list) else list(spans)
        out: list[RawSpan] = []
        for span in spans:
            if agent := self._agent(span.scope, span.resource):
                group = self._take_span(self._rules[agent], span, now_ns, sequence, tenant)
                group.route = group.route or route
            else:
                out.append(span)
        return out

    def logs(
        self, logs: Sequence[RawLog], now_ns: int, sequence: int = 0, tenant: str = "", route: object = None
    ) -> list[RawLog]:
        """Take log records; return those that are no agent's."""
        if not self._any(logs):
            return logs if isinstance(logs, list) else list(logs)
        out: list[RawLog] = []
        for log in logs:
            if agent := self._agent(log.scope, log.resource):
                group = self._take_log(self._rules[agent], log, now_ns, sequence, tenant)
                if group is not None:
                    group.log_route = group.log_route or route
                elif _standard(log):
                    out.append(log)
            else:
                out.append(log)
        return out

    def _any(self, records: Sequence[RawSpan | RawLog]) -> bool:
        """Whether there is an agent's among the records. Those of one scope follow each other and share it."""
        scope: Scope | None = None
        resource: Resource | None = None
        for record in records:
            if record.scope is not scope or record.resource is not resource:
                scope, resource = record.scope, record.resource
                if self._agent(scope, resource):
                    return True
        return False

    def _agent(self, scope: Scope, resource: Resource) -> str:
        return agent_of(scope.name, text_of(resource.attributes.get("service.name")))

    def _take_span(self, rules: Rules, span: RawSpan, now_ns: int, sequence: int, tenant: str) -> Group:
        group = self._group(rules, span.trace_id, span.attributes, now_ns, tenant)
        known = len(group.links)
        wanted = rules.span(span, group)
        if len(group.links) != known:
            group.size_bytes += LINK_BYTES
            self._bytes += LINK_BYTES
            if group.items:  # The chain of parents of what went out already may have changed.
                group.touch(now_ns)
        if not wanted:
            self.counters[f"internal.{rules.name}"] += 1
            if not self.limits.keep_internal:
                return group
        key = f"{span.trace_id}/{span.span_id}"
        item = Item(key, span.start_ns, span.end_ns, span=span)
        self._put(group, group.items if wanted else group.internals, item, now_ns, sequence)
        return group

    def _take_log(self, rules: Rules, log: RawLog, now_ns: int, sequence: int, tenant: str) -> Group | None:
        event = rules.event(log)
        if not event or not any(rules.keys(log.trace_id, log.attributes)):
            return None
        group = self._group(rules, log.trace_id, log.attributes, now_ns, tenant)
        at = log_time(log)
        item = Item(_log_key(log, event, at), at, at, log=log, event=event)
        self._put(group, group.items, item, now_ns, sequence)
        return group

    def _put(self, group: Group, items: dict[str, Item], item: Item, now_ns: int, sequence: int) -> None:
        old = items.get(item.key)
        item.sequence = old.sequence if old and old.sequence else sequence
        item.arrived_ns = now_ns
        item.size_bytes = _size(item)
        grown = item.size_bytes - (old.size_bytes if old else 0)
        items[item.key] = item
        group.size_bytes += grown
        self._bytes += grown
        if sequence and (not group.low or sequence < group.low):
            group.low = sequence
        group.touch(now_ns)
        self._active[group] = None

    # -------------------------------------------------------------------------------------------- groups

    def _group(self, rules: Rules, trace_id: str, attributes: Attributes, now_ns: int, tenant: str) -> Group:
        """The group that knows the record's trace or session; two that turn out to be one are joined."""
        trace, session = rules.keys(trace_id, attributes)
        trace_key = (rules.name, "trace", trace, tenant)
        session_key = (rules.name, "session", session, tenant)
        group = self._by_key.get(trace_key) if trace else None
        if session:
            other = self._by_key.get(session_key)
            if other is not None and other is not group:
                group = self._join(other, group, now_ns) if group is not None else other
        if group is None:
            group = Group(rules.name)
            group.touched_ns, group.release_ns = now_ns, now_ns + self.limits.idle_ns
            self._groups[group] = None
        if session and session_key not in group.keys:
            group.session = group.session or session
            group.keys.add(session_key)
            self._by_key[session_key] = group
            if group.items:
                group.touch(now_ns)
        if trace and trace_key not in group.keys:
            group.keys.add(trace_key)
            group.traces.add(trace)
            self._by_key[trace_key] = group
        return group

    def _join(self, group: Group, other: Group, now_ns: int) -> Group:
        """Two groups as one; the smaller goes into the larger. What went out of each may look different now, also when
        the record that joins them is one that is not kept."""
        if len(other.items) > len(group.items):
            group, other = other, group
        group.take(other)
        group.touch(now_ns)
        for key in other.keys:
            self._by_key[key] = group
        self._groups.pop(other, None)
        if self._active.pop(other, self) is None:
            self._active[group] = None
        return group

    # -------------------------------------------------------------------------------------------- out

    def tick(self, now_ns: int) -> list[RawSpan]:
        """Spans of turns that settled, grew for long, or came to an end. To be called about once a second."""
        out: list[RawSpan] = []
        self._routes.clear()
        for group in list(self._active):
            out += self._tick(group, now_ns)
        if now_ns >= self._sweep_ns:
            self._sweep_ns = now_ns + self.limits.idle_ns // 4
            for group in [group for group in self._groups if group not in self._active]:
                silent = now_ns - group.touched_ns
                if silent >= (self.limits.forget_ns if group.closed else self.limits.idle_ns):
                    self._forget(group)
        out += self._shrink_all()
        return out

    def _tick(self, group: Group, now_ns: int) -> list[RawSpan]:
        limits = self.limits
        out: list[RawSpan] = []
        silent = now_ns - group.touched_ns
        slow = 1 + len(group.items) // _SLOW_RECORDS
        if silent >= limits.final_ns and not group.finished:
            out += self._flush(group, True)
        elif group.dirty_ns and (silent >= limits.settle_ns * slow or now_ns - group.dirty_ns >= limits.hold_ns * slow):
            out += self._flush(group, False)
        if now_ns >= group.release_ns:
            group.release_ns = now_ns + limits.idle_ns // 4
            self._release(group, now_ns - limits.idle_ns)
        if group.size_bytes > limits.max_turn_bytes or len(group.items) + len(group.internals) > limits.max_records:
            out += self._shrink(group)
        return out

    def drain(self) -> list[RawSpan]:
        """Everything that is held, as final: at the end of a stream that is known to be whole."""
        self._routes.clear()
        return [span for group in list(self._active) for span in self._flush(group, True)]

    def route_of(self, trace_id: str) -> object:
        """The route that the first spans (if there are none, log records) of a session came by, for a trace that the
        last `tick` or `drain` handed on or retracted from; `None` for any other."""
        return self._routes.get(trace_id)

    def counted(self) -> dict[tuple[str, str], int]:
        """What the counters have grown by since the last call, by reason and agent."""
        grown = self.counters - self._counted
        self._counted = self.counters.copy()
        return {(reason, agent): n for key, n in grown.items() for reason, _, agent in [key.partition(".")]}

    def retractions(self) -> list[tuple[str, str]]:
        """Trace and span ids that were handed out and no longer stand; each is named once. Whoever has stored them
        deletes them, and a trace that is left without spans with them."""
        taken, self._retracted = self._retracted, []
        return taken

    def low_water(self) -> int | None:
        """The oldest queue position that is still needed to rebuild the state; `None` when nothing is held."""
        return min((group.low for group in self._active if group.low), default=None)

    @property
    def held_bytes(self) -> int:
        return self._bytes

    def _flush(self, group: Group, final: bool) -> list[RawSpan]:
        group.dirty_ns = 0
        group.finished = group.finished or final
        spans, gone = emit.changed(self._rules[group.agent], group, final, self.limits.keep_internal, self.counters)
        self._retracted += gone
        for trace_id in {span.trace_id for span in spans} | {trace_id for trace_id, _ in gone}:
            self._routes[trace_id] = group.route or group.log_route
        return spans

    # -------------------------------------------------------------------------------------------- bounds

    def _release(self, group: Group, before_ns: int) -> None:
        """Let go of the records of turns that nothing has arrived for since `before_ns`."""
        emit.close(self._rules[group.agent], group, before_ns, self.counters)
        if not group.items and not group.internals:
            group.links.clear()
            self._active.pop(group, None)
        held = [*group.items.values(), *group.internals.values()]
        self._bytes -= group.size_bytes
        group.size_bytes = len(group.links) * LINK_BYTES + sum(item.size_bytes for item in held)
        self._bytes += group.size_bytes
        group.low = min((item.sequence for item in held if item.sequence), default=0)

    def _shrink(self, group: Group) -> list[RawSpan]:
        """Hand on a group that has grown too large and let go of its oldest turns."""
        out = self._flush(group, False)
        arrivals = sorted(item.arrived_ns for item in (*group.items.values(), *group.internals.values()))
        for eighth in range(1, 9):
            self._release(group, arrivals[len(arrivals) * eighth // 8 - 1] + 1)
            held = len(group.items) + len(group.internals)
            if group.size_bytes <= self.limits.max_turn_bytes // 2 and held <= self.limits.max_records // 2:
                break
        return out

    def _shrink_all(self) -> list[RawSpan]:
        out: list[RawSpan] = []
        most, limits = len(self._groups) - self.limits.max_groups, self.limits
        if self._bytes <= limits.max_bytes and most <= 0:
            return out
        for n, group in enumerate(sorted(self._groups, key=lambda group: group.touched_ns)):
            if self._bytes <= limits.max_bytes // 2 and n >= most:
                break
            if group in self._active:
                out += self._flush(group, False)
                self._release(group, group.touched_ns + 1)
            if n < most:
                self._forget(group)
        return out

    def _forget(self, group: Group) -> None:
        self._groups.pop(group, None)
        self._active.pop(group, None)
        self._bytes -= group.size_bytes
        for key in group.keys:
            self._by_key.pop(key, None)


def _standard(log: RawLog) -> bool:
    """A record of the GenAI conventions (an evaluation, say) that is joined to its span like anybody's."""
    return bool(log.span_id) and (log.event_name or text_of(log.attributes.get("event.name"))).startswith("gen_ai.")


def _log_key(log: RawLog, event: str, at: int) -> str:
    """Log records have no id: time, event and what tells two records of one millisecond apart."""
    attributes = log.attributes
    parts = [event, str(at), log.span_id]
    for name in ("event.sequence", "event.kind", "request_id", "tool_use_id", "call_id", "response_id", "prompt_id"):
        parts.append(text_of(attributes.get(name)))
    return "/".join(parts) + f"/{len(attributes)}"


def _size(item: Item) -> int:
    """About how much memory a record takes."""
    if item.span is not None:
        return _RECORD_BYTES + content_bytes(item.span)
    return _RECORD_BYTES + attributes_bytes(item.attributes) + value_bytes(item.log.body if item.log else None)


def names() -> Iterable[str]:
    """Names of the agents that are known, for documentation."""
    return sorted({agent for _, agent in _BY_SCOPE})
