"""What is recorded of content, and in which shape. Not here: taking the snapshot (`freeze`), sending it (`worker`)."""

import dataclasses
import json
import logging
import os
from collections.abc import Callable, Iterator
from typing import Any

from spanweir.instrumentation import bodies, messages
from spanweir.instrumentation.encode import dumps, pieces
from spanweir.instrumentation.freeze import ELIDED, Frozen

CAPTURE_VARIABLE = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"
_MODES = {
    "": (True, False),
    "true": (True, False),
    "span_only": (True, False),
    "false": (False, False),
    "no_content": (False, False),
    "event_only": (False, True),
    "span_and_event": (True, True),
}
_log = logging.getLogger(__name__)

Redact = Callable[[str, Any], Any]
"""`redact(attribute_name, value)` gives the value to record instead, or None to record nothing."""

REDACTION_FAILED = b'"<not recorded: the redaction hook failed>"'


@dataclasses.dataclass(frozen=True)
class Policy:
    """`on_spans` and `on_events` say where content goes; with both False no argument is even looked at."""

    on_spans: bool = True
    on_events: bool = False
    redact: Redact | None = None
    max_content_bytes: int = 16 << 20
    """Of one attribute. What is longer is cut inside its longest strings and says so."""

    captures: bool = dataclasses.field(init=False)
    """Whether content goes anywhere."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "captures", self.on_spans or self.on_events)

    def render(self, key: str, frozen: Frozen, limit: int | None = None) -> list[bytes]:
        """The attribute's text in pieces (UTF-8); empty if it is not to be recorded. Never raises.

        `limit` is the SDK's `OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT`, in characters.
        """
        try:
            pieces = self._render(key, frozen)
            return pieces if limit is None else [b"".join(pieces).decode()[:limit].encode()]
        except Exception as error:
            _log.warning("%s was not recorded: %s", key, type(error).__name__)
            return [dumps(f"<not recorded: {type(error).__name__}>")]

    def _render(self, key: str, frozen: Frozen) -> list[bytes]:
        frozen.complete()
        value, size = frozen.value, frozen.size
        if size > self.max_content_bytes:
            value = shorten(value, self.max_content_bytes)
            size = self.max_content_bytes
        value = FORMS[frozen.form](value)
        if self.redact is not None:
            try:
                value = self.redact(key, value)
            except Exception as error:  # fails closed: what could not be checked is not sent
                _log.warning("the redaction hook failed on %s: %s", key, type(error).__name__)
                return [REDACTION_FAILED]
            if value is None:
                return []
        if frozen.form == "text" and isinstance(value, str):
            return list(_slices(value))
        return list(pieces(value, size))


def _slices(text: str) -> Iterator[bytes]:
    step = 1 << 16
    for start in range(0, len(text) or 1, step):
        yield text[start : start + step].encode("utf-8", "replace")


FORMS: dict[str, Callable[[Any], Any]] = {
    "json": lambda value: value,
    "text": lambda value: value,
    "input": lambda value: messages.to_messages(value, "user"),
    "output": lambda value: messages.to_messages(value, "assistant"),
    "system": messages.to_system,
    "tools": messages.to_tools,
    "documents": messages.to_documents,
    "body": bodies.to_body,
}


def shorten(value: Any, limit: int) -> Any:
    """The value with its strings cut so that all of them together stay within `limit` characters."""
    left = [limit]

    def cut(item: Any) -> Any:
        if isinstance(item, str):
            keep = min(len(item), max(left[0], 0))
            left[0] -= keep + 16
            return item if keep == len(item) else f"{item[:keep]}{ELIDED} {len(item) - keep} more characters"
        if left[0] <= 0 and isinstance(item, (dict, list)):
            return ELIDED
        if isinstance(item, dict):
            return {key: cut(entry) for key, entry in item.items()}
        if isinstance(item, list):
            kept: list[Any] = []
            for entry in item:
                if left[0] <= 0:
                    kept.append(f"{ELIDED} {len(item) - len(kept)} more items")
                    break
                left[0] -= 8
                kept.append(cut(entry))
            return kept
        return item

    return cut(value)


def from_environment(
    *, capture: bool | str | None = None, redact: Redact | None = None, max_content_bytes: int = 16 << 20
) -> Policy:
    """The policy that `OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT` asks for, unless `capture` says otherwise.

    Raises:
        ValueError: `capture` is none of the modes. A variable that is none of them counts as NO_CONTENT, with a
            warning: a typing error must not publish what somebody meant to withhold.
    """
    if isinstance(capture, bool):
        capture = "SPAN_ONLY" if capture else "NO_CONTENT"
    asked = os.environ.get(CAPTURE_VARIABLE, "") if capture is None else capture
    mode = _MODES.get(asked.strip().lower())
    if mode is None:
        known = "NO_CONTENT, SPAN_ONLY, EVENT_ONLY, SPAN_AND_EVENT, true, false"
        if capture is not None:
            raise ValueError(f"capture_content={capture!r}: there are {known}")
        _log.warning("%s=%r is none of %s: no content is recorded", CAPTURE_VARIABLE, asked, known)
        mode = (False, False)
    return Policy(on_spans=mode[0], on_events=mode[1], redact=redact, max_content_bytes=max_content_bytes)


def redact_text(redact: Redact, key: str, text: str) -> str | None:
    """The hook applied to content that another instrumentation library has already written as JSON text."""
    try:
        value = redact(key, messages.parsed(text))
    except Exception:
        return json.loads(REDACTION_FAILED)  # type: ignore[no-any-return]
    return None if value is None else value if isinstance(value, str) else dumps(value).decode()
