"""Files beside the payload table, for requests and responses that are too large to stand in it."""

from collections.abc import Mapping
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any, Final

from spanweir.exporters.delta.blobs import Blobs
from spanweir.exporters.delta.errors import later
from spanweir.exporters.delta.payload import Payload, Stored, stored
from spanweir.exporters.delta.unity import SCHEME
from spanweir.schemas.inference_table import REQUEST_TOO_LARGE, RESPONSE_TOO_LARGE

if TYPE_CHECKING:
    from spanweir.exporters.delta import Config

_FOLDER: Final = "payload_overflow"
_EPOCH: Final = date(1970, 1, 1)
COLUMNS: Final = ("databricks_request_id", "request_date", "request", "response", "logging_error_codes")
"""Of a row, for `Overflow.stored`."""


def directory(config: "Config") -> str:
    """`{path}/{prefix}_payload_overflow`: files `date=2025-11-25/{databricks_request_id}.response.json`.

    Of tables in Unity Catalog, whose credentials reach no further, a folder in the table that readers do not see.
    """
    if config.path.startswith(SCHEME):
        return f"{config.table_uri('payload')}/_overflow"
    return config.table_uri(_FOLDER)


class Overflow:
    """Writes and reads the files, on disk or in the object store, durably."""

    def __init__(self, uri: str, storage_options: dict[str, str]) -> None:
        self._uri = uri
        self._blobs = Blobs(uri, storage_options)
        self._waiting: dict[str, bytes] = {}

    def add(self, row: Payload) -> None:
        """Keep the row's overflow for `write`."""
        for name, content in row.overflow.items():
            self._waiting[f"{_folder(_EPOCH + timedelta(days=row.day))}/{name}"] = content

    def write(self) -> None:
        """Write what was added. Raises `Retry`."""
        for name, content in list(self._waiting.items()):
            try:
                self._blobs.put(name, content)
            except Exception as error:
                raise later(f"{self._uri}/{name}", error) from error
            del self._waiting[name]

    def read(self, day: date, name: str) -> bytes | None:
        """None where there is no such file."""
        path = f"{_folder(day)}/{name}"
        if path in self._waiting:
            return self._waiting[path]
        try:
            return self._blobs.get(path)
        except FileNotFoundError:
            return None

    def stored(self, row: Mapping[str, Any]) -> Stored:
        """The parts of a row (Python values by column), with what stands in files.

        Raises ValueError if there is no trace in it.
        """
        request, response, codes = row["request"], row["response"], row["logging_error_codes"] or ()
        day, request_id = row["request_date"], row["databricks_request_id"]
        if REQUEST_TOO_LARGE in codes:
            request = self.read(day, f"{request_id}.request.json")
        if RESPONSE_TOO_LARGE in codes:
            response = self.response(row)
        if response is None:
            raise ValueError("there is neither a response nor a file that holds it")
        return stored(request, response)

    def response(self, row: Mapping[str, Any]) -> bytes | None:
        """The response of a row that says it was too large."""
        return self.read(row["request_date"], f"{row['databricks_request_id']}.response.json")

    def expire(self, first_kept: date) -> int:
        """Delete files of days before one; returns how many there were."""
        kept = _folder(first_kept)
        old = [path for path in self._blobs.list() if path.partition("/")[0] < kept]
        for path in old:
            self._blobs.delete(path)
        return len(old)


def _folder(day: date) -> str:
    return f"date={day}"
