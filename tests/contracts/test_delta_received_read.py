"""A spans table as received is read like mapped tables of the same requests: searches, views, reports, commands."""

import hashlib
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from spanweir.collector.cli import commands
from spanweir.collector.queue.api import Record
from spanweir.collector.receivers._json import to_protobuf
from spanweir.collector.stored import open_store
from spanweir.exporters import delta
from spanweir.exporters.api import Batch, Context, Request
from spanweir.exporters.delta import received_view
from spanweir.exporters.delta.analytics import report
from spanweir.exporters.delta.reading import Tables, trace_metadata, trace_unified
from spanweir.exporters.delta.received_view import Stored, parts, typed
from spanweir.schemas.options import Duration
from spanweir.schemas.report import Row
from spanweir.schemas.trace import Assessment
from tests.support.mapped import stages

GOLDEN = Path(__file__).parents[1] / "golden"
HOUR_NS = 3_600_000_000_000
LAST_NS = 1_764_064_800_000_000_000


def recorded() -> list[bytes]:
    """Two cases of every convention, each an hour before the other and with trace ids of its own."""
    bodies = []
    cases = [case for of_one in sorted(GOLDEN.iterdir()) for case in sorted(of_one.glob("*/input.json"))[:2]]
    for number, path in enumerate(cases):
        read = json.loads(path.read_text())
        for request in read if isinstance(read, list) else [read]:
            if "resourceSpans" in request:
                body = to_protobuf("traces", json.dumps(request).encode()).body
                bodies.append(_apart(body, path.parent, LAST_NS - number * HOUR_NS))
    return bodies


def _apart(body: bytes, case: Path, start_ns: int) -> bytes:
    request = ExportTraceServiceRequest.FromString(body)
    spans = [s for rs in request.resource_spans for ss in rs.scope_spans for s in ss.spans]
    moved = start_ns - min(span.start_time_unix_nano for span in spans)
    for span in spans:
        span.trace_id = hashlib.md5(str(case.relative_to(GOLDEN)).encode() + span.trace_id).digest()
        span.start_time_unix_nano += moved
        if span.end_time_unix_nano:
            span.end_time_unix_nano += moved
    return request.SerializeToString()


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """Paths of mapped tables, and of a table as received."""
    directory, bodies = tmp_path_factory.mktemp("read"), recorded()
    options: dict[str, Any] = {"commit_interval": Duration(3600), "maintenance_interval": Duration(0)}
    mapped = delta.Config(path=f"{directory}/mapped", **options)
    with mapped.build(Context(name="delta", state_directory=f"{directory}/state")) as exporter:
        for batch in _mapped(bodies):
            exporter.export(batch)
    received = delta.Config(path=f"{directory}/received", tables=["spans"], attributes="received", **options)
    with received.build(Context(name="delta", state_directory=f"{directory}/state-r")) as exporter:
        requests = [Request(signal="traces", body=body) for body in bodies]
        exporter.export(Batch(first=1, last=len(bodies), requests=requests))
    return f"{directory}/mapped", f"{directory}/received"


def _mapped(bodies: list[bytes]) -> Iterator[Batch]:
    made, now_s, now_ns = stages(agents=True), time.monotonic(), time.time_ns()
    records = [
        Record(sequence=number, signal="traces", received_ns=now_ns, body=body) for number, body in enumerate(bodies, 1)
    ]
    for place in range(0, len(records), 50):
        taken = records[place : place + 50]
        step = made.run(taken, now_s, now_ns)
        yield Batch(
            first=taken[0].sequence, last=taken[-1].sequence,
            spans=step.spans, traces=step.traces, retracted=step.retracted,
        )  # fmt: skip
    now_s += 86_400
    for step in (made.tick(now_s, now_ns + 24 * HOUR_NS), made.finalise(lambda _: False, now_s)):
        yield Batch(
            first=len(bodies) + 1, last=len(bodies), spans=step.spans, traces=step.traces, retracted=step.retracted
        )


MIDDLE_MS = LAST_NS // 1_000_000 - 30 * 3_600_000
SEARCHES: list[tuple[str | None, tuple[str, ...], int]] = [
    (None, (), 1000),
    (None, (), 7),
    (None, ("timestamp_ms ASC",), 9),
    (None, ("execution_time DESC",), 5),
    (f"timestamp_ms > {MIDDLE_MS}", (), 1000),
    (f"timestamp_ms <= {MIDDLE_MS} AND timestamp_ms >= {MIDDLE_MS - 7_200_000}", (), 1000),
    ("status = 'ERROR'", (), 1000),
    ("span.type = 'CHAT_MODEL'", (), 1000),
    ("span.type IN ('RETRIEVER', 'EMBEDDING')", ("timestamp_ms ASC",), 4),
    ("span.attributes.mlflow.llm.model LIKE '%gpt-4o%'", (), 1000),
    ("span.attributes.mlflow.chat.tokenUsage LIKE '%cache_read%'", (), 1000),
    ("metadata.`mlflow.trace.session` LIKE '%'", (), 1000),
    ("metadata.`mlflow.trace.tokenUsage` LIKE '%input_tokens%'", (), 1000),
    ("tag.`mlflow.traceName` ILIKE '%agent%'", (), 1000),
    ("name RLIKE '^[a-c]'", (), 1000),
    ("trace.text ILIKE '%weather%'", (), 1000),
    ("trace.text ILIKE '%paris%' AND span.type = 'CHAT_MODEL'", (), 1000),
]


