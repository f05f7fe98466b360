"""`spanweir dead-letters`: what destinations refused, why, and sending it again."""

from collections.abc import Sequence
from pathlib import Path

import click

from spanweir.collector.cli._common import configured, fail, load_or_exit
from spanweir.collector.config import Configuration


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

    Every exporter of the collector gets it again; writing a span again leaves the same rows.
    """
    import grpc

    method = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
    directory = dict(_folders(load_or_exit(config, assignments))).get(exporter)
    if directory is None:
        fail(f"no dead letters of an exporter {exporter!r}")
    sent = 0
    with grpc.insecure_channel(endpoint, options=[("grpc.max_send_message_length", -1)]) as channel:
        export = channel.unary_unary(method)
        for body in sorted(directory.glob("*.traces.otlp")):
            try:
                export(body.read_bytes(), timeout=30)
            except grpc.RpcError as error:
                fail(f"{endpoint}: {error.code().name}: {error.details()} ({sent} sent before)")
            body.with_name(body.name.removesuffix(".traces.otlp") + ".json").unlink(missing_ok=True)
            body.unlink()
            sent += 1
    click.echo(f"sent {sent}")


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
    """Exporters that have dead letters, and where."""
    from spanweir.collector.pipeline import dead_letters_of

    found = [(name, dead_letters_of(configuration, name)) for name in configuration.exporters]
    return [(name, directory) for name, directory in found if directory.is_dir()]
