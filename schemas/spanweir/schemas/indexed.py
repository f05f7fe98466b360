"""Lists that a sender flattened to one attribute a leaf: `<prefix><index>.<rest>`. Gaps, order of arrival and the size
of an index do not matter.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache

from spanweir.schemas.raw import Attributes, Value


@lru_cache(maxsize=65536)
def split(key: str, prefix: str) -> tuple[int, str] | None:
    """(index, the rest after it) of a key `<prefix><index>.<rest>`."""
    head, _, tail = key[len(prefix) :].partition(".")
    return (int(head), tail) if head.isdecimal() and len(head) < 19 else None


def gather(attributes: Attributes, keys: Sequence[str], prefix: str) -> list[dict[str, Value]]:
    """The items of an indexed list, in order of index: each a dict of the rest of the key to the value."""
    items: dict[int, dict[str, Value]] = {}
    for key in keys:
        if key.startswith(prefix):
            place = split(key, prefix)
            if place is not None:
                item = items.get(place[0])
                if item is None:
                    item = items[place[0]] = {}
                item[place[1]] = attributes[key]
    return [items[index] for index in sorted(items)]


def below(item: Mapping[str, Value], prefix: str) -> list[dict[str, Value]]:
    """A list within an item of a list."""
    keys = [key for key in item if key.startswith(prefix)]
    return gather(dict(item), keys, prefix) if keys else []