def plain(trace: Any) -> dict[str, Any]:
    """Without the types of attributes, which a MAP of texts does not keep, and what repair noted."""
    made: dict[str, Any] = trace.to_dict()
    for span in made["data"]["spans"]:
        span["attributes"] = {key: _text(value) for key, value in span["attributes"].items() if key != FLAGS}
        for event in span["events"]:
            event["attributes"] = {key: _text(json.dumps(value)) for key, value in event["attributes"].items()}
    return made


FLAGS = "spanweir.flags"


def _text(value: str) -> Any:
    read = json.loads(value)
    return json.loads(read) if isinstance(read, str) and read[:1] in '[{"0123456789tf-' and _is_json(read) else read


def _is_json(value: str) -> bool:
    try:
        json.loads(value)
    except ValueError:
        return False
    return True


@pytest.mark.parametrize(("text", "order", "most"), SEARCHES)
def test_searches_find_what_they_find_in_mapped_tables(
    places: tuple[str, str], monkeypatch: pytest.MonkeyPatch, text: str | None, order: tuple[str, ...], most: int
) -> None:
    monkeypatch.setattr(received_view, "_PART_SPANS", 100)
    expected, found = (
        delta.search_traces(place, filter_string=text, order_by=order, max_results=most) for place in places
    )
    assert expected
    assert [trace.info.trace_id for trace in found] == [trace.info.trace_id for trace in expected]
    assert [plain(trace) for trace in found] == [plain(trace) for trace in expected]


def test_one_trace_by_its_id(places: tuple[str, str]) -> None:
    expected, found = (
        {trace.info.trace_id: plain(trace) for trace in delta.search_traces(place, max_results=3)} for place in places
    )
    store = open_store(places[1])
    for trace_id, trace in expected.items():
        assert found[trace_id] == trace
        [alone] = delta.search_traces(places[1], filter_string=f"request_id = '{trace_id}'")
        assert plain(alone) == trace
        shown = store.get(trace_id.removeprefix("tr-"))
        assert shown is not None
        assert shown["info"]["trace_id"] == trace_id
    assert store.get("tr-" + "0" * 32) is None


def test_views(places: tuple[str, str]) -> None:
    for view in (trace_unified, trace_metadata):
        expected, found = (view(Tables(place), where="status_code = 200", limit=20) for place in places)
        for column in expected.column_names:
            if column != "spans":  # attributes of which are compared above
                assert found[column].to_pylist() == expected[column].to_pylist(), column


def test_reports(places: tuple[str, str]) -> None:
    expected, found = (report(place) for place in places)
    assert expected.total.spans > 150
    assert expected.total.input_tokens > 1000
    for group, rows in {**expected.groups, "day": expected.days, "total": [expected.total]}.items():
        made = {**found.groups, "day": found.days, "total": [found.total]}[group]
        assert list(map(_exact, made)) == list(map(_exact, rows)), group
        for mine, theirs in zip(made, rows, strict=True):  # sums depend on their order, percentiles are approximate
            assert mine.cost == pytest.approx(theirs.cost)
            assert mine.p50_ms == pytest.approx(theirs.p50_ms, rel=0.05)


def _exact(row: Row) -> tuple[Any, ...]:
    return row.name, row.spans, row.traces, row.errors, row.input_tokens, row.output_tokens


def test_commands(places: tuple[str, str], tmp_path: Path) -> None:
    outcomes = []
    for number, place in enumerate(places):
        out = tmp_path / f"{number}.jsonl"
        lines = []
        for command in (
            ["traces", "search", "--store", place, "span.type = 'TOOL'", "-n", "5"],
            ["traces", "tail", "--store", place, "--seconds", "0"],
            ["dataset", "create", "--from", place, "--where", "span.type = 'AGENT'", "--out", str(out)],
        ):
            done = CliRunner().invoke(commands, command)
            assert done.exit_code == 0, done.output
            lines.append(done.output.replace(str(out), ""))
        outcomes.append((lines, out.read_text()))
    assert outcomes[0] == outcomes[1]


def test_assessments_are_refused(places: tuple[str, str]) -> None:
    [trace] = delta.search_traces(places[1], max_results=1)
    given = Assessment(assessment_id="a-1", name="good", kind="feedback", value="true")
    with pytest.raises(LookupError, match="holds spans as received"):
        open_store(places[1]).assess({trace.info.trace_id: [given]})


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (None, None), ("", ""), ("12", 12), ("-0.5", -0.5), ("true", True), ('["a","b"]', ["a", "b"]), ("[]", []),
        ("012", "012"), ("1.50", "1.50"), ("1e5", "1e5"), ('["a", "b"]', '["a", "b"]'), ("truth", "truth"),
        ('{"a":1}', '{"a":1}'), ('[{"role":"user"}]', '[{"role":"user"}]'), ("9" * 30, "9" * 30), ("[", "["),
    ],
)  # fmt: skip
def test_types_that_texts_tell(text: str | None, value: Any) -> None:
    found = typed(text)
    assert found == value
    assert type(found) is type(value)


def test_parts_cover_every_request_time_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A trace may begin at any of its spans: some part that has it has each of these times within its bounds."""
    monkeypatch.setattr(received_view, "_PART_SPANS", 10)
    traces = [Stored(str(n), 1000 * (7 * n % 50), 1000 * (7 * n % 50 + n % 9), 1 + n % 4) for n in range(60)]
    for newest_first in (True, False):
        made = list(parts(traces, newest_first=newest_first))
        for trace in traces:
            for time_ms in range(trace.first_us // 1000, trace.last_us // 1000 + 1):
                assert sum(trace in some and _holds(clauses, time_ms) for some, clauses in made) == 1


def _holds(clauses: list[str], time_ms: int) -> bool:
    bounds = [clause.split()[1:] for clause in clauses]
    return all(time_ms >= int(value) if operator == ">=" else time_ms < int(value) for operator, value in bounds)
