"""Changes attributes of resources, as the OpenTelemetry Collector's `resource` processor does."""

import msgspec

from spanweir.collector.processors._actions import Action, Apply, compiled
from spanweir.collector.processors.api import Context, Item, Place
from spanweir.schemas.raw import Attributes, RawLog, Resource

_CACHE_MAX = 1000


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    attributes: tuple[Action, ...] = ()
    """Actions, applied in order to every resource."""

    def build(self, context: Context) -> "ResourceProcessor":
        return ResourceProcessor(compiled(self.attributes))


class ResourceProcessor:
    """A `Processor`, `LogProcessor` and `MetricProcessor`."""

    before_mapping = True
    rewrites = True

    def __init__(self, actions: list[Apply]) -> None:
        self._actions = actions
        self._changed: dict[int, tuple[Resource, Resource]] = {}

    def process(self, items: list[Item]) -> list[Item]:
        for item in items:
            item.raw = msgspec.structs.replace(item.raw, resource=self._resource(item.raw.resource))
        return items

    def process_logs(self, logs: list[RawLog]) -> list[RawLog]:
        return [msgspec.structs.replace(log, resource=self._resource(log.resource)) for log in logs]

    def process_metric_attributes(self, attributes: Attributes, place: Place) -> Attributes:
        if place != "resource":
            return attributes
        changed = dict(attributes)
        for apply in self._actions:
            apply(changed)
        return changed

    def _resource(self, resource: Resource) -> Resource:
        """Once for all spans of a resource; they go on sharing one object."""
        known = self._changed.get(id(resource))
        if known is not None and known[0] is resource:
            return known[1]
        attributes = dict(resource.attributes)
        for apply in self._actions:
            apply(attributes)
        changed = msgspec.structs.replace(resource, attributes=attributes)
        if len(self._changed) >= _CACHE_MAX:
            self._changed.clear()
        self._changed[id(resource)] = (resource, changed)
        return changed
