"""The commands over stored traces, on both kinds of store: search, show, tail, datasets, evaluation, judgements."""

import json
import random
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

import mlflow
import polars
import pytest
from click.testing import CliRunner, Result
from mlflow.genai import scorer

from spanweir.collector.cli import commands
from spanweir.collector.stored import Store, dataset, open_store
from spanweir.exporters import delta
from spanweir.exporters import mlflow as mlflow_exporter
from spanweir.exporters.api import Batch, Context
from spanweir.schemas.options import Duration
from spanweir.schemas.report import Row
from spanweir.schemas.trace import Assessment, MappedSpan
from tests.support.stores import sqlite_store
from tests.support.traces import START_NS, Trace, trace


def _set(span: MappedSpan, key: str, value: Any) -> None:
    """An attribute, in both places where it stands."""
    content = json.loads(span.content)
    content["attributes"][key] = span.own[key] = json.dumps(value)
    span.content = json.dumps(content).encode()


def _traces() -> list[Trace]:
    rng, made = random.Random(21), []
    for number in range(12):
        spans, row = trace(rng, 4, START_NS + number * 1_000_000_000)
        row.experiment = "0"
        _set(spans[0], "mlflow.spanInputs", {"question": f"What is {number % 8}?"})
        _set(spans[0], "mlflow.spanOutputs", {"answer": f"{number % 8} is a number"})
        _set(spans[1], "mlflow.spanType", "RETRIEVER")
        documents = [{"page_content": f"about {number}", "metadata": {"doc_uri": f"doc-{number}"}}]
        _set(spans[1], "mlflow.spanOutputs", documents)
        _set(spans[2], "mlflow.spanType", "CHAT_MODEL")
        _set(spans[2], "mlflow.llm.model", f"model {number % 3}")
        for span in (spans[0], spans[2]):
            _set(
                span, "mlflow.chat.tokenUsage", {"input_tokens": number, "output_tokens": 7, "total_tokens": number + 7}
            )
            _set(span, "mlflow.llm.cost", {"input_cost": 0.0, "output_cost": 0.25, "total_cost": 0.25})
        _set(spans[0], "mlflow.spanType", "AGENT")
        _set(spans[2], "gen_ai.prompt.name", "greeting")
        _set(spans[2], "gen_ai.prompt.version", str(number % 2))
        row.tags["service.name"] = "librarian"
        if number in (3, 11):
            row.assessments.append(
                Assessment(assessment_id=f"a-e{number}", name="topic", kind="expectation", value=f'"t{number}"')
            )
        made.append((spans, row))
    return made


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    directory = tmp_path_factory.mktemp("stored")
    traces = _traces()
    batch = Batch(first=1, last=1, spans=[s for spans, _ in traces for s in spans], traces=[row for _, row in traces])
    where = {
        "delta": f"{directory}/tables", "delta v2": f"{directory}/v2", "mlflow": sqlite_store(directory / "mlflow.db")
    }  # fmt: skip
    configs = {
        "delta": delta.Config(path=where["delta"], maintenance_interval=Duration(0)),
        "delta v2": delta.Config(path=where["delta v2"], schema_version="v2", maintenance_interval=Duration(0)),
        "mlflow": mlflow_exporter.Config(tracking_uri=where["mlflow"]),
    }
    for name, config in configs.items():
        (directory / name).mkdir()
        with config.build(Context(name=name, state_directory=str(directory / name))) as exporter:
            exporter.export(batch)
    return where


@pytest.fixture(params=["delta", "delta v2", "mlflow"])
def place(request: pytest.FixtureRequest, places: dict[str, str]) -> str:
    return places[request.param]


def run(*arguments: str, code: int = 0) -> Result:
    result = CliRunner().invoke(commands, arguments)
    assert result.exit_code == code, result.output
    return result


