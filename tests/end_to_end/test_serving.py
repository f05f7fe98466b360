"""A custom PyFunc agent under `mlflow models serve`: each request becomes a row of the inference table."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import mlflow
import pytest
from deltalake import DeltaTable

from spanweir.collector.demo.process import free_ports
from tests.support.otlp_sink import attributes, sink
from tests.support.service import Service, eventually
from tests.support.stores import sqlite_store

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

INSTRUMENT = "from opentelemetry.instrumentation.auto_instrumentation import run; run()"
"""The command `opentelemetry-instrument`."""
PLAIN_AGENT = """
import mlflow
from mlflow.pyfunc import PythonModel


class Agent(PythonModel):
    def predict(self, context, model_input: list[dict[str, str]], params=None) -> list[str]:
        return ["a weir"]


mlflow.models.set_model(Agent())
"""
AGENT = Path(__file__).parents[1] / "support" / "pyfunc_agent.py"


@contextmanager
def serving(directory: Path, *, zero_code: bool = False, **variables: str) -> Iterator[str]:
    mlflow.set_tracking_uri(sqlite_store(directory / "registry.db"))
    agent = AGENT
    if zero_code:
        agent = directory / "plain_agent.py"
        agent.write_text(PLAIN_AGENT)
    mlflow.pyfunc.save_model(str(directory / "agent"), python_model=str(agent), pip_requirements=[])
    port = free_ports(1)[0]
    command = [sys.executable, "-c", INSTRUMENT] if zero_code else []
    command += [sys.executable, "-m", "mlflow", "models", "serve", "-m", str(directory / "agent")]
    command += ["--env-manager", "local", "--port", str(port), "--host", "127.0.0.1"]
    environment = {**os.environ, "MLFLOW_TRACKING_URI": mlflow.get_tracking_uri(), **variables}
    # MLflow starts `uvicorn` from the PATH: it must be the one of this interpreter.
    shim = directory / "bin" / "uvicorn"
    shim.parent.mkdir()
    shim.write_text(f'#!/bin/sh\nexec {sys.executable} -m uvicorn "$@"\n')
    shim.chmod(0o755)
    environment["PATH"] = f"{shim.parent}:{environment['PATH']}"
    with open(directory / "serve.log", "wb") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(30)


def ask(address: str, directory: Path, **more: object) -> tuple[dict[str, str], dict]:
    """Headers and body of the answer."""
    body = json.dumps({"inputs": [{"question": "what flows?"}], **more}).encode()
    headers = {"content-type": "application/json", "x-client-request-id": "r-7", "x-forwarded-user": "ada"}
    for _ in range(120):
        try:
            request = urllib.request.Request(f"{address}/invocations", body, headers)
            with urllib.request.urlopen(request, timeout=30) as response:
                return {key.lower(): value for key, value in response.headers.items()}, json.load(response)
        except urllib.error.HTTPError as error:
            raise AssertionError(error.read().decode()) from error
        except OSError:
            time.sleep(0.5)  # not up yet
    raise AssertionError((directory / "serve.log").read_text()[-3000:])


def payload(directory: Path) -> list[dict]:
    try:
        return DeltaTable(str(directory / "tables" / "spanweir_payload")).to_pyarrow_table().to_pylist()
    except Exception:
        return []


SPANS = ["invoke_workflow /invocations", "invoke_agent served", "chat gpt-4o-mini"]


def ours(names: Iterable[str]) -> list[str]:
    """FastAPI may add spans of its own."""
    return [name for name in names if name.partition(" ")[0] in ("invoke_workflow", "invoke_agent", "chat")]


def test_a_served_agent_fills_the_inference_table(tmp_path: Path) -> None:
    sqlite_store(tmp_path / "collector" / "mlflow.db")
    with Service(tmp_path / "collector") as service:
        endpoint = f"http://127.0.0.1:{service.grpc_port}"
        flags = {"ENABLE_MLFLOW_TRACING": "True", "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint}
        with serving(tmp_path, **flags) as address:
            headers, answer = ask(address, tmp_path)
            eventually(lambda: len(payload(service.directory)) == 1, what="a row in the inference table")
            row = payload(service.directory)[0]
            _, with_trace = ask(address, tmp_path, databricks_options={"return_trace": True})
    assert answer == {"predictions": ["a weir"]}
    assert headers["x-mlflow-trace-id"] == row["databricks_request_id"]
    assert row["client_request_id"] == "r-7"
    assert row["requester"] == "ada"
    assert row["status_code"] == 200
    assert json.loads(row["request"]) == {"inputs": [{"question": "what flows?"}]}
    response = json.loads(row["response"])
    assert response["predictions"] == ["a weir"]
    spans = response["databricks_output"]["trace"]["data"]["spans"]
    assert ours(span["name"] for span in spans) == SPANS
    assert with_trace["predictions"] == ["a weir"]
    returned = mlflow.entities.Trace.from_dict(with_trace["databricks_output"]["trace"])
    assert returned.info.client_request_id == "r-7"
    assert ours(span.name for span in returned.data.spans) == SPANS
    assert returned.data.spans[-1].outputs["choices"][0]["message"]["content"] == "a weir"


def test_an_agent_without_a_line_of_tracing(tmp_path: Path) -> None:
    with sink() as receiver:
        flags = {"ENABLE_MLFLOW_TRACING": "True", "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.endpoint}
        flags["OTEL_PYTHON_DISTRO"] = "spanweir"  # opentelemetry-distro may be installed beside it
        with serving(tmp_path, zero_code=True, **flags) as address:
            headers, answer = ask(address, tmp_path)
            eventually(lambda: "invoke_workflow /invocations" in [s.name for s in receiver.spans], what="a span")
    assert answer == {"predictions": ["a weir"]}
    got = attributes(receiver.named("invoke_workflow /invocations"))
    assert headers["x-mlflow-trace-id"] == "tr-" + receiver.named("invoke_workflow /invocations").trace_id.hex()
    assert json.loads(got["mlflow.spanOutputs"]) == {"predictions": ["a weir"]}


def test_the_flag_off(tmp_path: Path) -> None:
    with serving(tmp_path, OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:9") as address:
        headers, answer = ask(address, tmp_path)
        assert "x-mlflow-trace-id" not in headers
        assert answer == {"predictions": ["a weir"]}


AGENT_SERVER = """
import asyncio, json
from mlflow.genai.agent_server import AgentServer, stream
import spanweir.instrumentation as spanweir
from spanweir.instrumentation import serving

