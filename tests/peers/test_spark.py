"""Apache Spark with Delta Lake reads what the exporter writes, in both layouts, and adds up to the same sums."""

import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from spanweir.exporters.api import Batch, Context
from spanweir.exporters.delta import Config
from spanweir.exporters.delta.analytics import Dialect, Row, report, statements
from spanweir.schemas.options import Duration
from tests.support.object_stores import installed
from tests.support.traces import trace

pytestmark = [pytest.mark.external, pytest.mark.slow, pytest.mark.timeout(900)]
JARS = ("io.delta:delta-spark_2.13:4.0.0", "io.delta:delta-storage:4.0.0", "org.antlr:antlr4-runtime:4.13.1")


@pytest.fixture(scope="module")
def spark(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A folder with PySpark, and the jars of Delta Lake."""
    place = tmp_path_factory.mktemp("spark")
    for artifact in JARS:
        copy = ["mvn", "-q", "-B", "dependency:copy", f"-Dartifact={artifact}", f"-DoutputDirectory={place}/jars"]
        installed(copy, place)
    installed([sys.executable, "-m", "pip", "install", "-q", "--target", "python", "pyspark==4.0.0"], place)
    return place / "python", ",".join(str(jar) for jar in sorted((place / "jars").glob("*.jar")))


def rows(found: list[list[Any]]) -> list[dict[str, Any]]:
    """Without durations, which Spark computes in another way."""
    names = [name for name in Row.__struct_fields__ if not name.endswith("_ms")]
    return [dict(zip(names, row, strict=False)) for row in found]


@pytest.mark.parametrize(("version", "dialect"), [("v1", "spark"), ("v2", "spark-v2")])
def test_spark_reads_the_tables(spark: tuple[Path, str], tmp_path: Path, version: Any, dialect: Dialect) -> None:
    config = Config(path=str(tmp_path / "tables"), schema_version=version, maintenance_interval=Duration(0))
    rng = random.Random(5)
    with config.build(Context(name="delta", state_directory=str(tmp_path / "state"))) as exporter:
        for sequence in range(1, 4):
            spans, row = trace(rng)
            spans[2].own["mlflow.chat.tokenUsage"] = '{"input_tokens": 12, "output_tokens": 3}'
            spans[2].own["mlflow.llm.cost"] = '{"total_cost": 0.25}'
            exporter.export(Batch(first=sequence, last=sequence, spans=spans, traces=[row]))
        exporter.export(Batch(first=3, last=3, spans=spans, traces=[row]))
    names = ["otel_spans", "payload", "otel_logs", "otel_metrics", "otel_annotations"]
    asked = {
        "tables": {name: config.table_uri(name) for name in names},
        "statements": {**statements(dialect=dialect), **{name: f"SELECT count(*) FROM {name}" for name in names}},
    }
    python, jars = spark
    done = subprocess.run(
        [sys.executable, str(Path(__file__).parent / "spark" / "read.py"), jars],
        input=json.dumps(asked), env={**os.environ, "PYTHONPATH": str(python), "SPARK_LOCAL_IP": "127.0.0.1"},
        capture_output=True, text=True, timeout=280,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert [found[name] for name in names] == [[[12]], [[3]], [[0]], [[0]], [[12]]]
    made = report(config)
    for name in ("model", "framework", "service"):
        expected = [msgspec.to_builtins(row) for row in made.groups[name]]
        assert rows(found[name]) == [{k: v for k, v in row.items() if not k.endswith("_ms")} for row in expected]
    assert found["total"][0][4:7] == [36, 9, 0.75]
