"""A component of the configuration, built; and receivers, which the receiving process builds without the other half.

Not here: what delivers (`spanweir.collector.pipeline`), which that process does not even import.
"""

from typing import Any

from spanweir.collector.config import Component, ConfigError
from spanweir.collector.config.components import MissingExtra, extra_of
from spanweir.collector.queue.api import RECEIVER_HEADER, Writer
from spanweir.collector.receivers.api import Context, Observer, Receiver


def receiver_of(
    component: Component, writer: Writer, signals: frozenset[str], observer: Observer, *, told_apart: bool
) -> Receiver:
    """Not started. `signals` are those that some pipeline takes from it. Raises ConfigError."""
    headers = {RECEIVER_HEADER: component.id} if told_apart else {}
    context = Context(name=component.id, writer=writer, signals=signals, observer=observer, headers=headers)
    receiver: Receiver = build(component, context)
    return receiver


def build(component: Component, context: object) -> Any:
    """Raises ConfigError if it cannot be built as it is configured."""
    try:
        return component.config.build(context)
    except ModuleNotFoundError as error:
        module = (error.name or "").partition(".")[0]
        raise ConfigError(f"{component.path}: {MissingExtra(extra_of(module), module)}") from error
    except (ValueError, OSError) as error:
        raise ConfigError(f"{component.path}: {error}") from error
