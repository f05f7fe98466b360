"""The command line. Each module here that does not begin with `_` is a sub-command: `queue.py` is `spanweir queue`.

A module is imported only when its command is called, so that `spanweir run` starts without the others' dependencies.
"""

import pkgutil
from difflib import get_close_matches
from importlib import import_module

import click


class Commands(click.Group):
    """Sub-commands by module name."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        names = (module.name for module in pkgutil.iter_modules(__path__) if not module.name.startswith("_"))
        return sorted(name.replace("_", "-") for name in names)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.list_commands(ctx):
            return None
        command = import_module(f"{__name__}.{cmd_name.replace('-', '_')}").command
        assert isinstance(command, click.Command), f"cli/{cmd_name}.py must define `command`"
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        names = self.list_commands(ctx)
        if args and args[0] not in names and not args[0].startswith("-"):
            close = get_close_matches(args[0], names, n=1)
            meant = f"did you mean {close[0]!r}? " if close else ""
            ctx.fail(f"no command {args[0]!r}; {meant}commands: {', '.join(names)}")
        return super().resolve_command(ctx, args)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="spanweir")
def commands() -> None:
    """OTLP in, whole MLflow traces and inference tables out.

    Begin with `spanweir demo`, then `spanweir up`.
    """
