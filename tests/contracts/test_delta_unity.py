"""Tables that Unity Catalog names: a server with its two calls, and the tables in a real S3-speaking store."""

import json
import random
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from spanweir.exporters.api import Context, Permanent, Retry
from spanweir.exporters.delta import Config, search_traces
from spanweir.exporters.delta.care import maintain
from spanweir.exporters.delta.reading import Tables, rows
from spanweir.schemas.options import Duration, Size
from tests.support.s3_server import running
from tests.support.traces import records, sliced

NAMES = [f"spanweir_{name}" for name in ("payload", "otel_spans", "otel_logs", "otel_metrics", "otel_annotations")]


class Catalog(BaseHTTPRequestHandler):
    """`main.agents`, with the tables that the exporter writes; credentials end `lasting_s` after they were given."""

    lasting_s = 3600.0
    asked: list[str]

    def _answer(self, status: int, body: Any) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _refused(self) -> bool:
        self.asked.append(self.path)
        if self.headers.get("authorization") != "Bearer secret":
            self._answer(401, {"error_code": "UNAUTHENTICATED", "message": "invalid access token"})
            return True
        return False

    def do_GET(self) -> None:
        name = self.path.removeprefix("/api/2.1/unity-catalog/tables/")
        table = name.removeprefix("main.agents.")
        if self._refused():
            return
        if table == name or table not in NAMES:
            self._answer(404, {"error_code": "TABLE_DOES_NOT_EXIST", "message": f"Table '{name}' does not exist."})
            return
        where = f"s3://tables/unity/{table}"
        self._answer(200, {"table_id": table, "storage_location": where, "data_source_format": "DELTA"})

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if self._refused():
            return
        assert self.path == "/api/2.1/unity-catalog/temporary-table-credentials"
        assert asked["operation"] == "READ_WRITE"
        keys = {"access_key_id": asked["table_id"], "secret_access_key": "test", "session_token": "session"}
        ends_ms = int((time.time() + self.lasting_s) * 1000)
        self._answer(200, {"aws_temp_credentials": keys, "expiration_time": ends_ms})

    def log_message(self, format: str, *args: Any) -> None: ...


@pytest.fixture(scope="module")
def store() -> Iterator[str]:
    with running() as address:
        yield address


@pytest.fixture
def catalog() -> Iterator[tuple[str, type[Catalog]]]:
    kind = type("Opened", (Catalog,), {"asked": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), kind)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}", kind
    server.shutdown()


def config(store: str, url: str, path: str = "uc://main.agents", **more: Any) -> Config:
    options = {
        "unity_workspace_url": url, "unity_access_token": "secret", "aws_endpoint": store, "aws_region": "us-east-1",
        "aws_allow_http": "true", "max_retries": "0",
    }  # fmt: skip
    given = {**options, **more.pop("storage_options", {})}
    return Config(
        path=path, storage_options=given, commit_interval=Duration(0), maintenance_interval=Duration(0), **more
    )


def built(made: Config, directory: Path) -> Any:
    return made.build(Context(name="delta", state_directory=str(directory / "state")))


def test_written_searched_and_looked_after(store: str, catalog: tuple[str, type[Catalog]], tmp_path: Path) -> None:
    url, kind = catalog
    kind.lasting_s = 60.0  # less than what is left for a commit: asked for again each time
    made = config(store, url, max_payload_bytes=Size(600), compact_files=2)
    batches = records(71, 3)
    with built(made, tmp_path) as exporter:
        for batch in sliced(batches, random.Random(1), at_most=2):
            exporter.export(batch)
        exporter.export(batches[-1])
        assert exporter.durable == 3
    sent = sorted({(s.trace_id, s.span_id) for b in batches for s in b.spans})
    assert maintain(made)["spans"]["compacted"] > 1
    found = rows(Tables(made).query("SELECT trace_id, span_id FROM otel_spans", "otel_spans"))
    assert sorted((row["trace_id"], row["span_id"]) for row in found) == sent
    traces = search_traces(made, filter_string="tag.team = 'tests'")
    assert sum(len(t.data.spans) for t in traces) == len(sent)
    assert len(kind.asked) > 20
    kind.lasting_s = 3600.0
    before = len(kind.asked)
    with built(made, tmp_path) as exporter:
        for batch in batches:
            exporter.export(batch)
    assert len(kind.asked) - before == 10


def test_what_the_catalog_refuses_is_told(store: str, catalog: tuple[str, type[Catalog]], tmp_path: Path) -> None:
    url, _ = catalog
    wrong = config(store, url, storage_options={"unity_access_token": "other"})
    with pytest.raises(Permanent, match=r"uc://main.agents.spanweir_\w+: Unity Catalog refuses access \(401 .*granted"):
        built(wrong, tmp_path).__enter__()
    with pytest.raises(LookupError, match=r"Unity Catalog refuses access"):
        search_traces(wrong)
    with pytest.raises(Permanent, match=r"there is no such table in Unity Catalog .*create it there first"):
        built(config(store, url, prefix="other"), tmp_path).__enter__()
    with pytest.raises(Permanent, match=r"unity_workspace_url in storage_options"):
        built(Config(path="uc://main.agents"), tmp_path).__enter__()


def test_a_catalog_that_is_down_is_a_retry(store: str, tmp_path: Path) -> None:
    with pytest.raises(Retry, match="Unity Catalog cannot be reached"):
        built(config(store, "http://127.0.0.1:9"), tmp_path).__enter__()
