"""Maps raw spans to canonical GenAI spans. Always the first processor of a traces pipeline, whether it is named or not.

The mapping itself is `spanweir.schemas.mapping`; here are its options.
"""

import msgspec

from spanweir.collector.processors.api import Context, Item
from spanweir.schemas.conventions import ORDER
from spanweir.schemas.mapping import Mapper
from spanweir.schemas.mlflow import Renderer


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    keep_originals: bool = False
    """Also keep the attributes whose content now stands in `mlflow.spanInputs`, `mlflow.spanOutputs` and the like:
    the same content is then stored twice."""
    conventions: tuple[str, ...] = ()
    """Conventions to read, strongest first; empty means all, in the order that suits what libraries really send."""

    def __post_init__(self) -> None:
        for name in self.conventions:
            if name not in ORDER:
                raise ValueError(f"no convention {name!r}; there are: {', '.join(ORDER)}")

    def build(self, context: Context) -> "GenAI":
        return GenAI(Mapper(self.conventions))

    def renderer(self) -> Renderer:
        return Renderer(keep_originals=self.keep_originals)


class GenAI:
    def __init__(self, mapper: Mapper) -> None:
        self._map = mapper.map

    def process(self, items: list[Item]) -> list[Item]:
        map_span = self._map
        for item in items:
            item.span = map_span(item.raw, item.logs)
        return items
