"""Sends traces to experiments: by request header, tenant, resource or span attribute, or template.

The rules are tried in order; the first that gives a name decides. A trace stays in the experiment of its first span
that was routed (trace assembly sees to that). Without this processor the headers `x-mlflow-experiment-id`,
`x-mlflow-experiment-name` and `x-mlflow-run-id` are honoured and everything else goes to the exporter's default.
"""

import re

import msgspec

from spanweir.collector.processors.api import Context, Item
from spanweir.schemas.raw import Attributes

_FIELD = re.compile(r"\{([^{}]+)\}")
_HEADERS = ("x-mlflow-experiment-id", "x-mlflow-experiment-name")


class Rule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One way to find the experiment; of `header`, `attribute`, `template` and `experiment` give one."""

    tenant: str = ""
    """Only requests of this tenant; empty for all."""
    header: str = ""
    """Request header that holds the name or id. It must be among the headers that the receiver keeps."""
    attribute: str = ""
    """Span attribute, else resource attribute, that holds the name or id."""
    template: str = ""
    """Name with fields from span or resource attributes, or `{tenant}`: `{service.namespace}/{service.name}`. A rule
    with a field that is not there gives nothing; `{service.namespace?}` may be left out together with its slash."""
    values: dict[str, str] = {}
    """What was found -> experiment; empty: what was found is the experiment."""
    experiment: str = ""
    """Experiment of everything that comes to this rule."""

    def __post_init__(self) -> None:
        given = [name for name in ("header", "attribute", "template", "experiment") if getattr(self, name)]
        if len(given) != 1:
            raise ValueError(
                f"give one of header, attribute, template, experiment, not {' and '.join(given) or 'none'}"
            )


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    rules: tuple[Rule, ...] = ()
    """Tried in order."""
    headers_first: bool = True
    """The headers `x-mlflow-experiment-id` and `-name` decide before the rules."""

    def build(self, context: Context) -> "Routing":
        return Routing(self)


class Routing:
    """A `Processor`. Sets `Item.experiment`."""

    def __init__(self, config: Config) -> None:
        self._rules = config.rules
        self._headers_first = config.headers_first

    def process(self, items: list[Item]) -> list[Item]:
        for item in items:
            if item.experiment and self._headers_first:
                continue
            for rule in self._rules:
                if rule.tenant and rule.tenant != item.tenant:
                    continue
                found = _find(rule, item)
                if found:
                    item.experiment = rule.values.get(found, "" if rule.values else found)
                    if item.experiment:
                        break
        return items


def _find(rule: Rule, item: Item) -> str:
    if rule.experiment:
        return rule.experiment
    if rule.header:
        return item.headers.get(rule.header.lower(), "")
    attributes, resource = item.raw.attributes, item.raw.resource.attributes
    if rule.attribute:
        return _text(rule.attribute, attributes, resource)
    return _fill(rule.template, attributes, resource, item.tenant)


def _fill(template: str, attributes: Attributes, resource: Attributes, tenant: str) -> str:
    missing = False

    def value(match: re.Match[str]) -> str:
        nonlocal missing
        name = match[1]
        optional = name.endswith("?")
        name = name.removesuffix("?")
        text = tenant if name == "tenant" else _text(name, attributes, resource)
        missing = missing or not (text or optional)
        return text

    filled = _FIELD.sub(value, template)
    return "" if missing else re.sub(r"/{2,}", "/", filled).strip("/")


def _text(name: str, attributes: Attributes, resource: Attributes) -> str:
    value = attributes.get(name, resource.get(name))
    return value if isinstance(value, str) else "" if value is None else str(value)
