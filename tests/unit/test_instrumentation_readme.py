"""The examples of instrumentation/README.md run as they stand."""

import re
from pathlib import Path

import pytest
from opentelemetry import trace

import spanweir.instrumentation as spanweir
from spanweir.instrumentation import setup, state
from tests.support.otlp_sink import sink

README = Path(__file__).parents[2] / "instrumentation" / "README.md"


def test_the_examples(monkeypatch: pytest.MonkeyPatch) -> None:
    setup.reset()
    examples = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    assert len(examples) == 4
    names: dict[str, object] = {}
    with sink() as receiver:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.endpoint)
        for example in examples:
            exec(compile(example, str(README), "exec"), names)
        assert spanweir.flush(10)
        setup.reset()
    found = sorted(span.name for span in receiver.spans)
    assert found == [
        "chat gpt-4o-mini",
        "chat gpt-4o-mini",
        "execute_tool book",
        "invoke_agent hotel",
        "invoke_agent planner",
        "invoke_workflow answer",
        "retrieval handbook",
    ]
    assert isinstance(trace.get_tracer_provider(), type(state.provider()))


def test_it_names_the_whole_public_api() -> None:
    text = README.read_text()
    missing = [
        name
        for name in spanweir.__all__
        if name not in ("Operation", "Span", "__version__", "flush") and name not in text
    ]
    assert missing == []