assert serving.enable() and serving.enable()


@stream()
async def answer(request):
    with spanweir.chat("m"):
        pass
    yield {"type": "response.output_text.delta", "item_id": "m", "delta": "a weir"}
    content = [{"type": "output_text", "text": "a weir"}]
    yield {"type": "response.output_item.done", "item": {"type": "message", "id": "m", "content": content}}


options = {"return_trace": True}
body = {"input": [{"role": "user", "content": "hi"}], "stream": True, "databricks_options": options}
body = json.dumps(body).encode()
headers = [(b"content-type", b"application/json"), (b"x-request-id", b"r-8"), (b"host", b"localhost")]
scope = {"type": "http", "http_version": "1.1", "method": "POST", "path": "/invocations", "raw_path": b"/invocations",
         "query_string": b"", "root_path": "", "scheme": "http", "headers": headers, "server": ("localhost", 80)}
asked, sent = [], []


async def receive():
    if asked:
        await asyncio.sleep(60)
    asked.append(1)
    return {"type": "http.request", "body": body, "more_body": False}


async def send(message):
    sent.append(message)


asyncio.run(AgentServer("ResponsesAgent").app(scope, receive, send))
assert sent[0]["status"] == 200, sent
print(b"".join(message.get("body", b"") for message in sent).decode())
"""


def test_a_stream_of_the_agent_server(tmp_path: Path) -> None:
    with sink() as receiver:
        variables = {**os.environ, "ENABLE_MLFLOW_TRACING": "true", "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.endpoint}
        variables["MLFLOW_TRACKING_URI"] = sqlite_store(tmp_path / "mlflow.db")
        done = subprocess.run(
            [sys.executable, "-c", AGENT_SERVER],
            env=variables,
            cwd=tmp_path,
            capture_output=True,
            timeout=200,
            check=False,
        )
    assert done.returncode == 0, done.stderr.decode()[-3000:]
    root = receiver.named("invoke_workflow /invocations")
    got = attributes(root)
    assert got["mlflow.clientRequestId"] == "r-8"
    assert json.loads(got["mlflow.spanOutputs"])["output"][0]["content"][0]["text"] == "a weir"
    assert receiver.named("chat m").parent_span_id == root.span_id
    events = [line[6:] for line in done.stdout.decode().splitlines() if line.startswith("data: ")]
    assert events[-1] == "[DONE]"
    delta, item = (json.loads(event) for event in events[:-1])
    assert "databricks_output" not in delta
    returned = mlflow.entities.Trace.from_dict(item["databricks_output"]["trace"])
    assert ours(span.name for span in returned.data.spans) == ["invoke_workflow /invocations", "chat m"]
