"""`spanweir dead-letters`: what destinations refused, why, and sending it again."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from spanweir.collector.cli._common import configured, fail, load_or_exit
from spanweir.collector.config import Configuration

if TYPE_CHECKING:
    from spanweir.collector.delivery.deadletters import DeadLetter

UNDELIVERABLE = "undeliverable"
"""Stands for an exporter's name: queue records that the delivery itself could not take in."""
_METHODS = {
    signal: f"/opentelemetry.proto.collector.{package}.v1.{service}/Export"
    for signal, package, service in (
        ("traces", "trace", "TraceService"),
        ("logs", "logs", "LogsService"),
        ("metrics", "metrics", "MetricsService"),
    )
}


@click.group()
def command() -> None:
    """What destinations refused for ever was set aside: look at it, send it again, clear it away."""


@command.command("ls")
@configured
@click.option("--json", "as_json", is_flag=True, help="One JSON document a line, with the spans.")
def ls(config: Sequence[str], assignments: Sequence[str], as_json: bool) -> None:
    """One line for each item, oldest first. Works beside a running collector."""
    import msgspec

    from spanweir.collector.delivery.deadletters import listed

    for exporter, directory in _folders(load_or_exit(config, assignments)):
        for path, letter in listed(directory):
            if as_json:
                click.echo(msgspec.json.encode(letter))
                continue
            others = f"{letter.logs} records, {len(letter.requests)} requests"
            what = f"{len(letter.spans)} spans" if letter.spans else others
            traces = ", ".join(letter.trace_ids[:3])
            click.echo(f"{letter.set_aside}  {exporter}  {path.name}  {what}  {traces}  {letter.reason}")


@command.command("resend")
@configured
@click.argument("exporter")
@click.option("--endpoint", default="127.0.0.1:4317", show_default=True, help="OTLP/gRPC endpoint to send to.")
def resend(config: Sequence[str], assignments: Sequence[str], exporter: str, endpoint: str) -> None:
    """Send what EXPORTER refused to a collector once more, and remove what was acknowledged.

    `undeliverable` instead of an exporter's name: queue records that an older version could not take in. Every
    exporter of the collector gets it again; writing a span again leaves the same rows.
    """
    import grpc

    from spanweir.collector.delivery.deadletters import listed

    directory = dict(_folders(load_or_exit(config, assignments))).get(exporter)
    if directory is None:
        fail(f"no dead letters of an exporter {exporter!r}")
    sent = 0
    with grpc.insecure_channel(endpoint, options=[("grpc.max_send_message_length", -1)]) as channel:
        for path, letter in listed(directory):
            bodies = sorted(directory.glob(f"{path.stem}.*.otlp"))
            if not bodies:
                continue
            mapped = any(_signal(body) == "traces" for body in bodies)
            for body in bodies:
                signal = _signal(body).partition("-")[0]
                if mapped and _signal(body).startswith("traces-"):
                    continue  # the request that the spans came in
                try:
                    channel.unary_unary(_METHODS[signal])(body.read_bytes(), timeout=30, metadata=_route(letter))
                except grpc.RpcError as error:
                    fail(f"{endpoint}: {error.code().name}: {error.details()} ({sent} sent before)")
            for file in (path, *bodies):
                file.unlink()
            sent += 1
    click.echo(f"sent {sent}")


def _signal(body: Path) -> str:
    """`traces` for spans, `traces-0` and the like for raw requests."""
    return body.suffixes[-2].removeprefix(".")


def _route(letter: "DeadLetter") -> list[tuple[str, str]]:
    """The header that takes spans to the experiment they were routed to, where all go to one."""
    experiments = {str(row["experiment"]) for row in letter.rows if row.get("experiment")}
    return [("x-mlflow-experiment-id", experiments.pop())] if len(experiments) == 1 else []


@command.command("clear")
@configured
@click.argument("exporter")
@click.confirmation_option(prompt="Remove these dead letters for good?")
def clear(config: Sequence[str], assignments: Sequence[str], exporter: str) -> None:
    """Remove what EXPORTER refused."""
    directory = dict(_folders(load_or_exit(config, assignments))).get(exporter)
    if directory is None:
        fail(f"no dead letters of an exporter {exporter!r}")
    removed = 0
    for path in directory.iterdir():
        path.unlink()
        removed += path.suffix == ".json"
    click.echo(f"removed {removed}")


def _folders(configuration: Configuration) -> list[tuple[str, Path]]:
    """Exporters that have dead letters, and where; and what no exporter was given."""
    from spanweir.collector.pipeline import dead_letters_of, undeliverable_of

    found = [(name, dead_letters_of(configuration, name)) for name in configuration.exporters]
    found.append((UNDELIVERABLE, undeliverable_of(configuration)))
    return [(name, directory) for name, directory in found if directory.is_dir()]
