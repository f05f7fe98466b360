"""`spanweir traces`: look at stored traces, in an MLflow store or in Delta tables."""

import time
from collections.abc import Sequence
from typing import Any

import click
import orjson

from spanweir.collector.cli._common import fail
from spanweir.collector.cli._stores import search_or_exit, store_or_exit, stored
from spanweir.collector.stored import Trace

_KEPT_IDS = 10_000


@click.group()
def command() -> None:
    """Search, show and follow stored traces."""


@command.command()
@stored
@click.argument("filter_string", default="", metavar="[FILTER]")
@click.option("--order-by", multiple=True, metavar="KEY [DESC]", help="As in MLflow: execution_time DESC. Repeatable.")
@click.option("--limit", "-n", default=20, type=click.IntRange(1), show_default=True, help="Most traces to show.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document a line, with all spans.")
def search(filter_string: str, order_by: Sequence[str], limit: int, as_json: bool, **where: Any) -> None:
    """Find traces with MLflow's filter grammar.

    For example: spanweir traces search "status = 'ERROR' AND span.type = 'TOOL'"
    """
    found = search_or_exit(store_or_exit(**where), filter_string, order_by, limit)
    for trace in found:
        click.echo(orjson.dumps(trace) if as_json else line(trace))
    if not found and not as_json:
        click.echo("no trace matches", err=True)


@command.command()
@stored
@click.argument("trace_id")
@click.option("--json", "as_json", is_flag=True, help="The whole trace as one JSON document.")
@click.option("--width", default=100, show_default=True, help="Cut texts at so many characters.")
def show(trace_id: str, as_json: bool, width: int, **where: Any) -> None:
    """Show one trace as a tree: what was asked, found, called and answered."""
    trace = store_or_exit(**where).get(trace_id)
    if trace is None:
        fail(f"there is no trace {trace_id}")
    if as_json:
        click.echo(orjson.dumps(trace, option=orjson.OPT_INDENT_2))
        return
    from rich.console import Console

    from spanweir.exporters.tree import trace_tree

    Console().print(trace_tree(line(trace, padded=False), trace["data"]["spans"], width=width))


@command.command()
@stored
@click.argument("filter_string", default="", metavar="[FILTER]")
@click.option("--interval", "interval_s", default=1.0, show_default=True, help="Seconds between looks.")
@click.option("--lines", "-n", default=10, show_default=True, help="Traces to begin with, of those that are there.")
@click.option("--seconds", type=float, default=None, help="Stop after so long.")
def tail(filter_string: str, interval_s: float, lines: int, seconds: float | None, **where: Any) -> None:
    """Show the last traces, and others as they come in, until interrupted."""
    store = store_or_exit(**where)
    seen: dict[str, None] = {}
    first_look = True
    deadline = None if seconds is None else time.monotonic() + seconds
    while True:
        found = search_or_exit(store, filter_string, (), 100)
        for number, trace in reversed(list(enumerate(found))):
            trace_id = trace["info"]["trace_id"]
            if trace_id not in seen:
                seen[trace_id] = None
                if number < lines or not first_look:
                    click.echo(line(trace))
        first_look = False
        for trace_id in list(seen)[:-_KEPT_IDS]:
            del seen[trace_id]
        if deadline is not None and time.monotonic() >= deadline:
            return
        time.sleep(interval_s)


def line(trace: Trace, *, padded: bool = True) -> str:
    """A trace in one line; `padded` so that lines stand below each other."""
    info = trace["info"]
    metadata = info.get("trace_metadata", {})
    usage = orjson.loads(metadata.get("mlflow.trace.tokenUsage") or "{}")
    cost = orjson.loads(metadata.get("mlflow.trace.cost") or "{}").get("total_cost")
    parts = [
        info["trace_id"],
        str(info["request_time"])[:23],
        f"{info.get('state', '?'):<11}",
        f"{info.get('execution_duration_ms') or 0:>7,} ms",
        f"{len(trace['data']['spans']):>3} spans",
        f"{usage['total_tokens']:,} tokens" if usage.get("total_tokens") else "",
        f"${cost:.4f}" if cost else "",
        info.get("tags", {}).get("mlflow.traceName", ""),
        " ".join((info.get("request_preview") or "").split())[:60],
    ]
    return "  ".join(part if padded else part.strip() for part in parts if part)
