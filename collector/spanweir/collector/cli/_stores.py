"""The options that name a store of traces."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import click

from spanweir.collector.cli._common import configured, fail, load_or_exit
from spanweir.collector.stored import Store, Trace, configured_store, open_store

Function = TypeVar("Function", bound=Callable[..., Any])


def stored(function: Function) -> Function:
    """Adds the options that `store_or_exit` takes."""
    store = click.option(
        "--store",
        "--from",
        "store",
        metavar="URI",
        default="",
        help="MLflow tracking URI (sqlite:///mlflow.db, http://…) or path of Delta tables. "
        "Default: that of the first mlflow or delta exporter in the configuration.",
    )
    prefix = click.option("--prefix", default="spanweir", show_default=True, help="Prefix of the Delta tables.")
    experiment = click.option(
        "--experiment",
        multiple=True,
        metavar="NAME",
        help="MLflow experiment, name or id. Repeatable. Default: all.",
    )
    return store(prefix(experiment(configured(function))))


def store_or_exit(
    store: str, prefix: str, experiment: Sequence[str], config: Sequence[str], assignments: Sequence[str]
) -> Store:
    """The store that the options name; on an error, the reason on standard error and exit code 2."""
    try:
        if store:
            return open_store(store, prefix=prefix, experiments=experiment)
        return configured_store(load_or_exit(config, assignments), experiments=experiment)
    except LookupError as error:
        fail(str(error), code=2)


def search_or_exit(store: Store, filter_string: str, order_by: Sequence[str], limit: int) -> list[Trace]:
    """Traces that match; on a filter that cannot be read, the reason on standard error and exit code 2."""
    with read_or_exit():
        return store.search(filter_string or None, order_by, limit)


@contextmanager
def read_or_exit() -> Iterator[None]:
    """What cannot be found or read ends the command, with the reason on standard error and exit code 2."""
    try:
        yield
    except (ValueError, LookupError) as error:
        fail(str(error), code=2)
    except Exception as error:
        if type(error).__name__ == "MlflowException":
            fail(str(error), code=2)
        raise
