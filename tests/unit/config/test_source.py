"""Merging files and `--set`, and where each key came from."""

from pathlib import Path

import pytest

from spanweir.collector.config import ConfigError
from spanweir.collector.config.bind import plain
from spanweir.collector.config.source import Tree, read


def files(tmp_path: Path, *texts: str) -> list[str]:
    names = []
    for i, text in enumerate(texts):
        path = tmp_path / f"{i}.yaml"
        path.write_text(text)
        names.append(str(path))
    return names


def test_maps_are_merged_in_order_and_lists_replaced(tmp_path: Path) -> None:
    one = "exporters: {a: {x: 1, y: [1, 2]}, b: {}}\nservice: {pipelines: {traces: {exporters: [a, b]}}}\n"
    two = "exporters: {a: {x: 2}, c: {}}\nservice: {pipelines: {traces: {exporters: [c]}}}\n"
    tree = read(files(tmp_path, one, two))
    assert tree.root == {
        "exporters": {"a": {"x": 2, "y": [1, 2]}, "b": {}, "c": {}},
        "service": {"pipelines": {"traces": {"exporters": ["c"]}}},
    }


def test_an_empty_value_wipes_and_an_empty_map_does_not(tmp_path: Path) -> None:
    one, wiping, keeping = "processors: {a: {x: 1}}\n", "processors:\n", "processors: {}\n"
    assert read(files(tmp_path, one, wiping)).root == {"processors": None}
    assert read(files(tmp_path, one, keeping)).root == {"processors": {"a": {"x": 1}}}


def test_set_reads_its_value_as_yaml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIMIT", "12")
    base = files(tmp_path, "exporters: {a: {x: 1, z: 0}}\n")
    tree = read(base, ["exporters.a.x=[1, two]", "exporters.b/c.y=${env:LIMIT}", "service.name=a=b", "exporters.a.z="])
    assert plain(tree.root) == {
        "exporters": {"a": {"x": [1, "two"], "z": None}, "b/c": {"y": 12}},
        "service": {"name": "a=b"},
    }
    assert tree.at(("exporters", "b/c", "y")) == "--set exporters.b/c.y"


def test_every_key_knows_its_file_and_line(tmp_path: Path) -> None:
    first, second = files(tmp_path, "exporters:\n  a:\n    x: 1\n    y: 2\n", "\n\nexporters: {a: {x: 3}}\n")
    tree = read([first, second])
    assert tree.at(("exporters", "a", "y")) == f"{first}:4"
    assert tree.at(("exporters", "a", "x")) == f"{second}:3"
    assert tree.at(("exporters", "a", "absent", "deep")) == f"{second}:3"
    assert tree.at(("nowhere",)) == second


def test_anchors_and_merge_keys(tmp_path: Path) -> None:
    tree = read(files(tmp_path, "base: &b {x: 1, y: 2}\nexporters: {a: {<<: *b, y: 3}}\n"))
    assert tree.root["exporters"] == {"a": {"x": 1, "y": 3}}


BOMB = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{key}: &{key} [{', '.join([f'*{below}'] * 10)}]\n" for below, key in zip("abcdef", "bcdefg", strict=True)
)
"""A million values in 400 characters."""


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: {b: 1\n", "f.yaml:2: is not valid YAML: did not find expected ',' or '}'"),
        ("a:\n\tb: 1\n", "f.yaml:2: a tab stands where YAML takes spaces only; indent with spaces"),
        ("- a\n- b\n", "f.yaml: must hold a mapping with receivers, exporters and service, not a list"),
        ("just text", "f.yaml: must hold a mapping with receivers, exporters and service, not text"),
        ("a:\n  b: 1\n  b: 2\n", "f.yaml:3: a.b: stands twice; keep one of the two"),
        ("a: &a {b: *a}\n", "f.yaml:1: a.b.b: holds more than 64 levels; does an alias refer to itself?"),
        ("a: &a [*a]\n", "f.yaml:1: a.0.0: holds more than 64 levels; does an alias refer to itself?"),
        (BOMB, "f.yaml:1: e.7.8: holds more than 100000 values; does an alias refer to itself?"),
        ("[a]: x\n", "f.yaml:1: the key ['a'] must be text; put it in quotes"),
        ("a:\n  1: x\n", "f.yaml:2: a: the key 1 must be text; put it in quotes"),
        (
            "a: !!python/object:os.system {}\n",
            "f.yaml:1: a: the YAML tag tag:yaml.org,2002:python/object:os.system is not known",
        ),
        ("a: !!python/name:os.system\n", "f.yaml:1: is not valid YAML: could not determine a constructor"),
        ("x:\n  y: ${env:NOT_SET_ANYWHERE}\n", "f.yaml:2: x.y: environment variable NOT_SET_ANYWHERE is not set"),
    ],
)
def test_errors_in_a_file(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        Tree().add_text(text, "f.yaml")
    assert str(raised.value).startswith(message)


def test_a_file_that_is_not_there() -> None:
    with pytest.raises(ConfigError) as raised:
        read(["nowhere.yaml"])
    assert str(raised.value) == (
        "nowhere.yaml: cannot be read: No such file or directory; is the path after --config right?"
    )


def test_a_file_that_is_not_text(tmp_path: Path) -> None:
    (tmp_path / "f.yaml").write_bytes(b"a: \xff\xfe\n")
    with pytest.raises(ConfigError, match="is not UTF-8 text"):
        read([str(tmp_path / "f.yaml")])


def test_a_file_without_end_is_not_read_to_its_end() -> None:
    with pytest.raises(ConfigError) as raised:
        read(["/dev/zero"])
    assert str(raised.value).startswith("/dev/zero: holds more than 16777216 bytes")


def test_a_file_is_utf8_and_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    (tmp_path / "f.yaml").write_bytes(b"\xef\xbb\xbfa: \xc3\xbc\n")
    assert read([str(tmp_path / "f.yaml")]).root == {"a": "ü"}


def test_a_set_whose_value_is_no_yaml() -> None:
    with pytest.raises(ConfigError) as raised:
        Tree().set("a.b={c")
    assert str(raised.value) == (
        "--set a.b: the value is not valid YAML; if it is text, put it in quotes that reach here: 'a.b=\"{c\"'"
    )


def test_what_the_message_about_a_set_says_is_right() -> None:
    tree = Tree()
    with pytest.raises(ConfigError) as raised:
        tree.set("endpoint=[::1]:4317")
    tree.set(str(raised.value).partition("reach here: ")[2].strip("'"))
    assert tree.root == {"endpoint": "[::1]:4317"}


@pytest.mark.parametrize("assignment", ["nonsense", "=1", "a..b=1"])
def test_a_set_that_is_no_assignment(assignment: str) -> None:
    with pytest.raises(ConfigError) as raised:
        Tree().set(assignment)
    assert str(raised.value) == f"--set {assignment}: write it as path.to.option=value"
