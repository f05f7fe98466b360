"""Experiments by name or id, created on demand.

They are asked for in every batch's transaction: one statement, and a deleted, restored or renamed experiment is
noticed at once, where a cache would go on writing into it.
"""

from collections.abc import Collection
from typing import Any, Final

import msgspec

from spanweir.exporters.mlflow.database import Database, marks

NAME_CHARS: Final = 256


class Experiment(msgspec.Struct, frozen=True):
    """A row of `experiments`; one that was deleted is not `active`."""

    experiment_id: int
    name: str
    artifact_location: str
    active: bool


def find(database: Database, keys: Collection[str], workspace: str) -> dict[str, Experiment]:
    """Experiments by the name or id they were asked for by; a number is an id first, and only then a name."""
    statement = "SELECT experiment_id, name, artifact_location, lifecycle_stage FROM experiments WHERE workspace = ?"
    found: dict[str, Experiment] = {}
    if ids := [int(key) for key in keys if _is_id(key)]:
        for row in database.select(f"{statement} AND experiment_id IN ({marks(ids)})", [workspace, *ids]):
            found[str(row[0])] = _experiment(row)
    if names := [key for key in keys if key not in found]:
        for row in database.select(f"{statement} AND name IN ({marks(names)})", [workspace, *names]):
            found[row[1]] = _experiment(row)
    return found


def create(database: Database, name: str, *, workspace: str, artifact_root: str, now_ms: int) -> Experiment:
    """Inside a transaction. Raises the driver's integrity error if another writer creates it at the same time."""
    experiment_id = database.insert_id(
        "INSERT INTO experiments (name, artifact_location, lifecycle_stage, creation_time, last_update_time, workspace)"
        " VALUES (?, '', 'active', ?, ?, ?)",
        [name, now_ms, now_ms, workspace],
        "experiment_id",
    )
    location = f"{artifact_root.rstrip('/')}/{experiment_id}"
    database.execute("UPDATE experiments SET artifact_location = ? WHERE experiment_id = ?", [location, experiment_id])
    return Experiment(experiment_id, name, location, True)


def refusal(key: str) -> str | None:
    """Why no experiment can have this name, if none can."""
    if _is_id(key):
        return f"there is no experiment with id {key}"
    if len(key) > NAME_CHARS:
        return f"an experiment's name has at most {NAME_CHARS} characters, this one {len(key)}: {key[:40]}..."
    return None


def _is_id(key: str) -> bool:
    return key.isascii() and key.isdigit() and int(key) < 1 << 31


def _experiment(row: tuple[Any, ...]) -> Experiment:
    return Experiment(int(row[0]), row[1], row[2] or "", row[3] == "active")
