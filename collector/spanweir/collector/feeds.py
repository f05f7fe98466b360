"""What each exporter is fed with, by the pipelines that name it: which exporters can share a lane, and which cannot.

A pipeline is receivers, processors and exporters; the queue stands between the first and the others. So an exporter is
fed by all pipelines that name it at once, and they have to agree on the processors.
"""

import re
from collections.abc import Iterable
from typing import NamedTuple

from spanweir.collector.config import ConfigError, Configuration, signal_of
from spanweir.collector.config.model import SIGNALS


class Feed(NamedTuple):
    """What the pipelines of one exporter have in common with those of others: exporters of one feed share a lane."""

    processors: tuple[str, ...]
    """Of its traces pipelines."""
    logs: tuple[str, ...] = ()
    """Of its logs pipelines, besides those. Log records pass both: they become parts of spans."""
    metrics: tuple[str, ...] = ()
    """Of its metrics pipelines."""
    receivers: frozenset[tuple[str, str]] = frozenset()
    """(signal, receiver id) of the requests that are for it; empty: all."""


def feeds(configuration: Configuration) -> dict[str, tuple[Feed, frozenset[str]]]:
    """For each exporter in use its feed and its signals. Raises ConfigError."""
    everything = _sources(configuration, None)
    found: dict[str, tuple[Feed, frozenset[str]]] = {}
    problems: list[str] = []
    for name in configuration.used("exporters"):
        processors = {signal: _processors_of(configuration, name, signal, problems) for signal in SIGNALS}
        sources = _sources(configuration, name)
        signals = frozenset(signal for signal, _ in sources)
        whole = all(pair in sources for pair in everything if pair[0] in signals)
        traces = processors["traces"]
        logs = tuple(one for one in processors["logs"] if one not in traces)
        feed = Feed(traces, logs, processors["metrics"], frozenset() if whole else sources)
        found[name] = (feed, signals)
    problems += _shared_directories(found)
    if problems:
        raise ConfigError(*problems)
    return {name: (_completed(feed, signals, found.values()), signals) for name, (feed, signals) in found.items()}


def file_name(component_id: str) -> str:
    """Of the directory in which a component keeps its state, beside the queue."""
    return re.sub(r"[^A-Za-z0-9._+-]", "_", component_id)


def _shared_directories(exporters: Iterable[str]) -> list[str]:
    """Two exporters in one directory would each believe that it has written what the other one has."""
    first: dict[str, str] = {}
    return [
        f"exporters.{name}: has its state in the directory {file_name(name)!r}, as exporters.{other} has; give one"
        f" of the two a name that differs in letters, digits, '.' or '-'"
        for name in exporters
        if (other := first.setdefault(file_name(name), name)) != name
    ]


def _completed(feed: Feed, signals: frozenset[str], others: Iterable[tuple[Feed, frozenset[str]]]) -> Feed:
    """An exporter without pipelines for logs or metrics goes with those that have some, in one lane: what is joined to
    its spans is then processed as theirs is."""
    for signal in ("logs", "metrics"):
        if signal not in signals:
            alike = (other for other, taken in others if signal in taken and other.processors == feed.processors)
            feed = feed._replace(**{signal: getattr(next(alike, feed), signal)})
    return feed


def _sources(configuration: Configuration, exporter: str | None) -> frozenset[tuple[str, str]]:
    """(signal, receiver id) that pipelines with this exporter take; of all pipelines with None."""
    return frozenset(
        (signal_of(name), receiver)
        for name, pipeline in configuration.service.pipelines.items()
        if exporter is None or exporter in pipeline.exporters
        for receiver in pipeline.receivers
    )


def _processors_of(configuration: Configuration, exporter: str, signal: str, problems: list[str]) -> tuple[str, ...]:
    """The processors of the exporter's pipelines for `signal`, which must have the same."""
    pipelines = {
        name: pipeline.processors
        for name, pipeline in configuration.service.pipelines.items()
        if exporter in pipeline.exporters and signal_of(name) == signal
    }
    first, *others = pipelines.items() or [("", ())]
    for name, processors in others:
        if processors != first[1]:
            problems.append(
                f"service.pipelines: {first[0]} ({_listed(first[1])}) and {name} ({_listed(processors)}) both name the"
                f" exporter {exporter} and have different processors: each span would be written twice, and stay as"
                f" the last one left it. Give both the same processors; or copy exporters.{exporter} as"
                f" {_free_id(configuration, exporter)} and name that one in {name}"
            )
            break
    return first[1]


def _listed(processors: tuple[str, ...]) -> str:
    return f"processors: {', '.join(processors)}" if processors else "no processors"


def _free_id(configuration: Configuration, exporter: str) -> str:
    kind = exporter.partition("/")[0]
    ids = (f"{kind}/{number}" for number in range(2, 1 << 20))
    return next(each for each in ids if each not in configuration.exporters)


def signals_of_receivers(configuration: Configuration) -> dict[str, frozenset[str]]:
    """For each receiver in use, the signals that some pipeline takes from it."""
    signals: dict[str, set[str]] = {}
    for name, pipeline in configuration.service.pipelines.items():
        for receiver in pipeline.receivers:
            signals.setdefault(receiver, set()).add(signal_of(name))
    return {receiver: frozenset(taken) for receiver, taken in signals.items()}


def is_told_apart(configuration: Configuration) -> bool:
    """Whether records have to say which receiver they came from: some exporter gets a part of them only."""
    return any(feed.receivers for feed, _ in feeds(configuration).values())
