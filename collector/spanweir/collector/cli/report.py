"""`spanweir report`: tokens, cost and latency out of the Delta tables, in the terminal or as one HTML page."""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from spanweir.collector.cli._common import configured, fail, load_or_exit
from spanweir.collector.stored import configured_store, open_store

if TYPE_CHECKING:
    from spanweir.exporters.delta.analytics import Report, Row

_DAY = click.DateTime(formats=["%Y-%m-%d"])


@click.command()
@click.option("--store", "--from", "store", default="", metavar="PATH", help="Delta tables. Default: as configured.")
@click.option("--prefix", default="spanweir", show_default=True, help="Prefix of the Delta tables.")
@configured
@click.option("--since", type=_DAY, default=None, help="First day.")
@click.option("--until", type=_DAY, default=None, help="Last day.")
@click.option("--top", default=20, show_default=True, help="Most rows of a table.")
@click.option("--html", type=click.Path(dir_okay=False, path_type=Path), default=None, help="Write a page with charts.")
@click.option("--sql", is_flag=True, help="Print the queries instead, to run them elsewhere.")
def command(
    store: str, prefix: str, config: Sequence[str], assignments: Sequence[str], since: datetime | None,
    until: datetime | None, top: int, html: Path | None, sql: bool,
) -> None:  # fmt: skip
    """Tokens, cost and latency by model, framework, service, prompt version and retriever depth."""
    from spanweir.exporters.delta.analytics import report, statements

    if sql:
        for name, statement in statements(top=top).items():
            click.echo(f"-- {name}\n{statement};\n")
        return
    try:
        found: Any = open_store(store, prefix=prefix) if store else _configured(config, assignments)
        if not hasattr(found, "tables"):
            fail(f"{store} is an MLflow store; reports are made from Delta tables", code=2)
        made = report(
            found.tables, since=since.date() if since else None, until=until.date() if until else None, top=top
        )
    except (LookupError, ValueError) as error:
        fail(str(error), code=2)
    if html is not None:
        from spanweir.collector.stored.page import page

        html.write_text(page(made), encoding="utf-8")
        click.echo(f"report written to {html}")
        return
    _print(made)


def _configured(config: Sequence[str], assignments: Sequence[str]) -> Any:
    return configured_store(load_or_exit(config, assignments), "delta")


def _print(report: "Report") -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    total = report.total
    console.print(
        f"[bold]{report.first} to {report.last}[/bold]: {total.traces:,} traces, {total.spans:,} spans, "
        f"{total.errors:,} traces failed, {total.input_tokens:,} + {total.output_tokens:,} tokens, ${total.cost:,.4f}, "
        f"p50 {total.p50_ms:,.0f} ms, p95 {total.p95_ms:,.0f} ms"
    )
    for name, rows in report.groups.items():
        if not rows:
            continue
        table = Table(title_justify="left", title=f"by {name}", title_style="bold")
        table.add_column(name)
        for column in ("spans", "errors", "tokens in", "tokens out", "cost $", "p50 ms", "p95 ms"):
            table.add_column(column, justify="right")
        for row in rows:
            table.add_row(*_cells(row))
        console.print(table)


def _cells(row: "Row") -> tuple[str, ...]:
    return (
        row.name, f"{row.spans:,}", f"{row.errors:,}", f"{row.input_tokens:,}", f"{row.output_tokens:,}",
        f"{row.cost:,.4f}", f"{row.p50_ms:,.0f}", f"{row.p95_ms:,.0f}",
    )  # fmt: skip
