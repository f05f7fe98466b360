"""Each coding agent's documented shapes, one by one.

`tests/golden/agents/<agent>/<case>/records.json` says what is sent and why, `expected.json` the traces that come of it.
Run with `SPANWEIR_WRITE_GOLDEN=1` to write what comes, and read the difference.
"""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.support.agents import Replay, load, records, shown

GOLDEN = Path(__file__).parents[2] / "golden" / "agents"
CASES = sorted(path.parent for path in GOLDEN.glob("*/*/records.json"))


def made_of(directory: Path) -> dict[str, Any]:
    replay = Replay()
    for record in records(load(directory / "records.json")):
        replay.put([record])
    replay.finish()
    return {"counters": dict(sorted(replay.agents.counters.items())), "traces": shown(replay.stored)}


@pytest.mark.parametrize("directory", CASES, ids=lambda path: f"{path.parent.name}-{path.name}")
def test_records_become_traces(directory: Path) -> None:
    made = json.loads(json.dumps(made_of(directory)))
    if os.environ.get("SPANWEIR_WRITE_GOLDEN"):
        (directory / "expected.json").write_text(json.dumps(made, indent=1, ensure_ascii=False) + "\n")
    assert made == load(directory / "expected.json")


def test_every_agent_has_cases() -> None:
    from spanweir.schemas.agents import names

    assert {path.parent.name.replace("_", "-") for path in CASES} == set(names())
