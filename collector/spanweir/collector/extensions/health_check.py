"""Tells orchestrators over HTTP whether the collector takes requests: 200 while it does, 503 while it does not."""

import time

import msgspec

from spanweir.collector.extensions.api import Context
from spanweir.collector.pages import Page, Pages
from spanweir.schemas.options import check_endpoint


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    endpoint: str = "127.0.0.1:13133"
    """host:port to listen on."""
    path: str = "/"
    """Path of the page."""

    def __post_init__(self) -> None:
        check_endpoint(self.endpoint)
        if not self.path.startswith("/"):
            raise ValueError(f"path must begin with /, not {self.path!r}")

    def build(self, context: Context) -> "HealthCheck":
        return HealthCheck(self, context)


class HealthCheck:
    """An `Extension`."""

    def __init__(self, config: Config, context: Context) -> None:
        self._health = context.health
        self.pages = Pages(config.endpoint, {config.path: self._page}, f"extensions.{context.name}.endpoint")

    def start(self) -> None:
        self.pages.start()

    def stop(self) -> None:
        self.pages.stop()

    def _page(self) -> Page:
        health = self._health()
        up_s = max(0.0, time.time() - health.started_ns / 1e9)
        body = {
            "status": "Server available" if health.ready else "Server not available",
            "upSince": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(health.started_ns / 1e9)),
            "uptime": f"{up_s:.3f}s",
            "problems": health.problems,
        }
        return Page(200 if health.ready else 503, "application/json", msgspec.json.encode(body))
