"""`spanweir report` over real tables: sums against the same sums done by hand, roll-ups counted once, a whole page."""

import json
import random
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from click.testing import CliRunner
from deltalake import DeltaTable

from spanweir.collector.cli import commands
from spanweir.exporters.api import Batch, Context
from spanweir.exporters.delta import Config
from spanweir.exporters.delta.analytics import report, statements
from spanweir.schemas.options import Duration
from spanweir.schemas.report import Report
from tests.support.traces import START_NS, trace

DAY_NS = 86_400_000_000_000
MODELS = ["model <0>", "bedrock/[eu]/anthropic.claude-sonnet-4-5-20250929-v1:0 of a name that goes on"]


@pytest.fixture(scope="module", params=["v1", "v2"])
def path(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    directory = tmp_path_factory.mktemp("report")
    rng, batch = random.Random(31), Batch(first=1, last=1)
    for number in range(30):
        spans, row = trace(rng, 3, START_NS + number % 3 * DAY_NS)
        usage = json.dumps({"input_tokens": 10 + number, "output_tokens": 5, "total_tokens": 15 + number})
        cost = json.dumps({"input_cost": 0.0, "output_cost": 0.5, "total_cost": 0.5})
        spans[0].own |= {"mlflow.spanType": '"AGENT"', "mlflow.chat.tokenUsage": usage, "mlflow.llm.cost": cost}
        spans[1].own["mlflow.spanType"] = '"RETRIEVER"'
        spans[1].own["mlflow.spanOutputs"] = json.dumps([{"page_content": "x"}] * (number % 2 + 1))
        spans[2].own |= {"mlflow.chat.tokenUsage": usage, "mlflow.llm.cost": cost}
        spans[2].own["mlflow.llm.model"] = json.dumps(MODELS[number % 2])
        spans[2].own |= {"gen_ai.prompt.name": '"greeting"', "gen_ai.prompt.version": f'"{number % 5}"'}
        if number == 7:
            spans[0].status = "ERROR"
        batch.spans += spans
        batch.traces.append(row)
    config = Config(path=str(directory / "tables"), schema_version=request.param, maintenance_interval=Duration(0))
    with config.build(Context(name="delta", state_directory=str(directory))) as exporter:
        exporter.export(batch)
    return str(directory / "tables")


def test_totals_count_roll_ups_once(path: str) -> None:
    made = report(path)
    assert (made.total.traces, made.total.spans, made.total.errors) == (30, 90, 1)
    assert made.total.input_tokens == sum(10 + number for number in range(30))
    assert made.total.output_tokens == 150
    assert made.total.cost == pytest.approx(15.0)
    assert made.total.p50_ms == pytest.approx(1.0)
    assert (str(made.first), str(made.last)) == ("2025-11-25", "2025-11-27")


def test_groups(path: str) -> None:
    groups = report(path).groups
    assert {row.name: row.spans for row in groups["model"]} == dict.fromkeys(MODELS, 15)
    assert {row.name.strip(): row.spans for row in groups["retriever depth"]} == {"1 document": 15, "2 documents": 15}
    assert [row.name for row in groups["prompt version"]] == [f"greeting {n}" for n in range(5)]
    assert [row.name for row in groups["service"]] == ["librarian"]
    assert [row.name for row in groups["framework"]] == ["tests"]


def test_days(path: str) -> None:
    made: Report = report(path)
    assert [row.name for row in made.days] == ["2025-11-25", "2025-11-26", "2025-11-27"]
    from datetime import date

    assert report(path, since=date(2025, 11, 26), until=date(2025, 11, 26)).total.traces == 10


class Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.references: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.references += [value or "" for name, value in attrs if name in ("src", "href")]


def test_the_page_needs_nothing_else_and_names_are_escaped(path: str, tmp_path: Path) -> None:
    out = tmp_path / "report.html"
    assert CliRunner().invoke(commands, ["report", "--store", path, "--html", str(out)]).exit_code == 0
    text, page = out.read_text(), Page()
    page.feed(text)
    assert page.references == []
    assert "script" not in page.tags
    assert page.tags.count("svg") == 7
    assert "model &lt;0&gt;" in text
    assert not re.search(r"NaN|None|inf", text)


def test_the_terminal_and_the_queries(path: str) -> None:
    shown = CliRunner().invoke(commands, ["report", "--store", path], env={"COLUMNS": "160"}).output
    assert "30 traces, 90 spans, 1 traces failed" in shown
    assert "greeting 4" in shown
    narrow = CliRunner().invoke(commands, ["report", "--store", path], env={"COLUMNS": "80"}).output
    assert "p95" in narrow
    assert "bedrock/[eu]/anthropic" in narrow
    assert "…" not in narrow
    queries = CliRunner().invoke(commands, ["report", "--sql"]).output
    assert "-- retriever depth\nSELECT" in queries


def test_the_queries_for_duckdb_give_the_same(path: str) -> None:
    import duckdb

    table = DeltaTable(f"{path}/spanweir_otel_spans")
    if table.metadata().configuration["otel.schemaVersion"] != "v1":
        pytest.skip("DuckDB is asked for the MAP layout")
    database = duckdb.connect()
    database.execute(
        f"CREATE VIEW otel_spans AS SELECT * FROM read_parquet({table.file_uris()}, hive_partitioning = true)"
    )
    made = report(path)
    for name, statement in statements(dialect="duckdb").items():
        found = [row[:7] for row in database.sql(statement).fetchall()]
        if name in made.groups:
            rows = made.groups[name]
            expected = [
                (r.name, r.spans, r.traces, r.errors, r.input_tokens, r.output_tokens, pytest.approx(r.cost))
                for r in rows
            ]
            assert found == expected
    assert "try_variant_get(attributes, '$[\"mlflow.llm.model\"]', 'string')" in statements(dialect="spark-v2")["model"]


def test_an_empty_span_of_days(path: str, tmp_path: Path) -> None:
    result = CliRunner().invoke(commands, ["report", "--store", path, "--since", "2030-01-01"])
    assert result.exit_code == 0, result.output
    assert "no days: 0 traces" in result.output
    out = tmp_path / "empty.html"
    CliRunner().invoke(commands, ["report", "--store", path, "--since", "2030-01-01", "--html", str(out)])
    assert "There are no spans of these days" in out.read_text()


def test_one_day(path: str, tmp_path: Path) -> None:
    out = tmp_path / "day.html"
    days = ["--since", "2025-11-26", "--until", "2025-11-26"]
    assert CliRunner().invoke(commands, ["report", "--store", path, *days, "--html", str(out)]).exit_code == 0
    assert "<h1>Traces, 2025-11-26</h1>" in out.read_text()