def test_search_finds(place: str) -> None:
    lines = run("traces", "search", "--store", place, "-n", "3").output.splitlines()
    assert len(lines) == 3
    assert lines[0].split()[0].startswith("tr-")
    found = run("traces", "search", f"timestamp_ms = {START_NS // 1_000_000 + 4000}", "--store", place, "--json").output
    assert json.loads(found)["info"]["request_time"] == "2025-11-25T10:00:04Z"


def test_a_wrong_filter_is_told(place: str) -> None:
    assert "foo" in run("traces", "search", "foo", "--store", place, code=2).output


def test_show_prints_the_tree(place: str) -> None:
    trace_id = run("traces", "search", "--store", place, "-n", "1").output.split()[0]
    shown = run("traces", "show", trace_id, "--store", place).output
    assert "What is 3?" in shown
    assert "about 11" in shown
    assert json.loads(run("traces", "show", trace_id, "--store", place, "--json").output)["info"]["state"] == "OK"
    assert "there is no trace" in run("traces", "show", "0" * 32, "--store", place, code=1).output


def test_tail_shows_each_trace_once(place: str) -> None:
    lines = run("traces", "tail", "--store", place, "--interval", "0.01", "--seconds", "0.05").output.splitlines()
    assert len(lines) == 10
    assert lines[0].split()[1] < lines[-1].split()[1]
    every = run("traces", "tail", "--store", place, "-n", "50", "--interval", "0.01", "--seconds", "0.05").output
    assert len(every.splitlines()) == 12
    assert every.splitlines()[-10:] == lines


def test_a_place_that_is_none_is_told(tmp_path: Path) -> None:
    told = run("traces", "search", "--store", str(tmp_path / "none"), code=2).output
    assert "neither a tracking URI" in told
    assert "there is no table" in run("traces", "search", "--store", str(tmp_path), code=2).output


def test_a_dataset_as_lines(place: str, tmp_path: Path) -> None:
    out = tmp_path / "golden.jsonl"
    told = run("dataset", "create", "--from", place, "--out", str(out)).output
    assert "8 examples" in told
    assert "4 with the inputs of another" in told
    examples = {e["inputs"]["question"]: e for e in map(json.loads, out.read_text().splitlines())}
    assert len(examples) == 8
    three = examples["What is 3?"]
    assert three["outputs"] == {"answer": "3 is a number"}
    assert three["expectations"] == {"topic": "t11"}
    assert three["retrieved_context"] == [{"content": "about 11", "doc_uri": "doc-11"}]


def test_a_sample_is_reproducible_and_the_same_from_either_store(places: dict[str, str], tmp_path: Path) -> None:
    taken = []
    for place, name, seed in [(p, f"{n}-{s}.parquet", s) for n, p in places.items() for s in ("1", "1", "2")]:
        out = tmp_path / name
        run("dataset", "create", "--from", place, "--out", str(out), "--sample", "3", "--seed", seed)
        taken.append((seed, sorted(polars.read_parquet(out)["inputs"].to_list())))
    of_one = [inputs for seed, inputs in taken if seed == "1"]
    assert all(inputs == of_one[0] for inputs in of_one)
    assert {len(inputs) for _, inputs in taken} == {3}
    assert taken[0][1] != taken[2][1]


def test_an_mlflow_dataset(places: dict[str, str]) -> None:
    for _ in range(2):
        run(
            "dataset", "create", "--from", places["delta"], "--out", "mlflow:golden", "--tracking-uri", places["mlflow"]
        )
    mlflow.set_tracking_uri(places["mlflow"])
    records = mlflow.genai.datasets.get_dataset(name="golden").to_df()
    assert len(records) == 8
    assert {"question"} == {key for inputs in records["inputs"] for key in inputs}
    assert all("retrieved_context" in expectations for expectations in records["expectations"])


def test_the_format_must_be_known(places: dict[str, str]) -> None:
    told = run("dataset", "create", "--from", places["delta"], "--out", "x.csv", code=2).output
    assert "ends with .jsonl or .parquet" in told
    nowhere = run("dataset", "create", "--from", places["delta"], "--out", "/no/such/place/x.jsonl", code=2).output
    assert "there is no directory /no/such/place" in nowhere


