from collections.abc import Callable, Sequence
from typing import Any

SOURCE: str
"""SHA-256 of the C source this was compiled of."""

def strings(values: Sequence[str | bytes | None], /) -> object | None:
    """A capsule with an Arrow array of type STRING. Lone surrogates become question marks.

    None: the values are not all str, or all bytes that are UTF-8; or they have no byte, or more than 2 GB.
    """

def attribute_maps(
    owns: Sequence[dict[str, str]],
    givens: Sequence[Any],
    unquote: Callable[[str], Any],
    text: Callable[[Any], str | None],
    /,
) -> object | None:
    """A capsule with an Arrow array of type MAP<STRING, STRING>: of each two dictionaries, which have no key in common,
    one map.

    Values of `owns` are JSON texts, of which JSON strings become what they say: `unquote` is called for those with a
    backslash. `text` is called for values of `givens` that are no str. What both raise is raised. None: as `strings`,
    or these are no lists of dictionaries.
    """
