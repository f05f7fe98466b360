"""The core's threads: chosen before grpcio is imported, and only where the installed version is known."""

import os
import subprocess
import sys

import pytest

from spanweir.collector.receivers import _grpc_core

SERVE = """
import sys
from spanweir.collector.queue.memory import Config as Memory
from spanweir.collector.receivers.api import Context
from spanweir.collector.receivers.otlp import Config, Grpc, Protocols
writer = Memory().open_writer()
receiver = Config(protocols=Protocols(grpc=Grpc(endpoint="127.0.0.1:0"))).build(Context(name="otlp", writer=writer))
receiver.start()
print(receiver.endpoints["grpc"], flush=True)
sys.stdin.read()
print(writer.last())
receiver.stop(1)
"""


def test_it_is_chosen_for_versions_that_were_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_grpc_core, "_NEWEST", (9999, 0))
    monkeypatch.setenv("GRPC_EXPERIMENTS", "")  # so that it is as it was afterwards
    monkeypatch.delenv("GRPC_EXPERIMENTS")
    _grpc_core.prefer_one_thread()
    assert os.environ["GRPC_EXPERIMENTS"] == "-event_engine_listener"


def test_what_the_user_has_set_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRPC_EXPERIMENTS", "")
    _grpc_core.prefer_one_thread()
    assert os.environ["GRPC_EXPERIMENTS"] == ""


def test_other_versions_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_grpc_core, "_NEWEST", (1, 0))
    monkeypatch.setenv("GRPC_EXPERIMENTS", "")  # so that it is as it was afterwards
    monkeypatch.delenv("GRPC_EXPERIMENTS")
    _grpc_core.prefer_one_thread()
    assert "GRPC_EXPERIMENTS" not in os.environ


def test_the_core_takes_it_without_a_word() -> None:
    from tests.benchmarks.load import make_requests
    from tests.support.otlp_client import send_grpc

    environment = {name: value for name, value in os.environ.items() if name != "GRPC_EXPERIMENTS"}
    with subprocess.Popen(
        [sys.executable, "-c", SERVE], stdin=-1, stdout=-1, stderr=-1, text=True, env=environment
    ) as server:
        assert server.stdout is not None
        endpoint = server.stdout.readline().strip()
        for body in make_requests(3, 1):
            send_grpc(endpoint, body)
        rest, said = server.communicate(timeout=30)
    assert (rest.strip(), said) == ("3", "")
