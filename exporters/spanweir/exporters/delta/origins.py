"""Resources and scopes of rows, which many rows share."""

from collections.abc import Callable, Sequence
from itertools import groupby
from typing import Any, Final, Generic, TypeAlias, TypeVar

import msgspec

from spanweir.exporters.delta.arrow import Layout, Type
from spanweir.exporters.delta.cells import Bag, text
from spanweir.exporters.delta.shred import Cells, Runs, shred
from spanweir.schemas.raw import Resource, Scope

UNKNOWN_SERVICE: Final = "unknown_service"
_Origin = TypeVar("_Origin", bound=Resource | Scope)
_TEXT: Final = Type("STRING")
_LATELY_BYTES = 16 << 10
_encode: Final = msgspec.msgpack.Encoder().encode
_Row: TypeAlias = tuple[Any, ...]


class Origins:
    """Resources and scopes: each distinct one is built once, and rows refer to it by position."""

    def __init__(self, layout: Layout, bag: Callable[[Bag], Any]) -> None:
        self._bag = bag
        self._resources = _Lately(layout.types["resource"], self._of_resource)
        self._scopes = _Lately(layout.types["instrumentation_scope"], self._of_scope)

    def runs(self, resources: Sequence[Resource], scopes: Sequence[Scope]) -> tuple[Runs, Runs, Runs, Runs, list[str]]:
        """`resource`, `resource_schema_url`, `instrumentation_scope`, `*_schema_url`, service names of the rows."""
        places = self._resources.places(resources)
        resource, resource_url = self._resources.runs(places)
        scope, scope_url = self._scopes.runs(self._scopes.places(scopes))
        return resource, resource_url, scope, scope_url, self._services(places)

    def _services(self, places: Sequence[int]) -> list[str]:
        names = [text(each.attributes.get("service.name")) or UNKNOWN_SERVICE for each in self._resources.items]
        return [names[place] for place in places]

    def _of_resource(self, resource: Resource) -> _Row:
        return self._bag(resource.attributes), resource.dropped_attributes_count

    def _of_scope(self, scope: Scope) -> _Row:
        return scope.name, scope.version, self._bag(scope.attributes), scope.dropped_attributes_count


class _Lately(Generic[_Origin]):
    """The distinct resources or scopes that came lately, each as cells: most requests come from the same few.

    `row` makes the struct in the column of one.
    """

    def __init__(self, kind: Type, row: Callable[[_Origin], _Row]) -> None:
        self._kind, self._row = kind, row
        self._forget()

    def _forget(self) -> None:
        self.items: list[_Origin] = []
        self._places: dict[bytes, int] = {}
        self._bytes = 0
        self._cells: dict[int, tuple[list[Cells], list[Cells]]] = {}
        """By place."""

    def places(self, column: Sequence[_Origin]) -> list[int]:
        """Which of `items` each is. Holds until it is asked for again."""
        if self._bytes > _LATELY_BYTES:
            self._forget()
        distinct = {id(item): item for item in column}
        places = {identity: self._place(item) for identity, item in distinct.items()}
        return [places[id(item)] for item in column]

    def runs(self, places: Sequence[int]) -> tuple[Runs, Runs]:
        """The column and that of the schema's URL, of rows that have the items at `places`."""
        for place in set(places) - self._cells.keys():
            item = self.items[place]
            self._cells[place] = shred(self._kind, [self._row(item)], 1), shred(_TEXT, [item.schema_url], 1)
        runs = [(self._cells[place], len(list(rows))) for place, rows in groupby(places)]
        lengths = [length for _, length in runs]
        return Runs([first for (first, _), _ in runs], lengths), Runs([second for (_, second), _ in runs], lengths)

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
        return place
