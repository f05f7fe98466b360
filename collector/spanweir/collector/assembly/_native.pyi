from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet

from spanweir.collector.assembly.state import Dollars, First, Seen
from spanweir.collector.assembly.work import Rendered
from spanweir.collector.processors.api import Item
from spanweir.schemas.trace import Cost

SOURCE: str
"""SHA-256 of the C source this was compiled of."""

def parents_of(group: Mapping[str, Item], /) -> set[str] | None:
    """As `spanweir.collector.assembly.whole.parents_of`. `group` is a dict."""

def sums(
    shown: list[Rendered],
    parents: AbstractSet[str],
    calls: AbstractSet[str],
    dollars_of: Callable[[Cost], Dollars],
    pay_into: Callable[[list[int], Dollars], None],
    /,
) -> (
    tuple[
        Rendered,
        list[Seen],
        int,
        int,
        int,
        list[int] | None,
        list[int] | None,
        First | None,
        First | None,
        First | None,
        First | None,
    ]
    | None
):
    """Of the spans of a whole trace: its root, what is kept of each, their bytes, the first start and the last end in
    nanoseconds, the sums of tokens and of dollars (None where there are none), and who gives the first name, title,
    session and user. All of them have the same route, and none names a run.

    `calls` are the kinds that are a model's call. None: Python has to look at it.
    """
