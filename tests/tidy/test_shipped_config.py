"""The shipped otel-config.yaml: it loads, it has every option, and what it says is the default is the default."""

import re

import pytest
import yaml

from spanweir.collector.config import load
from spanweir.collector.config.components import PACKAGES, config_type, known
from spanweir.collector.config.model import Settings
from spanweir.collector.config.options import options
from tests.tidy.shipped import shipped
from tests.tidy.test_layout import ROOT

FILE = ROOT / "otel-config.yaml"
COMPONENTS = [(kind, name) for kind in PACKAGES if kind != "queue" for name in known(kind)]


def test_it_is_current() -> None:
    assert FILE.read_text() == shipped(), "run: python -m tests.tidy.generate"


@pytest.mark.parametrize(("kind", "name"), COMPONENTS)
def test_every_component_stands_there_with_its_defaults(kind: str, name: str) -> None:
    component = getattr(load([str(FILE)]), kind)[name]
    assert component.config == config_type(kind, name)()


@pytest.mark.parametrize(("kind", "name"), COMPONENTS)
def test_every_option_stands_there(kind: str, name: str) -> None:
    section = re.search(rf"^{kind}:\n(.*?)(?=^\w|\Z)", FILE.read_text(), re.MULTILINE | re.DOTALL)
    assert section
    block = re.search(rf"^  {name}:.*?\n(.*?)(?=^  \w|\Z)", section[1], re.MULTILINE | re.DOTALL)
    assert block
    keys = set(re.findall(r"^[\s#]*([\w<>]+):", block[1], re.MULTILINE))
    missing = {option.path[-1] for option in options(config_type(kind, name))} - keys
    assert not missing


def test_the_service_options_are_the_defaults() -> None:
    service = load([str(FILE)]).service
    assert service.settings == Settings()
    assert service.queue.config == config_type("queue", "disk")()


def test_the_other_queues_may_be_uncommented() -> None:
    text = FILE.read_text()
    for name in known("queue"):
        if name != "disk":
            block = re.search(rf"^  # queue:\n  #   type: {name}\n((?:  #   .*\n)*)", text, re.MULTILINE)
            assert block, name
            values = yaml.safe_load("\n".join(line[4:] for line in block[0].splitlines()))["queue"]
            values.pop("type")
            assert set(values) == set(config_type("queue", name).__struct_fields__)
