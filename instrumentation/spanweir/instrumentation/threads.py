"""The current context, and the current trace in other threads: Python carries the context to tasks, not to threads
(before 3.14)."""

import functools
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, ParamSpec, TypeVar

from opentelemetry import context as otel_context

P = ParamSpec("P")
R = TypeVar("R")
_runtime: Any = getattr(otel_context, "_RUNTIME_CONTEXT", otel_context)
"""`opentelemetry.context.detach` logs an error with a stack trace instead of raising."""
_variable: Any = getattr(_runtime, "_current_context", None)
_direct = isinstance(_variable, ContextVar)
"""The default runtime only passes on to its variable, which spares three calls per span."""
current: Callable[[], otel_context.Context] = _variable.get if _direct else _runtime.get_current
attach: Callable[[otel_context.Context], Any] = _variable.set if _direct else _runtime.attach
"""What `opentelemetry.context.get_current` and `.attach` come down to."""
_reset: Callable[[Any], None] = _variable.reset if _direct else _runtime.detach


def detach(token: Any) -> None:
    """Take a context off again. In another context than it was put on in (a generator that is closed elsewhere, a
    dependency of a web framework), nothing is to be done, and nothing to be logged."""
    try:
        _reset(token)
    except ValueError:
        return


def carry(function: Callable[P, R]) -> Callable[P, R]:
    """The function, to be run anywhere in the trace that is current now: `pool.submit(carry(work), ...)`.

    Only the OpenTelemetry context goes along, so several threads may run the result at once.
    """
    context = current()

    @functools.wraps(function)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        token = attach(context)
        try:
            return function(*args, **kwargs)
        finally:
            detach(token)

    return wrapper
