"""A configuration as YAML or JSON again: what is in force, defaults included, secrets masked.

Masked are options that are secrets by their type, passwords and parameters in URLs, values of free maps and of
`key: ..., value: ...` whose key names a secret, the other literal values of actions that look made up by a machine, and
tokens of known shapes wherever they stand. `--mode unredacted` shows them.
"""

import re
from typing import Any

import msgspec

from spanweir.collector.config.model import Component, Configuration
from spanweir.collector.config.options import plain_default
from spanweir.collector.masking import MASK, SECRET_NAMES, mask
from spanweir.schemas.options import Secret

_NAME = re.compile(rf"(?:^|[._-])(?:{SECRET_NAMES}|key)(?:[._-]|$)", re.IGNORECASE)
"""Keys of free maps, such as the storage options of an object store."""
_MADE_UP = re.compile(
    r"[0-9a-fA-F-]{32,}|(?=[^0-9]*[0-9])(?=[^A-Z]*[A-Z])(?=[^a-z]*[a-z])[A-Za-z0-9+/=_~.-]{20,}", re.ASCII
)


def effective(configuration: Configuration, *, redacted: bool = True) -> dict[str, Any]:
    """The whole configuration as plain values in the shape of the file."""
    service = configuration.service
    document: dict[str, Any] = {
        kind: {name: _options(component, redacted) for name, component in getattr(configuration, kind).items()}
        for kind in ("receivers", "processors", "exporters", "extensions")
    }
    document["service"] = {
        "queue": {"type": service.queue.type, **_options(service.queue, redacted)},
        "pipelines": {name: _plain(pipeline, redacted) for name, pipeline in service.pipelines.items()},
        "extensions": list(service.extensions),
        **_plain(service.settings, redacted),
    }
    return document


def to_yaml(document: dict[str, Any]) -> str:
    import yaml

    return yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=120)


def _options(component: Component, redacted: bool) -> dict[str, Any]:
    options: dict[str, Any] = _plain(component.config, redacted)
    return options


def _plain(value: Any, redacted: bool) -> Any:
    if isinstance(value, Secret):
        return MASK if redacted and value else value.reveal()
    if isinstance(value, msgspec.Struct):
        fields = msgspec.structs.fields(type(value))
        items = ((field.encode_name, getattr(value, field.name)) for field in fields)
        shown = {name: item for name, item in items if item is not msgspec.UNSET}
        if redacted and {"key", "value"} <= shown.keys():
            shown["value"] = _literal(shown["key"], shown["value"])
        return {name: _plain(item, redacted) for name, item in shown.items()}
    if isinstance(value, dict):
        return {key: _plain(_hidden(key, item) if redacted else item, redacted) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item, redacted) for item in value]
    if isinstance(value, str):
        return mask(value) if redacted else value
    return plain_default(value)


def _hidden(key: object, value: Any) -> Any:
    return Secret(value) if isinstance(value, str) and isinstance(key, str) and _NAME.search(key) else value


def _literal(key: object, value: Any) -> Any:
    """The value of an action: an attribute may be anything, so its name decides, or what it looks like."""
    if isinstance(value, str) and _MADE_UP.fullmatch(value):
        return Secret(value)
    return _hidden(key, str(value) if isinstance(value, int | float) and _NAME.search(str(key)) else value)
