"""Databases for the store tests: one of ours and one of MLflow's on each backend, made once a session."""

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import msgspec
import pytest
import sqlalchemy

from spanweir.exporters.api import Context, Exporter
from spanweir.exporters.mlflow import Config
from spanweir.exporters.mlflow.schema import with_driver
from tests.support import servers
from tests.support.stores import sqlite_store

BACKENDS = ("sqlite", "postgresql", "mysql")


class Pair(msgspec.Struct, frozen=True):
    """Two databases of one backend at MLflow's newest schema, with the same artifact root."""

    ours: str
    theirs: str
    artifact_root: str
    daemon: servers.Daemon | None = None
    """The databases' server, if they have one."""

    def exporter(self, **settings: object) -> Exporter:
        settings = {"tracking_uri": self.ours, "artifact_root": self.artifact_root, **settings}
        return Config(**settings).build(Context(name="mlflow", state_directory=""))  # type: ignore[arg-type]


def create(uri: str, artifact_root: str) -> None:
    """As the exporter does it when it finds nothing."""
    with Config(tracking_uri=uri, artifact_root=artifact_root).build(Context(name="mlflow", state_directory="")):
        pass


@pytest.fixture(scope="session")
def artifact_root(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tmp_path_factory.mktemp("artifacts"))


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory, artifact_root: str) -> Path:
    """A SQLite file at MLflow's newest schema, for copying."""
    path = tmp_path_factory.mktemp("empty") / "mlflow.db"
    sqlite_store(path, artifact_root)
    return path


@pytest.fixture
def sqlite_path(tmp_path: Path, empty_database: Path) -> Path:
    return Path(shutil.copy(empty_database, tmp_path / "mlflow.db"))


@pytest.fixture(scope="session")
def pairs(
    tmp_path_factory: pytest.TempPathFactory, empty_database: Path, artifact_root: str
) -> Iterator[Callable[[str], Pair]]:
    """Backend name -> its databases, started when first asked for."""
    made: dict[str, Pair] = {}
    with ExitStack() as stack:
        # Servers run as another user, who may not look into pytest's own directories.
        place = Path(tempfile.mkdtemp(prefix="spanweir-"))
        stack.callback(shutil.rmtree, place, ignore_errors=True)
        place.chmod(0o755)

        def pair(backend: str) -> Pair:
            if backend not in made:
                made[backend] = start(backend)
            return made[backend]

        def start(backend: str) -> Pair:
            directory = place / backend
            directory.mkdir()
            if backend == "sqlite":
                ours, theirs = (shutil.copy(empty_database, tmp_path_factory.mktemp(n) / "a.db") for n in "ab")
                return Pair(f"sqlite:///{ours}", f"sqlite:///{theirs}", artifact_root)
            if backend == "postgresql":
                if not servers.find("postgres"):
                    pytest.skip("PostgreSQL is not installed")
                daemon = stack.enter_context(servers.postgresql_daemon(directory))
                server = daemon.uri
                execute(f"{server}/postgres", "CREATE DATABASE ours")
                create(f"{server}/ours", artifact_root)
                execute(f"{server}/postgres", "CREATE DATABASE theirs TEMPLATE ours")
            else:
                if not servers.find("mariadbd", "mysqld"):
                    pytest.skip("MariaDB is not installed")
                daemon = stack.enter_context(servers.mariadb_daemon(directory))
                server = daemon.uri
                execute(f"{server}/mysql", "CREATE DATABASE ours", "CREATE DATABASE theirs")
                create(f"{server}/ours", artifact_root)
                execute(f"{server}/mysql", *_copies(f"{server}/ours", "ours", "theirs"))
            return Pair(f"{server}/ours", f"{server}/theirs", artifact_root, daemon)

        yield pair


@pytest.fixture(scope="session", params=BACKENDS)
def pair(request: pytest.FixtureRequest, pairs: Callable[[str], Pair]) -> Pair:
    return pairs(request.param)


def execute(uri: str, *statements: str) -> None:
    engine = sqlalchemy.create_engine(with_driver(uri), isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        for statement in statements:
            connection.execute(sqlalchemy.text(statement))
    engine.dispose()


def _copies(uri: str, source: str, target: str) -> list[str]:
    """MariaDB has no template databases, and MLflow's migrations take ten seconds there."""
    engine = sqlalchemy.create_engine(with_driver(uri))
    names = sqlalchemy.inspect(engine).get_table_names()
    engine.dispose()
    tables = [f"CREATE TABLE {target}.`{name}` LIKE {source}.`{name}`" for name in names]
    filled = ("alembic_version", "experiments", "workspaces")
    no_auto = "SET sql_mode = 'NO_AUTO_VALUE_ON_ZERO'"
    return [*tables, no_auto, *(f"INSERT INTO {target}.{name} SELECT * FROM {source}.{name}" for name in filled)]
