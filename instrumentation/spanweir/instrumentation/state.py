"""What the process has set up (policy, tracer) and what the spans of one trace share (session, user, metadata)."""

import json
import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice
from typing import Any

from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.util.types import AttributeValue

from spanweir.instrumentation import names
from spanweir.instrumentation.encode import dumps
from spanweir.instrumentation.freeze import Frozen, freeze
from spanweir.instrumentation.policy import Policy, from_environment
from spanweir.instrumentation.start import Starter

_log = logging.getLogger(__name__)
SCOPE = "spanweir.instrumentation"
SCHEMA_URL = "https://opentelemetry.io/schemas/gen-ai/1.42.0"
MAX_TAGS = 1000
"""Of one trace; later ones are left out."""
TRACE_KEY = otel_context.create_key("spanweir-trace")

_policy: Policy | None = None
_provider: trace.TracerProvider | None = None
_loggers: Any = None
_defer: Callable[[Callable[[], None], int], None] | None = None
_recorder: tuple[trace.TracerProvider, Starter, Policy] | None = None


class Fixed:
    """What `recorder` gives where `init` has set up the provider: nothing is to be looked up then."""

    def __init__(self) -> None:
        self.recorder: tuple[Starter, Policy] | None = None


fixed = Fixed()


def policy() -> Policy:
    """The policy of this process: what `init` was told, or what the environment says."""
    global _policy
    if _policy is None:
        _policy = from_environment()
    return _policy


def set_policy(new: Policy | None) -> None:
    """None: read the environment again when it is next needed."""
    global _policy, _recorder
    _policy, _recorder = new, None
    fixed.recorder = None


def set_logger_provider(new: Any) -> None:
    """Where details records go; None: to the global logger provider."""
    global _loggers
    _loggers = new


def set_defer(new: Callable[[Callable[[], None], int], None] | None) -> None:
    """What runs work off the calling thread; None: nothing does."""
    global _defer
    _defer = new


def set_provider(new: trace.TracerProvider | None) -> None:
    """None: the global one."""
    global _provider
    _provider = new
    fixed.recorder = None


def provider() -> trace.TracerProvider:
    """The provider that `init` has set up, else the global one."""
    return _provider or trace.get_tracer_provider()


def recorder() -> tuple[Starter, Policy]:
    """What starts spans (for the provider that `init` has set up, else for the global one, which may be set late or
    replaced) and what is recorded on them."""
    global _recorder
    current = _provider or trace.get_tracer_provider()
    known = _recorder
    if known is None or known[0] is not current:
        _recorder = known = (current, Starter(current.get_tracer(SCOPE, schema_url=SCHEMA_URL)), policy())
    if _provider is not None:
        fixed.recorder = known[1:]
    return known[1], known[2]


class Trace:
    """What the spans of one trace in this process share: its first span, which lives in the OpenTelemetry context of
    all of them and so crosses tasks."""

    __slots__ = ("_otel", "inherited", "metadata", "tags")

    _otel: Any
    inherited: Mapping[str, AttributeValue] | None
    metadata: Mapping[str, Any] | None
    tags: Sequence[str]


def update_current_trace(
    *,
    session: str | None = None,
    user: str | None = None,
    tags: Mapping[str, str] | Iterable[str] | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> None:
    """Say something about the trace that the calling code runs in. Outside a trace it does nothing.

    Emits, on the trace's root in this process and on the current span, and for session and user on every later span:
    `gen_ai.conversation.id` and `session.id` (session), `user.id` (user), `tag.tags` or `mlflow.traceTag.<key>` (tags,
    a list or a mapping), `metadata` (a JSON object; repeated calls add to it).
    """
    try:
        _update(session, user, tags, metadata)
    except Exception as error:  # a value that misbehaves
        _log.warning("the current trace was not updated: %s", type(error).__name__)


def _update(session: Any, user: Any, tags: Any, metadata: Any) -> None:
    shared = otel_context.get_value(TRACE_KEY)
    current = trace.get_current_span()
    known = shared if isinstance(shared, Trace) else None
    if not current.is_recording() and known is None:
        return
    attributes: dict[str, AttributeValue] = {}
    if session is not None:
        attributes[names.CONVERSATION_ID] = attributes[names.SESSION_ID] = str(session)
    if user is not None:
        attributes[names.USER_ID] = str(user)
    if known is not None:
        known.inherited = {**(known.inherited or {}), **attributes}
    if isinstance(tags, Mapping):
        attributes.update({names.TRACE_TAG + str(key): str(value) for key, value in tags.items()})
    elif tags is not None:
        listed = known.tags if known is not None else ()
        more = [tags] if isinstance(tags, str) else islice(tags, MAX_TAGS)
        attributes[names.TAGS] = listed = list(dict.fromkeys([*listed, *map(str, more)]))[:MAX_TAGS]
        if known is not None:
            known.tags = listed
    if metadata is not None:
        merged = {**((known.metadata if known is not None else None) or {}), **metadata}
        if known is not None:
            known.metadata = merged
        attributes[names.METADATA] = dumps(freeze(merged).value).decode()
    for span in {id(s): s for s in (current, known._otel if known is not None else current)}.values():
        if span.is_recording():
            span.set_attributes(attributes)


def emit_details(
    span: trace.Span, attributes: Mapping[str, AttributeValue], frozen: Mapping[str, Frozen], policy: Policy
) -> None:
    """The content as a `gen_ai.client.inference.operation.details` log record of the span (modes with EVENT)."""
    context = trace.set_span_in_context(span, otel_context.Context())
    known = {**(getattr(span, "attributes", None) or {}), **attributes}
    for key in frozen:
        known.pop(key, None)
    now = time.time_ns()

    def emit() -> None:
        _emit_details(context, known, frozen, policy, now)

    if _defer is None:
        emit()
    else:
        _defer(emit, sum(item.size for item in frozen.values()) + 1000)


def _emit_details(
    context: otel_context.Context,
    attributes: Mapping[str, AttributeValue],
    frozen: Mapping[str, Frozen],
    policy: Policy,
    time_ns: int,
) -> None:
    from opentelemetry._logs import LogRecord, SeverityNumber, get_logger

    content: dict[str, Any] = {}
    for key, item in frozen.items():
        text = b"".join(policy.render(key, item)).decode()
        if text:
            content[key] = json.loads(text) if item.form != "text" else text
    get_logger(SCOPE, schema_url=SCHEMA_URL, logger_provider=_loggers).emit(
        LogRecord(
            timestamp=time_ns,
            context=context,
            event_name=names.CLIENT_DETAILS_EVENT,
            severity_number=SeverityNumber.INFO,
            attributes={**attributes, **content},
        )
    )
