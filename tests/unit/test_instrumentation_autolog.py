"""`autolog` with instrumentors made for the test, and the distro as `opentelemetry-instrument` runs it."""

import os
import re
import subprocess
import sys
import textwrap
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import spanweir.instrumentation as spanweir
from spanweir.instrumentation import instrumentors, policy, setup, state
from spanweir.instrumentation.libraries import LIBRARIES, Library
from tests.support.otlp_sink import attributes, sink

INSTRUMENTOR = """
CALLS = []
class Instrumentor:
    def instrument(self, **options): CALLS.append(("on", sorted(options)))
    def uninstrument(self): CALLS.append(("off", []))
class Broken:
    def instrument(self, **options): raise RuntimeError("cannot")
"""


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    (tmp_path / "a_library.py").write_text("")
    (tmp_path / "an_instrumentor.py").write_text(INSTRUMENTOR)
    monkeypatch.syspath_prepend(tmp_path)
    for name in list(LIBRARIES):
        monkeypatch.delitem(LIBRARIES, name)
    first = ("no.such.package:Instrumentor", "an_instrumentor:Instrumentor")
    monkeypatch.setitem(LIBRARIES, "good", Library("a_library", first, "good-package"))
    monkeypatch.setitem(LIBRARIES, "broken", Library("a_library", ("an_instrumentor:Broken",), "broken-package"))
    monkeypatch.setitem(LIBRARIES, "bare", Library("a_library", ("no.such.package:X",), "bare-package"))
    monkeypatch.setitem(LIBRARIES, "absent", Library("no_such_library", first, "absent-package"))
    monkeypatch.setattr(instrumentors, "_active", {})
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    monkeypatch.setenv(policy.CAPTURE_VARIABLE, "true")
    setup.reset()
    import an_instrumentor  # type: ignore[import-not-found]

    yield an_instrumentor.CALLS
    sys.modules.pop("an_instrumentor")
    setup.reset()


def test_all_that_can_be_on_and_off_again(calls: list[Any]) -> None:
    assert spanweir.autolog() == ["good"]
    assert spanweir.autolog("good") == ["good"]
    assert calls == [("on", ["skip_dep_check", "tracer_provider"])]
    assert spanweir.autolog("good", disable=True) == []
    assert calls[-1] == ("off", [])
    assert spanweir.autolog(disable=True) == []


def test_the_capture_variable_is_put_as_every_instrumentor_reads_it(calls: list[Any]) -> None:
    spanweir.autolog()
    assert os.environ[policy.CAPTURE_VARIABLE] == "SPAN_ONLY"
    state.set_policy(policy.Policy(on_spans=False))
    spanweir.autolog()
    assert os.environ[policy.CAPTURE_VARIABLE] == "NO_CONTENT"


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("oepnai", ValueError, "autolog('oepnai'): there are absent, bare, broken, good"),
        ("bare", ModuleNotFoundError, "pip install bare-package"),
        ("absent", ModuleNotFoundError, "no_such_library is not installed"),
        ("broken", RuntimeError, "cannot"),
    ],
)
def test_what_was_asked_for_and_cannot_be(calls: list[Any], name: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error) as raised:
        spanweir.autolog(name)
    assert message in str(raised.value)


def test_without_any_code(tmp_path: Path) -> None:
    application = tmp_path / "app.py"
    application.write_text(
        textwrap.dedent(
            """
            from opentelemetry import trace
            from spanweir import instrumentation as spanweir
            with trace.get_tracer("app").start_as_current_span("plain"), spanweir.workflow("ours", input="hi"):
                pass
            """
        )
    )
    run = "from opentelemetry.instrumentation.auto_instrumentation import run; run()"
    with sink() as receiver:
        variables = {**os.environ, "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.endpoint, "OTEL_SERVICE_NAME": "zero"}
        variables["OTEL_PYTHON_DISTRO"] = "spanweir"  # opentelemetry-distro may be installed beside it
        command = [sys.executable, "-c", run, sys.executable, str(application)]
        done = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stderr
        names = sorted(span.name for span in receiver.wait_for(2))
        assert names == ["invoke_workflow ours", "plain"]
        assert "hi" in attributes(receiver.named("invoke_workflow ours"))["gen_ai.input.messages"]
        assert attributes(receiver.requests[0].resource_spans[0].resource)["service.name"] == "zero"
        assert receiver.metadata[0]["user-agent"].startswith("spanweir-instrumentation/")


def test_the_extras_install_what_autolog_prefers() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    checked = 0
    for extra, packages in extras.items():
        library = LIBRARIES.get(extra.replace("-", "_"))
        if library is None or "spanweir[instrument]" not in packages:
            continue
        named = {re.split(r"[>=\[]", package)[0] for package in packages}
        preferred = library.instrumentors[0].partition(":")[0].replace(".", "-").replace("_", "-")
        assert preferred.startswith("native") or preferred in named, extra
        assert library.package in {*named, extra}, extra
        checked += 1
    assert checked == 9
