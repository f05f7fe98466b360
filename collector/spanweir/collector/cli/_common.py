"""What several commands share: the configuration options, and how errors leave."""

import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn, TypeVar

import click

from spanweir.collector.config import ConfigError, Configuration, default_files, load
from spanweir.collector.masking import mask

Function = TypeVar("Function", bound=Callable[..., Any])


def configured(function: Function) -> Function:
    """Adds `--config` (repeatable) and `--set` (repeatable), passed as `config` and `assignments`."""
    config = click.option(
        "--config",
        "-c",
        multiple=True,
        metavar="FILE",
        help="Configuration file; several are merged in order. Default: ./otel-config.yaml, else the shipped one.",
    )
    assign = click.option(
        "--set", "assignments", multiple=True, metavar="PATH=VALUE", help="Override one option: a.b.c=value."
    )
    return config(assign(function))


def load_or_exit(config: Sequence[str], assignments: Sequence[str]) -> Configuration:
    """The configuration; on an error, its problems on standard error and exit code 2."""
    try:
        return load(list(config) or default_files(), assignments)
    except ConfigError as error:
        fail(*error.problems, code=2)


def fail(*lines: str, code: int = 1) -> NoReturn:
    """Print to standard error, without secrets, and leave."""
    for line in lines:
        click.echo(mask(line), err=True)
    sys.exit(code)
