"""A real notebook in a real kernel: the trace stands under the cell, also in exported HTML and in Chromium."""

import json
import os
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import nbconvert
import nbformat
import pytest
from nbclient import NotebookClient
from nbconvert import HTMLExporter

from tests.support.otlp_sink import sink

pytestmark = pytest.mark.timeout(180)

SET_UP = """
import spanweir.instrumentation as spanweir
spanweir.init()
"""
TRACE = """
@spanweir.retrieval("kb")
def search(query):
    return [{"id": "d1", "content": "A weir meters a river.", "score": 0.87, "metadata": {"uri": "a.md"}}]

with spanweir.workflow("answer", input="What is <b>a weir</b>?", session="s-1", user="ada") as root:
    search("weir")
    with spanweir.chat("gpt-4o-mini", provider="openai", system="Be brief", input="What is a weir?") as call:
        call.set_output("It meters a river.")
        call.set_usage(1000, 500)
    try:
        with spanweir.tool("fetch", arguments={"url": "x"}):
            raise TimeoutError("too slow")
    except TimeoutError:
        pass
    root.set_output("It meters a river.")
"""
OFF = """
from spanweir.instrumentation import notebook
notebook.disable()
with spanweir.workflow("unseen"):
    pass
"""
STORED = """
trace = {
    "info": {"trace_id": "tr-1", "trace_metadata": {"mlflow.trace.session": "s-9"}},
    "data": {"spans": [{
        "span_id": "a", "parent_span_id": None, "name": "stored", "start_time_unix_nano": 1, "end_time_unix_nano": 9,
        "status": {"code": "STATUS_CODE_OK"},
        "attributes": {
            "mlflow.spanType": '"AGENT"', "mlflow.spanInputs": '{"q": "kept"}', "mlflow.spanOutputs": '"out"',
        },
    }]},
}
notebook.display(trace)
"""


def executed(tmp_path: Path, *cells: str, **variables: str) -> Any:
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    with sink() as receiver:
        environment = {**os.environ, "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.endpoint, **variables}
        client = NotebookClient(
            book, timeout=120, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
        )
        client.execute(env=environment)
        receiver.wait_for(1)
    return book


def shown(cell: Any) -> list[str]:
    return [output["data"]["text/html"] for output in cell.outputs if "text/html" in output.get("data", {})]


@pytest.fixture(scope="module")
def book(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return executed(tmp_path_factory.mktemp("notebook"), SET_UP, TRACE, "1 + 1", OFF, STORED)


class Checker(HTMLParser):
    """Every element is closed where it belongs, nothing is loaded, nothing runs."""

    VOID = frozenset({"br", "meta", "link", "img", "input"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag not in {"script", "iframe", "object", "link", "img"}
        assert not [name for name, _ in attrs if name.startswith("on") or name in ("src", "href")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.text += data


def test_the_trace_stands_under_its_cell(book: Any) -> None:
    views = shown(book.cells[1])
    assert len(views) == 1
    checker = Checker()
    checker.feed(views[0])
    assert checker.open == []
    for expected in (
        "invoke_workflow answer",
        "4 spans",
        "session s-1",
        "user ada",
        "1000 tokens in, 500 out",
        "What is <b>a weir</b>?",
        "Be brief",
        "It meters a river.",
        "A weir meters a river.",
        "0.87",
        "execute_tool fetch — error",
        "TimeoutError: too slow",
        "Traceback",
    ):
        assert expected in checker.text
    assert "<b>a weir</b>" not in views[0]


def test_cells_without_a_trace_show_none_and_the_switch_is_off(book: Any) -> None:
    assert shown(book.cells[0]) == shown(book.cells[2]) == shown(book.cells[3]) == []


def test_a_stored_trace(book: Any) -> None:
    checker = Checker()
    checker.feed(shown(book.cells[4])[0])
    for expected in ("stored", "agent", "session s-9", '"q": "kept"', "out"):
        assert expected in checker.text


OTHERS = """
from opentelemetry import trace
tracer = trace.get_tracer("others")
FRAMEWORK = {"openinference.span.kind": "LLM", "llm.model_name": "m"}
with spanweir.workflow("outer", input="secret"):
    with tracer.start_as_current_span("framework", attributes=FRAMEWORK):
        call = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "m", "gen_ai.input.messages": '["secret"]'}
        with tracer.start_as_current_span("client", attributes=call):
            pass
    with tracer.start_as_current_span("step", attributes={"input.value": "secret"}) as step:
        step.record_exception(ValueError("secret"))
"""


@pytest.mark.parametrize(("how", "seen"), [("", True), ("capture_content=False", False), ("redact=hide", False)])
def test_the_view_shows_what_is_sent_and_no_more(tmp_path: Path, how: str, seen: bool) -> None:
    hide = 'hide = lambda key, value: "hidden"'
    book = executed(tmp_path, f"import spanweir.instrumentation as spanweir\n{hide}\nspanweir.init({how})", OTHERS)
    [view] = shown(book.cells[1])
    assert ("secret" in view) is seen
    assert "3 spans" in view  # the framework's call and its client's are one
    assert "client" not in view


def test_the_environment_switches_it_off(tmp_path: Path) -> None:
    off = executed(tmp_path, SET_UP, TRACE, SPANWEIR_NOTEBOOK="false")
    assert shown(off.cells[1]) == []


def test_exported_html_in_chromium(book: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no Chromium")
    # beside the package, where a virtual environment on top of another one does not look
    monkeypatch.setenv("JUPYTER_PATH", str(Path(nbconvert.__file__).parents[4] / "share" / "jupyter"))
    exported, _ = HTMLExporter(template_name="basic").from_notebook_node(book)
    page = tmp_path / "notebook.html"
    # what the view says of itself once the browser has laid it out, by keyboard means only
    script = """<script>
    const rows = [...document.querySelectorAll('.spanweir li')];
    const bars = [...document.querySelectorAll('.spanweir-line i')].map(b => b.getBoundingClientRect());
    const closed = rows.map(r => r.querySelector('details')).find(d => !d.open);
    closed.querySelector('summary').click();
    const kinds = [...document.querySelectorAll('.spanweir-kind')].map(k => k.textContent);
    document.title = JSON.stringify({
      rows: rows.length, opened: closed.open, bars: bars.filter(b => b.width > 0).length,
      focusable: [...document.querySelectorAll('.spanweir summary')].every(s => s.tabIndex >= 0),
      labelled: [...document.querySelectorAll('.spanweir-line')].every(b => b.getAttribute('aria-label')),
      kinds: kinds, wide: document.documentElement.scrollWidth <= window.innerWidth,
    });
    </script>"""
    page.write_text(f"<!doctype html><meta charset=utf-8><title></title>{exported}{script}", "utf-8")
    command = [chromium, "--headless", "--no-sandbox", "--disable-gpu", "--window-size=1000,900", "--dump-dom"]
    command += [f"--user-data-dir={tmp_path / 'profile'}", page.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    found = json.loads(done.stdout.partition("<title>")[2].partition("</title>")[0])
    assert found["rows"] == found["bars"] == 5
    assert found["opened"]
    assert found["focusable"]
    assert found["labelled"]
    assert found["wide"]
    assert {"workflow", "retrieval", "model", "tool", "agent"} <= set(found["kinds"])
