"""The composition root: a `Configuration` to receivers on one side, lanes and exporters on the other.

Everything that knows of more than one component is here. Nothing runs yet: `spanweir.collector.service` does that.
"""

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from spanweir.collector.building import build
from spanweir.collector.config import Component, ConfigError, Configuration
from spanweir.collector.delivery.deadletters import DeadLetters
from spanweir.collector.delivery.lane import Outlet
from spanweir.collector.delivery.runner import Group, Runner
from spanweir.collector.delivery.snapshot import SnapshotFile
from spanweir.collector.delivery.stages import Drop, Stages
from spanweir.collector.delivery.worker import Worker
from spanweir.collector.durable import replace_file
from spanweir.collector.extensions.api import Context as ExtensionContext
from spanweir.collector.extensions.api import Health
from spanweir.collector.feeds import Feed, feeds, file_name
from spanweir.collector.processors import api as processors_api
from spanweir.collector.processors.cost import Config as CostConfig
from spanweir.collector.processors.genai import Config as GenAIConfig
from spanweir.collector.queue.api import Reader
from spanweir.collector.queue.memory import Config as MemoryQueue
from spanweir.collector.receivers.api import Context as ReceiverContext
from spanweir.collector.telemetry import Counters
from spanweir.exporters.api import CANONICAL, MAPPED, REQUESTS, Context, Exporter, Hydrating, KnownTrace, wants

_log = logging.getLogger(__name__)
_HYDRATION_SLOW_S = 1.0
_HYDRATION_PAUSE_S = 30.0


def state_directory(configuration: Configuration) -> Path:
    """Where the delivery keeps what has to survive a restart: beside the queue's records."""
    directory = getattr(configuration.service.queue.config, "state_directory", "") or getattr(
        configuration.service.queue.config, "directory", "queue"
    )
    return Path(directory) / "delivery"


def dead_letters_of(configuration: Configuration, exporter: str) -> Path:
    """Where what an exporter's destination refuses is set aside."""
    return state_directory(configuration) / file_name(exporter) / "dead-letters"


def undeliverable_of(configuration: Configuration) -> Path:
    """Where queue records are set aside that the delivery cannot take in."""
    return state_directory(configuration) / "undeliverable"


def cursor_name(exporter: str) -> str:
    return exporter


def groups_of(configuration: Configuration) -> dict[Feed, list[str]]:
    groups: dict[Feed, list[str]] = {}
    for name, (feed, _) in feeds(configuration).items():
        groups.setdefault(feed, []).append(name)
    return groups


def _group_cursor(feed: Feed) -> str:
    more = [f"+{signal}.{name}" for signal in ("logs", "metrics") for name in getattr(feed, signal)]
    sources = [f"+{signal}.from.{receiver}" for signal, receiver in sorted(feed.receivers)]
    return "assembly" + "".join([*(f"+{name}" for name in feed.processors), *more, *sources])


def cursors(configuration: Configuration) -> list[str]:
    """Names of everything that holds queue records back."""
    groups = groups_of(configuration)
    return [*(cursor_name(name) for names in groups.values() for name in names), *map(_group_cursor, groups)]


class Delivery:
    """The delivering half, built."""

    def __init__(self, configuration: Configuration, reader: Reader, counters: Counters) -> None:
        self._configuration = configuration
        self._reader = reader
        self._counters = counters
        self._state = state_directory(configuration)
        self._state.mkdir(parents=True, exist_ok=True)
        settings = configuration.service.settings
        self._assembly, self._options = settings.assembly, settings.delivery
        signals = {name: taken for name, (_, taken) in feeds(configuration).items()}
        groups = [self._group(feed, names, signals) for feed, names in groups_of(configuration).items()]
        self.runner = Runner(groups, reader, self._options, counters.add, counters.set)

    def _group(self, feed: Feed, names: Sequence[str], signals: Mapping[str, frozenset[str]]) -> Group:
        room = threading.Event()
        outlets = [self._outlet(self._configuration.exporters[name], signals[name], room) for name in names]
        cursor = _group_cursor(feed)
        return Group(
            name=cursor,
            make_stages=lambda: self._stages(feed, outlets),
            outlets=outlets,
            undeliverable=DeadLetters(undeliverable_of(self._configuration), "delivery"),
            room=room,
            snapshot=SnapshotFile(self._state / f"{file_name(cursor)}.snapshot"),
            receivers=feed.receivers,
        )

    def _outlet(self, component: Component, signals: frozenset[str], room: threading.Event) -> Outlet:
        directory = self._state / file_name(component.id)
        directory.mkdir(exist_ok=True)

        def left_out(table: str, reason: str, n: int) -> None:
            self._counters.add("spanweir_exporter_left_out_rows", n, exporter=component.id, table=table, reason=reason)

        exporter = build_exporter(component, str(directory), _instance(self._state), left_out, self._counters.add)
        cursor = cursor_name(component.id)
        worker = Worker(
            component.id,
            exporter,
            self._options,
            cursor=self._reader.cursor(cursor),
            advance=lambda sequence: self._reader.advance(cursor, sequence),
            dead_letters=dead_letters_of(self._configuration, component.id),
            count=self._counters.add,
            on_room=room.set,
        )
        return Outlet(worker, wants(exporter), signals)

    def _stages(self, feed: Feed, outlets: Sequence[Outlet]) -> Stages:
        drops: list[Drop] = []
        genai, named = self._processors(feed, drops)
        logs, metrics = self._others("logs", feed.logs, drops), self._others("metrics", feed.metrics, drops)
        return Stages(
            [processor for _, processor in named],
            genai.renderer(),
            drops,
            self._counters.add,
            names=[name for name, _ in named],
            options=self._assembly,
            hydrate=_hydrating(outlets),
            agents=genai.agents(),
            mapped=any(MAPPED in outlet.wants and outlet.signals != {"metrics"} for outlet in outlets),
            requests=any(REQUESTS in outlet.wants for outlet in outlets),
            canonical=any(CANONICAL in outlet.wants for outlet in outlets),
            rewrite=any(getattr(processor, "rewrites", False) for _, processor in [*named, *logs]),
            log_processors=[processor for _, processor in [*named, *logs]],
            metric_processors=[processor for _, processor in metrics],
        )

    def _processors(
        self, feed: Feed, drops: list[Drop]
    ) -> tuple[GenAIConfig, list[tuple[str, processors_api.Processor]]]:
        """`genai`, those that change raw spans before it, the others after it, each in the pipeline's order; and
        `cost` in any case."""
        components = {name: self._configuration.processors[name] for name in feed.processors}
        genai_id = next((name for name, c in components.items() if isinstance(c.config, GenAIConfig)), "genai")
        named = components.pop(genai_id, None)
        genai: GenAIConfig = named.config if named is not None else GenAIConfig()
        if not any(isinstance(component.config, CostConfig) for component in components.values()):
            cost = Component(kind="processors", id="cost", type="cost", config=CostConfig())
            components = {"cost": cost, **components}
        others = [(name, build(c, self._processor_context(name, drops))) for name, c in components.items()]
        first = [pair for pair in others if getattr(pair[1], "before_mapping", False)]
        then = [pair for pair in others if pair not in first]
        return genai, [*first, (genai_id, genai.build(self._processor_context(genai_id, drops))), *then]

    def _others(
        self, signal: str, names: Sequence[str], drops: list[Drop]
    ) -> list[tuple[str, processors_api.Processor]]:
        """Those that pipelines of `signal` name."""
        components = self._configuration.processors
        kind = processors_api.LogProcessor if signal == "logs" else processors_api.MetricProcessor
        built = [(name, build(components[name], self._processor_context(name, drops))) for name in names]
        for name, processor in built:
            if not isinstance(processor, kind):
                _log.warning("the processor %s changes spans only: pipelines for %s go on without it", name, signal)
        return built

    def _processor_context(self, name: str, drops: list[Drop]) -> processors_api.Context:
        def count(metric: str, n: int = 1) -> None:
            self._counters.add(metric, n, processor=name)

        return processors_api.Context(
            name=name,
            state_directory=str(self._state / file_name(name)),
            count=count,
            drop=lambda raw, reason: drops.append(Drop(raw, reason)),
            discard=lambda raw, reason: drops.append(Drop(raw, reason, True)),
        )


