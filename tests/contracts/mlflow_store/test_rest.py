"""Through a real tracking server: the same traces as through the database, and only what is at fault is refused."""

import base64
import json
import shutil
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import msgspec
import pytest
from google.protobuf import json_format
from mlflow.entities import Span, TraceInfo
from mlflow.protos import databricks_tracing_pb2
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from spanweir.exporters.api import Context, Exporter, Permanent, Retry
from spanweir.exporters.mlflow import Config
from tests.contracts.mlflow_store.test_oracle import make_traces, trace_of
from tests.support import mlflow_oracle as oracle
from tests.support import servers
from tests.support.certificates import Authority
from tests.support.mlflow_spans import make_batch, make_feedback, make_span, make_trace


class Server(msgspec.Struct, frozen=True):
    url: str
    store: SqlAlchemyStore
    """Its database, read without it."""
    artifact_root: str

    def exporter(self, **settings: object) -> Exporter:
        return exporter_of(self.url, **settings)


def exporter_of(url: str, **settings: object) -> Exporter:
    settings = {"tracking_uri": url, "experiment": "rest", **settings}
    return msgspec.convert(settings, Config, dec_hook=lambda kind, value: kind(value)).build(
        Context(name="mlflow", state_directory="")
    )


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, empty_database: Path, artifact_root: str) -> Iterator[Server]:
    directory = tmp_path_factory.mktemp("server")
    uri = f"sqlite:///{shutil.copy(empty_database, directory / 'mlflow.db')}"
    with servers.mlflow(uri, artifact_root, directory) as url:
        yield Server(url, oracle.store(uri, artifact_root), artifact_root)


def refused(exporter: Exporter, *traces: Any) -> dict[str, str]:
    with exporter, pytest.raises(Permanent) as caught:
        exporter.export(make_batch(traces))
    return dict(caught.value.rejected)


def test_traces_are_what_mlflows_own_store_makes_of_them(
    server: Server, tmp_path: Path, empty_database: Path, artifact_root: str
) -> None:
    theirs = oracle.store(f"sqlite:///{shutil.copy(empty_database, tmp_path / 'a.db')}", "mlflow-artifacts:/")
    experiment = theirs.create_experiment("oracle")
    runs = tuple(store.create_run("0", "me", 0, [], "run").info.run_id for store in (server.store, theirs))
    traces = make_traces("oracle", (runs[0], runs[1]))
    for row, spans in traces:
        run_id, row.run_id = row.run_id, runs[1] if row.run_id else None
        oracle.write(theirs, experiment, row, spans)
        row.run_id = run_id
    with server.exporter() as exporter:
        for _ in range(2):
            exporter.export(make_batch(traces))
    found = server.store.get_experiment_by_name("oracle")
    assert found
    for row, _ in traces:
        ours = trace_of(server.store, found.experiment_id, f"tr-{row.trace_id}")
        assert ours == trace_of(theirs, experiment, f"tr-{row.trace_id}")
    linked, _ = server.store.search_traces(locations=[found.experiment_id], filter_string=f"run_id = '{runs[0]}'")
    assert [info.trace_id for info in linked] == [f"tr-{traces[6][0].trace_id}"]
    typed, _ = server.store.search_traces(locations=[found.experiment_id], filter_string="span.type = 'RETRIEVER'")
    assert len(typed) == len(traces)


