"""The MLflow experiment store: traces as MLflow's own tracking server would have written them, in bulk.

`tracking_uri` says where: a database is written directly, a tracking server through its API. MLflow itself is never
imported in this process.

Where to look: for databases `rows` (what is written), `revisions` (which tables), `sql` (the transaction), then
`sqlite`, `postgresql`, `mysql`; for servers `rest`, `wire` (bodies), `credentials`; `fallback` for a database at a
revision that `revisions` does not list.
"""

import os
from pathlib import Path
from typing import Literal
from urllib.parse import quote, urlsplit, urlunsplit

import msgspec

from spanweir.exporters.api import Context, Exporter
from spanweir.exporters.mlflow import schema
from spanweir.exporters.mlflow.database import Database
from spanweir.exporters.mlflow.fallback import FallbackStore, Start
from spanweir.exporters.mlflow.sql import Options, SqlStore
from spanweir.exporters.mlflow.sqlite import Sqlite, path_of
from spanweir.schemas.options import Duration, Secret, Size

SCHEMES = ("sqlite", "postgresql", "mysql", "http", "https", "databricks")


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Write traces to an MLflow experiment store."""

    tracking_uri: str = "sqlite:///mlflow.db"
    """Where MLflow keeps its experiments: `sqlite:///relative.db`, `sqlite:////absolute.db`,
    `postgresql://user:password@host/database`, `mysql://user:password@host/database`, `http://host:5000`, `https://...`,
    `databricks` or `databricks://profile`. A database is written directly, without a server, and much faster."""
    username: str = ""
    """For a tracking server with basic authentication. Default: what the address or MLFLOW_TRACKING_USERNAME says."""
    password: Secret = Secret("")
    """Password for the database or the tracking server, so that it need not stand in `tracking_uri`. Default for a
    server: MLFLOW_TRACKING_PASSWORD."""
    token: Secret = Secret("")
    """Bearer token for a tracking server. Default: MLFLOW_TRACKING_TOKEN."""
    headers: dict[str, Secret] = {}
    """Sent with every request to a tracking server, for whatever stands in front of it."""
    ca_file: str = ""
    """PEM file of the authorities to trust instead of the system's, for https. Default:
    MLFLOW_TRACKING_SERVER_CERT_PATH."""
    timeout: Duration = Duration(60)
    """For one request to a tracking server."""
    connections: int = 4
    """How many requests to a tracking server may be under way at once."""
    spans_table: str = ""
    """Databricks: the Unity Catalog table of the experiment's spans, `catalog.schema.<prefix>_otel_spans`. Traces go
    there and nowhere else, whatever experiment they are routed to."""
    experiment: str = "Default"
    """Name or id of the experiment of traces that no routing rule sent elsewhere."""
    create_experiments: bool = True
    """Create an experiment that does not exist. Otherwise its traces are set aside."""
    create_schema: bool = True
    """Let MLflow create its tables in an empty database. Otherwise an empty database is refused."""
    workspace: str = "default"
    """MLflow workspace whose experiments are meant. It has to exist."""
    artifact_root: str = ""
    """Where artifacts of experiments created here are kept. Empty: `mlartifacts` beside a SQLite file, else
    `mlflow-artifacts:`, which is the tracking server's own root."""
    artifact_server: str = ""
    """Tracking server that serves `mlflow-artifacts:` locations, for attachments of experiments that have one.
    Default: MLFLOW_TRACKING_URI, if it is one."""
    attachment_min_bytes: Size = Size(64 * 1024)
    """Images, audio and other data in base64 from this size on become MLflow attachments in the experiment's artifact
    location, instead of text in the database. 0: never."""
    attachment_min_text_bytes: Size = Size(0)
    """Texts from this size on become attachments too; their beginning stays in the span. 0: never."""
    synchronous: Literal["full", "normal"] = "full"
    """SQLite: `full` waits for the disk at each commit; `normal` does not, and a power failure may then undo the last
    commits although the queue has moved on."""
    rollups: bool | None = None
    """Tell MLflow's daily roll-ups which days to rebuild. Default: as MLFLOW_SQL_TRACE_ROLLUPS_ENABLED says."""

    def __post_init__(self) -> None:
        scheme = _scheme(self.tracking_uri)
        if scheme not in SCHEMES:
            raise ValueError(
                f"tracking_uri {self.tracking_uri.partition(':')[0]!r} is not supported; "
                "use sqlite:///mlflow.db, sqlite:////absolute/mlflow.db, postgresql://..., mysql://..., http://..., "
                "https://..., databricks or databricks://profile"
            )
        if scheme == "sqlite":
            path_of(self.tracking_uri)
        if self.connections < 1:
            raise ValueError("connections must be at least 1")
        if not self.experiment:
            raise ValueError("experiment must name an experiment, for example Default")
        if "{" in self.experiment and "}" in self.experiment:
            raise ValueError(
                f"experiment {self.experiment!r} would be the name of one experiment; to fill in fields,"
                f" use the processor routing: {{rules: [{{template: '{self.experiment}'}}]}}"
            )

    def build(self, context: Context) -> Exporter:
        if self.is_database:
            return SqlStore(self._options(), self._database, self._create, self._fallback)
        return self._rest()

    @property
    def is_database(self) -> bool:
        """Whether traces are written into a database directly, and not through a tracking server."""
        return _scheme(self.tracking_uri) not in ("http", "https", "databricks")

    @property
    def server_uri(self) -> str:
        """`tracking_uri` as MLflow's own server takes it: with driver and password. Not for logs or command lines."""
        return schema.with_driver(self._uri_with_password())

    def has_schema(self) -> bool:
        """Whether MLflow's tables and its Default experiment are in the database. False also if it is out of reach."""
        if not self.is_database:
            return False
        database = self._database()
        try:
            database.open(read_only=True)
            return bool(database.select("SELECT 1 FROM experiments LIMIT 1"))
        except Exception:  # each driver has its own errors for a table that is not there
            return False
        finally:
            database.close()

    def _rest(self) -> Exporter:
        from spanweir.exporters.mlflow import credentials, rest

        ca_file = self.ca_file or os.environ.get("MLFLOW_TRACKING_SERVER_CERT_PATH", "")
        rest.check_ca_file(ca_file)
        options = rest.Options(
            experiment=self.experiment,
            create_experiments=self.create_experiments,
            connections=self.connections,
            timeout_s=float(self.timeout),
            ca_file=ca_file,
            attachment_min_bytes=int(self.attachment_min_bytes),
            attachment_min_text_bytes=int(self.attachment_min_text_bytes),
        )
        if _scheme(self.tracking_uri) == "databricks":
            return rest.RestStore(options, credentials.Databricks(self.tracking_uri, table=self.spans_table))
        server = credentials.Server(
            self.tracking_uri,
            username=self.username,
            password=self.password.reveal(),
            token=self.token.reveal(),
            workspace=self.workspace,
            headers={name: value.reveal() for name, value in self.headers.items()},
        )
        return rest.RestStore(options, server)

    def _database(self) -> Database:
        """A driver is imported only where it is used: both are extras."""
        scheme = _scheme(self.tracking_uri)
        if scheme == "postgresql":
            from spanweir.exporters.mlflow.postgresql import Postgresql

            return Postgresql(self.tracking_uri, password=self.password.reveal())
        if scheme == "mysql":
            from spanweir.exporters.mlflow.mysql import Mysql

            return Mysql(self.tracking_uri, password=self.password.reveal())
        return Sqlite(path_of(self.tracking_uri), synchronous=self.synchronous.upper())

    def _create(self) -> None:
        if not self.create_schema:
            raise schema.SchemaError("the database is empty and create_schema is off; run: mlflow db upgrade <uri>")
        if _scheme(self.tracking_uri) == "sqlite":
            schema.create_file(Path(path_of(self.tracking_uri)).absolute(), self._artifact_root())
        else:
            schema.create_on_server(self._database, self._uri_with_password(), self._artifact_root())

    def _fallback(self) -> Exporter:
        return FallbackStore(
            Start(
                uri=self._uri_with_password(),
                artifact_root=self._artifact_root(),
                experiment=self.experiment,
                create_experiments=self.create_experiments,
            )
        )

    def _uri_with_password(self) -> str:
        parts = urlsplit(self.tracking_uri)
        if not self.password or not parts.hostname:
            return self.tracking_uri
        user = parts.netloc.rpartition("@")[0].partition(":")[0]
        host = parts.netloc.rpartition("@")[2]
        return urlunsplit(parts._replace(netloc=f"{user}:{quote(self.password.reveal(), safe='')}@{host}"))

    def _options(self) -> Options:
        return Options(
            experiment=self.experiment,
            create_experiments=self.create_experiments,
            workspace=self.workspace,
            artifact_root=self._artifact_root(),
            artifact_server=self.artifact_server or _tracking_server(),
            attachment_min_bytes=int(self.attachment_min_bytes),
            attachment_min_text_bytes=int(self.attachment_min_text_bytes),
            rollups=_rollups_enabled() if self.rollups is None else self.rollups,
        )

    def _artifact_root(self) -> str:
        if self.artifact_root:
            return self.artifact_root
        if _scheme(self.tracking_uri) == "sqlite":
            return str(Path(path_of(self.tracking_uri)).absolute().parent / "mlartifacts")
        return "mlflow-artifacts:"


def _scheme(uri: str) -> str:
    """`postgresql+psycopg2` (SQLAlchemy's way to name a driver) is `postgresql`."""
    return (urlsplit(uri).scheme or uri).partition("+")[0]


def _tracking_server() -> str:
    uri = os.environ.get("MLFLOW_TRACKING_URI", "")
    return uri if uri.startswith(("http://", "https://")) else ""


def _rollups_enabled() -> bool:
    return os.environ.get("MLFLOW_SQL_TRACE_ROLLUPS_ENABLED", "").lower() in ("true", "1")
