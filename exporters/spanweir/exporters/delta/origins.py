"""Resources and scopes of rows, which many rows share."""

from collections.abc import Callable, Sequence
from typing import Any, Final, Generic, TypeVar

import msgspec
from arro3.core import Array, DataType

from spanweir.exporters.delta.arrow import Layout, Type, build
from spanweir.exporters.delta.cells import Bag, text
from spanweir.schemas.raw import Resource, Scope

UNKNOWN_SERVICE: Final = "unknown_service"
_Origin = TypeVar("_Origin")
_TEXT: Final = Type("STRING")
_LATELY_BYTES = 16 << 10
_encode: Final = msgspec.msgpack.Encoder().encode


class Origins:
    """Resources and scopes: each distinct one is built once, and rows refer to it by position."""

    def __init__(self, layout: Layout, bag: Callable[[Bag], Any]) -> None:
        self._layout, self._bag = layout, bag
        self._resources = _Lately(self._of_resources)
        self._scopes = _Lately(self._of_scopes)

    def columns(
        self, resources: Sequence[Resource], scopes: Sequence[Scope]
    ) -> tuple[Array, Array, Array, Array, list[str]]:
        """`resource`, `resource_schema_url`, `instrumentation_scope`, `*_schema_url`, service names of the rows."""
        (resource, resource_url), places = self._resources.taken(resources)
        (scope, scope_url), _ = self._scopes.taken(scopes)
        names = [text(each.attributes.get("service.name")) or UNKNOWN_SERVICE for each in self._resources.items]
        return resource, resource_url, scope, scope_url, [names[place] for place in places]

    def _of_resources(self, items: Sequence[Resource]) -> tuple[Array, Array]:
        rows = [(self._bag(r.attributes), r.dropped_attributes_count) for r in items]
        return build(self._layout.types["resource"], rows), build(_TEXT, [r.schema_url for r in items])

    def _of_scopes(self, items: Sequence[Scope]) -> tuple[Array, Array]:
        rows = [(s.name, s.version, self._bag(s.attributes), s.dropped_attributes_count) for s in items]
        return build(self._layout.types["instrumentation_scope"], rows), build(_TEXT, [s.schema_url for s in items])


class _Lately(Generic[_Origin]):
    """Arrays of the distinct resources or scopes that came lately: most requests come from the same few."""

    def __init__(self, build: Callable[[Sequence[_Origin]], tuple[Array, Array]]) -> None:
        self._build = build
        self.items: list[_Origin] = []
        self._places: dict[bytes, int] = {}
        self._bytes = 0
        self._arrays: tuple[Array, Array] | None = None

    def taken(self, column: Sequence[_Origin]) -> tuple[tuple[Array, Array], list[int]]:
        """The arrays with a row for each item of the column, and which of `items` each of these is."""
        if self._bytes > _LATELY_BYTES:
            self.items, self._places, self._bytes, self._arrays = [], {}, 0, None
        distinct = {id(item): item for item in column}
        places = {identity: self._place(item) for identity, item in distinct.items()}
        if self._arrays is None:
            self._arrays = self._build(self.items)
        of_rows = [places[id(item)] for item in column]
        rows = Array(of_rows, DataType.int64())
        first, second = self._arrays
        return (first.take(rows), second.take(rows)), of_rows

    def _place(self, item: _Origin) -> int:
        try:
            key = _encode(item)
        except (UnicodeEncodeError, OverflowError):  # half a surrogate pair, an integer beyond 64 bits
            key = b"%d" % id(item)
        place = self._places.get(key)
        if place is None:
            place = self._places[key] = len(self.items)
            self.items.append(item)
            self._bytes += len(key)
            self._arrays = None
        return place
