"""What the README files say is true: links, commands, extras, configurations, Python, generated references."""

import re
import tomllib
from functools import reduce
from operator import getitem
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from spanweir.collector.cli import commands
from spanweir.collector.config import loads
from tests.tidy.generate import GENERATED, rendered
from tests.tidy.test_layout import ROOT, tracked

READMES = [name for name in tracked() if name.endswith(".md") and not name.startswith(("tests/golden/", "."))]
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
COMMAND = re.compile(r"(?:^|[\s`(&])spanweir ([a-z][a-z-]+)")


def blocks(name: str, language: str) -> list[str]:
    return [text for found, text in BLOCK.findall((ROOT / name).read_text()) if found == language]


@pytest.mark.parametrize("name", READMES)
def test_links_lead_somewhere(name: str) -> None:
    text = (ROOT / name).read_text()
    links = [link for link in re.findall(r"\]\(([^)\s]+)\)", text) if not link.startswith(("http://", "https://"))]
    broken = [link for link in links if not (ROOT / name).parent.joinpath(link.partition("#")[0]).exists()]
    assert not broken


@pytest.mark.parametrize("name", READMES)
def test_paths_in_backticks_exist(name: str) -> None:
    text = BLOCK.sub("", (ROOT / name).read_text())
    paths = re.findall(r"`((?:collector|exporters|schemas|instrumentation|tests)/[^`*<>\s]+)", text)
    assert [path for path in paths if not (ROOT / path).exists()] == []


@pytest.mark.parametrize("name", READMES)
def test_commands_exist(name: str) -> None:
    text = (ROOT / name).read_text()
    code = " ".join([*blocks(name, "bash"), *re.findall(r"`[^`\n]+`", text)])
    known = commands.list_commands(click.Context(commands))
    assert [word for word in COMMAND.findall(code) if word not in known] == []


@pytest.mark.parametrize("name", READMES)
def test_extras_exist(name: str) -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    named = re.findall(r"(?:\.|spanweir)\[([\w,]+)\]", (ROOT / name).read_text())
    assert [extra for group in named for extra in group.split(",") if extra not in extras] == []


@pytest.mark.parametrize("name", READMES)
def test_configurations_load(name: str) -> None:
    for text in blocks(name, "yaml"):
        if "receivers: {otlp: {protocols" in text:
            loads(text)


def kept_running() -> list[list[str]]:
    """What each row under "Keep it running" says to set, as `option: value`."""
    section = (ROOT / "README.md").read_text().partition("## Keep it running")[2].partition("\n## ")[0]
    return [found for row in section.splitlines() if (found := re.findall(r"`([a-z][\w.]+: [^`…]+)`", row))]


@pytest.mark.parametrize("settings", kept_running(), ids=lambda settings: settings[0].partition(" ")[2])
def test_what_keeps_it_running_can_be_set(settings: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("PGPASSWORD", "MLFLOW_TOKEN"):
        monkeypatch.setenv(variable, "x")
    minimal = next(text for text in blocks("README.md", "yaml") if "receivers: {otlp: {protocols" in text)
    document: Any = yaml.safe_load(minimal)
    for setting in settings:
        option, _, text = setting.partition(": ")
        value = yaml.safe_load(text)
        if option == "service":
            document["service"] |= value
        elif option == "partition":
            document["service"]["queue"] = {"type": "kafka", "brokers": ["kafka:9092"], option: value}
        elif "." in option:
            *path, last = option.split(".")
            reduce(getitem, path, document)[last] = value
        else:
            document["exporters"]["mlflow"][option] = value
    loads(yaml.safe_dump(document))


@pytest.mark.parametrize("name", READMES)
def test_python_compiles(name: str) -> None:
    for text in blocks(name, "python"):
        compile(text, name, "exec")


@pytest.mark.parametrize("name", sorted(GENERATED))
def test_generated_references_are_current(name: str) -> None:
    assert (ROOT / name).read_text() == rendered(name), "run: python -m tests.tidy.generate"


def test_the_readme_has_the_two_commands() -> None:
    code = "".join(blocks("README.md", "bash"))
    assert "pip install '.[all]' && spanweir demo\n" in code
    assert "pip install -e '.[dev]' && pytest\n" in code


def test_every_folder_says_what_it_is() -> None:
    for folder in ("collector", "exporters", "instrumentation", "schemas"):
        text = (ROOT / folder / "README.md").read_text()
        for heading in ("**In:**", "**Out:**", "**May import:**", "**Must not:**"):
            assert heading in text, f"{folder}/README.md lacks {heading}"


def test_the_folders_of_the_collector_are_named() -> None:
    text = (ROOT / "collector/README.md").read_text()
    folders = [
        path.name for path in (ROOT / "collector/spanweir/collector").iterdir() if (path / "__init__.py").exists()
    ]
    assert [name for name in folders if f"| `{name}/` |" not in text] == []


def test_the_readme_is_short() -> None:
    assert len(Path(ROOT / "README.md").read_text().splitlines()) < 180
