"""`spanweir components`: what can stand in a configuration."""

import click

from spanweir.collector.config.components import PACKAGES, known
from spanweir.collector.config.reference import markdown, summary


@click.command()
@click.option("--markdown", "as_markdown", is_flag=True, help="The reference of every option, as in the README files.")
@click.argument("kinds", nargs=-1, type=click.Choice(list(PACKAGES)))
def command(as_markdown: bool, kinds: tuple[str, ...]) -> None:
    """List the components that a configuration can name."""
    kinds = kinds or tuple(PACKAGES)
    if as_markdown:
        click.echo(markdown(kinds), nl=False)
        return
    for kind in kinds:
        click.secho(kind, bold=True)
        for name in known(kind):
            click.echo(f"  {name:<24}{summary(kind, name)}")
