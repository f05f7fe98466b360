"""Whole files below a directory or an object store's prefix.

obstore rather than the file system that comes with deltalake (1.6): that one keeps the interpreter locked while it
waits for the store.
"""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from spanweir.exporters.api import Permanent
from spanweir.exporters.delta.unity import Place, place

_CLIENT: Final = (
    "timeout", "connect_timeout", "pool_idle_timeout", "pool_max_idle_per_host", "proxy_url", "proxy_ca_certificate",
    "proxy_excludes", "user_agent", "allow_http", "allow_invalid_certificates", "http1_only", "http2_only",
)  # fmt: skip
_UNKNOWN_KEY: Final = re.compile(r"Configuration key: '([^']+)'")


class Blobs:
    """Files by their path below `uri`; what `put` wrote is durable when it returns."""

    def __init__(self, uri: str, storage_options: Mapping[str, str]) -> None:
        self._uri, self._options = uri, storage_options
        self.local = None if "://" in uri else Path(uri)
        self._store: Any = None
        self._place = Place(uri, {}, 0.0)

    def put(self, path: str, content: bytes | memoryview) -> None:
        """Raises OSError, or what obstore raises."""
        if self.local is None:
            import obstore

            obstore.put(self._opened(), path, bytes(content))  # which may outlive this call, and a view may not
            return
        target = self.local / path
        new_folder = not target.parent.exists()
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            with target.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        except OSError:
            target.unlink(missing_ok=True)  # on a full disk, each attempt would leave half a file
            raise
        sync(target.parent)
        if new_folder:
            sync(target.parent.parent)

    def get(self, path: str) -> bytes:
        """Raises FileNotFoundError, other OSError, or what obstore raises."""
        if self.local is not None:
            return (self.local / path).read_bytes()
        import obstore

        return bytes(obstore.get(self._opened(), path).bytes())

    def list(self) -> list[str]:
        """Paths of all files."""
        if self.local is not None:
            return [str(file.relative_to(self.local)) for file in self.local.rglob("*") if file.is_file()]
        import obstore

        return [found["path"] for found in obstore.list(self._opened()).collect()]

    def delete(self, path: str) -> None:
        """Also when it is gone already."""
        if self.local is not None:
            (self.local / path).unlink(missing_ok=True)
            return
        import obstore

        obstore.delete(self._opened(), path)

    def _opened(self) -> Any:
        if self._store is None or not self._place.current:
            self._place = place(self._uri, self._options)
            self._store = open_store(self._place.uri, self._place.options)
        return self._store


def open_store(uri: str, storage_options: Mapping[str, str]) -> Any:
    """An obstore store. Options are delta-rs' own; those that concern the log alone are left out.

    Raises `Permanent` for a scheme that names no object store.
    """
    from obstore.exceptions import BaseError, UnknownConfigurationKeyError
    from obstore.store import from_url

    config: Any = {key.lower(): value for key, value in storage_options.items()}
    client: Any = {}
    for key in list(config):
        name = re.sub(r"^(aws|azure|google)_", "", key)
        if name in _CLIENT:
            value = config.pop(key)
            client[name] = value.lower() in ("true", "1") if value.lower() in ("true", "false", "1", "0") else value
    retries = config.pop("max_retries", None)
    retry: Any = {"max_retries": int(retries)} if retries is not None else None
    while True:
        try:
            return from_url(uri, config=config, client_options=client, retry_config=retry)
        except UnknownConfigurationKeyError as error:
            found = _UNKNOWN_KEY.search(str(error))
            if found is None or config.pop(found[1], None) is None:
                raise
        except (BaseError, ValueError) as error:
            raise Permanent(f"{uri} names no object store that files can be put into: {error}") from error


def sync(path: Path) -> None:
    """Make a file, or the names in a directory, durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
