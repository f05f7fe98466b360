"""`spanweir dead-letters`: what destinations refused, why, and sending it again."""

from collections.abc import Sequence
from pathlib import Path

import click

from spanweir.collector.cli._common import configured, fail, load_or_exit
from spanweir.collector.config import Configuration

UNDELIVERABLE = "undeliverable"
"""Stands for an exporter's name: queue records that the delivery itself could not take in."""


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
@click.option("--endpoint", help="OTLP/gRPC endpoint to send to, without credentials; https:// before it for TLS.")
@click.option("--through", metavar="NAME", help="Send as this otlp exporter does: its endpoint, tls and headers.")
def resend(
    config: Sequence[str], assignments: Sequence[str], exporter: str, endpoint: str | None, through: str | None
) -> None:
    """Send what EXPORTER refused to a collector once more, and remove what was acknowledged.

    By default to the otlp receiver of the configuration, as the tenant that sent it, with the credentials that the
    receiver's `auth` names. `--through` takes any otlp exporter that is configured, in a pipeline or not.
    `undeliverable` instead of an exporter's name: queue records that an older version could not take in. Every
    exporter of the collector gets it again; writing a span again leaves the same rows, a log record stands twice where
    it stood already.
    """
    from spanweir.collector import resend as doors
    from spanweir.collector.delivery.deadletters import listed

    if endpoint and through:
        fail("give --endpoint or --through, not both", code=2)
    configuration = load_or_exit(config, assignments)
    directory = dict(_folders(configuration)).get(exporter)
    if directory is None:
        fail(f"no dead letters of an exporter {exporter!r}")
    if through and through not in configuration.exporters:
        fail(f"--through: no exporter {through!r}; there are: {', '.join(configuration.exporters)}", code=2)
    sent = 0
    try:
        with (
            doors.to_endpoint(endpoint)
            if endpoint
            else doors.through(configuration.exporters[through])
            if through
            else doors.to_receiver(configuration, exporter)
        ) as door:
            for path, letter in listed(directory):
                if door.send(path, letter):
                    for file in (path, *directory.glob(f"{path.stem}.*.otlp")):
                        file.unlink()
                    sent += 1
    except doors.ResendError as error:
        fail(f"{error} ({sent} sent before)")
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
    """Exporters that have dead letters, and where; and what no exporter was given."""
    from spanweir.collector.pipeline import dead_letters_of, undeliverable_of

    found = [(name, dead_letters_of(configuration, name)) for name in configuration.exporters]
    found.append((UNDELIVERABLE, undeliverable_of(configuration)))
    return [(name, directory) for name, directory in found if directory.is_dir()]
