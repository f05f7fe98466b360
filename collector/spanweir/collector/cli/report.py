"""`spanweir report`: tokens, cost and latency out of either store, in the terminal or as one HTML page."""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from spanweir.collector.cli._common import fail, load_or_exit
from spanweir.collector.cli._stores import read_or_exit, stored
from spanweir.collector.stored import Store, configured_store, open_store

if TYPE_CHECKING:
    from spanweir.collector.config import Configuration
    from spanweir.schemas.report import Report, Row

_DAY = click.DateTime(formats=["%Y-%m-%d"])


@click.command()
@stored
@click.option("--since", type=_DAY, default=None, help="First day.")
@click.option("--until", type=_DAY, default=None, help="Last day.")
@click.option("--top", default=20, show_default=True, help="Most rows of a table.")
@click.option("--html", type=click.Path(dir_okay=False, path_type=Path), default=None, help="Write a page with charts.")
@click.option(
    "--sql",
    is_flag=False,
    flag_value="datafusion",
    default=None,
    metavar="ENGINE",
    type=click.Choice(["datafusion", "duckdb", "spark", "spark-v2"]),
    help="Print the queries over the spans table instead, to run them elsewhere: as `datafusion` (default) runs them, "
    "`duckdb`, `spark` (Databricks too), or `spark-v2` for tables with VARIANT columns.",
)
def command(
    store: str, prefix: str, experiment: Sequence[str], config: Sequence[str], assignments: Sequence[str],
    since: datetime | None, until: datetime | None, top: int, html: Path | None, sql: Any,
) -> None:  # fmt: skip
    """Tokens, cost and latency by model, framework, service, prompt version and retriever depth.

    Out of Delta tables, or out of an MLflow store, which keeps no framework. Where the configuration has both, the
    tables are asked: figures of a million spans take seconds there, and minutes in an MLflow store.
    """
    if sql:
        from spanweir.exporters.delta.analytics import statements

        for name, statement in statements(top=top, dialect=sql).items():
            click.echo(f"-- {name}\n{statement};\n")
        return
    if html is not None and not html.resolve().parent.is_dir():
        fail(f"--html {html}: there is no directory {html.resolve().parent}", code=2)
    with read_or_exit():
        if store:
            found = open_store(store, prefix=prefix, experiments=experiment)
        else:
            found = _configured(load_or_exit(config, assignments), experiment)
        made = found.report(since.date() if since else None, until.date() if until else None, top)
    if html is not None:
        from spanweir.collector.stored.page import page

        html.write_text(page(made), encoding="utf-8")
        click.echo(f"report written to {html}")
        return
    _print(made)


def _configured(configuration: "Configuration", experiments: Sequence[str]) -> Store:
    """The Delta tables, which are asked in SQL, where there are some and no experiment is named."""
    try:
        return configured_store(configuration, "mlflow" if experiments else "delta", experiments)
    except LookupError:
        return configured_store(configuration, experiments=experiments)


def _print(report: "Report") -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from spanweir.collector.stored.page import span_of_days

    console = Console(highlight=False)
    total = report.total
    console.print(
        f"[bold]{span_of_days(report)}[/bold]: {total.traces:,} traces, {total.spans:,} spans, "
        f"{total.errors:,} traces failed, {total.input_tokens:,} + {total.output_tokens:,} tokens, ${total.cost:,.4f}, "
        f"p50 {total.p50_ms:,.0f} ms, p95 {total.p95_ms:,.0f} ms",
        soft_wrap=True,
    )
    for name, rows in report.groups.items():
        if not rows:
            continue
        table = Table(
            box=box.SIMPLE_HEAD, title_justify="left", title=f"by {name}", title_style="bold", collapse_padding=True,
            pad_edge=False,
        )  # fmt: skip
        table.add_column(name, overflow="fold", min_width=12)
        for column in ("spans", "errors", "tokens\nin", "tokens\nout", "cost $", "p50\nms", "p95\nms"):
            table.add_column(column, justify="right", no_wrap=True)
        for row in rows:
            first, *others = _cells(row)
            table.add_row(Text(first), *others)
        console.print(table)


def _cells(row: "Row") -> tuple[str, ...]:
    return (
        row.name, _short(row.spans), _short(row.errors), _short(row.input_tokens), _short(row.output_tokens),
        f"{row.cost:,.4f}" if row.cost < 100 else f"{row.cost:,.0f}", f"{row.p50_ms:,.0f}", f"{row.p95_ms:,.0f}",
    )  # fmt: skip


def _short(number: int) -> str:
    """At most seven characters, so that the names have room: `12,345`, `1.23 M`."""
    if number < 100_000:
        return f"{number:,}"
    for unit, size in (("k", 1_000), ("M", 1_000_000), ("G", 1_000_000_000)):
        if number < 999.5 * size or unit == "G":
            break
    return f"{number / size:.{max(0, 3 - len(str(number // size)))}f} {unit}"
