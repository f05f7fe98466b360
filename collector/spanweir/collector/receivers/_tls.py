"""Certificates of a listening end, loaded and checked so that what is wrong has a name. No sockets here."""

import ssl
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from spanweir.collector.receivers.otlp import Tls


def server_context(tls: "Tls") -> ssl.SSLContext:
    """Raises OSError naming the option."""
    for option in ("cert_file", "key_file", "client_ca_file"):
        path = getattr(tls, option)
        if path:
            read(tls, option)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(tls.cert_file, tls.key_file)
    except ssl.SSLError as error:
        raise OSError(
            f"tls.key_file {tls.key_file} does not belong to tls.cert_file {tls.cert_file}: {error}"
        ) from error
    if tls.client_ca_file:
        try:
            context.load_verify_locations(tls.client_ca_file)
        except ssl.SSLError as error:
            raise OSError(f"tls.client_ca_file {tls.client_ca_file} has no certificate: {error}") from error
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def read(tls: "Tls", option: str) -> bytes:
    """The content of the file that `option` names. Raises OSError naming the option."""
    path = getattr(tls, option)
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise OSError(f"tls.{option} {path}: {error.strerror}") from error
