"""Which experiment a span's trace goes to."""

import pytest

from spanweir.collector.processors.routing import Config, Rule
from spanweir.schemas.raw import Resource
from tests.support.processing import Bench
from tests.support.spans import span

SHOP = Resource(attributes={"service.name": "cart", "service.namespace": "shop", "team": 7})


def routed(*rules: Rule, headers: dict[str, str] | None = None, tenant: str = "", experiment: str = "") -> str:
    raw = span("a", resource=SHOP, attributes={"project": "blue"})
    (item,) = Bench(Config(rules=rules))(raw, headers=headers or {}, tenant=tenant, experiment=experiment)
    return item.experiment


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        (Rule(attribute="project"), "blue"),
        (Rule(attribute="service.name"), "cart"),
        (Rule(attribute="team"), "7"),
        (Rule(attribute="nothing"), ""),
        (Rule(attribute="project", values={"blue": "Azure"}), "Azure"),
        (Rule(attribute="project", values={"red": "Rouge"}), ""),
        (Rule(header="X-Team"), "ops"),
        (Rule(template="{service.namespace}/{service.name}"), "shop/cart"),
        (Rule(template="{nothing}/{service.name}"), ""),
        (Rule(template="{nothing?}/{service.name}"), "cart"),
        (Rule(template="{tenant}-{project}"), "acme-blue"),
        (Rule(experiment="All"), "All"),
        (Rule(experiment="All", tenant="other"), ""),
    ],
)
def test_rules(rule: Rule, expected: str) -> None:
    assert routed(rule, headers={"x-team": "ops"}, tenant="acme") == expected


def test_the_first_rule_that_gives_a_name_decides() -> None:
    assert routed(Rule(attribute="nothing"), Rule(attribute="project"), Rule(experiment="All")) == "blue"


def test_mlflows_headers_come_first() -> None:
    assert routed(Rule(experiment="All"), experiment="12") == "12"


def test_a_rule_says_one_thing() -> None:
    with pytest.raises(ValueError, match="give one of header, attribute, template, experiment, not none"):
        Rule()
    with pytest.raises(ValueError, match="not header and attribute"):
        Rule(header="a", attribute="b")
