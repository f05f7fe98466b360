"""Large values become MLflow attachments: smaller rows, and MLflow serves the bytes back."""

import base64
import json
import random
import shutil
import struct
import urllib.request
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from mlflow.tracking import MlflowClient

from spanweir.exporters.api import Batch, Context, Exporter
from spanweir.exporters.mlflow import Config
from tests.support import mlflow_oracle as oracle
from tests.support import servers
from tests.support.mlflow_spans import make_batch, make_span, make_trace, words


def png(side: int, seed: int = 1) -> bytes:
    """A real picture of noise, which does not compress."""
    rng = random.Random(seed)
    rows = b"".join(b"\0" + rng.randbytes(side * 3) for _ in range(side))

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


PICTURE = png(200)
ENCODED = base64.b64encode(PICTURE).decode()
SHAPES: dict[str, tuple[Callable[[Any], Any], Any, str]] = {
    "openai image": (
        lambda v: v["messages"][0]["content"][1]["image_url"]["url"],
        {"messages": [{"role": "user", "content": [
            {"type": "text", "text": "What is it?"},
            {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{ENCODED}"}}]}]},
        "image/png",
    ),
    "anthropic image": (
        lambda v: v[0]["source"]["data"],
        [{"type": "image", "source": {"type": "base64", "media_type": "image/webp", "data": ENCODED}}],
        "image/webp",
    ),
    "openai audio": (
        lambda v: v["input_audio"]["data"],
        {"type": "input_audio", "input_audio": {"data": ENCODED, "format": "mp3"}},
        "audio/mpeg",
    ),
    "bedrock image": (
        lambda v: v["image"]["source"]["bytes"], {"image": {"format": "jpeg", "source": {"bytes": ENCODED}}},
        "image/jpeg",
    ),
    "gemini": (
        lambda v: v["inline_data"]["data"], {"inline_data": {"mime_type": "application/pdf", "data": ENCODED}},
        "application/pdf",
    ),
    "blob part": (
        lambda v: v[0]["parts"][0]["content"],
        [{"role": "user", "parts": [{"type": "blob", "mime_type": "image/png", "content": ENCODED}]}],
        "image/png",
    ),
    "bare base64": (lambda v: v, ENCODED, "image/png"),
    "said to be base64": (
        lambda v: v["data"], {"type": "base64", "data": base64.b64encode(b"\0" * 100_000).decode()},
        "application/octet-stream",
    ),
}  # fmt: skip


def exporter_of(uri: str, **settings: Any) -> Exporter:
    return Config(tracking_uri=uri, experiment="files", **settings).build(Context(name="mlflow", state_directory=""))


def trace_with(value: object, seed: int = 1) -> Batch:
    row, spans = make_trace(seed)
    spans[3] = make_span(row.trace_id, spans[3].span_id, row.root_span_id, name="chat", kind="CHAT_MODEL",
                         start_ns=spans[3].start_ns, values={"mlflow.spanInputs": value})  # fmt: skip
    return make_batch([(row, spans)])


def stored(uri: str, batch: Batch) -> tuple[Any, str]:
    """The model call's inputs, and the trace's artifact location."""
    trace = MlflowClient(uri).get_trace(f"tr-{batch.traces[0].trace_id}")
    return next(span.inputs for span in trace.data.spans if span.name == "chat"), trace.info.tags[
        "mlflow.artifactLocation"
    ]


@pytest.mark.parametrize("shape", SHAPES)
def test_pictures_leave_the_database_and_come_back(sqlite_path: Path, shape: str) -> None:
    find, value, content_type = SHAPES[shape]
    uri = f"sqlite:///{sqlite_path}"
    batch = trace_with(value)
    with exporter_of(uri) as exporter:
        for _ in range(2):
            exporter.export(batch)
    inputs, location = stored(uri, batch)
    reference = urlsplit(find(inputs))
    assert reference.scheme == "mlflow-attachment"
    said = {key: values[0] for key, values in parse_qs(reference.query).items()}
    data = bytes(100_000) if "said" in shape else PICTURE
    assert said == {
        "content_type": content_type, "trace_id": f"tr-{batch.traces[0].trace_id}", "size": str(len(data)),
    }  # fmt: skip
    assert reference.hostname
    assert get_artifact_repository(location).download_trace_attachment(reference.hostname) == data
    assert [path.name for path in (Path(location) / "attachments").iterdir()] == [reference.hostname]


def test_what_is_small_or_no_base64_stays(sqlite_path: Path) -> None:
    uri = f"sqlite:///{sqlite_path}"
    small = base64.b64encode(b"x" * 1000).decode()
    value = {"image": small, "text": words(random.Random(1), 300_000), "hex": "not_base64!" * 30_000}
    batch = trace_with(value)
    with exporter_of(uri) as exporter:
        exporter.export(batch)
    assert stored(uri, batch)[0] == value


@pytest.mark.parametrize(
    "value",
    [
        {"text": "A" * 100_000},
        {"sequence": "ACGT" * 40_000},
        {"content_type": "text/plain", "output": "deadbeef" * 20_000},
        {"role": "tool", "headers": {"content_type": "application/json"}, "content": base64.b64encode(b"x" * 90_000)},
        [{"type": "text", "text": "abcdEFGH0123" * 10_000}],
    ],
)
def test_text_that_only_looks_like_base64_stays(sqlite_path: Path, value: object) -> None:
    value = json.loads(json.dumps(value, default=bytes.decode))
    uri = f"sqlite:///{sqlite_path}"
    batch = trace_with(value)
    with exporter_of(uri) as exporter:
        exporter.export(batch)
    assert stored(uri, batch)[0] == value


def test_long_texts_keep_their_beginning(sqlite_path: Path) -> None:
    uri = f"sqlite:///{sqlite_path}"
    text = "ü" + words(random.Random(1), 300_000)
    batch = trace_with({"messages": [{"role": "user", "content": text}]})
    with exporter_of(uri, attachment_min_text_bytes=100_000) as exporter:
        exporter.export(batch)
    inputs, location = stored(uri, batch)
    content = inputs["messages"][0]["content"]
    assert content.startswith(text[:2000])
    assert len(content) < 2500
    name = content.partition("mlflow-attachment://")[2].partition("?")[0]
    assert get_artifact_repository(location).download_trace_attachment(name).decode() == text


def test_values_stay_where_files_cannot_be_written(sqlite_path: Path, tmp_path: Path) -> None:
    uri = f"sqlite:///{sqlite_path}"
    (tmp_path / "blocked").write_text("a file where a directory should be")
    oracle.store(uri).create_experiment("files", artifact_location=f"{tmp_path}/blocked")
    _, value, _ = SHAPES["openai image"]
    batch = trace_with(value)
    with exporter_of(uri) as exporter:
        exporter.export(batch)
    assert stored(uri, batch)[0] == value


def test_other_stores_are_reached_through_mlflow(sqlite_path: Path, tmp_path: Path) -> None:
    """An artifact location with a scheme is MLflow's to resolve; here it is a server's."""
    uri = f"sqlite:///{sqlite_path}"
    find, value, _ = SHAPES["openai image"]
    (tmp_path / "server").mkdir()
    with servers.mlflow(uri, f"{tmp_path}/kept", tmp_path / "server") as url:
        batches = [trace_with(value), trace_with(value, seed=2)]
        with exporter_of(uri, artifact_root="mlflow-artifacts:", artifact_server=url) as direct:
            direct.export(batches[0])
        with exporter_of(url) as over_http:
            over_http.export(batches[1])
        for batch in batches:
            inputs, location = stored(uri, batch)
            assert location.startswith("mlflow-artifacts:/")
            name = urlsplit(find(inputs)).hostname
            asked = f"{url}/ajax-api/3.0/mlflow/get-trace-artifact?request_id=tr-{batch.traces[0].trace_id}&path={name}"
            with urllib.request.urlopen(asked) as answer:
                assert answer.read() == PICTURE


def test_mlflow_deletes_what_was_written_here(sqlite_path: Path) -> None:
    uri = f"sqlite:///{sqlite_path}"
    batch = trace_with("small")
    with exporter_of(uri) as exporter:
        exporter.export(batch)
    store = oracle.store(uri)
    experiment = store.get_experiment_by_name("files")
    assert experiment
    assert store.delete_traces(experiment.experiment_id, trace_ids=[f"tr-{batch.traces[0].trace_id}"]) == 1
    with store.engine.connect() as connection:
        for table in ("trace_info", "trace_tags", "trace_request_metadata", "spans"):
            assert connection.exec_driver_sql(f"SELECT COUNT(*) FROM {table}").scalar() == 0, table


def test_mlflow_archives_what_was_written_here(sqlite_path: Path, tmp_path: Path) -> None:
    uri = f"sqlite:///{shutil.copy(sqlite_path, tmp_path / 'archive.db')}"
    batch = make_batch([make_trace(1, start_ns=1_600_000_000_000_000_000)])
    with exporter_of(uri) as exporter:
        exporter.export(batch)
    store = oracle.store(uri)
    archived = store.archive_traces(
        resolved_trace_archival_location=f"file://{tmp_path}/archive", broader_retention="1m"
    )
    assert archived == 1
    trace = store.get_trace(f"tr-{batch.traces[0].trace_id}")
    assert trace.info.tags["mlflow.trace.spansLocation"] == "ARCHIVE_REPO"
    assert trace.data.spans[0].inputs == json.loads(batch.spans[0].attributes["mlflow.spanInputs"])
