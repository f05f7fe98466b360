"""`spanweir up`: a collector and, where it is installed, the MLflow UI beside it, for local use."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import click

from spanweir.collector.cli._common import configured, load_or_exit
from spanweir.collector.config import Configuration

if TYPE_CHECKING:
    from spanweir.exporters.mlflow import Config as MlflowConfig

UI_HOST = "127.0.0.1"
UI_WAIT_S = 120.0
STOP_S = 30.0
UI_STOP_S = 3.0
LOOK_S = 0.5
"""How often it is looked whether a process has ended, and whether there is a database for the UI."""


@click.command()
@configured
@click.option("--ui/--no-ui", default=True, show_default=True, help="Start the MLflow UI.")
@click.option("--ui-port", default=5000, show_default=True, help="Port of the MLflow UI on 127.0.0.1.")
def command(config: Sequence[str], assignments: Sequence[str], ui: bool, ui_port: int) -> None:
    """Run the collector on this machine, with the MLflow UI."""
    configuration = load_or_exit(config, assignments)
    arguments = [*(f"--config={name}" for name in config), *(f"--set={item}" for item in assignments)]
    sys.exit(_Up(configuration, arguments, ui_port if ui and _has_ui() else None).run())


def _has_ui() -> bool:
    """Without importing it: MLflow alone is 120 MB. The slim distribution has no server."""
    mlflow = find_spec("mlflow")
    places = mlflow.submodule_search_locations if mlflow else None
    return any(Path(place, "server", "__init__.py").is_file() for place in places or ())


def database_of(configuration: Configuration) -> "MlflowConfig | None":
    """The first `mlflow` exporter in use that writes a database, which the MLflow UI can show."""
    for component in configuration.used("exporters").values():
        if component.type == "mlflow" and component.config.is_database:
            config: MlflowConfig = component.config
            return config
    return None


class _Up:
    def __init__(self, configuration: Configuration, arguments: list[str], ui_port: int | None) -> None:
        self._configuration = configuration
        self._arguments = arguments
        self._ui_port = ui_port
        self._database = database_of(configuration)
        self._stopping = False

    def run(self) -> int:
        """Until either process ends or a signal comes; the collector's exit status."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._on_signal)
        # Sessions of their own: a Ctrl-C in the terminal reaches them once, from here, and in order.
        command = [sys.executable, "-m", "spanweir.collector", "run", *self._arguments]
        collector = subprocess.Popen(command, start_new_session=True)
        ui: subprocess.Popen[bytes] | None = None
        self._say_where()
        started = time.monotonic()
        try:
            while collector.poll() is None and not self._stopping:
                if ui is None and self._ui_port and time.monotonic() - started < UI_WAIT_S:
                    ui = self._started_ui(self._ui_port)
                elif ui is not None and ui.poll() is not None:
                    click.echo(f"The MLflow UI ended with status {ui.returncode}; the collector goes on.", err=True)
                    ui, self._ui_port = None, None
                time.sleep(LOOK_S)
        finally:
            if ui is not None:
                _end_group(ui)
            status = _stop(collector)
        return status

    def _started_ui(self, port: int) -> "subprocess.Popen[bytes] | None":
        """The UI, once MLflow's schema is there: the collector makes it, and two makers get in each other's way."""
        if self._database is None or not self._database.has_schema():
            return None
        click.echo(f"MLflow UI       http://{UI_HOST}:{port}")
        return _start_ui(self._database.server_uri, port)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._stopping = True

    def _say_where(self) -> None:
        for component in self._configuration.used("receivers").values():
            for protocol, endpoint in _endpoints(component.config):
                click.echo(f"{'OTLP/' + protocol:<16}{endpoint}")
        for component in self._configuration.used("exporters").values():
            where = next(
                (getattr(component.config, key) for key in ("tracking_uri", "path") if hasattr(component.config, key)),
                "",
            )
            if where:
                from spanweir.collector.masking import mask

                click.echo(f"{component.id:<16}{mask(str(where))}")
        if self._ui_port is None and self._database:
            click.echo("The MLflow UI is not started here.")


def _endpoints(config: Any) -> list[tuple[str, str]]:
    protocols = getattr(config, "protocols", None)
    found = []
    for name in ("grpc", "http"):
        endpoint = getattr(getattr(protocols, name, None), "endpoint", None)
        if endpoint:
            found.append((name, str(endpoint)))
    return found


def _start_ui(uri: str, port: int) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "mlflow", "server", "--host", UI_HOST, "--port", str(port), "--workers", "1"]
    # Not among the arguments: everybody on the machine can list those, and the URI may hold a password.
    environment = {**os.environ, "MLFLOW_BACKEND_STORE_URI": uri}
    environment |= {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}
    return subprocess.Popen(
        command, start_new_session=True, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )


def _stop(process: "subprocess.Popen[bytes]") -> int:
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
    try:
        return process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        return process.wait()


def _end_group(process: "subprocess.Popen[bytes]") -> None:
    """End MLflow's server with its workers and job runners; it has nothing that a moment's grace would save."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(UI_STOP_S)
