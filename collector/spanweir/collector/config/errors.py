"""How a configuration says no: where, what is wrong, what would be right."""

from collections.abc import Iterable
from difflib import get_close_matches


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
    return f"{meant}{noun}: {', '.join(names) or 'none'}"
