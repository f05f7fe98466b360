"""`spanweir dataset`: evaluation datasets out of stored traces."""

from pathlib import Path
from typing import Any

import click

from spanweir.collector.cli._common import fail
from spanweir.collector.cli._stores import search_or_exit, store_or_exit, stored


@click.group()
def command() -> None:
    """Make evaluation datasets from stored traces."""


@command.command()
@stored
@click.option("--where", "filter_string", default="", metavar="FILTER", help="MLflow's filter grammar. Default: all.")
@click.option("--out", required=True, metavar="FILE|mlflow:NAME", help="File (.jsonl, .parquet) or MLflow dataset.")
@click.option("--tracking-uri", default="", help="Where the MLflow dataset goes. Default: --store, if that is MLflow.")
@click.option(
    "--limit", default=10_000, type=click.IntRange(1), show_default=True, help="Most traces to read, newest first."
)
@click.option("--sample", type=int, default=None, help="Keep so many, chosen by their inputs and the seed alone.")
@click.option("--seed", default=0, show_default=True, help="For --sample.")
@click.option("--keep-duplicates", is_flag=True, help="Keep all of the same inputs, not only the newest.")
@click.option("--outputs-are-expected", is_flag=True, help="Take the answers given as `expected_response`.")
def create(
    filter_string: str, out: str, tracking_uri: str, limit: int, sample: int | None, seed: int,
    keep_duplicates: bool, outputs_are_expected: bool, **where: Any,
) -> None:  # fmt: skip
    """Write inputs, outputs, retrieved context and expectations of matching traces.

    For example: spanweir dataset create --from ./tables --where "feedback.thumbs = 'up'" --out golden.jsonl
    """
    from spanweir.collector.stored import dataset

    suffix = Path(out).suffix
    to_mlflow = out.startswith("mlflow:")
    if not to_mlflow and suffix not in (".jsonl", ".parquet"):
        fail(f"--out {out}: write mlflow:NAME, or a file that ends with .jsonl or .parquet", code=2)
    if not to_mlflow and not Path(out).resolve().parent.is_dir():
        fail(f"--out {out}: there is no directory {Path(out).resolve().parent}", code=2)
    store = store_or_exit(**where)
    uri = tracking_uri or getattr(store, "tracking_uri", "")
    if to_mlflow and not uri:
        fail("name the MLflow server or database that the dataset goes to with --tracking-uri", code=2)
    traces = search_or_exit(store, filter_string, (), limit)
    made = dataset.examples(traces, outputs_are_expected=outputs_are_expected)
    without_inputs = len(traces) - len(made)
    kept = made if keep_duplicates else dataset.distinct(made)
    duplicates = len(made) - len(kept)
    if sample is not None:
        kept = dataset.sampled(kept, sample, seed)
    if to_mlflow:
        dataset.to_mlflow(kept, out.removeprefix("mlflow:"), uri)
    else:
        (dataset.write_jsonl if suffix == ".jsonl" else dataset.write_parquet)(kept, Path(out))
    click.echo(
        f"{len(kept)} examples written to {out}: {len(traces)} traces, {without_inputs} without inputs, "
        f"{duplicates} with the inputs of another"
    )
