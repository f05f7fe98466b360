"""Traces that came in as OTLP, in MLflow's real UI in a headless Chromium.

Pictures of the pages are left in the directory that SPANWEIR_PICTURES names, to be looked at by people.
"""

import base64
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from spanweir.exporters.api import Context
from spanweir.exporters.mlflow import Config
from tests.contracts.mlflow_store.test_attachments import png
from tests.support import browser, mapped, servers
from tests.support.stores import sqlite_store

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not browser.find(), reason="Chromium is not installed"),
]

DOCUMENTS = [
    {"id": "manual-7", "score": 0.91, "content": "A weir holds and meters what flows in a channel."},
    {"id": "manual-9", "score": 0.42, "content": "The gauge is read every morning at six."},
]
PICTURE = base64.b64encode(png(240)).decode()
TOOL = {"type": "function", "name": "read_gauge", "description": "Reads a gauge", "parameters": {"type": "object"}}


def request(trace: int, question: str, *, session: str, failed: bool = False, picture: bool = False) -> bytes:
    """An agent that retrieves, calls a model, a tool, and the model again, in the newest OpenTelemetry conventions."""
    message = ExportTraceServiceRequest()
    into = message.resource_spans.add()
    service = into.resource.attributes.add()
    service.key, service.value.string_value = "service.name", "lock-keeper"
    spans = into.scope_spans.add().spans
    start_ns = time.time_ns() - 60_000_000_000 + trace * 1_000_000_000
    said = [{"role": "user", "parts": [{"type": "text", "content": question}]}]
    if picture:
        said[0]["parts"].append({"type": "blob", "mime_type": "image/png", "modality": "image", "content": PICTURE})  # type: ignore[attr-defined]
    call = {"type": "tool_call", "id": "call_1", "name": "read_gauge", "arguments": {"station": "north"}}
    answer = [
        {"role": "assistant", "parts": [{"type": "text", "content": "It stands at 2.4 m."}], "finish_reason": "stop"}
    ]

    def add(number: int, name: str, parent: int, begin: int, length: int, attributes: dict[str, object]) -> Span:
        span = spans.add()
        span.trace_id, span.span_id = trace.to_bytes(16, "big"), number.to_bytes(8, "big")
        span.parent_span_id = parent.to_bytes(8, "big") if parent else b""
        span.name = name
        span.start_time_unix_nano = start_ns + begin * 1_000_000
        span.end_time_unix_nano = span.start_time_unix_nano + length * 1_000_000
        for key, value in attributes.items():
            attribute = span.attributes.add()
            attribute.key = key
            if isinstance(value, int):
                attribute.value.int_value = value
            else:
                attribute.value.string_value = value if isinstance(value, str) else json.dumps(value)
        return span

    root = add(1, "invoke_agent lock_keeper", 0, 0, 1900, {
        "gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "lock_keeper", "gen_ai.conversation.id": session,
        "user.id": "ada", "gen_ai.input.messages": said[:1], "gen_ai.output.messages": answer,
    })  # fmt: skip
    add(2, "retrieval manuals", 1, 10, 100, {
        "gen_ai.operation.name": "retrieval", "gen_ai.retrieval.query.text": question,
        "gen_ai.retrieval.documents": DOCUMENTS,
    })  # fmt: skip
    model = {
        "gen_ai.operation.name": "chat", "gen_ai.provider.name": "openai", "gen_ai.request.model": "gpt-4o",
        "gen_ai.response.model": "gpt-4o-2024-08-06", "gen_ai.tool.definitions": [TOOL],
    }  # fmt: skip
    add(3, "chat gpt-4o", 1, 120, 900, {
        **model, "gen_ai.usage.input_tokens": 1200, "gen_ai.usage.output_tokens": 40, "gen_ai.input.messages": said,
        "gen_ai.system_instructions": [{"type": "text", "content": "You keep the lock."}],
        "gen_ai.output.messages": [{"role": "assistant", "parts": [call], "finish_reason": "tool_call"}],
    })  # fmt: skip
    tool = add(4, "execute_tool read_gauge", 1, 1030, 50, {
        "gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "read_gauge",
        "gen_ai.tool.call.arguments": {"station": "north"}, "gen_ai.tool.call.result": {"metres": 2.4},
    })  # fmt: skip
    add(5, "chat gpt-4o", 1, 1100, 700, {
        **model, "gen_ai.usage.input_tokens": 1300, "gen_ai.usage.output_tokens": 60, "gen_ai.input.messages": said,
        "gen_ai.output.messages": answer,
    })  # fmt: skip
    if failed:
        for span in (root, tool):
            span.status.code, span.status.message = Status.STATUS_CODE_ERROR, "the gauge is frozen"
        event = tool.events.add()
        event.name, event.time_unix_nano = "exception", tool.end_time_unix_nano
        for key, value in (("exception.type", "GaugeError"), ("exception.message", "the gauge is frozen")):
            attribute = event.attributes.add()
            attribute.key, attribute.value.string_value = key, value
    return message.SerializeToString()


