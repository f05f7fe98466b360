"""Private PostgreSQL and MariaDB servers for tests: in a temporary directory, on a free port of 127.0.0.1.

They run as an unprivileged user, because neither server starts as root.
"""

import ctypes
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

import psycopg

START_S = 60


def find(*names: str) -> str | None:
    """A program, also where Debian hides it from PATH."""
    places = [os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"]
    places += sorted(map(str, Path("/usr/lib/postgresql").glob("*/bin")), reverse=True)
    for name in names:
        if path := shutil.which(name, path=os.pathsep.join(places)):
            return str(Path(path).resolve())
    return None


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def owner(directory: Path, *preferred: str) -> str | None:
    """The user to run a server as, made owner of `directory`; None where this process is unprivileged already."""
    if os.geteuid() != 0:
        return None
    names = {entry.pw_name for entry in pwd.getpwall()}
    name = next(name for name in (*preferred, "nobody") if name in names)
    entry = pwd.getpwnam(name)
    os.chown(directory, entry.pw_uid, entry.pw_gid)
    return name


def die_with_parent() -> None:
    """Between fork and exec: a test run that is killed leaves no servers behind (Linux's PR_SET_PDEATHSIG is 1)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)


class Daemon:
    """A server program on `port`, which can be killed and started again with what it has on disk."""

    def __init__(
        self,
        uri: str,
        command: list[str],
        port: int,
        user: str | None,
        directory: Path,
        *,
        environment: dict[str, str] | None = None,
        answers: Callable[[], None] | None = None,
    ) -> None:
        """`answers` raises an error until it does more than listen."""
        self.uri = uri
        self._command, self._port, self._user, self._directory = command, port, user, directory
        self._environment, self._answers = environment, answers
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *reason: object) -> None:
        # Nothing of it is kept, and an orderly shutdown would wait for connections.
        self.kill()

    def start(self) -> None:
        log = self._directory / "log"
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                self._command, stdout=output, stderr=output, user=self._user, cwd=self._directory,
                env=self._environment, start_new_session=True, preexec_fn=die_with_parent,
            )  # fmt: skip
        try:
            _wait(self._process, self._port, log, self._answers)
        except BaseException:
            self.kill()
            raise

    def kill(self) -> None:
        if self._process is not None and self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()


def postgresql_daemon(directory: Path) -> Daemon:
    """Not started. `directory` must be reachable for other users."""
    initdb, postgres = find("initdb"), find("postgres")
    assert initdb, "PostgreSQL is not installed"
    assert postgres, "PostgreSQL is not installed"
    user = owner(directory, "postgres")
    data, port = directory / "data", free_port()
    subprocess.run(
        [initdb, "-D", str(data), "-U", "mlflow", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync"],
        check=True, capture_output=True, user=user, cwd=directory,
    )  # fmt: skip
    settings = ["fsync=off", "listen_addresses=127.0.0.1", f"unix_socket_directories={directory}", "max_connections=40"]
    command = [postgres, "-D", str(data), "-p", str(port), *(part for one in settings for part in ("-c", one))]
    uri = f"postgresql://mlflow@127.0.0.1:{port}"

    def answers() -> None:
        # It listens before it has started up, and refuses everybody until then.
        psycopg.connect(f"{uri}/postgres", connect_timeout=5).close()

    return Daemon(uri, command, port, user, directory, answers=answers)


@contextmanager
def postgresql(directory: Path) -> Iterator[str]:
    """Yields `postgresql://...` without a database."""
    with postgresql_daemon(directory) as daemon:
        yield daemon.uri


def mariadb_daemon(directory: Path) -> Daemon:
    """Not started."""
    install, server = find("mariadb-install-db", "mysql_install_db"), find("mariadbd", "mysqld")
    assert install, "MariaDB is not installed"
    assert server, "MariaDB is not installed"
    user = owner(directory, "mysql")
    data, port = directory / "data", free_port()
    base = ["--no-defaults", f"--datadir={data}"]
    as_user = [f"--user={user}"] if user else []
    subprocess.run(
        [install, *base, "--auth-root-authentication-method=normal", "--skip-test-db", *as_user],
        check=True, capture_output=True, cwd=directory, user=user,
    )  # fmt: skip
    command = [
        server, *base, f"--port={port}", "--bind-address=127.0.0.1", f"--socket={directory}/socket",
        f"--pid-file={directory}/pid", "--innodb-flush-log-at-trx-commit=0", "--innodb-buffer-pool-size=128M",
        "--character-set-server=utf8mb4", "--collation-server=utf8mb4_bin", "--skip-name-resolve",
    ]  # fmt: skip
    return Daemon(f"mysql://root@127.0.0.1:{port}", command, port, user, directory)


@contextmanager
def mariadb(directory: Path) -> Iterator[str]:
    """Yields `mysql://...` without a database."""
    with mariadb_daemon(directory) as daemon:
        yield daemon.uri


@contextmanager
def mlflow(uri: str, artifact_root: str, directory: Path, *arguments: str) -> Iterator[str]:
    """MLflow's own tracking server with one worker. Yields its URL."""
    port = free_port()
    command = [
        sys.executable, "-m", "mlflow", "server", "--backend-store-uri", uri, "--artifacts-destination", artifact_root,
        "--host", "127.0.0.1", "--port", str(port), "--workers", "1", *arguments,
    ]  # fmt: skip
    quiet = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with Daemon(f"http://127.0.0.1:{port}", command, port, None, directory, environment={**os.environ, **quiet}) as one:
        yield one.uri


def _wait(process: "subprocess.Popen[bytes]", port: int, log: Path, answers: Callable[[], None] | None) -> None:
    def probe() -> None:
        socket.create_connection(("127.0.0.1", port), 1).close()
        if answers is not None:
            answers()

    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            return probe()
        except (OSError, psycopg.OperationalError):
            time.sleep(0.05)
    raise RuntimeError(f"the server did not start:\n{log.read_text(errors='replace')[-2000:]}")
