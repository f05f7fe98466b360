"""What every convention is held to: an OTLP request, and what becomes of it.

A case is a folder `<convention>/<case>/`: `input.json` holds an OTLP/JSON request or a list of them (traces and logs),
`canonical.json` the canonical spans and `mlflow.json` the MLflow spans by span id, `source.md` where the input comes
from. `pytest tests/golden --update-golden` writes the expectations anew; read the difference before you commit it.
"""

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import msgspec
import pytest

from spanweir.collector.decode.otlp_proto import decode_logs, decode_traces
from spanweir.collector.receivers._json import to_protobuf
from spanweir.schemas.mapping import Mapper
from spanweir.schemas.mlflow import Renderer
from spanweir.schemas.raw import RawLog, RawSpan
from spanweir.schemas.values import Broken, dumps, loads

CASES = sorted(path.parent for path in Path(__file__).parent.glob("*/*/input.json"))


def read(case: Path) -> list[tuple[RawSpan, list[RawLog]]]:
    """The case's spans, each with the log records that carry its ids."""
    requests = json.loads((case / "input.json").read_text())
    spans: list[RawSpan] = []
    logs: dict[tuple[str, str], list[RawLog]] = defaultdict(list)
    for request in requests if isinstance(requests, list) else [requests]:
        body = json.dumps(request).encode()
        if "resourceSpans" in request or "resource_spans" in request:
            spans += decode_traces(to_protobuf("traces", body).body)
        else:
            for log in decode_logs(to_protobuf("logs", body).body):
                logs[log.trace_id, log.span_id].append(log)
    return [(span, logs[span.trace_id, span.span_id]) for span in spans]


def outcome(case: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    mapper, renderer = Mapper(), Renderer()
    canonical: dict[str, Any] = {}
    rendered: dict[str, Any] = {}
    for raw, logs in read(case):
        span = mapper.map(raw, logs)
        mapped = renderer.render(raw, span)
        canonical[raw.span_id] = None if span is None else json.loads(dumps(msgspec.to_builtins(span, enc_hook=_raw)))
        content = json.loads(mapped.content)
        rendered[raw.span_id] = {
            "name": mapped.name,
            "type": mapped.type,
            "attributes": {key: _decoded(value) for key, value in mapped.attributes.items()},
            "events": content["events"],
        }
    return canonical, rendered


def _raw(value: Any) -> Any:
    return json.loads(bytes(value)) if isinstance(value, msgspec.Raw) else str(value)


def _decoded(value: str) -> Any:
    return json.loads(value)


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.parent.name}/{case.name}")
def test_golden(case: Path, request: pytest.FixtureRequest) -> None:
    assert (case / "source.md").exists(), "say where the input comes from"
    canonical, rendered = outcome(case)
    for name, found in (("canonical.json", canonical), ("mlflow.json", rendered)):
        path = case / name
        if request.config.getoption("--update-golden"):
            path.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n")
        assert json.loads(path.read_text()) == found, f"{path} (--update-golden rewrites it)"


TAGS = frozenset({"type", "role", "modality", "mime_type", "media_type", "mimeType", "kind", "object", "block_type"})
"""Names of members whose values say how something is written, not what it is."""


def leaves(value: Any, name: str = "", depth: int = 4) -> set[str]:
    """Every text and number in a value, JSON within strings included."""
    if isinstance(value, dict):
        return {leaf for key, item in value.items() for leaf in leaves(item, key, depth)}
    if isinstance(value, list):
        return {leaf for item in value for leaf in leaves(item, name, depth)}
    if isinstance(value, str):
        try:
            inner = loads(value, cut=False) if depth and value[:1] in ("{", "[", '"') else None
        except ValueError:
            inner = None
        inner = inner.value if isinstance(inner, Broken) else inner
        if inner is not None and inner != value:
            return leaves(inner, name, depth - 1)
        return set() if name.rpartition(".")[2] in TAGS or not value.strip() else {value}
    return set() if value is None or isinstance(value, bool) else {f"{value:g}"}


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.parent.name}/{case.name}")
def test_what_is_not_kept_as_it_was_is_shown(case: Path) -> None:
    """Of whatever convention: an attribute is left out only when each leaf of it stands elsewhere."""
    mapper, renderer = Mapper(), Renderer()
    for raw, logs in read(case):
        mapped = renderer.render(raw, mapper.map(raw, logs))
        shown = leaves({key: json.loads(value) for key, value in mapped.attributes.items()})
        text = "\n".join(shown)
        for key, value in raw.attributes.items():
            if key not in mapped.attributes:
                lost = {leaf for leaf in leaves(value, key) if leaf not in shown and leaf not in text}
                lost = {leaf for leaf in lost if not shown.issuperset(leaf.split(","))}  # a list in one string
                assert not lost, f"{raw.span_id} {key}"
