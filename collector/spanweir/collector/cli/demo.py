"""`spanweir demo`: see it work, without a flag."""

import json
import shlex
from pathlib import Path
from typing import Any

import click

from spanweir.collector.cli._common import fail


@click.command()
@click.option(
    "--directory",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("spanweir-data/demo"),
    show_default=True,
    help="Where the queue and both stores are kept.",
)
def command(directory: Path) -> None:
    """Send a sample application's traces through a collector, and show what both stores hold."""
    from spanweir.collector.demo.showcase import DemoError, run

    try:
        result = run(directory, click.echo)
    except (DemoError, OSError) as error:
        fail(f"The demo failed: {error}")
    except ModuleNotFoundError as error:
        fail(f"The demo needs `pip install 'spanweir[all]'`: {error.name} is not installed")
    click.echo()
    _show(result.shown)
    click.echo()
    stored = len(result.trace_ids)
    request = json.dumps(json.loads(result.payload["request"] or "null"), ensure_ascii=False)
    click.echo(f"{stored} traces stand in both stores. This one's row in the inference table: request {_cut(request)}")
    click.echo(f"  MLflow store     {result.tracking_uri}")
    click.echo(f"  inference table  {result.table}")
    click.echo("Open the MLflow UI on http://127.0.0.1:5000 with")
    click.echo(f"  mlflow ui --backend-store-uri {shlex.quote(result.tracking_uri)}")


def _show(trace: dict[str, Any]) -> None:
    from rich.console import Console

    from spanweir.exporters.tree import dollars, tokens, trace_tree

    info = trace["info"]
    metadata = info.get("trace_metadata") or {}
    parts = [
        str((info.get("tags") or {}).get("mlflow.traceName") or "trace"),
        str(info["trace_id"]),
        str(info["state"]),
    ]
    if usage := metadata.get("mlflow.trace.tokenUsage"):
        parts.append(tokens(json.loads(usage)))
    if cost := metadata.get("mlflow.trace.cost"):
        parts.append(dollars(json.loads(cost)["total_cost"]))
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 140
    console.print(trace_tree("  ".join(parts), trace["data"]["spans"], width=max(40, console.width - 40)))


def _cut(text: str) -> str:
    return text if len(text) <= 100 else text[:99] + "…"
