"""How much memory values take, roughly: for buffers that are bounded in bytes. Not what they take on the wire."""

from spanweir.schemas.raw import Attributes, RawSpan, Value

ENTRY_BYTES = 64
"""A key and its place in a dict."""
EVENT_BYTES = 192
LINK_BYTES = 256


def value_bytes(value: Value) -> int:
    """Of an attribute's value, with all that is nested in it."""
    if isinstance(value, str | bytes):
        return len(value)
    if isinstance(value, dict):
        return attributes_bytes(value)
    if isinstance(value, list):
        return sum(16 + value_bytes(one) for one in value)
    return 16


def attributes_bytes(attributes: Attributes) -> int:
    """Of attributes, without their keys' text: spans share it."""
    return sum(ENTRY_BYTES + value_bytes(value) for value in attributes.values())


def content_bytes(raw: RawSpan) -> int:
    """Of a span's attributes, events (prompts and answers may stand there) and links."""
    events = sum(EVENT_BYTES + attributes_bytes(event.attributes) for event in raw.events)
    return attributes_bytes(raw.attributes) + events + LINK_BYTES * len(raw.links)