def test_a_dataset_of_a_wrong_filter_is_told(place: str, tmp_path: Path) -> None:
    out = tmp_path / "none.jsonl"
    assert "'foo'" in run("dataset", "create", "--from", place, "--where", "foo", "--out", str(out), code=2).output
    assert not out.exists()


@scorer
def mentions_a_number(outputs: Any) -> bool:
    return "number" in outputs["answer"]


@scorer
def context_length(expectations: dict[str, Any]) -> int:
    return sum(len(document["content"]) for document in expectations["retrieved_context"])


def test_evaluated_offline_and_judgements_written_back(place: str, tmp_path: Path) -> None:
    store: Store = open_store(place)
    golden = dataset.distinct(dataset.examples(store.search(None, None, 100)))
    mlflow.set_tracking_uri(sqlite_store(tmp_path / "evaluation.db"))
    result = mlflow.genai.evaluate(data=dataset.rows(golden), scorers=[mentions_a_number, context_length])
    assert result.metrics["mentions_a_number/mean"] == 1.0
    judged = result.result_df
    by_question = {row["request"]["question"]: row for row in judged.to_dict("records")}
    results = [by_question[example.inputs["question"]] for example in golden]
    for _ in range(2 if place.startswith("/") else 1):  # MLflow gives assessments ids of its own
        assert dataset.write_back(store, golden, results, ["mentions_a_number", "context_length"]) == 16
    found = store.search("feedback.mentions_a_number = 'true'", None, 100)
    assert {t["info"]["trace_id"] for t in found} == {e.trace_id for e in golden}
    names = sorted(a["assessment_name"] for a in found[-1]["info"]["assessments"])
    assert names == ["context_length", "mentions_a_number", "relevance"]


def test_reports_say_the_same_of_either_store(places: dict[str, str], tmp_path: Path) -> None:
    """All figures, but for percentiles, which tables estimate, and for frameworks, which MLflow does not keep."""
    for since, until in ((None, None), (date(2025, 11, 25), date(2025, 11, 25)), (date(2025, 11, 26), None)):
        made = {name: open_store(where).report(since, until, 20) for name, where in places.items()}
        exact = made["mlflow"]
        for name in ("delta", "delta v2"):
            said = made[name]
            assert (said.first, said.last) == (exact.first, exact.last)
            assert _figures([said.total, *said.days]) == _figures([exact.total, *exact.days])
            assert {group: _figures(rows) for group, rows in said.groups.items() if group != "framework"} == {
                group: _figures(rows) for group, rows in exact.groups.items()
            }
    shown = run("report", "--store", places["mlflow"]).output
    assert "12 traces, 48 spans, 0 traces failed, 66 + 84 tokens, $3.0000" in shown
    assert "greeting 1" in shown
    assert "by framework" not in shown
    page = tmp_path / "report.html"
    run("report", "--store", places["mlflow"], "--html", str(page))
    assert "model 2" in page.read_text()
    missing = run("report", "--store", places["mlflow"], "--experiment", "none such", code=2).output
    assert "there is no experiment 'none such'" in missing


def test_a_database_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    where = tmp_path / "nowhere.db"
    for command in (
        ["traces", "search"],
        ["traces", "show", "1"],
        ["report"],
        ["dataset", "create", "--out", "x.jsonl"],
    ):
        assert f"there is no database {where}" in run(*command, "--store", f"sqlite:///{where}", code=2).output
    assert not where.exists()


def _figures(rows: Sequence[Row]) -> list[tuple[object, ...]]:
    return [
        (r.name, r.spans, r.traces, r.errors, r.input_tokens, r.output_tokens, pytest.approx(r.cost),
         pytest.approx(r.p50_ms, rel=0.2), pytest.approx(r.p95_ms, rel=0.2))
        for r in rows
    ]  # fmt: skip
