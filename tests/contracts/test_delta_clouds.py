"""Delta tables in Azure Blob Storage and Google Cloud Storage, each as a process of its own on this machine."""

import base64
import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from spanweir.exporters.api import Batch, Context, Permanent
from spanweir.exporters.delta import Config, search_traces
from spanweir.exporters.delta.care import maintain
from spanweir.exporters.delta.reading import Tables, rows
from spanweir.schemas.options import Duration, Size
from tests.support.object_stores import ACCOUNT, KEY, azurite, gcs, gcs_key
from tests.support.traces import records, sliced

pytestmark = [pytest.mark.external, pytest.mark.slow, pytest.mark.timeout(900)]
Place = tuple[str, dict[str, str]]
_CLIENT = {"allow_http": "true", "max_retries": "0", "timeout": "20s"}


@pytest.fixture(scope="module")
def azure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with azurite(tmp_path_factory.mktemp("azurite")) as endpoint:
        options = {"azure_storage_account_name": ACCOUNT, "azure_storage_account_key": KEY}
        yield "az://tables", {**options, "azure_storage_endpoint": endpoint, **_CLIENT}


@pytest.fixture(scope="module")
def gcs_program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("gcs")


@pytest.fixture(scope="module")
def google(gcs_program: Path) -> Iterator[Place]:
    with gcs(gcs_program) as address:
        yield "gs://tables", {"google_service_account_key": gcs_key(address), **_CLIENT}


@pytest.fixture(params=["azure", "google"])
def place(request: pytest.FixtureRequest) -> Place:
    found: Place = request.getfixturevalue(request.param)
    return found


def config(place: Place, name: str, **more: Any) -> Config:
    uri, options = place
    return Config(
        path=f"{uri}/{name}", storage_options=options, commit_interval=Duration(0), maintenance_interval=Duration(0),
        **more,
    )  # fmt: skip


def built(made: Config, directory: Path, instance: str = "0") -> Any:
    return made.build(Context(name="delta", state_directory=str(directory / f"state-{instance}"), instance=instance))


def stored(made: Config) -> list[tuple[str, str]]:
    found = rows(Tables(made).query("SELECT trace_id, span_id FROM otel_spans", "otel_spans"))
    return sorted((row["trace_id"], row["span_id"]) for row in found)


def sent(batches: list[Batch]) -> list[tuple[str, str]]:
    return sorted({(s.trace_id, s.span_id) for b in batches for s in b.spans})


def test_written_replayed_searched_and_looked_after(place: Place, tmp_path: Path) -> None:
    made, batches = config(place, "whole", max_payload_bytes=Size(600), compact_files=2), records(51, 6)
    with built(made, tmp_path) as exporter:
        for batch in sliced(batches, random.Random(1), at_most=2):
            exporter.export(batch)
        assert exporter.durable == 6
    with built(made, tmp_path) as exporter:
        exporter.export(batches[-1])
    assert stored(made) == sent(batches)
    found = search_traces(made, filter_string="tag.team = 'tests'")
    assert sum(len(t.data.spans) for t in found) == len(sent(batches))
    assert maintain(made)["spans"]["compacted"] > 2
    assert stored(made) == sent(batches)


def test_writers_at_once(place: Place, tmp_path: Path) -> None:
    made = config(place, "crowd")
    of_writer = {str(n): records(60 + n, 6) for n in range(3)}

    def write(instance: str) -> None:
        with built(made, tmp_path, instance) as exporter:
            for batch in of_writer[instance]:
                exporter.export(batch)

    with ThreadPoolExecutor() as pool:
        list(pool.map(write, of_writer))
    assert stored(made) == sent([b for batches in of_writer.values() for b in batches])


def told(made: Config, tmp_path: Path, message: str) -> None:
    with pytest.raises(Permanent, match=message):
        built(made, tmp_path).__enter__()


def test_a_wrong_key_is_told_at_the_start(azure: Place, gcs_program: Path, tmp_path: Path) -> None:
    uri, options = azure
    for key in (base64.b64encode(b"x" * 64).decode(), "no base64!"):
        wrong = config((uri, {**options, "azure_storage_account_key": key}), "none")
        told(wrong, tmp_path, r"^az://tables/none/spanweir_\w+: the store refuses access: [^\x1b]*storage_options")
    with gcs(gcs_program, token="secret") as address:
        for text in (gcs_key(address), "{no json", '{"client_email": "me", "private_key": "x", "private_key_id": "y"}'):
            wrong = config(("gs://tables", {"google_service_account_key": text, **_CLIENT}), "none")
            told(wrong, tmp_path, r"^gs://tables/none/spanweir_\w+: the store refuses access: [^\x1b]*storage_options")


def test_a_bucket_that_is_not_there_is_told(place: Place, tmp_path: Path) -> None:
    elsewhere = config((place[0].replace("tables", "nowhere"), place[1]), "none")
    told(elsewhere, tmp_path, r"nowhere/none/spanweir_\w+: there is no such bucket or container: ")


def test_a_store_of_which_nothing_can_be_read_is_told_in_the_terminal(azure: Place) -> None:
    options = {**azure[1], "azure_storage_account_key": base64.b64encode(b"x" * 64).decode()}
    with pytest.raises(LookupError, match="the store refuses access"):
        search_traces(config((azure[0], options), "whole"))
