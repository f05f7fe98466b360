"""Every option of every component has a default and says what it does."""

import pytest

from spanweir.collector.config.components import PACKAGES, config_type, known
from spanweir.collector.config.model import Settings
from spanweir.collector.config.options import Option, options

COMPONENTS = [(kind, name) for kind in PACKAGES for name in known(kind)]


def all_options(kind: str, name: str) -> list[Option]:
    return list(options(config_type(kind, name)))


@pytest.mark.parametrize(("kind", "name"), COMPONENTS)
def test_every_option_is_documented(kind: str, name: str) -> None:
    undocumented = [".".join(option.path) for option in all_options(kind, name) if not option.doc]
    assert not undocumented, "write a docstring below the field"


@pytest.mark.parametrize(("kind", "name"), COMPONENTS)
def test_every_option_has_a_default(kind: str, name: str) -> None:
    config_type(kind, name)()


@pytest.mark.parametrize(("kind", "name"), COMPONENTS)
def test_configs_are_frozen_and_refuse_unknown_options(kind: str, name: str) -> None:
    structs = [config_type(kind, name), *(option.struct for option in all_options(kind, name) if option.struct)]
    for struct in structs:
        assert struct.__struct_config__.frozen, struct
        assert struct.__struct_config__.forbid_unknown_fields, struct


def test_the_service_options_are_documented() -> None:
    assert [option.path for option in options(Settings) if not option.doc] == []
