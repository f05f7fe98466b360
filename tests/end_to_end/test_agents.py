"""Coding agents through the whole service: one trace for each turn, in both stores, also when records come late."""

import sqlite3
import time
from pathlib import Path

import pytest
from deltalake import DeltaTable

from spanweir.exporters.encode import spans_request
from spanweir.schemas.raw import RawLog, RawSpan
from tests.support.agents import Record, load, logs_request, records
from tests.support.service import Service, eventually
from tests.support.stores import sqlite_store

GOLDEN = Path(__file__).parents[1] / "golden" / "agents"


def send(service: Service, sent: list[Record]) -> None:
    spans = [record for record in sent if isinstance(record, RawSpan)]
    logs = [record for record in sent if isinstance(record, RawLog)]
    if spans:
        assert service.post(spans_request((raw, raw.attributes) for raw in spans))[0] == 200
    if logs:
        assert service.post(logs_request(logs), "logs")[0] == 200


def stored(service: Service) -> list[tuple[str, str, str]]:
    """Trace id, name and type of the spans in the MLflow store."""
    try:
        with sqlite3.connect(service.database) as database:
            return sorted(database.execute("select trace_id, name, type from spans"))
    except sqlite3.OperationalError:
        return []


def traces(service: Service) -> set[str]:
    with sqlite3.connect(service.database) as database:
        return {row[0] for row in database.execute("select request_id from trace_info")}


def delta_spans(service: Service) -> list[str]:
    try:
        rows = DeltaTable(str(service.directory / "tables" / "spanweir_otel_spans")).to_pyarrow_table().to_pylist()
    except Exception:
        return []
    return sorted(row["name"] for row in rows)


@pytest.mark.slow
def test_a_turn_of_spans_and_logs_is_one_trace_in_both_stores(tmp_path: Path) -> None:
    sqlite_store(tmp_path / "mlflow.db")
    with Service(tmp_path) as service:
        send(service, records(load(GOLDEN / "claude_code" / "trace_and_logs" / "records.json")))
        names = ["chat claude-x", "chat claude-x", "execute_tool Bash", "invoke_agent claude-code"]
        eventually(lambda: [name for _, name, _ in stored(service)] == names, what="the turn in the MLflow store")
        eventually(lambda: delta_spans(service) == names, what="the turn in the Delta table")
        assert {kind for _, _, kind in stored(service)} == {"CHAT_MODEL", "TOOL", "AGENT"}
        assert len(traces(service)) == 1
        left_out = "spanweir_agents_dropped_spans"
        eventually(lambda: service.metrics().get(left_out) == 2, what="one internal and one merged span counted")


@pytest.mark.slow
def test_a_trace_made_of_log_records_goes_when_its_spans_come(tmp_path: Path) -> None:
    """The prompt's record has no ids: until the spans come, it is a trace of its own."""
    sent = records(load(GOLDEN / "qwen_code" / "trace" / "records.json"))
    prompt = [record for record in sent if isinstance(record, RawLog) and "prompt" in record.attributes]
    sqlite_store(tmp_path / "mlflow.db")
    with Service(tmp_path) as service:
        send(service, prompt)
        eventually(lambda: len(stored(service)) == 1, what="a trace of the prompt alone", timeout_s=60)
        (alone,) = traces(service)
        send(service, [record for record in sent if record not in prompt])
        eventually(lambda: alone not in traces(service), what="that trace to go", timeout_s=60)
        eventually(lambda: len(traces(service)) == 2, what="the turn and the background agent")
        assert [kind for _, _, kind in stored(service)].count("TOOL") == 2


@pytest.mark.slow
def test_a_stored_turn_is_amended_also_after_a_crash(tmp_path: Path) -> None:
    """What is held of open turns is read again from the queue: an answer that comes after kill -9 finds its turn."""
    sent = records(load(GOLDEN / "claude_code" / "trace_and_logs" / "records.json"))
    sqlite_store(tmp_path / "mlflow.db")
    service = Service(tmp_path)
    service.start()
    try:
        send(service, [record for record in sent if isinstance(record, RawSpan)])
        eventually(lambda: len(stored(service)) == 4, what="the turn without its answer")
        time.sleep(12)  # twice the snapshot interval
        service.kill()
        service.start()
        send(service, [record for record in sent if isinstance(record, RawLog)])
        eventually(lambda: answers(service) == ["a.txt and b.txt"], what="the answer")
        assert len(stored(service)) == 4
    finally:
        service.stop()


def answers(service: Service) -> list[str]:
    with sqlite3.connect(service.database) as database:
        return [row[0] for row in database.execute("select response_preview from trace_info")]
