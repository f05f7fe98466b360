"""Who sends, and how much a sender may send. Known before what is sent is read.

Not here: what a tenant's data is used for (`routing`), and where headers come from.
"""

import base64
import binascii
import hashlib
import threading
import time
from collections.abc import Mapping

import msgspec

from spanweir.schemas.options import Secret, Size


class Auth(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Without any of these everybody may send. With several, one that holds is enough."""

    bearer: dict[str, Secret] = {}
    """Tenant -> the token that its senders give as `Authorization: Bearer ...`."""
    basic: dict[str, Secret] = {}
    """User name -> password, for `Authorization: Basic ...`; the user name is the tenant."""
    client_certificate: bool = False
    """The common name of the client certificate is the tenant; needs `tls.client_ca_file`."""

    def __post_init__(self) -> None:
        for kind, secrets in (("bearer", self.bearer), ("basic", self.basic)):
            for tenant, secret in secrets.items():
                if not secret.reveal():
                    raise ValueError(f"{kind}.{tenant} is empty; everybody would be {tenant}")
        if len({secret.reveal() for secret in self.bearer.values()}) < len(self.bearer):
            raise ValueError("two tenants have the same bearer token; each needs its own")


class Limit(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Over it a sender is told to wait (429 with Retry-After, RESOURCE_EXHAUSTED with RetryInfo)."""

    requests_per_s: float = 0.0
    """Requests a second on average, with bursts of one second's worth; 0 is no limit."""
    bytes_per_s: Size = Size(0)
    """Decompressed bytes a second on average, with bursts of one second's worth; 0 is no limit."""


class Unauthenticated(Exception):  # noqa: N818 - an adjective
    """Nobody that is known. The message says what is wanted, and nothing of what was given."""


class Authenticator:
    """Holds digests of the secrets, so that a comparison takes the same time whatever is given."""

    def __init__(self, auth: Auth) -> None:
        self.required = bool(auth.bearer or auth.basic or auth.client_certificate)
        self._certificates = auth.client_certificate
        self._tenants = {_digest(b"bearer " + s.reveal().encode()): tenant for tenant, s in auth.bearer.items()} | {
            _digest(b"basic " + f"{user}:{s.reveal()}".encode()): user for user, s in auth.basic.items()
        }
        wanted = [
            name
            for name, there in (
                ("a bearer token", auth.bearer),
                ("a user name and password", auth.basic),
                ("a client certificate", auth.client_certificate),
            )
            if there
        ]
        self._message = f"this receiver wants {' or '.join(wanted)}"

    def tenant(self, authorization: str, common_name: str = "") -> str:
        """Empty where nothing is required. Raises `Unauthenticated`."""
        if not self.required:
            return ""
        scheme, _, credentials = authorization.partition(" ")
        scheme = scheme.lower()
        given = b""
        if scheme == "bearer":
            given = b"bearer " + credentials.strip().encode()
        elif scheme == "basic":
            try:
                given = b"basic " + base64.b64decode(credentials.strip(), validate=True)
            except (binascii.Error, ValueError):
                given = b""
        tenant = self._tenants.get(_digest(given)) if given else None
        if tenant is None and self._certificates and common_name:
            tenant = common_name
        if tenant is None:
            raise Unauthenticated(self._message)
        return tenant


def _digest(secret: bytes) -> bytes:
    return hashlib.sha256(secret).digest()


class Limiter:
    """Token buckets by tenant; `*` names the limit of tenants that have none of their own, each with its bucket."""

    def __init__(self, limits: Mapping[str, Limit]) -> None:
        self._limits = limits
        self._lock = threading.Lock()
        self._buckets: dict[str, list[float]] = {}

    def wait_s(self, tenant: str, size_bytes: int) -> float:
        """0 if the request may come in, else after how many seconds it may be tried again."""
        if not self._limits:
            return 0.0
        limit = self._limits.get(tenant) or self._limits.get("*")
        if limit is None:
            return 0.0
        now = time.monotonic()
        rates = (limit.requests_per_s, float(limit.bytes_per_s))
        with self._lock:
            bucket = self._buckets.setdefault(tenant, [now, max(rates[0], 1.0), rates[1]])
            passed, bucket[0] = now - bucket[0], now
            wait = 0.0
            for index, rate in enumerate(rates, 1):
                if rate:
                    # Into debt for one request at most, so that one larger than a second's worth passes too.
                    bucket[index] = min(bucket[index] + passed * rate, max(rate, 1.0))
                    if bucket[index] <= 0:
                        wait = max(wait, -bucket[index] / rate + 1 / rate if index == 1 else -bucket[index] / rate)
            if wait:
                return max(wait, 0.001)
            bucket[1] -= 1
            bucket[2] -= size_bytes
            return 0.0
