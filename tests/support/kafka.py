"""A private Kafka broker: Java and Kafka's jars on a free port of 127.0.0.1, in a temporary directory.

`SPANWEIR_KAFKA_JARS` names a folder with the jars of `org.apache.kafka:kafka_2.13`; without it Maven fetches them.
"""

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

VERSION = "4.1.1"
START_S = 60
POM = f"""<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>
<groupId>test</groupId><artifactId>kafka</artifactId><version>1</version><dependencies><dependency>
<groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>{VERSION}</version>
</dependency></dependencies></project>"""
PROPERTIES = """process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
controller.listener.names=CONTROLLER
log.dirs={directory}/data
offsets.topic.replication.factor=1
offsets.topic.num.partitions=1
group.initial.rebalance.delay.ms=0
message.max.bytes=70000000
replica.fetch.max.bytes=70000000
"""


@contextmanager
def broker() -> Iterator[str]:
    """Its address. Skips the test where there is no Java, or no way to the jars."""
    java = shutil.which("java")
    if java is None:
        pytest.skip("needs java")
    with tempfile.TemporaryDirectory(prefix="kafka-") as name:
        directory = Path(name)
        jars = _jars(directory)
        port, controller = _free_port(), _free_port()
        properties = directory / "server.properties"
        properties.write_text(PROPERTIES.format(port=port, controller=controller, directory=directory))
        command = [java, "-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", f"{jars}/*"]
        format_ = [*command, "kafka.tools.StorageTool", "format", "-t", "MkU3OEVBNTcwNTJENDM2Qg", "-c", str(properties)]
        subprocess.run(format_, check=True, capture_output=True)
        process = subprocess.Popen(
            [*command, "kafka.Kafka", str(properties)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            _wait(port, process)
            yield f"127.0.0.1:{port}"
        finally:
            process.kill()
            process.wait()


def _jars(directory: Path) -> str:
    given = os.environ.get("SPANWEIR_KAFKA_JARS")
    if given:
        return given
    maven = shutil.which("mvn")
    if maven is None:
        pytest.skip("needs SPANWEIR_KAFKA_JARS or Maven")
    (directory / "pom.xml").write_text(POM)
    fetch = [
        maven,
        "-q",
        "-B",
        "dependency:copy-dependencies",
        "-DincludeScope=runtime",
        f"-DoutputDirectory={directory}/jars",
    ]
    if subprocess.run(fetch, cwd=directory, capture_output=True).returncode:
        pytest.skip("Maven cannot fetch Kafka")
    return str(directory / "jars")


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _wait(port: int, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.2)
        else:
            return
    raise RuntimeError("Kafka did not start")
