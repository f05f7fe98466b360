"""Experiments by name or id, created on demand.

They are asked for in every batch's transaction: one statement, and a deleted, restored or renamed experiment is
noticed at once, where a cache would go on writing into it.
"""

from collections.abc import Collection
from typing import Any, Final

import msgspec

from spanweir.exporters.mlflow.database import Database, marks

NAME_CHARS: Final = 256
DEFAULT_WORKSPACE: Final = "default"


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


def missing_workspace(database: Database, workspace: str) -> str | None:
    """Why MLflow would never show what is written to this workspace; None if it exists, for all that is known here.

    A server may keep its workspaces elsewhere (`--workspace-store-uri`); then their experiments say that they exist.
    """
    if workspace == DEFAULT_WORKSPACE:
        return None
    names = sorted(row[0] for row in database.select("SELECT name FROM workspaces"))
    if workspace in names or database.select("SELECT 1 FROM experiments WHERE workspace = ? LIMIT 1", [workspace]):
        return None
    return (
        f"{database.place} has no workspace {workspace!r}, but {', '.join(map(repr, names))}; create it in MLflow first"
    )


def create(database: Database, name: str, *, workspace: str, artifact_root: str, now_ms: int) -> Experiment:
    """Inside a transaction. Raises the driver's integrity error if another writer creates it at the same time."""
    experiment_id = database.insert_id(
        "INSERT INTO experiments (name, artifact_location, lifecycle_stage, creation_time, last_update_time, workspace)"
        " VALUES (?, '', 'active', ?, ?, ?)",
        [name, now_ms, now_ms, workspace],
        "experiment_id",
    )
    location = f"{_root(database, workspace, artifact_root).rstrip('/')}/{experiment_id}"
    database.execute("UPDATE experiments SET artifact_location = ? WHERE experiment_id = ?", [location, experiment_id])
    return Experiment(experiment_id, name, location, True)


def _root(database: Database, workspace: str, artifact_root: str) -> str:
    """MLflow 3.18 `SqlAlchemyWorkspaceStore._get_artifact_location`: its server serves a workspace no other place.

    The default one has its experiments where they were before there were workspaces.
    """
    if workspace == DEFAULT_WORKSPACE:
        return artifact_root
    found = database.select("SELECT default_artifact_root FROM workspaces WHERE name = ?", [workspace])
    return (found[0][0] if found else None) or f"{artifact_root.rstrip('/')}/workspaces/{workspace}"


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
