from collections.abc import Callable, Sequence
from typing import Any

SOURCE: str
"""SHA-256 of the C source this was compiled of."""

def build(kind: tuple[str, tuple[Any, ...]], values: Sequence[Any], /) -> object | None:
    """A capsule with an Arrow array of `values`, which have the Python forms that `arrow.build` names.

    `kind` is a format of Arrow's C data interface (`u`, `i`, `l`, `g`, `tdD`, `tsu…`, `+s`, `+l`, `+m`) and the kinds
    of what is in it. Lone surrogates become question marks. None: a value has another form, is out of range, or texts
    have more than 2 GB.
    """

def batch(kinds: Sequence[Any], columns: list[Any], rows: int, /) -> object | None:
    """A capsule with an Arrow array of structs, the rows of a record batch; of each column a kind, as for `build`.

    A column is a list or a tuple of values, or a capsule with an array, which is taken out of it. None: as `build`, or
    a column is something else or of another length; then all capsules keep their arrays.
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
    backslash. `text` is called for values of `givens` that are no str. What both raise is raised. None: as `build`,
    or these are no lists of dictionaries.
    """
