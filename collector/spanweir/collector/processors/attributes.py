"""Changes attributes of spans, log records and data points, as the Collector's `attributes` processor does."""

import msgspec

from spanweir.collector.processors._actions import Action, Apply, compiled
from spanweir.collector.processors.api import Context, Item, Place
from spanweir.schemas.raw import Attributes, RawLog


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    actions: tuple[Action, ...] = ()
    """Applied in order to every span, log record and data point."""

    def build(self, context: Context) -> "AttributesProcessor":
        return AttributesProcessor(compiled(self.actions))


class AttributesProcessor:
    """A `Processor`, `LogProcessor` and `MetricProcessor`."""

    before_mapping = True
    rewrites = True

    def __init__(self, actions: list[Apply]) -> None:
        self._actions = actions

    def process(self, items: list[Item]) -> list[Item]:
        for item in items:
            item.raw = msgspec.structs.replace(item.raw, attributes=self._changed(item.raw.attributes))
        return items

    def process_logs(self, logs: list[RawLog]) -> list[RawLog]:
        return [msgspec.structs.replace(log, attributes=self._changed(log.attributes)) for log in logs]

    def process_metric_attributes(self, attributes: Attributes, place: Place) -> Attributes:
        return self._changed(attributes) if place == "point" else attributes

    def _changed(self, attributes: Attributes) -> Attributes:
        changed = dict(attributes)
        for apply in self._actions:
            apply(changed)
        return changed
