"""Lists that a sender flattened to one attribute a leaf: `<prefix><index>.<rest>`. Gaps, order of arrival and the size
of an index do not matter.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from spanweir.schemas.notes import Notes
from spanweir.schemas.raw import Attributes, Value

MAX_DIGITS = 512
"""Python reads at most 4300 (sys.set_int_max_str_digits)."""


@lru_cache(maxsize=16384)
def split(key: str, prefix: str) -> tuple[int, str] | None:
    """(index, the rest after it) of a key `<prefix><index>.<rest>`."""
    head, _, tail = key[len(prefix) :].partition(".")
    return (int(head), tail) if head.isdecimal() and len(head) < MAX_DIGITS else None


_LAYOUT_KEYS_MAX = 64
Place = tuple[str, str]
"""The rest of a key after the index, and the key."""


def _layout(keys: Sequence[str], prefix: str) -> tuple[tuple[tuple[Place, ...], ...], bool]:
    """The places of each item, in order of index; and whether a key has no index or stands twice (`7` and `007`)."""
    items: dict[int, dict[Place, None]] = {}
    rests: set[tuple[int, str]] = set()
    lossy = False
    for key in keys:
        if not key.startswith(prefix):
            continue
        place = split(key, prefix)
        if place is None:
            lossy = True
            continue
        lossy = lossy or place in rests
        rests.add(place)
        items.setdefault(place[0], {})[place[1], key] = None
    return tuple(tuple(items[index]) for index in sorted(items)), lossy


_known_layout = lru_cache(maxsize=1024)(_layout)
"""Spans of one shape have lists of one shape."""


def gather(
    attributes: Mapping[str, Value], keys: Sequence[str], prefix: str, notes: Notes | None = None
) -> list[dict[str, Value]]:
    """The items of an indexed list, in order of index: each a dict of the rest of the key to the value.

    A key without an index, or one that stands twice (`7` and `007`), makes the reading lossy.
    """
    items, lossy = _known_layout(tuple(keys), prefix) if len(keys) <= _LAYOUT_KEYS_MAX else _layout(keys, prefix)
    if lossy and notes is not None:
        notes.lossy = True
    return [{rest: attributes[key] for rest, key in item} for item in items]


def below(item: Mapping[str, Value], prefix: str, notes: Notes) -> list[dict[str, Value]]:
    """A list within an item of a list."""
    keys = [key for key in item if key.startswith(prefix)]
    return gather(item, keys, prefix, notes) if keys else []


_VALUE = ""
"""Where a path is both a value and a beginning, the value stands under this key."""


def tree(attributes: Attributes, keys: Sequence[str], prefix: str) -> Any:
    """The keys below `prefix` as nested dicts and lists; a level with only numbers for keys is a list."""
    root: dict[str, Any] = {}
    for key in keys:
        node = root
        path = key[len(prefix) :].split(".")
        for step in path[:-1]:
            below = node.get(step)
            if not isinstance(below, dict):
                below = node[step] = {} if below is None else {_VALUE: below}
            node = below
        last = path[-1]
        if isinstance(node.get(last), dict):
            node[last][_VALUE] = attributes[key]
        else:
            node[last] = attributes[key]
    return _lists(root)


def _lists(node: Any) -> Any:
    if not isinstance(node, dict):
        return node
    numbers = [key for key in node if key.isdecimal()]
    if numbers and len(numbers) == len(node):
        return [_lists(node[key]) for key in sorted(numbers, key=lambda key: (len(key.lstrip("0")), key))]
    return {key: _lists(item) for key, item in node.items()}


def nested(attributes: Attributes, keys: Sequence[str], prefix: str) -> list[Value]:
    """As `tree`, where a list is expected: entries that have a number, in order; [] where there are none."""
    found = tree(attributes, keys, prefix)
    if isinstance(found, list):
        return found
    if isinstance(found, dict):
        numbers = sorted((key for key in found if key.isdecimal()), key=lambda key: (len(key.lstrip("0")), key))
        return [found[key] for key in numbers]
    return []


def flatten(item: Mapping[str, Any], prefix: str = "") -> dict[str, Value]:
    """Nested dicts and lists as dotted keys, the way OpenInference flattens."""
    flat: dict[str, Value] = {}
    for key, value in item.items():
        path = f"{prefix}{key}"
        if isinstance(value, dict):
            flat.update(flatten(value, f"{path}."))
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            for index, one in enumerate(value):
                flat.update(flatten(one, f"{path}.{index}.") if isinstance(one, dict) else {f"{path}.{index}": one})
        else:
            flat[path] = value
    return flat
