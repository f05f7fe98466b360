"""Files beside the payload table, for requests and responses that are too large to stand in it."""

from typing import TYPE_CHECKING, Any

from spanweir.exporters.api import Retry
from spanweir.exporters.delta.payload import Payload, Stored, stored

if TYPE_CHECKING:
    from spanweir.exporters.delta import Config

_FOLDER = "payload_overflow"


def directory(config: "Config") -> str:
    """`{path}/{prefix}_payload_overflow`: one folder a day, files `{databricks_request_id}.response.json`."""
    return config.table_uri(_FOLDER)


class Overflow:
    """Writes and reads the files, on disk or in the object store, by delta-rs' own file system."""

    def __init__(self, uri: str, storage_options: dict[str, str]) -> None:
        self._uri, self._options = uri, storage_options
        self._waiting: dict[str, bytes] = {}
        self._handler: Any = None

    def add(self, row: Payload) -> None:
        """Keep the row's overflow for `write`."""
        for name, content in row.overflow.items():
            self._waiting[f"{row.day}/{name}"] = content

    def write(self) -> None:
        """Write what was added. Raises `Retry`."""
        for name, content in list(self._waiting.items()):
            try:
                stream = self._files().open_output_stream(name, None)
                stream.write(content)
                stream.close()
            except Exception as error:
                raise Retry(f"{self._uri}/{name}: {error}", after_s=1.0) from error
            del self._waiting[name]

    def read(self, day: int, name: str) -> bytes | None:
        """None where there is no such file."""
        path = f"{day}/{name}"
        if path in self._waiting:
            return self._waiting[path]
        try:
            stream = self._files().open_input_file(path)
            size = stream.size()
            return bytes(stream.read(size))
        except FileNotFoundError:
            return None

    def stored(self, request_id: str, day: int, request: str | None, response: str | None) -> Stored:
        """The parts of a row, with what stands in files. Raises ValueError if there is no trace in it."""
        whole: str | bytes | None = response
        if whole is None:
            whole = self.read(day, f"{request_id}.response.json")
        if whole is None:
            raise ValueError("there is neither a response nor a file that holds it")
        return stored(request if request is not None else self.read(day, f"{request_id}.request.json"), whole)

    def _files(self) -> Any:
        if self._handler is None:
            from deltalake._internal import DeltaFileSystemHandler

            self._handler = DeltaFileSystemHandler(self._uri, self._options)
        return self._handler
