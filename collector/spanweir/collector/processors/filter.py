"""Drops spans by rules, and moves their children up to their parents, so that no tree is torn.

`genai_only` drops every span that says nothing about generative AI (HTTP servers and clients, databases, queues).
"""

import re
from collections.abc import Callable

import msgspec

from spanweir.collector.processors.api import Context, Item
from spanweir.schemas.raw import Attributes

_KINDS = ("unspecified", "internal", "server", "client", "producer", "consumer")


class Rule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A span that meets everything given here is dropped."""

    name: str = ""
    """Regular expression that the span's name matches from its beginning."""
    scope: str = ""
    """Regular expression that the instrumentation scope's name matches from its beginning."""
    kind: str = ""
    """OTLP span kind: `server`, `client`, `internal`, `producer` or `consumer`."""
    attributes: dict[str, str] = {}
    """Span or resource attribute -> regular expression that its value matches from its beginning."""
    genai: bool | None = None
    """Only spans that are (true) or are not (false) about generative AI."""

    def __post_init__(self) -> None:
        if not (self.name or self.scope or self.kind or self.attributes or self.genai is not None):
            raise ValueError("an empty rule would drop every span; give name, scope, kind, attributes or genai")
        if self.kind and self.kind not in _KINDS:
            raise ValueError(f"kind must be one of {', '.join(_KINDS)}, not {self.kind!r}")
        for pattern in (self.name, self.scope, *self.attributes.values()):
            try:
                re.compile(pattern)
            except re.error as error:
                raise ValueError(f"{pattern!r} is no regular expression: {error}") from error


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    drop: tuple[Rule, ...] = ()
    """Rules; a span that meets any of them is dropped."""
    genai_only: bool = False
    """Drop every span that says nothing about generative AI, a session, a user or an evaluation."""

    def build(self, context: Context) -> "Filter":
        return Filter(self, context)


class Filter:
    """A `Processor`."""

    rewrites = True
    """What is filtered must not leave through exporters that forward requests."""

    def __init__(self, config: Config, context: Context) -> None:
        self._drop = context.drop
        rules = config.drop
        if config.genai_only:
            rules = (*rules, Rule(genai=False))
        self._tests = [_test(rule) for rule in rules]

    def process(self, items: list[Item]) -> list[Item]:
        kept = []
        for item in items:
            if any(test(item) for test in self._tests):
                self._drop(item.raw, "filtered")
            else:
                kept.append(item)
        return kept


def _test(rule: Rule) -> Callable[[Item], bool]:
    name, scope = re.compile(rule.name), re.compile(rule.scope)
    kind = _KINDS.index(rule.kind) if rule.kind else None
    patterns = {key: re.compile(pattern) for key, pattern in rule.attributes.items()}

    def meets(item: Item) -> bool:
        raw = item.raw
        if rule.genai is not None and (item.span is not None) is not rule.genai:
            return False
        if kind is not None and raw.kind != kind:
            return False
        if rule.name and name.match(raw.name) is None:
            return False
        if rule.scope and scope.match(raw.scope.name) is None:
            return False
        return all(_matches(pattern, key, raw.attributes, raw.resource.attributes) for key, pattern in patterns.items())

    return meets


def _matches(pattern: re.Pattern[str], key: str, attributes: Attributes, resource: Attributes) -> bool:
    value = attributes.get(key, resource.get(key))
    return value is not None and pattern.match(value if isinstance(value, str) else str(value)) is not None
