"""`spanweir run`: the service."""

import sys
from collections.abc import Sequence

import click

from spanweir.collector.cli._common import configured, fail, load_or_exit
from spanweir.collector.config import ConfigError, default_files, load
from spanweir.collector.masking import log_to_stderr


@click.command()
@configured
def command(config: Sequence[str], assignments: Sequence[str]) -> None:
    """Run the collector until SIGTERM or SIGINT. SIGHUP reads the configuration again."""
    configuration = load_or_exit(config, assignments)
    log_to_stderr(configuration.service.settings.telemetry.logs.level)
    from spanweir.collector.service import ServiceError, run

    try:
        status = run(configuration, load=lambda: load(list(config) or default_files(), assignments))
    except ConfigError as error:
        fail(*error.problems, code=2)
    except ServiceError as error:
        fail(f"spanweir cannot start: {error}")
    sys.exit(status)
