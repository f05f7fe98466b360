"""Component type = module name. Finds modules and their `Config`; nothing is registered anywhere.

Third parties: an entry point in group `spanweir.<kind>` whose name is the type and whose value is the module.
Built-ins are looked up first.
"""

import ast
import pkgutil
import re
from importlib import import_module, metadata, util
from pathlib import Path

import msgspec

PACKAGES = {
    "receivers": "spanweir.collector.receivers",
    "processors": "spanweir.collector.processors",
    "exporters": "spanweir.exporters",
    "extensions": "spanweir.collector.extensions",
    "queue": "spanweir.collector.queue",
}
ALIASES = {"exporters": {"otlp": "otlp_grpc", "otlphttp": "otlp_http"}}
"""The OpenTelemetry Collector's older names."""


class Unknown(Exception):  # noqa: N818
    """There is no such component."""


class MissingExtra(Exception):  # noqa: N818
    """The component is there, but what it imports is not installed."""

    def __init__(self, extra: str, module: str) -> None:
        what = f"pip install 'spanweir[{extra}]'" if extra else f"pip install {module}"
        super().__init__(f"needs `{what}`")


def canonical(kind: str, name: str) -> str:
    """The module name of `type/name`, aliases resolved."""
    kind_of = name.partition("/")[0]
    return ALIASES.get(kind, {}).get(kind_of, kind_of)


def config_type(kind: str, type_: str) -> type[msgspec.Struct]:
    """The `Config` struct of a component. Raises Unknown or MissingExtra."""
    module_name = _module(kind, type_)
    try:
        module = import_module(module_name)
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing == "spanweir":
            raise
        raise MissingExtra(extra_of(missing), missing) from error
    config = getattr(module, "Config", None)
    if not (isinstance(config, type) and issubclass(config, msgspec.Struct)):
        raise Unknown(type_)
    return config


def known(kind: str) -> list[str]:
    """Types of `kind`: built-in modules that define a `Config`, then third parties'."""
    package = util.find_spec(PACKAGES[kind])
    places = list(package.submodule_search_locations or ()) if package else []
    built_in = [
        m.name for m in pkgutil.iter_modules(places) if not m.name.startswith("_") and _has_config(places, m.name)
    ]
    return sorted(built_in) + sorted(set(_entry_points(kind)) - set(built_in))


def extra_of(module: str) -> str:
    """Which extra of this distribution brings in an importable top-level module; empty if none does."""
    distribution = {"re2": "google-re2", "yaml": "pyyaml", "grpc": "grpcio"}.get(module, module.replace("_", "-"))
    try:
        requirements = metadata.requires("spanweir") or []
    except metadata.PackageNotFoundError:
        return ""
    extras: dict[str, set[str]] = {}
    for requirement in requirements:
        if extra := re.search(r"extra == ['\"]([^'\"]+)['\"]", requirement):
            name = re.split(r"[^A-Za-z0-9._-]", requirement, maxsplit=1)[0]
            extras.setdefault(extra[1], set()).add(name.lower().replace("_", "-"))
    # Extras contain each other; the smallest that has it is the one to name.
    having = [(len(names), extra) for extra, names in extras.items() if distribution.lower() in names]
    return min(having)[1] if having else ""


def _module(kind: str, type_: str) -> str:
    if type_.isidentifier() and not type_.startswith("_"):
        name = f"{PACKAGES[kind]}.{type_}"
        if util.find_spec(PACKAGES[kind]) and util.find_spec(name):
            return name
    third_party = _entry_points(kind)
    if type_ in third_party:
        return third_party[type_]
    raise Unknown(type_)


def _entry_points(kind: str) -> dict[str, str]:
    return {point.name: point.value for point in metadata.entry_points(group=f"spanweir.{kind}")}


def _has_config(places: list[str], module: str) -> bool:
    """Without importing it: a module whose extra is missing is still there, and its name may be what was meant."""
    for place in places:
        for path in (Path(place, module + ".py"), Path(place, module, "__init__.py")):
            if path.is_file():
                return any(_binds_config(node) for node in ast.parse(path.read_bytes()).body)
    return False


def _binds_config(node: ast.stmt) -> bool:
    if isinstance(node, ast.ClassDef):
        return node.name == "Config"
    return isinstance(node, ast.ImportFrom) and any((a.asname or a.name) == "Config" for a in node.names)