def test_one_refused_span_costs_only_itself(server: Server) -> None:
    traces = [make_trace(700 + number) for number in range(8)]
    row, spans = traces[5]
    row.assessments = [make_feedback(row.trace_id)]
    row.run_id = server.store.create_run("0", "me", 0, [], "run").info.run_id
    spans[2] = make_span(row.trace_id, spans[2].span_id, spans[0].span_id, values={"session.id": "s" * 300})
    with server.exporter() as exporter, pytest.raises(Permanent) as caught:
        exporter.export(make_batch(traces))
    assert list(caught.value.rejected_spans) == [(row.trace_id, spans[2].span_id)]
    assert "250" in caught.value.rejected_spans[row.trace_id, spans[2].span_id]
    assert not caught.value.rejected
    assert not caught.value.rejected_rows
    for good, _ in traces[:5] + traces[6:]:
        assert len(server.store.get_trace(f"tr-{good.trace_id}").data.spans) == 5
    trace = server.store.get_trace(f"tr-{row.trace_id}")
    assert len(trace.data.spans) == 4
    # The trace is finished all the same, and does not wait for the span that is missing.
    assert (trace.info.state, trace.info.request_preview) == ("OK", row.request_preview)
    assert trace.info.trace_metadata["mlflow.trace.session"] == row.session_id
    assert "num_spans" not in trace.info.trace_metadata["mlflow.trace.sizeStats"]
    assert [one.value for one in trace.info.assessments] == [0.75]
    linked, _ = server.store.search_traces(
        locations=[trace.info.experiment_id], filter_string=f"run_id = '{row.run_id}'"
    )
    assert [info.trace_id for info in linked] == [f"tr-{row.trace_id}"]


def test_a_trace_of_which_nothing_is_taken_is_refused_whole(server: Server) -> None:
    row, spans = make_trace(710)
    too_long = {"session.id": "s" * 300}
    spans = [make_span(row.trace_id, span.span_id, None, values=too_long) for span in spans[:2]]
    assert list(refused(server.exporter(), (row, spans), make_trace(711))) == [row.trace_id]
    assert server.store.batch_get_traces([f"tr-{row.trace_id}"]) == []


def test_a_row_that_is_refused_leaves_its_spans(recorder: tuple[str, type["Recorder"]]) -> None:
    host, handler = recorder
    handler.answers += [EXPERIMENT, (200, {}, b"{}"), (400, {}, b"no such state")]
    row, spans = make_trace(712)
    with exporter_of(f"http://{host}") as exporter, pytest.raises(Permanent) as caught:
        exporter.export(make_batch([(row, spans)]))
    assert list(caught.value.rejected_rows) == [row.trace_id]
    assert not caught.value.rejected
    assert not caught.value.rejected_spans


def test_an_archived_trace_costs_only_itself(server: Server) -> None:
    archived, neighbour = make_trace(720), make_trace(721)
    with server.exporter() as exporter:
        exporter.export(make_batch([archived]))
    with server.store.engine.begin() as connection:
        connection.exec_driver_sql(
            "UPDATE trace_tags SET value = 'ARCHIVE_REPO' WHERE key = 'mlflow.trace.spansLocation'"
            f" AND request_id = 'tr-{archived[0].trace_id}'"
        )
    assert "archived" in refused(server.exporter(), archived, neighbour)[archived[0].trace_id]
    assert len(server.store.get_trace(f"tr-{neighbour[0].trace_id}").data.spans) == 5


@pytest.mark.parametrize(("experiment", "reason"), [("4711", "RESOURCE_DOES_NOT_EXIST"), ("gone", "is deleted")])
def test_an_experiment_that_is_not_there(server: Server, experiment: str, reason: str) -> None:
    if experiment == "gone":
        server.store.delete_experiment(server.store.create_experiment("gone"))
    trace, neighbour = make_trace(730, experiment=experiment), make_trace(731)
    assert reason in refused(server.exporter(), trace, neighbour)[trace[0].trace_id]
    assert len(server.store.get_trace(f"tr-{neighbour[0].trace_id}").data.spans) == 5


def test_attributes_arrive_as_they_were(server: Server) -> None:
    values: dict[str, object] = {
        "text": "plain", "json in text": '{"a": 1}', "quoted": '"yes"', "number in text": "7", "true in text": "true",
        "list": [1, 2.5, None, {"b": [True]}], "object": {}, "int": 1 << 62, "float": 0.1, "no": False, "null": None,
        "unicode": "größe 漢字 \u2028", "empty": "", "brackets": "[not json", "mlflow.spanInputs": "just text",
    }  # fmt: skip
    row, spans = make_trace(760)
    spans[1] = make_span(row.trace_id, spans[1].span_id, spans[0].span_id, values=values)
    with server.exporter() as exporter:
        exporter.export(make_batch([(row, spans)]))
    found = next(s for s in server.store.get_trace(f"tr-{row.trace_id}").data.spans if s.span_id == spans[1].span_id)
    assert {key: found.attributes[key] for key in values} == values