class Pages(NamedTuple):
    page: browser.Browser
    url: str
    """Of the experiment."""
    pictures: Path

    def open(self, path: str) -> None:
        self.page.open(f"{self.url}{path}")

    def keep(self, name: str) -> None:
        path = self.pictures / f"{name}.png"
        self.page.picture(path)
        assert path.stat().st_size > 20_000, "the page is empty"


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pages]:
    place = tmp_path_factory.mktemp("ui")
    pictures = Path(os.environ.get("SPANWEIR_PICTURES") or place)
    pictures.mkdir(parents=True, exist_ok=True)
    uri = sqlite_store(place / "mlflow.db")
    with Config(tracking_uri=uri, experiment="weirs").build(Context(name="mlflow", state_directory="")) as exporter:
        for batch in mapped.batches([
            request(1, "How high is the water?", session="watch-1"),
            request(2, "And at the north gauge?", session="watch-1"),
            request(3, "What does this picture show?", session="watch-2", picture=True),
            request(4, "Is the gauge broken?", session="watch-3", failed=True),
        ]):  # fmt: skip
            exporter.export(batch)
    with servers.mlflow(uri, f"{place}/mlartifacts", place) as url, browser.Browser(height=1400) as page:
        page.open(url)
        # Dialogs that MLflow shows once, and a panel that takes a third of the page.
        page.run("localStorage.clear()")
        yield Pages(page, f"{url}/#/experiments/1", pictures)


def detail(pages: Pages, trace: int) -> None:
    pages.open(f"/traces?selectedEvaluationId=tr-{trace:032x}")


def test_the_list_has_a_full_row_for_each_trace(pages: Pages) -> None:
    pages.open("/traces")
    shown = pages.page.wait("4 of 4", "watch-1")
    for text in (
        "How high is the water?", "And at the north gauge?", "What does this picture show?", "Is the gauge broken?",
        "It stands at 2.4 m.", "watch-2", "watch-3", "2600", "OK", "Error", "service.name: lock-keeper",
    ):  # fmt: skip
        assert text in shown.replace(",", ""), text
    pages.keep("list")


def test_a_trace_shows_its_tree_tokens_and_cost(pages: Pages) -> None:
    detail(pages, 1)
    shown = pages.page.wait("invoke_agent lock_keeper", "retrieval manuals", "execute_tool read_gauge", "2,600 tokens")
    assert "$0.0" in shown
    assert "How high is the water?" in shown
    pages.keep("detail")


def test_a_model_call_shows_messages_and_tool_calls(pages: Pages) -> None:
    detail(pages, 1)
    pages.page.wait("retrieval manuals", "chat gpt-4o")
    pages.page.click("chat gpt-4o")
    pages.page.wait(
        "System", "You keep the lock.", "User", "How high is the water?", "Assistant", "read_gauge", "north"
    )
    pages.keep("chat")


def test_a_retrieval_shows_its_documents(pages: Pages) -> None:
    detail(pages, 1)
    pages.page.wait("retrieval manuals")
    pages.page.click("retrieval manuals")
    pages.page.wait(
        "query", "score", "0.91", "A weir holds and meters what flows in a channel.", "The gauge is read every morning"
    )
    pages.keep("documents")


def test_a_picture_is_shown_from_its_attachment(pages: Pages) -> None:
    detail(pages, 3)
    pages.page.wait("retrieval manuals", "chat gpt-4o")
    pages.page.click("chat gpt-4o")
    pages.page.wait("What does this picture show?", "You keep the lock.")
    deadline = time.monotonic() + 30
    widths = "[...document.images].filter(i => i.src.startsWith('blob:')).map(i => i.naturalWidth)"
    while 240 not in (pages.page.run(widths) or []):
        assert time.monotonic() < deadline, pages.page.run("[...document.images].map(i => i.src.slice(0, 90))")
        time.sleep(0.2)
    pages.keep("picture")


def test_an_error_shows_its_exception(pages: Pages) -> None:
    detail(pages, 4)
    pages.page.wait("execute_tool read_gauge", "Error")
    pages.page.click("execute_tool read_gauge")
    pages.page.wait("exception", "GaugeError", "the gauge is frozen")
    pages.keep("error")


def test_sessions_are_conversations(pages: Pages) -> None:
    pages.open("/traces?groupBy=session")
    pages.page.wait("watch-1", "5200", "watch-2", "watch-3")
    pages.keep("sessions")
    pages.open("/chat-sessions/watch-1")
    pages.page.wait("Turn 1", "How high is the water?", "Turn 2", "And at the north gauge?", "It stands at 2.4 m.")
    pages.keep("session")


def test_the_overview_counts_traces_tokens_and_tools(pages: Pages) -> None:
    pages.open("/overview/usage")
    pages.page.wait("2.60K avg per trace", "$0.029 Total Cost", "gpt-4o-2024-08-06")
    pages.keep("overview")
