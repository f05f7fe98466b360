"""`spanweir print-config`: what is in force after merging, substitution and defaults."""

import json
from collections.abc import Sequence

import click

from spanweir.collector.cli._common import configured, load_or_exit
from spanweir.collector.config.show import effective, to_yaml


@click.command()
@configured
@click.option("--mode", type=click.Choice(["redacted", "unredacted"]), default="redacted", show_default=True)
@click.option("--format", "format_", type=click.Choice(["yaml", "json"]), default="yaml", show_default=True)
def command(config: Sequence[str], assignments: Sequence[str], mode: str, format_: str) -> None:
    """Print the configuration in force, with every default; secrets are masked.

    Masked are options that are secrets, passwords in URLs, values whose key names a secret, values of actions that look
    made up by a machine, and tokens of known shapes.
    """
    document = effective(load_or_exit(config, assignments), redacted=mode == "redacted")
    click.echo(to_yaml(document) if format_ == "yaml" else json.dumps(document, indent=2), nl=format_ == "json")
