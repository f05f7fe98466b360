"""Maps raw spans to canonical GenAI spans. Always the first processor of a traces pipeline, whether it is named or not.

The mapping itself is `spanweir.schemas.mapping`; here are its options.
"""

import msgspec

from spanweir.collector.processors.api import Context, Item
from spanweir.schemas.agents import Agents, Limits
from spanweir.schemas.conventions import ORDER
from spanweir.schemas.mapping import Mapper
from spanweir.schemas.mlflow import Renderer


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    keep_originals: bool = False
    """Also keep the attributes whose content now stands in `mlflow.spanInputs`, `mlflow.spanOutputs` and the like:
    the same content is then stored twice."""
    conventions: tuple[str, ...] = ()
    """Conventions to read, strongest first; empty means all, in the order that suits what libraries really send."""
    coding_agents: str = "turns"
    """What becomes of the records of Claude Code, Codex, Gemini CLI, Qwen Code, Copilot and opencode. `turns`: one
    trace for each user turn, of their spans and log records, without the tools' internal spans; `internal`: with them;
    `off`: spans are mapped like any other, log records are joined only where they carry a span's id."""

    def __post_init__(self) -> None:
        for name in self.conventions:
            if name not in ORDER:
                raise ValueError(f"no convention {name!r}; there are: {', '.join(ORDER)}")
        if self.coding_agents not in ("turns", "internal", "off"):
            raise ValueError(f"coding_agents is {self.coding_agents!r}; it can be turns, internal or off")

    def build(self, context: Context) -> "GenAI":
        return GenAI(Mapper(self.conventions))

    def agents(self) -> Agents | None:
        if self.coding_agents == "off":
            return None
        return Agents(Limits(keep_internal=self.coding_agents == "internal"))

    def renderer(self) -> Renderer:
        return Renderer(keep_originals=self.keep_originals)


class GenAI:
    """A `Processor`. Sets `Item.span` from `Item.raw` and the log records joined to it."""

    def __init__(self, mapper: Mapper) -> None:
        self._map = mapper.map

    def process(self, items: list[Item]) -> list[Item]:
        map_span = self._map
        for item in items:
            item.span = map_span(item.raw, item.logs)
        return items
