"""The OpenTelemetry distro: `opentelemetry-instrument python app.py` exports to the collector with no code at all.

Found through the entry points `opentelemetry_distro` and `opentelemetry_configurator`. Needs the package
`opentelemetry-instrumentation`, which provides that command (extra `instrument`).
"""

import os
from typing import Any

from opentelemetry.instrumentation.distro import BaseDistro  # type: ignore[attr-defined]

from spanweir.instrumentation import instrumentors, serving, setup, state


class Distro(BaseDistro):  # type: ignore[misc]
    """Leaves the model libraries to `autolog`, which takes one instrumentor for each, and loads all others."""

    def _configure(self, **kwargs: Any) -> None:
        # opentelemetry-distro may be installed as well; its configurator would come first by chance.
        os.environ.setdefault("OTEL_PYTHON_CONFIGURATOR", "spanweir")
        state.policy()
        instrumentors.content_variable()

    def load_instrumentor(self, entry_point: Any, **kwargs: Any) -> None:
        if not instrumentors.listed(entry_point.value):
            entry_point.load()().instrument(**kwargs)


class Configurator:
    """Sets up traces as `init` does; metrics and logs too where the standard variables ask for them."""

    def configure(self, **kwargs: Any) -> None:
        setup.init()
        serving.on_import()
        if os.environ.get("OTEL_METRICS_EXPORTER", "").strip().lower() == "otlp":
            setup.send_metrics()
        if os.environ.get("OTEL_LOGS_EXPORTER", "").strip().lower() == "otlp":
            setup.send_logs()
        skipped = {name.strip() for name in os.environ.get("OTEL_PYTHON_DISABLED_INSTRUMENTATIONS", "").split(",")}
        if "*" not in skipped:
            skipped |= {name.replace("-", "_") for name in skipped}
            instrumentors.enable_installed(skipped)
