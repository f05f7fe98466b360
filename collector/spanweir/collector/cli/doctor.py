"""`spanweir doctor`: why are there no traces?"""

import sys

import click


@click.command()
def command() -> None:
    """Say what is installed, instrumented, exporting and reachable, as an application started here would find it."""
    from spanweir.instrumentation import doctor

    report = doctor.examine()
    click.echo(doctor.text(report))
    sys.exit(0 if report.healthy else 1)
