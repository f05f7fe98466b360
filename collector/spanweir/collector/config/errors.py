"""How a configuration says no: where, what is wrong, what would be right."""

from collections.abc import Iterable
from difflib import get_close_matches

_HABITS = {
    "batch": "spanweir batches by itself, see service.delivery",
    "memory_limiter": "every buffer has its bound, see service.queue.max_bytes and service.delivery.buffer_bytes",
    "sending_queue": "the queue stands before the pipelines, see service.queue",
    "retry_on_failure": "every exporter tries again without end, see service.delivery",
    "connectors": "there are none",
    "logging": "it is called debug",
}
"""What users of an OpenTelemetry Collector write and do not need here."""


class ConfigError(Exception):
    """One or more problems; `str()` is one line for each, fit to be printed."""

    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


def suggestion(word: str, known: Iterable[str], noun: str) -> str:
    """`did you mean 'experiment'? There are: ...`, with the list cut where it would not help."""
    names = sorted(known)
    close = get_close_matches(word, names, n=1, cutoff=0.6)
    meant = f"did you mean {close[0]!r}? " if close else ""
    if habit := _HABITS.get(word.partition("/")[0]):
        meant = f"leave it out: {habit}; " if not habit.startswith("it is") else f"{habit}; "
    return f"{meant}{noun}: {', '.join(names) or 'none'}"