def test_a_running_trace_becomes_a_finished_one(server: Server) -> None:
    row, spans = make_trace(740)
    early, _ = make_trace(740)
    early.complete, early.state = False, "IN_PROGRESS"
    with server.exporter() as exporter:
        exporter.export(make_batch([(early, spans[1:])]))
        assert server.store.get_trace(f"tr-{row.trace_id}").info.state == "IN_PROGRESS"
        exporter.export(make_batch([(row, spans[:1])]))
    trace = server.store.get_trace(f"tr-{row.trace_id}")
    assert (trace.info.state, len(trace.data.spans)) == ("OK", 5)
    assert trace.info.tags["mlflow.traceName"] == "librarian"


def test_a_trace_is_taken_back_whole(server: Server) -> None:
    row, spans = make_trace(750)
    batch = make_batch([])
    batch.retracted = [(row.trace_id, span.span_id) for span in spans]
    with server.exporter() as exporter:
        exporter.export(make_batch([(row, spans)]))
        for _ in range(2):
            exporter.export(batch)
    assert server.store.batch_get_traces([f"tr-{row.trace_id}"]) == []


@pytest.mark.slow
def test_basic_authentication(tmp_path: Path, empty_database: Path, artifact_root: str) -> None:
    pytest.importorskip("flask_wtf", reason="mlflow[auth] is not installed")
    (tmp_path / "auth.ini").write_text(
        f"[mlflow]\ndefault_permission = READ\ndatabase_uri = sqlite:///{tmp_path}/auth.db\n"
        "admin_username = admin\nadmin_password = password-of-12\n"
        "authorization_function = mlflow.server.auth:authenticate_request_basic_auth\n"
    )
    uri = f"sqlite:///{shutil.copy(empty_database, tmp_path / 'mlflow.db')}"
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("MLFLOW_AUTH_CONFIG_PATH", str(tmp_path / "auth.ini"))
        patched.setenv("MLFLOW_FLASK_SERVER_SECRET_KEY", "for a test")
        with servers.mlflow(uri, artifact_root, tmp_path, "--app-name", "basic-auth") as url:
            with exporter_of(url) as exporter, pytest.raises(Retry, match="401"):
                exporter.export(make_batch([make_trace(1)]))
            with exporter_of(url, username="admin", password="password-of-12") as exporter:
                exporter.export(make_batch([make_trace(1)]))
    assert len(oracle.store(uri).get_trace(f"tr-{make_trace(1)[0].trace_id}").data.spans) == 5


def test_a_server_with_a_certificate_of_ones_own_authority(
    tmp_path: Path, empty_database: Path, artifact_root: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority, stranger = Authority(tmp_path), Authority(tmp_path, "stranger")
    certificate, key = authority.issue("server")
    tls = f"--ssl-certfile {certificate} --ssl-keyfile {key}"
    uri = f"sqlite:///{shutil.copy(empty_database, tmp_path / 'mlflow.db')}"
    with servers.mlflow(uri, artifact_root, tmp_path, "--uvicorn-opts", tls) as url:
        url = url.replace("http:", "https:")
        for untrusted in ("", str(stranger.file)):
            with exporter_of(url, ca_file=untrusted) as exporter, pytest.raises(Retry, match=r"certificate.*ca_file"):
                exporter.export(make_batch([make_trace(1)]))
        with exporter_of(url, ca_file=str(authority.file)) as exporter:
            exporter.export(make_batch([make_trace(1)]))
        monkeypatch.setenv("MLFLOW_TRACKING_SERVER_CERT_PATH", str(authority.file))
        with exporter_of(url) as exporter:
            exporter.export(make_batch([make_trace(2)]))
        with exporter_of(url.replace("https:", "http:")) as exporter, pytest.raises(Retry):
            exporter.export(make_batch([make_trace(3)]))
    store = oracle.store(uri)
    for seed in (1, 2):
        assert len(store.get_trace(f"tr-{make_trace(seed)[0].trace_id}").data.spans) == 5


def test_an_authority_that_cannot_be_read_is_told_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "note.pem").write_text("no certificate")
    for name, reason in (("absent.pem", "cannot be read: No such file"), ("note.pem", "no certificate in PEM form")):
        with pytest.raises(ValueError, match=rf"ca_file '.*{name}'.*{reason}"):
            exporter_of("https://127.0.0.1:1", ca_file=str(tmp_path / name))


