"""YAML files and `--set` -> one tree of plain values that remembers the file and line of each key.

Maps are merged in the order of the files, lists are replaced, and a key with an empty value wipes what an earlier
file had under it (OpenTelemetry Collector, confmap/README.md).
"""

from collections.abc import Hashable, Sequence
from typing import Any

import yaml

from spanweir.collector.config.errors import ConfigError
from spanweir.collector.config.expand import expand, read_at_most

Keys = tuple[str, ...]
_MERGE_TAG = "tag:yaml.org,2002:merge"
_PLAIN_TAGS = ("tag:yaml.org,2002:map", "tag:yaml.org,2002:seq")
MAX_FILE_BYTES = 16 << 20
MAX_DEPTH, MAX_VALUES = 64, 100_000
"""Of one document with its aliases written out: an alias may stand for itself, or for exponentially much."""
_Loader: type[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class Tree:
    """The merged values, and where each path came from."""

    def __init__(self) -> None:
        self.root: dict[str, Any] = {}
        self._origins: dict[Keys, str] = {}
        self._values = 0

    def at(self, path: Keys) -> str:
        """`file:line` of the nearest key at or above `path`."""
        while path and path not in self._origins:
            path = path[:-1]
        return self._origins.get(path, "")

    def add_file(self, name: str) -> None:
        """Merge a YAML file. Raises ConfigError."""
        try:
            text = read_at_most(name, MAX_FILE_BYTES).decode("utf-8-sig")
        except OverflowError as error:
            raise ConfigError(f"{name}: {error}; is the path after --config right?") from error
        except OSError as error:
            raise ConfigError(f"{name}: cannot be read: {error.strerror}; is the path after --config right?") from error
        except UnicodeDecodeError as error:
            raise ConfigError(f"{name}: is not UTF-8 text: {error}") from error
        self.add_text(text, name)

    def add_text(self, text: str, name: str) -> None:
        """Merge one YAML document. `name` is what messages call it. Raises ConfigError."""
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
            value = None if node is None else self._value(loader, node, (), name)
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark
            where = f"{name}:{mark.line + 1}" if mark else name
            lines = text.splitlines()
            if mark and mark.line < len(lines) and lines[mark.line][mark.column : mark.column + 1] == "\t":
                raise ConfigError(f"{where}: a tab stands where YAML takes spaces only; indent with spaces") from error
            raise ConfigError(f"{where}: is not valid YAML: {error.problem}") from error
        except yaml.YAMLError as error:
            raise ConfigError(f"{name}: is not valid YAML: {error}") from error
        finally:
            loader.dispose()
        if value is not None and not isinstance(value, dict):
            raise ConfigError(f"{name}: must hold a mapping with receivers, exporters and service, not {_kind(value)}")
        self.root = _merge(self.root, value or {})

    def set(self, assignment: str) -> None:
        """Merge `a.b.c=value`, the value read as YAML. Raises ConfigError."""
        key, equals, text = assignment.partition("=")
        path = tuple(key.strip().split("."))
        if not equals or not all(path):
            raise ConfigError(f"--set {assignment}: write it as path.to.option=value")
        origin = f"--set {key}"
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
            value = None if node is None else self._value(loader, node, path, origin)
        except yaml.YAMLError as error:
            message = (
                f"the value is not valid YAML; if it is text, put it in quotes that reach here: '{key}=\"{text}\"'"
            )
            raise ConfigError(f"--set {key}: {message}") from error
        finally:
            loader.dispose()
        addition: dict[str, Any] = {path[-1]: value}
        for part in reversed(path[:-1]):
            addition = {part: addition}
        for length in range(1, len(path) + 1):
            self._origins[path[:length]] = origin
        self.root = _merge(self.root, addition)

    def _value(self, loader: Any, node: yaml.Node, path: Keys, name: str) -> Any:
        where = name if name.startswith("--set") else f"{name}:{node.start_mark.line + 1}"
        self._values += 1
        if len(path) > MAX_DEPTH or self._values > MAX_VALUES:
            limit = f"{MAX_DEPTH} levels" if len(path) > MAX_DEPTH else f"{MAX_VALUES} values"
            raise ConfigError(f"{where}: {'.'.join(path[:3])}: holds more than {limit}; does an alias refer to itself?")
        self._origins[path] = where if path else name
        if not isinstance(node, yaml.ScalarNode) and node.tag not in _PLAIN_TAGS:
            raise ConfigError(f"{where}: {'.'.join(path)}: the YAML tag {node.tag} is not known; remove it")
        if isinstance(node, yaml.MappingNode):
            return self._mapping(loader, node, path, name)
        if isinstance(node, yaml.SequenceNode):
            return [self._value(loader, item, (*path, str(i)), name) for i, item in enumerate(node.value)]
        value = loader.construct_object(node, deep=True)
        if not isinstance(value, str):
            return value
        try:
            return expand(value)
        except ValueError as error:
            raise ConfigError(f"{where}: {'.'.join(path)}: {error}") from error

    def _mapping(self, loader: Any, node: yaml.MappingNode, path: Keys, name: str) -> dict[str, Any]:
        self._refuse_duplicates(node, path, name)
        loader.flatten_mapping(node)  # `<<: *anchor`, whose keys come first and give way
        result: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key: Hashable = loader.construct_object(key_node, deep=True)
            line = key_node.start_mark.line + 1
            if not isinstance(key, str):
                place = ": ".join(part for part in (f"{name}:{line}", ".".join(path)) if part)
                raise ConfigError(f"{place}: the key {key!r} must be text; put it in quotes")
            below = (*path, key)
            result[key] = self._value(loader, value_node, below, name)
            if not name.startswith("--set"):
                self._origins[below] = f"{name}:{line}"
        return result

    def _refuse_duplicates(self, node: yaml.MappingNode, path: Keys, name: str) -> None:
        seen: set[str] = set()
        for key_node, _ in node.value:
            if isinstance(key_node, yaml.ScalarNode) and key_node.tag != _MERGE_TAG:
                if key_node.value in seen:
                    where = f"{name}:{key_node.start_mark.line + 1}: {'.'.join((*path, key_node.value))}"
                    raise ConfigError(f"{where}: stands twice; keep one of the two")
                seen.add(key_node.value)


def _merge(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    result = dict(old)
    for key, value in new.items():
        before = result.get(key)
        result[key] = _merge(before, value) if isinstance(before, dict) and isinstance(value, dict) else value
    return result


def _kind(value: object) -> str:
    return {list: "a list", str: "text", int: "a number", float: "a number", bool: "true or false"}.get(
        type(value), "that"
    )


def read(files: Sequence[str], assignments: Sequence[str] = ()) -> Tree:
    """Read and merge `files`, then apply the `--set` assignments. Raises ConfigError."""
    tree = Tree()
    for name in files:
        tree.add_file(name)
    for assignment in assignments:
        tree.set(assignment)
    return tree
