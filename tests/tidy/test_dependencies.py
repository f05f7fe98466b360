"""Everything that is imported is named in pyproject.toml, so that a fresh environment can run it."""

import ast
import re
import sys
import tomllib
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from tests.tidy.test_layout import ROOT, ROOTS

THROUGH = {
    "mlflow": {"pandas", "numpy", "sqlalchemy", "pydantic", "fastapi", "starlette", "flask", "pyarrow", "alembic"},
    "opentelemetry-sdk": {"opentelemetry-api", "opentelemetry-semantic-conventions"},
    "opentelemetry-instrumentation": {"wrapt"},
    "opentelemetry-exporter-otlp": {
        "opentelemetry-exporter-otlp-proto-grpc",
        "opentelemetry-exporter-otlp-proto-http",
        "opentelemetry-exporter-otlp-proto-common",
    },
    "ipykernel": {"ipython"},
    "nbconvert": {"nbformat", "traitlets"},
    "moto": {"boto3", "botocore", "werkzeug"},
    "hatchling": {"packaging"},
}
"""Distributions that come with one that is named, for as long as it needs them."""
OPTIONAL = {"tests/libraries/"}
"""Programs that are run only where their library is installed."""


def _plain(name: str) -> str:
    return re.split(r"[^A-Za-z0-9._-]", name, maxsplit=1)[0].lower().replace("_", "-")


@cache
def named() -> frozenset[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    requirements = [
        *project["dependencies"],
        *(r for group in project["optional-dependencies"].values() for r in group),
    ]
    direct = {_plain(requirement) for requirement in requirements}
    return frozenset(direct.union(*(THROUGH.get(name, set()) for name in direct)))


def modules(path: Path) -> set[str]:
    """Top-level modules that a file imports, wherever in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            found.update(alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.partition(".")[0])
    return found


@pytest.mark.slow  # looks into every installed distribution
def test_every_import_is_named() -> None:
    providers = packages_distributions()
    unnamed: dict[str, set[str]] = {}
    for root in (*ROOTS, "tests"):
        for path in sorted((ROOT / root).rglob("*.py")):
            name = str(path.relative_to(ROOT))
            if name.startswith(tuple(OPTIONAL)):
                continue
            for module in modules(path) - sys.stdlib_module_names - {"spanweir", "tests"}:
                distributions = {_plain(one) for one in providers.get(module, ())}
                # A module of no installed distribution is one that its importer can do without, or its test skips.
                if distributions and not distributions & named():
                    unnamed.setdefault(module, set()).add(name)
    assert not unnamed, "name its distribution in an extra (or in THROUGH, if one that is named brings it along)"
