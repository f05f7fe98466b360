"""Span attributes whose content becomes text when somebody reads it, not when it is recorded.

The SDK hands the same attribute mapping from the span to every processor and exporter, so the mapping of a span of ours
is a `LazyAttributes` (made so shortly before the end where the SDK made the span). spanweir's worker takes the frozen
content as it is; any other exporter that reads the mapping finds the finished text (and pays for it on its own thread).
"""

import os
import threading
from collections.abc import Callable, Iterator
from typing import Any

from opentelemetry.attributes import BoundedAttributes
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import Span
from opentelemetry.util.types import AttributeValue

from spanweir.instrumentation.freeze import Frozen
from spanweir.instrumentation.policy import Policy

CLEAN = frozenset({str, int, float, bool})
"""Types of attribute values that the SDK keeps as they are."""
_lock = threading.RLock()
"""Of the same thread again: a redaction hook or a finaliser may end spans while the text of another is made."""


def _new_lock() -> None:
    """Another thread of the parent may have held the lock at the moment of the fork."""
    global _lock
    _lock = threading.RLock()


os.register_at_fork(after_in_child=_new_lock)


class WhenAsked:
    """An attribute that an instance has once somebody asks for it; the same one for all threads that ask."""

    def __init__(self, make: Callable[[Any], Any]) -> None:
        self._make = make

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, instance: Any, owner: type) -> Any:
        return instance.__dict__.setdefault(self._name, self._make(instance))


class LazyAttributes(BoundedAttributes):
    """A `BoundedAttributes` (same layout: `__class__` of one may be assigned), and with no more than `_dict` and
    `maxlen` one that is open and has no limit to the length of values."""

    _immutable = False
    _lock = WhenAsked(lambda _: threading.Lock())
    dropped = 0
    frozen: dict[str, Frozen] | None = None
    max_value_len = None
    policy: Policy
    size = 0

    def hold(self, frozen: dict[str, Frozen], policy: Policy) -> None:
        """Frozen content that becomes text in time."""
        self.policy = policy
        self.size = sum(item.size for item in frozen.values())
        self.frozen = frozen

    def _finish(self) -> None:
        with _lock:
            frozen, self.frozen = self.frozen, None
            for key, item in (frozen or {}).items():
                pieces = self.policy.render(key, item, self.max_value_len)
                if pieces:
                    self._dict[key] = b"".join(pieces).decode()

    def __getitem__(self, key: str) -> AttributeValue:
        if self.frozen is not None:
            self._finish()
        return self._dict[key]

    def __iter__(self) -> Iterator[str]:
        if self.frozen is not None:
            self._finish()
        return iter(tuple(self._dict))

    def __len__(self) -> int:
        if self.frozen is not None:
            self._finish()
        return len(self._dict)

    def __deepcopy__(self, memo: dict[int, Any]) -> BoundedAttributes:
        if self.frozen is not None:
            self._finish()
        return super().__deepcopy__(memo)

    def copy(self) -> Any:
        if self.frozen is not None:
            self._finish()
        return self._dict.copy()

    def take(self) -> tuple[dict[str, AttributeValue], dict[str, Frozen]]:
        """Finished attributes and frozen content, without finishing the latter."""
        with _lock:
            return dict(self._dict), self.frozen or {}


def put(span: Span, values: dict[str, AttributeValue]) -> None:
    """`span.set_attributes`, without cleaning what is clean: that takes the SDK (1.45) longer than all the rest."""
    attributes: Any = getattr(span, "_attributes", None)
    if isinstance(attributes, BoundedAttributes) and attributes.max_value_len is None:
        room = attributes.maxlen is None or len(attributes._dict) + len(values) <= attributes.maxlen
        if room and CLEAN.issuperset(map(type, values.values())):
            with attributes._lock:
                attributes._dict.update(values)
            return
    span.set_attributes(values)


def attach(span: Span, frozen: dict[str, Frozen], policy: Policy) -> None:
    """Put frozen content on a span that is about to end."""
    attributes: Any = getattr(span, "_attributes", None)
    if type(attributes) is BoundedAttributes:
        attributes.__class__ = LazyAttributes
    if type(attributes) is LazyAttributes:
        attributes.hold(frozen, policy)
        return
    for key, item in frozen.items():  # not the SDK's span: write the text now
        pieces = policy.render(key, item)
        if pieces:
            span.set_attribute(key, b"".join(pieces).decode())


def content_of(span: ReadableSpan) -> LazyAttributes | None:
    """The lazy attributes of an ended span, None if it is not one of ours."""
    attributes = getattr(span, "_attributes", None)
    return attributes if isinstance(attributes, LazyAttributes) else None
