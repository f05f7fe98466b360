"""The shape of the repository, and the packaging traps that are silent until somebody installs it."""

import subprocess
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
ROOTS = ("collector", "exporters", "instrumentation", "schemas")
TOP = {*ROOTS, "tests", "pyproject.toml", "otel-config.yaml", "README.md", "LICENSE"}


def tracked() -> list[str]:
    """Files that git knows, and new ones that it does not ignore; in an unpacked sdist, what lies there."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        return [str(path.relative_to(ROOT)) for path in ROOT.rglob("*") if path.is_file()]
    return [name for name in listed.stdout.splitlines() if (ROOT / name).exists()]


def pyproject() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def test_the_top_level_is_what_was_agreed() -> None:
    visible = {name.partition("/")[0] for name in tracked() if not name.startswith(".")}
    assert visible == TOP


def test_the_namespace_has_no_init() -> None:
    # One `spanweir/__init__.py` makes the other three roots vanish from editable installs.
    assert [name for name in tracked() if name.endswith("spanweir/__init__.py") and name.count("/") == 2] == []


def test_every_root_is_typed() -> None:
    missing = [root for root in ROOTS if not (ROOT / root / "spanweir" / root / "py.typed").is_file()]
    assert missing == [], "py.typed belongs into each part: the namespace itself can have none"


def test_every_root_is_installed_in_both_ways() -> None:
    hatch = pyproject()["tool"]["hatch"]["build"]
    # Without dev-mode-dirs an editable install succeeds and is partial.
    assert sorted(hatch["dev-mode-dirs"]) == sorted(ROOTS)
    assert sorted(hatch["targets"]["wheel"]["packages"]) == [f"{root}/spanweir" for root in ROOTS]


def test_tools_look_at_every_root() -> None:
    tool = pyproject()["tool"]
    # `packages = ["spanweir"]` would check the first root and report success.
    assert "packages" not in tool["mypy"]
    assert sorted(tool["mypy"]["files"]) == sorted(ROOTS)
    assert tool["mypy"]["strict"] is True
    assert tool["coverage"]["report"]["include_namespace_packages"] is True
    assert sorted(tool["coverage"]["run"]["source"]) == sorted(ROOTS)
    assert {f"spanweir.{root}" for root in ROOTS} == set(tool["importlinter"]["root_packages"])
    # The default import mode refuses two test files of one name.
    assert "--import-mode=importlib" in tool["pytest"]["ini_options"]["addopts"]


def test_the_base_install_has_no_collector_dependency() -> None:
    project = pyproject()["project"]
    assert all(item.startswith("opentelemetry-") for item in project["dependencies"]), project["dependencies"]


def test_all_holds_every_extra() -> None:
    extras = pyproject()["project"]["optional-dependencies"]
    named = extras["all"][0].partition("[")[2].rstrip("]").split(",")
    # One extra for each library that an application may use: no application uses all of them.
    libraries = {name for name, packages in extras.items() if "spanweir[instrument]" in packages}
    assert set(named) == set(extras) - {"all", "dev"} - libraries


def test_no_large_files() -> None:
    assert [name for name in tracked() if (ROOT / name).stat().st_size > 300_000] == []
