"""Tables that Unity Catalog names, `uc://catalog.schema.table`: where they lie, and credentials to reach them.

Asked over the catalog's REST interface (`/api/2.1/unity-catalog/tables/…` and `…/temporary-table-credentials`), of
Databricks and of the open-source server. delta-rs can open such tables too, but does not hand over the credentials,
and files are written without it. Not here: creating tables in the catalog.
"""

import os
import threading
import time
from collections.abc import Mapping
from typing import Any, Final

import msgspec
import orjson
import urllib3

from spanweir.exporters.api import Permanent, Retry

SCHEME: Final = "uc://"
_URL: Final = ("unity_workspace_url", "databricks_workspace_url", "databricks_host")
_TOKEN: Final = ("unity_access_token", "databricks_access_token", "databricks_token")
_OWN: Final = (*_URL, *_TOKEN)
_MARGIN_S: Final = 120.0
_LONG_S: Final = 3600.0
_CREDENTIALS: Final = {
    "aws_temp_credentials": {
        "access_key_id": "aws_access_key_id", "secret_access_key": "aws_secret_access_key",
        "session_token": "aws_session_token",
    },
    "azure_user_delegation_sas": {"sas_token": "azure_storage_sas_token"},
    "azure_aad": {"aad_token": "azure_storage_token"},
}  # fmt: skip
"""By kind: members of the answer, and the storage options that they become."""


class Place(msgspec.Struct, frozen=True):
    """Where a table lies. `until` is Unix time in seconds; after it the options need not hold."""

    uri: str
    options: dict[str, str]
    until: float

    @property
    def current(self) -> bool:
        return time.time() < self.until


_places: dict[tuple[str, str, frozenset[tuple[str, str]]], Place] = {}
_lock: Final = threading.Lock()


def place(uri: str, options: Mapping[str, str]) -> Place:
    """Of any URI: itself, unless it begins with `uc://`. What comes after the table's name stays a folder below it.

    Raises `Permanent` and `Retry`.
    """
    if not uri.startswith(SCHEME):
        return Place(uri, dict(options), float("inf"))
    name, _, below = uri.removeprefix(SCHEME).partition("/")
    lowered = {key.lower(): value for key, value in options.items()}
    server = _setting(_URL, lowered)
    if server is None:
        raise Permanent(f"{uri}: name the workspace's URL as unity_workspace_url in storage_options")
    key = (server, name, frozenset(lowered.items()))
    with _lock:
        found = _places.get(key)
        if found is None or not found.current:
            found = _places[key] = _asked(server, name, lowered)
    return Place(f"{found.uri}/{below}" if below else found.uri, found.options, found.until)


def _setting(names: tuple[str, ...], options: Mapping[str, str]) -> str | None:
    given = (options.get(name) or os.environ.get(name.upper()) for name in names)
    return next((value for value in given if value), None)


def _asked(server: str, name: str, options: Mapping[str, str]) -> Place:
    server = server.rstrip("/") if "://" in server else f"https://{server.rstrip('/')}"
    base = f"{server}/api/2.1/unity-catalog"
    token = _setting(_TOKEN, options)
    table = _call("GET", f"{base}/tables/{name}", token, name)
    location, kind = str(table.get("storage_location") or ""), str(table.get("data_source_format") or "DELTA")
    if not location or kind.upper() != "DELTA":
        raise Permanent(f"{SCHEME}{name} is no Delta table with a place of its own (format {kind})")
    asked = {"table_id": table["table_id"], "operation": "READ_WRITE"}
    answer = _call("POST", f"{base}/temporary-table-credentials", token, name, asked)
    made = {key: value for key, value in options.items() if key not in _OWN}
    for of, members in _CREDENTIALS.items():
        if isinstance(given := answer.get(of), dict):
            made |= {option: given[member] for member, option in members.items() if given.get(member)}
    if answer.get("gcp_oauth_token"):
        raise Permanent(f"{SCHEME}{name} lies in Google Cloud Storage, whose tokens of the catalog cannot be used yet")
    ends = answer.get("expiration_time")
    until = float(ends) / 1000 - _MARGIN_S if ends else time.time() + _LONG_S
    return Place(location.rstrip("/"), made, until)


def _call(method: str, url: str, token: str | None, name: str, body: Any = None) -> dict[str, Any]:
    headers = {"accept": "application/json", "content-type": "application/json"}
    if token:
        headers["authorization"] = f"Bearer {token}"
    try:
        answer = urllib3.request(
            method, url, headers=headers, body=None if body is None else orjson.dumps(body), timeout=30.0, retries=False
        )
    except (urllib3.exceptions.HTTPError, OSError) as error:
        raise Retry(f"{SCHEME}{name}: Unity Catalog cannot be reached at {url}: {error}", after_s=5.0) from error
    said = " ".join(answer.data[:300].decode(errors="replace").split())
    if answer.status in (401, 403):
        raise Permanent(
            f"{SCHEME}{name}: Unity Catalog refuses access ({answer.status} {said}); check unity_access_token in "
            "storage_options, and that MODIFY and SELECT on the table and EXTERNAL USE SCHEMA are granted"
        )
    if answer.status == 404:
        raise Permanent(f"{SCHEME}{name}: there is no such table in Unity Catalog ({said}); create it there first")
    if answer.status != 200:
        raise Retry(f"{SCHEME}{name}: Unity Catalog answers {answer.status} {said}", after_s=5.0)
    found = orjson.loads(answer.data)
    return found if isinstance(found, dict) else {}
