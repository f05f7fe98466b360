"""Files and `--set` assignments -> a checked `Configuration`, or a ConfigError that lists every problem."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from spanweir.collector.config import components
from spanweir.collector.config.bind import Binder, plain
from spanweir.collector.config.errors import ConfigError, suggestion
from spanweir.collector.config.model import SIGNALS, Component, Configuration, Pipeline, Service, Settings, signal_of
from spanweir.collector.config.source import Tree, read

SECTIONS = ("receivers", "processors", "exporters", "extensions")
SERVICE_KEYS = ("queue", "pipelines", "extensions", *Settings.__struct_fields__)
DEFAULT_QUEUE = {"type": "disk"}


def load(files: Sequence[str], assignments: Sequence[str] = ()) -> Configuration:
    """Read, merge, substitute, bind and check. Raises ConfigError."""
    return configuration(read(files, assignments), tuple(files))


def loads(text: str, name: str = "otel-config.yaml") -> Configuration:
    """The same for one document in memory."""
    tree = Tree()
    tree.add_text(text, name)
    return configuration(tree, (name,))


def default_files() -> list[str]:
    """`./otel-config.yaml` if there is one, else the shipped file."""
    return ["otel-config.yaml"] if Path("otel-config.yaml").is_file() else [str(shipped())]


def shipped() -> Path:
    """The configuration that comes with the package; in a checkout, the one at its top."""
    package = Path(__file__).resolve().parents[1]
    inside = package / "otel-config.yaml"
    return inside if inside.is_file() else package.parents[2] / "otel-config.yaml"


def configuration(tree: Tree, sources: tuple[str, ...]) -> Configuration:
    """Bind a merged tree. Raises ConfigError."""
    return _Loading(tree).configuration(sources)


class _Loading:
    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._problems: list[str] = []
        self._binder = Binder(self._report)
        self._postponed: dict[tuple[str, str], str] = {}
        """Components whose extra is not installed, and the message if something turns out to use them."""

    def _report(self, path: tuple[str, ...], message: str) -> None:
        where = self._tree.at(path)
        problem = ": ".join(part for part in (where, ".".join(path), message) if part)
        if problem not in self._problems:
            self._problems.append(problem)

    def configuration(self, sources: tuple[str, ...]) -> Configuration:
        root = self._tree.root
        self._unknown_keys((), root, (*SECTIONS, "service"))
        sections = {kind: self._section(kind) for kind in SECTIONS}
        service = self._service(sections)
        if self._problems:
            raise ConfigError(*self._problems)
        assert service is not None, "no service although nothing was reported"
        return Configuration(**sections, service=service, sources=sources)

    def _mapping(self, value: Any, path: tuple[str, ...]) -> dict[str, Any]:
        value = plain(value) if not isinstance(value, dict) else value
        if value is None:
            return {}
        if not isinstance(value, dict):
            self._report(path, "must be a mapping")
            return {}
        return value

    def _unknown_keys(self, path: tuple[str, ...], value: dict[str, Any], known: Sequence[str]) -> None:
        for key in value:
            if key not in known:
                self._report((*path, key), f"unknown key; {suggestion(key, known, 'keys')}")

    def _section(self, kind: str) -> dict[str, Component]:
        section = self._mapping(self._tree.root.get(kind), (kind,))
        found = {name: self._component(kind, name, value, (kind, name)) for name, value in section.items()}
        return {name: component for name, component in found.items() if component is not None}

    def _component(self, kind: str, name: str, value: Any, path: tuple[str, ...]) -> Component | None:
        type_ = components.canonical(kind, name)
        try:
            config_type = components.config_type(kind, type_)
        except components.Unknown:
            noun = "queue type" if kind == "queue" else kind.removesuffix("s")
            self._report(path, f"no {noun} {type_!r}; {suggestion(type_, components.known(kind), 'there are')}")
            return None
        except components.MissingExtra as error:
            self._postponed[(kind, name)] = str(error)
            return None
        config = self._binder.struct(value, config_type, path)
        if config is None:
            return None
        return Component(kind=kind, id=name, type=type_, config=config, origin=self._tree.at(path))

    def _service(self, sections: dict[str, dict[str, Component]]) -> Service | None:
        value = self._mapping(self._tree.root.get("service"), ("service",))
        if not value:
            self._report(("service",), "is missing; name at least one pipeline under service.pipelines")
            return None
        self._unknown_keys(("service",), value, SERVICE_KEYS)
        queue = self._queue(value.get("queue"))
        pipelines = self._pipelines(value.get("pipelines"), sections)
        extensions = self._binder.value(value.get("extensions"), tuple[str, ...], ("service", "extensions"))
        self._references(("service", "extensions"), "extensions", extensions, sections)
        plain_options = {key: item for key, item in value.items() if key in Settings.__struct_fields__}
        settings = self._binder.struct(plain_options, Settings, ("service",))
        if queue is None or settings is None:
            return None
        return Service(queue=queue, pipelines=pipelines, extensions=extensions, settings=settings)

    def _queue(self, value: Any) -> Component | None:
        path = ("service", "queue")
        options = dict(self._mapping(value, path)) or dict(DEFAULT_QUEUE)
        type_ = plain(options.pop("type", "disk"))
        if not isinstance(type_, str):
            self._report((*path, "type"), f"must be one of {', '.join(components.known('queue'))}")
            return None
        component = self._component("queue", type_, options, path)
        if ("queue", type_) in self._postponed:
            self._report(path, self._postponed[("queue", type_)])
        return component

    def _pipelines(self, value: Any, sections: dict[str, dict[str, Component]]) -> dict[str, Pipeline]:
        path = ("service", "pipelines")
        pipelines = {}
        for name, options in self._mapping(value, path).items():
            if signal_of(name) not in SIGNALS:
                self._report((*path, name), f"no signal {signal_of(name)!r}; {suggestion(name, SIGNALS, 'there are')}")
                continue
            pipeline = self._binder.struct(options, Pipeline, (*path, name))
            if pipeline is None:
                continue
            pipelines[name] = pipeline
            for kind in ("receivers", "processors", "exporters"):
                names = getattr(pipeline, kind)
                self._references((*path, name, kind), kind, names, sections)
                if not names and kind != "processors":
                    self._report(
                        (*path, name), f"has no {kind}; name at least one of {', '.join(sections[kind]) or 'them'}"
                    )
        if not pipelines and not self._problems:
            self._report(path, "is empty; add one such as traces: {receivers: [otlp], exporters: [mlflow]}")
        return pipelines

    def _references(
        self, path: tuple[str, ...], kind: str, names: Any, sections: dict[str, dict[str, Component]]
    ) -> None:
        if not isinstance(names, tuple):
            return
        defined = list(self._mapping(self._tree.root.get(kind), (kind,)))
        for i, name in enumerate(names):
            at = (*path, str(i))
            if (kind, name) in self._postponed:
                self._report((kind, name), self._postponed[(kind, name)])
            elif name not in defined:
                known = components.canonical(kind, name) in components.known(kind)
                what = f"write `{name}:` there" if known else suggestion(name, defined, "defined there")
                self._report(at, f"{name!r} is not defined under {kind}; {what}")
            elif names.index(name) != i:
                self._report(at, f"{name!r} stands twice in this list; keep one")
