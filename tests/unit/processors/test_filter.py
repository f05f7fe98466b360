"""What is dropped; that no tree is torn is held in tests/unit/assembly."""

import pytest

from spanweir.collector.processors.filter import Config, Rule
from spanweir.schemas.raw import Resource, Scope
from tests.support.processing import Bench
from tests.support.spans import span

SPANS = (
    span("GET /x", kind=2, scope=Scope(name="opentelemetry.instrumentation.asgi")),
    span("SELECT", kind=3, attributes={"db.system": "postgresql"}),
    span("llm", op="chat", resource=Resource(attributes={"service.name": "bot"})),
)


@pytest.mark.parametrize(
    ("config", "dropped"),
    [
        (Config(genai_only=True), ["GET /x", "SELECT"]),
        (Config(drop=(Rule(name="GET|POST"),)), ["GET /x"]),
        (Config(drop=(Rule(kind="client"),)), ["SELECT"]),
        (Config(drop=(Rule(scope=r"opentelemetry\.instrumentation\.asgi"),)), ["GET /x"]),
        (Config(drop=(Rule(attributes={"db.system": "post"}),)), ["SELECT"]),
        (Config(drop=(Rule(attributes={"service.name": "bot"}),)), ["llm"]),
        (Config(drop=(Rule(name="GET", kind="client"),)), []),
        (Config(drop=(Rule(name="SEL"), Rule(name="GET"))), ["GET /x", "SELECT"]),
        (Config(drop=(Rule(genai=True),)), ["llm"]),
        (Config(), []),
    ],
)
def test_rules(config: Config, dropped: list[str]) -> None:
    bench = Bench(config)
    kept = bench(*SPANS)
    assert [name for name, _ in bench.dropped] == dropped
    assert [item.raw.name for item in kept] == [s.name for s in SPANS if s.name not in dropped]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "an empty rule would drop every span"),
        ({"name": "("}, "is no regular expression"),
        ({"kind": "x"}, "kind must"),
    ],
)
def test_wrong_rules(options: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Rule(**options)
