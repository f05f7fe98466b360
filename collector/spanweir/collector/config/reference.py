"""The reference of every component, generated from its `Config`: what `spanweir components` prints."""

import json
from importlib import import_module
from typing import Any

import msgspec

from spanweir.collector.config.components import PACKAGES, MissingExtra, config_type, known
from spanweir.collector.config.options import Option, options, plain_default

HEADINGS = {
    "receivers": "Receivers",
    "processors": "Processors",
    "exporters": "Exporters",
    "extensions": "Extensions",
    "queue": "Queues (`service.queue`, by `type`)",
}


def summary(kind: str, name: str) -> str:
    """The first sentence of a component's module docstring, or what has to be installed first."""
    try:
        config = config_type(kind, name)
    except MissingExtra as error:
        return str(error)
    doc = import_module(config.__module__ if config.__module__.endswith(name) else f"{PACKAGES[kind]}.{name}").__doc__
    first = " ".join((doc or "").strip().split("\n\n")[0].split())
    return first.partition(". ")[0].rstrip(".")


def markdown(kinds: tuple[str, ...] = tuple(PACKAGES)) -> str:
    """The reference of all components of `kinds`."""
    lines: list[str] = []
    for kind in kinds:
        names = known(kind)
        if not names:
            continue
        lines += [f"## {HEADINGS[kind]}", ""]
        for name in names:
            lines += [f"### `{name}`", "", f"{summary(kind, name)}.", ""]
            lines += table(config_type(kind, name))
    return "\n".join(lines).rstrip() + "\n"


def table(config: type[msgspec.Struct]) -> list[str]:
    """A Markdown table of a struct's options, with a blank line after it."""
    rows = [_row(option) for option in options(config)]
    if not rows:
        return ["It has no options.", ""]
    return ["| option | type | default | |", "|---|---|---|---|", *rows, ""]


def _row(option: Option) -> str:
    default = "" if option.struct is not None and option.default is not None else f"`{_shown(option.default)}`"
    doc = option.doc.replace("|", "\\|")
    return f"| `{'.'.join(option.path)}` | {option.type} | {default} | {doc} |"


def _shown(default: Any) -> str:
    if default is msgspec.NODEFAULT:
        return "required"
    value = plain_default(None if default is msgspec.UNSET else default)
    return value if isinstance(value, str) and value else json.dumps(value)
