"""The current trace in other threads. Python carries the context to tasks, not to threads (before 3.14)."""

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from opentelemetry import context as otel_context

P = ParamSpec("P")
R = TypeVar("R")


def carry(function: Callable[P, R]) -> Callable[P, R]:
    """The function, to be run anywhere in the trace that is current now: `pool.submit(carry(work), ...)`.

    Only the OpenTelemetry context goes along, so several threads may run the result at once.
    """
    context = otel_context.get_current()

    @functools.wraps(function)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        token = otel_context.attach(context)
        try:
            return function(*args, **kwargs)
        finally:
            otel_context.detach(token)

    return wrapper
