"""`spanweir queue`: look into the durable queue, and deliver again."""

import json
from collections.abc import Sequence
from itertools import islice

import click

from spanweir.collector.cli._common import configured, fail, load_or_exit
from spanweir.collector.queue import disk


@click.group()
def command() -> None:
    """Look into the durable queue, and deliver again what is in it."""


@command.command("ls")
@configured
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def ls(config: Sequence[str], assignments: Sequence[str], as_json: bool) -> None:
    """Segments and cursors with their states. Works beside a running collector."""
    import msgspec

    from spanweir.collector.queue.api import QueueUnavailable
    from spanweir.collector.queue.inspect import overview, table

    try:
        view = overview(_disk(config, assignments))
    except QueueUnavailable as error:
        fail(str(error))
    click.echo(msgspec.json.encode(view) if as_json else table(view))


@command.command("cat")
@configured
@click.option(
    "--after", default=0, type=click.IntRange(0), metavar="SEQUENCE", help="Only records after this sequence number."
)
@click.option("--signal", type=click.Choice(["traces", "logs", "metrics"]), help="Only this signal.")
@click.option("--limit", default=0, type=click.IntRange(0), metavar="N", help="At most so many records; 0 for all.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document a line, with the request as OTLP/JSON.")
def cat(
    config: Sequence[str], assignments: Sequence[str], after: int, signal: str | None, limit: int, as_json: bool
) -> None:
    """The records that are there, oldest first. Works beside a running collector."""
    from spanweir.collector.queue.api import QueueUnavailable
    from spanweir.collector.queue.inspect import document, line, records

    try:
        found = (
            record for record in records(_disk(config, assignments), after=after) if signal in (None, record.signal)
        )
        for record in islice(found, limit or None):
            click.echo(json.dumps(document(record), ensure_ascii=False) if as_json else line(record))
    except QueueUnavailable as error:
        fail(str(error))


@command.command("replay")
@configured
@click.argument("exporter")
@click.option("--after", default=0, show_default=True, metavar="SEQUENCE", help="The record after it is the next.")
def replay(config: Sequence[str], assignments: Sequence[str], exporter: str, after: int) -> None:
    """Let EXPORTER have the records after a sequence number again, at the next start of the collector.

    What it writes is the same again, so that a mapping that has improved meanwhile replaces what was written. Records
    stay in the queue for `retention` after every exporter is done with them.
    """
    from spanweir.collector.config.errors import suggestion
    from spanweir.collector.queue.api import QueueUnavailable
    from spanweir.collector.queue.inspect import overview
    from spanweir.collector.queue.inspect import replay as set_back

    queue = _disk(config, assignments)
    try:
        old = set_back(queue, exporter, to=after)
    except KeyError:
        known = [cursor.name for cursor in overview(queue).cursors]
        fail(f"no exporter {exporter!r} reads this queue; {suggestion(exporter, known, 'there are')}", code=2)
    except (QueueUnavailable, ValueError) as error:
        fail(str(error))
    click.echo(f"{exporter} was at {old} and goes on after {after} when the collector starts")


def _disk(config: Sequence[str], assignments: Sequence[str]) -> disk.Config:
    queue = load_or_exit(config, assignments).service.queue.config
    if not isinstance(queue, disk.Config):
        fail("service.queue: only a queue of type disk can be looked into", code=2)
    return queue
