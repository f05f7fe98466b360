"""Who a tracking server takes us for: its address, and the headers of each request.

`http(s)` servers take basic authentication, a bearer token, or any headers; Databricks is found through a profile of
`~/.databrickscfg` or the DATABRICKS_* variables, with a token or a service principal's secret (OAuth).
"""

import base64
import configparser
import os
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Protocol
from urllib.parse import urlencode, urlsplit, urlunsplit

import orjson

from spanweir.exporters.api import Permanent, Retry

EXPERIMENT_HEADER: Final = "x-mlflow-experiment-id"
WORKSPACE_HEADER: Final = "x-mlflow-workspace"
TABLE_HEADER: Final = "x-databricks-uc-table-name"
SPANS_SUFFIX: Final = "_otel_spans"
SCHEMA_TABLE: Final = "mlflow_experiment_trace_otel_spans"
"""The table of a schema whose tables have no prefix of their own."""
EARLY_S: Final = 60.0
"""A token is renewed this long before it expires."""


class Credentials(Protocol):
    """Who sends to a tracking server, and what of its URLs and headers depends on that."""

    @property
    def host(self) -> str:
        """The URL that paths are added to, without credentials."""
        ...

    @property
    def spans_path(self) -> str: ...
    @property
    def location(self) -> str:
        """Where in Unity Catalog the traces are, `catalog.schema.prefix` or `catalog.schema`; empty: in experiments."""
        ...

    def spans_headers(self, experiment_id: str) -> dict[str, str]:
        """What a request with spans says beside who sends it."""
        ...

    def headers(self, pool: Any) -> dict[str, str]:
        """May ask for a token through `pool` (a urllib3 pool). Raises Retry if there is none now."""
        ...

    def forget(self) -> None:
        """The server did not accept the last headers."""
        ...


class Server:
    """A tracking server. What the configuration leaves out is taken from MLflow's own variables."""

    spans_path = "/v1/traces"
    location = ""

    def __init__(
        self, uri: str, *, username: str, password: str, token: str, workspace: str, headers: Mapping[str, str]
    ) -> None:
        parts = urlsplit(uri)
        self.host = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2])).rstrip("/")
        username = username or parts.username or os.environ.get("MLFLOW_TRACKING_USERNAME", "")
        password = password or parts.password or os.environ.get("MLFLOW_TRACKING_PASSWORD", "")
        token = token or ("" if username else os.environ.get("MLFLOW_TRACKING_TOKEN", ""))
        self._headers: dict[str, str] = {}
        if username:
            encoded = base64.b64encode(f"{username}:{password}".encode()).decode()
            self._headers["authorization"] = f"Basic {encoded}"
        elif token:
            self._headers["authorization"] = f"Bearer {token}"
        if workspace != "default":
            # A server without workspaces answers 500 to this header.
            self._headers[WORKSPACE_HEADER] = workspace
        self._headers.update((name.lower(), value) for name, value in headers.items())

    def spans_headers(self, experiment_id: str) -> dict[str, str]:
        return {EXPERIMENT_HEADER: experiment_id}

    def headers(self, pool: Any) -> dict[str, str]:
        return self._headers

    def forget(self) -> None:
        return


class Databricks:
    """A Databricks workspace. Its OTLP endpoint writes to a Unity Catalog table, which has to be named."""

    spans_path = "/api/2.0/otel/v1/traces"

    def __init__(self, uri: str, *, table: str) -> None:
        """Raises Permanent if the profile does not say where the workspace is, or no table of spans is named."""
        settings = _profile(urlsplit(uri).netloc or os.environ.get("DATABRICKS_CONFIG_PROFILE", ""))
        self.host = settings.get("host", "").rstrip("/")
        if not self.host:
            raise Permanent(f"{uri}: no host in the profile of ~/.databrickscfg nor in DATABRICKS_HOST")
        if not table:
            raise Permanent("databricks: spans_table must name the experiment's spans table, as catalog.schema.table")
        if not self.host.startswith("http"):
            self.host = f"https://{self.host}"
        self._settings = settings
        self._table = table
        self.location = _location(table)
        self._token, self._until = settings.get("token", ""), float("inf")
        self._lock = threading.Lock()

    def spans_headers(self, experiment_id: str) -> dict[str, str]:
        return {TABLE_HEADER: self._table}

    def headers(self, pool: Any) -> dict[str, str]:
        with self._lock:
            if not self._token or self._until < time.monotonic():
                self._token, self._until = self._new_token(pool)
            return {"authorization": f"Bearer {self._token}"}

    def forget(self) -> None:
        if "client_id" in self._settings:
            with self._lock:
                self._token = ""

    def _new_token(self, pool: Any) -> tuple[str, float]:
        identity, secret = self._settings.get("client_id", ""), self._settings.get("client_secret", "")
        if not identity or not secret:
            raise Retry(f"{self.host}: neither a token nor client_id and client_secret are configured", after_s=30.0)
        encoded = base64.b64encode(f"{identity}:{secret}".encode()).decode()
        answer = pool.request(
            "POST",
            f"{self.host}/oidc/v1/token",
            body=urlencode({"grant_type": "client_credentials", "scope": "all-apis"}),
            headers={"authorization": f"Basic {encoded}", "content-type": "application/x-www-form-urlencoded"},
        )
        if answer.status != 200:
            raise Retry(f"{self.host}/oidc/v1/token: HTTP {answer.status}", after_s=30.0)
        given = orjson.loads(answer.data)
        return given["access_token"], time.monotonic() + float(given.get("expires_in", 3600)) - EARLY_S


def _location(table: str) -> str:
    """MLflow names the table of spans after the place of its traces (3.18 `entities/trace_location.py`)."""
    catalog, _, rest = table.partition(".")
    schema, _, name = rest.partition(".")
    if f"{catalog}.{schema}.{SCHEMA_TABLE}" == table:
        return f"{catalog}.{schema}"
    prefix = name.removesuffix(SPANS_SUFFIX)
    if not catalog or not schema or not prefix or prefix == name or "." in name:
        raise Permanent(
            f"databricks: spans_table {table!r} is not a table of spans as MLflow names them, "
            f"catalog.schema.<prefix>{SPANS_SUFFIX}"
        )
    return f"{catalog}.{schema}.{prefix}"


def _profile(name: str) -> dict[str, str]:
    """Settings of a profile; without a name the variables, then the profile DEFAULT."""
    names = ("host", "token", "client_id", "client_secret")
    found = {key: os.environ.get(f"DATABRICKS_{key.upper()}", "") for key in names}
    if name or not found["host"]:
        path = Path(os.environ.get("DATABRICKS_CONFIG_FILE", "~/.databrickscfg")).expanduser()
        parser = configparser.ConfigParser(interpolation=None)
        parser.read(path)
        if name and name != parser.default_section and not parser.has_section(name):
            raise Permanent(f"databricks://{name}: there is no profile {name} in {path}")
        section = parser[name or parser.default_section]
        found = {key: section.get(key, "") for key in names}
    return {key: value for key, value in found.items() if value}
