"""What is installed, instrumented, exporting and reachable: the facts behind `spanweir doctor`, and their text.

`python -m spanweir.instrumentation doctor` prints them where only the base package is installed.
"""

import dataclasses
import os
import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, packages_distributions, version

from opentelemetry import trace

from spanweir.instrumentation import instrumentors, policy, setup, transport
from spanweir.instrumentation.libraries import LIBRARIES, Library
from spanweir.instrumentation.version import __version__
from spanweir.instrumentation.worker import Counters

_SECRET = ("HEADERS", "KEY", "TOKEN", "PASSWORD")


@dataclasses.dataclass(frozen=True)
class LibraryReport:
    """One library that is installed. `instrumentor` is None, and `problem` says why, if there is none that serves."""

    name: str
    version: str
    instrumentor: str | None
    active: bool
    problem: str = ""


@dataclasses.dataclass(frozen=True)
class Report:
    """Everything that the doctor found. `healthy`: the collector is there and takes spans."""

    versions: dict[str, str]
    variables: dict[str, str]
    provider: str
    exporting: bool
    endpoint: str
    protocol: str
    reachable: bool
    problem: str
    capture: str
    libraries: list[LibraryReport]
    counters: Counters | None

    @property
    def healthy(self) -> bool:
        return self.reachable


def examine(timeout_s: float = 3.0) -> Report:
    """Look at this process and its environment, and send the collector an empty OTLP request."""
    versions = {"spanweir": __version__, "python": platform.python_version()}
    for package in ("opentelemetry-sdk", "opentelemetry-instrumentation", "opentelemetry-util-genai", "grpcio"):
        versions[package] = _version(package)
    problem, reachable = "", False
    worker = setup.worker()
    try:
        settings = worker.settings if worker is not None else transport.settings()
        connection = settings.open()
        answer = connection.send(b"", timeout_s)
        connection.close()
        reachable, problem = answer.accepted, answer.reason
        endpoint, protocol = transport.shown(settings.endpoint), settings.protocol
    except ValueError as error:
        endpoint, protocol, problem = "", "", str(error)
    content = policy.from_environment()
    present = {name: entry for name, entry in LIBRARIES.items() if instrumentors.installed(entry.module)}
    # Reads the file list of every installed package, which takes a second in a large environment: once is enough.
    packages = packages_distributions() if present else {}
    return Report(
        versions=versions,
        variables={key: _shown(key) for key in sorted(os.environ) if key.startswith(("OTEL_", "OPENINFERENCE_"))},
        provider=type(trace.get_tracer_provider()).__name__,
        exporting=worker is not None,
        endpoint=endpoint,
        protocol=protocol,
        reachable=reachable,
        problem=problem,
        capture={(True, False): "on spans", (False, True): "in events", (True, True): "on spans and in events"}.get(
            (content.on_spans, content.on_events), "off"
        ),
        libraries=[_library(name, entry, packages) for name, entry in present.items()],
        counters=worker.counters if worker is not None else None,
    )


def _advice(report: Report) -> str:
    # What gRPC's core says of a server that speaks HTTP/1.
    if report.protocol == "grpc" and "http1.x" in report.problem:
        return "that is a port for OTLP/HTTP: set OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf, or the port to 4317"
    return "start one with `spanweir up`, or set OTEL_EXPORTER_OTLP_ENDPOINT"


def text(report: Report) -> str:
    """The report for a terminal: one finding a line, problems with what to do."""
    lines = [f"{name} {found}" for name, found in report.versions.items()]
    lines += ["", f"collector   {report.endpoint} ({report.protocol})"]
    lines.append(
        "            reachable, takes OTLP" if report.reachable else f"            NOT reachable: {report.problem}"
    )
    if not report.reachable:
        lines.append(f"            {_advice(report)}")
    lines.append(f"content     {report.capture} ({policy.CAPTURE_VARIABLE})")
    lines.append(f"exporting   {'yes' if report.exporting else 'not in this process'} (provider: {report.provider})")
    if report.counters is not None:
        c = report.counters
        lines.append(
            f"spans       {c.ended} ended, {c.sent} sent, {c.waiting} waiting, "
            f"{c.dropped_full} dropped because the queue was full, {c.dropped_failed} because they were refused"
        )
        if c.last_error:
            lines.append(f"            last error: {c.last_error}")
    lines += ["", "libraries" if report.libraries else "libraries   none of those that autolog knows is installed"]
    for library in report.libraries:
        state = "instrumented" if library.active else "can be instrumented" if library.instrumentor else "NOT possible"
        how = f"by {library.instrumentor}" if library.instrumentor else library.problem
        lines.append(f"  {library.name:14} {library.version:10} {state}, {how}" if how else f"  {library.name}")
    if report.variables:
        lines += ["", "environment", *(f"  {key}={value}" for key, value in report.variables.items())]
    return "\n".join(lines)


def _library(name: str, library: Library, packages: Mapping[str, list[str]]) -> LibraryReport:
    """What is known of an installed library. `packages`: the distributions of each top-level module."""
    target = instrumentors.chosen(library)
    return LibraryReport(
        name=name,
        version=_version_of_module(library.module, packages),
        instrumentor=target.partition(":")[0] if target and not target.startswith("native:") else target and "itself",
        active=name in instrumentors.active(),
        problem="" if target else instrumentors.reason(library),
    )


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _version_of_module(module: str, packages: Mapping[str, list[str]]) -> str:
    for candidate in (module, module.partition(".")[0]):
        if candidate in packages:
            return _version(_likeliest(packages[candidate], module))
    return "?"


def _likeliest(packages: list[str], module: str) -> str:
    """Of several packages that share a namespace, the one that is called as the module is."""
    wanted = module.replace(".", "-").replace("_", "-")
    return next((p for p in packages if p.replace("_", "-").lower() == wanted), packages[0])


def _shown(key: str) -> str:
    if any(word in key for word in _SECRET):
        return "(set)"
    return transport.shown(os.environ[key]) if key.endswith("ENDPOINT") else os.environ[key]