class _Hydration:
    """Asks the first exporter that can tell what it has stored; while that one fails or is slow it is left alone."""

    def __init__(self, worker: Worker, source: Hydrating) -> None:
        self._worker = worker
        self._source = source
        self._not_before = 0.0

    def __call__(self, trace_ids: Sequence[str]) -> Mapping[str, KnownTrace]:
        began = time.monotonic()
        if began < self._not_before or self._worker.failing_since is not None:
            return {}
        known: Mapping[str, KnownTrace] = {}
        try:
            known = self._source.known(trace_ids)
        except Exception as error:
            _log.warning("%s cannot tell what it has stored: %s", self._worker.name, error)
            self._not_before = began + _HYDRATION_PAUSE_S
        if time.monotonic() - began > _HYDRATION_SLOW_S:
            self._not_before = time.monotonic() + _HYDRATION_PAUSE_S
        return known


def _hydrating(outlets: Sequence[Outlet]) -> _Hydration | None:
    for outlet in outlets:
        if isinstance(outlet.worker.exporter, Hydrating):
            return _Hydration(outlet.worker, outlet.worker.exporter)
    return None


def _instance(state: Path) -> str:
    """A stable identity of this queue, made once. Destinations remember it, so it must survive a power cut."""
    path = state / "instance"
    identity = path.read_text() if path.exists() else ""
    if not identity:
        identity = os.urandom(8).hex()
        replace_file(path, identity.encode())
    return identity


def build_check(configuration: Configuration) -> None:
    """Raises ConfigError for graphs that cannot be built, without opening anything."""
    problems: list[str] = []
    with TemporaryDirectory(prefix="spanweir-validate-") as directory:
        for part in _parts(configuration, directory):
            try:
                part()
            except ConfigError as error:
                problems += error.problems
    if problems:
        raise ConfigError(*problems)


def _parts(configuration: Configuration, directory: str) -> Iterator[Callable[[], object]]:
    """What builds each part of the graph, unconnected."""
    yield lambda: feeds(configuration)
    receiver = ReceiverContext(name="", writer=MemoryQueue(directory=directory).open_writer())
    processor = processors_api.Context(
        name="",
        state_directory="",
        count=lambda metric, n: None,
        drop=lambda raw, reason: None,
        discard=lambda raw, reason: None,
    )
    extension = ExtensionContext(name="", health=lambda: Health(ready=False))
    contexts = (("receivers", receiver), ("processors", processor), ("extensions", extension))
    for kind, context in contexts:
        for component in configuration.used(kind).values():
            yield partial(build, component, context)
    for component in configuration.used("exporters").values():
        yield partial(build_exporter, component, directory, "0")


def build_exporter(
    component: Component,
    state_directory: str,
    instance: str,
    left_out: Callable[[str, str, int], None] = lambda table, reason, n: None,
    count: Callable[..., None] = lambda metric, n, **labels: None,
) -> Exporter:
    """Raises ConfigError if it cannot be built as it is configured."""
    context = Context(
        name=component.id, state_directory=state_directory, instance=instance, left_out=left_out, count=count
    )
    exporter: Exporter = build(component, context)
    return exporter