class Recorder(BaseHTTPRequestHandler):
    """Answers what MLflow cannot be made to answer, and keeps what it was asked."""

    answers: list[tuple[int, dict[str, str], bytes]]
    seen: list[tuple[str, dict[str, str], bytes]]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        self.seen.append((self.path, {key.lower(): value for key, value in self.headers.items()}, body))
        status, headers, answer = self.answers.pop(0) if self.answers else (200, {}, b"{}")
        self.send_response(status)
        for key, value in {**headers, "content-length": str(len(answer))}.items():
            self.send_header(key, value)
        self.end_headers()
        self.wfile.write(answer)

    do_GET = do_POST  # noqa: N815

    def log_message(self, format: str, *arguments: object) -> None:
        pass


@pytest.fixture
def recorder() -> Iterator[tuple[str, type[Recorder]]]:
    handler = type("Handler", (Recorder,), {"answers": [], "seen": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"127.0.0.1:{server.server_address[1]}", handler
    server.shutdown()
    thread.join()
    server.server_close()


EXPERIMENT = (200, {}, json.dumps({"experiment": {"experiment_id": "7"}}).encode())


@pytest.mark.parametrize(
    ("address", "settings", "header", "value"),
    [
        ("http://{}", {"token": "t-1"}, "authorization", "Bearer t-1"),
        ("http://me:secret@{}", {}, "authorization", "Basic " + base64.b64encode(b"me:secret").decode()),
        (
            "http://{}",
            {"username": "me", "password": "x"},
            "authorization",
            "Basic " + base64.b64encode(b"me:x").decode(),
        ),
        ("http://{}", {"headers": {"X-Gateway": "key"}}, "x-gateway", "key"),
        ("http://{}", {"workspace": "team"}, "x-mlflow-workspace", "team"),
    ],
)
def test_who_sends_is_said_with_every_request(
    recorder: tuple[str, type[Recorder]], address: str, settings: dict[str, Any], header: str, value: str
) -> None:
    host, handler = recorder
    handler.answers.append(EXPERIMENT)
    with exporter_of(address.format(host), **settings) as exporter:
        exporter.export(make_batch([make_trace(1)]))
    assert [path.partition("?")[0] for path, _, _ in handler.seen] == [
        "/api/2.0/mlflow/experiments/get-by-name",
        "/v1/traces",
        "/api/3.0/mlflow/traces",
    ]
    assert [headers[header] for _, headers, _ in handler.seen] == [value] * 3
    assert handler.seen[1][1]["x-mlflow-experiment-id"] == "7"


@pytest.mark.parametrize(("status", "after_s"), [(429, 17.0), (503, 17.0), (500, 17.0), (401, 30.0)])
def test_the_server_says_when_to_come_again(recorder: tuple[str, type[Recorder]], status: int, after_s: float) -> None:
    host, handler = recorder
    handler.answers += [EXPERIMENT, (status, {"retry-after": "17"}, b"busy")]
    with exporter_of(f"http://{host}") as exporter:
        with pytest.raises(Retry) as caught:
            exporter.export(make_batch([make_trace(1)]))
        assert caught.value.after_s == after_s
        exporter.export(make_batch([make_trace(1)]))


def test_a_server_that_is_not_there_is_waited_for() -> None:
    with exporter_of(f"http://127.0.0.1:{servers.free_port()}") as exporter, pytest.raises(Retry, match="refused"):
        exporter.export(make_batch([make_trace(1)]))


@pytest.mark.parametrize(
    ("table", "location"),
    [
        ("main.traces.prod_otel_spans", "main.traces.prod"),
        ("main.traces.mlflow_experiment_trace_otel_spans", "main.traces"),
    ],
)
def test_a_databricks_profile(
    recorder: tuple[str, type[Recorder]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, table: str, location: str
) -> None:
    """Calls and bodies are those of MLflow's own client for Databricks, parsed by its messages."""
    host, handler = recorder
    (tmp_path / "cfg").write_text(f"[work]\nhost = http://{host}\nclient_id = id\nclient_secret = secret\n")
    monkeypatch.setenv("DATABRICKS_CONFIG_FILE", str(tmp_path / "cfg"))
    handler.answers.append((200, {}, b'{"access_token": "fresh", "expires_in": 3600}'))
    row, spans = make_trace(1)
    row.run_id, row.assessments = "run-1", [make_feedback("quality", value=0.5)]
    with exporter_of("databricks://work", spans_table=table) as exporter:
        exporter.export(make_batch([(row, spans)]))
    assert [path for path, _, _ in handler.seen] == [
        "/oidc/v1/token",
        "/api/2.0/otel/v1/traces",
        f"/api/4.0/mlflow/traces/{location}/{row.trace_id}/info",
        f"/api/4.0/mlflow/traces/{location}/link-to-run/batchCreate",
    ]
    assert handler.seen[1][1]["x-databricks-uc-table-name"] == table
    assert {headers["authorization"] for _, headers, _ in handler.seen[1:]} == {"Bearer fresh"}
    sent = [
        Span.from_otel_proto(one, location, preserve_request_id=True)
        for one in ExportTraceServiceRequest.FromString(handler.seen[1][2]).resource_spans[0].scope_spans[0].spans
    ]
    ours = {span.span_id: span for span in spans}
    assert {span.span_id: span.trace_id for span in sent} == dict.fromkeys(ours, f"trace:/{location}/{row.trace_id}")
    for span in sent:
        expected = {key: json.loads(value) for key, value in ours[span.span_id].attributes.items()}
        assert {key: value for key, value in span.attributes.items() if key != "mlflow.traceRequestId"} == {
            key: value for key, value in expected.items() if key != "mlflow.traceRequestId"
        }
    info = TraceInfo.from_proto(json_format.Parse(handler.seen[2][2], databricks_tracing_pb2.TraceInfo()))
    assert info.trace_id == f"trace:/{location}/{row.trace_id}"
    assert (info.state, info.request_preview) == (row.state, row.request_preview)
    assert [(one.name, one.value, one.trace_id) for one in info.assessments] == [("relevance", 0.5, info.trace_id)]
    link = json_format.Parse(handler.seen[3][2], databricks_tracing_pb2.BatchLinkTraceToRun())
    assert (link.location_id, list(link.trace_ids), link.run_id) == (location, [row.trace_id], "run-1")


def test_databricks_settings_that_name_nothing(
    recorder: tuple[str, type[Recorder]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cfg").write_text(f"[work]\nhost = http://{recorder[0]}\ntoken = t\n")
    monkeypatch.setenv("DATABRICKS_CONFIG_FILE", str(tmp_path / "cfg"))
    with pytest.raises(Permanent, match="no profile other"):
        exporter_of("databricks://other", spans_table="main.traces.prod_otel_spans")
    for table in ("", "main.traces.spans", "traces.prod_otel_spans", "main.traces._otel_spans"):
        with pytest.raises(Permanent, match="spans_table"):
            exporter_of("databricks://work", spans_table=table)
