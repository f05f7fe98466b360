"""`spanweir validate`: would it start?"""

from collections.abc import Sequence

import click

from spanweir.collector.cli._common import configured, fail, load_or_exit
from spanweir.collector.config import ConfigError


@click.command()
@configured
def command(config: Sequence[str], assignments: Sequence[str]) -> None:
    """Check a configuration and build what it describes, without opening a port or a store."""
    configuration = load_or_exit(config, assignments)
    from spanweir.collector.pipeline import build_check

    try:
        build_check(configuration)
    except ConfigError as error:
        fail(*error.problems, code=2)
    pipelines = ", ".join(configuration.service.pipelines)
    click.echo(f"{', '.join(configuration.sources)}: valid; pipelines: {pipelines}")
