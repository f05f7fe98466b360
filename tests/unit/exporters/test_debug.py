"""The tree in the terminal: what a reader sees of the standard load."""

import pytest

from spanweir.exporters.api import Batch
from spanweir.exporters.debug import Config
from tests.support.batches import batch, context


def shown(capsys: pytest.CaptureFixture[str], item: Batch, **options: object) -> str:
    with Config(**options).build(context("debug", "unused")) as exporter:
        exporter.export(item)
    return capsys.readouterr().out


def test_a_trace_is_a_tree(capsys: pytest.CaptureFixture[str]) -> None:
    out = shown(capsys, batch(1, traces=1))
    lines = out.splitlines()
    assert lines[0] == "debug: records 1-1: 5 spans, 1 traces, 0 log records, 1 requests"
    assert any(line.startswith("└── AGENT") for line in lines), out
    for kind in ("EMBEDDING", "RETRIEVER", "CHAT_MODEL", "TOOL"):
        assert f"── {kind}" in out
    assert "tokens" in out
    assert "user: " in out
    assert "assistant: " in out
    assert out.count("doc ") == 5


def test_basic_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert len(shown(capsys, batch(1), verbosity="basic").splitlines()) == 1


def test_detailed_has_every_attribute(capsys: pytest.CaptureFixture[str]) -> None:
    item = batch(1, traces=1)
    out = shown(capsys, item, verbosity="detailed")
    for span in item.spans:
        for key in span.attributes:
            assert f"    {key} = " in out


def test_only_so_many_traces_are_drawn(capsys: pytest.CaptureFixture[str]) -> None:
    out = shown(capsys, batch(1, traces=5), max_traces=2)
    assert out.count("└── AGENT") == 2
    assert out.splitlines()[-1] == "... and 3 more traces"


def test_a_span_whose_parent_is_elsewhere_stands_at_the_top(capsys: pytest.CaptureFixture[str]) -> None:
    item = batch(1, traces=1)
    item.spans = [span for span in item.spans if span.parent_id]
    out = shown(capsys, item)
    assert out.count("── ") == 4
    assert "    " not in out.splitlines()[2][:4]
