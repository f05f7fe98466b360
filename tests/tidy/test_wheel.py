"""What is installed: the four parts of one namespace, the shipped configuration, and nothing else."""

import os
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

from tests.tidy.test_layout import ROOT, ROOTS, tracked
from tests.tidy.test_native import can_compile

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the sdist, and the wheel that was built from it."""
    out = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return out


@pytest.fixture(scope="module")
def wheel(built: Path) -> Path:
    return next(built.glob("*.whl"))


def test_the_wheel_holds_every_module_once(wheel: Path) -> None:
    names = [name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name]
    sources = [
        name.split("/", 1)[1]
        for name in tracked()
        if name.partition("/")[0] in ROOTS and name.split("/")[1] == "spanweir"
    ]
    if can_compile():
        assert "py3-none-any" not in wheel.name
        suffix = sysconfig.get_config_var("EXT_SUFFIX")
        sources = [name.removesuffix(".c") + suffix if name.endswith(".c") else name for name in sources]
    sources = [name for name in sources if not name.endswith(".c")]
    assert sorted(names) == sorted([*sources, "spanweir/collector/otel-config.yaml"])
    assert "spanweir/__init__.py" not in names
    assert [name for root in ROOTS if (name := f"spanweir/{root}/py.typed") not in names] == []


def test_without_a_compiler_the_wheel_is_for_every_machine(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "build", "--no-isolation", "--wheel", "--outdir", str(tmp_path), str(ROOT)]
    # What `CC` names is not there, Python's own compiler is not in the path, and neither is `cc`.
    env = {**os.environ, "PATH": str(Path(sys.executable).parent), "CC": "no-such-compiler"}
    done = subprocess.run(command, capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "there is no C compiler" in done.stdout + done.stderr
    built = next(tmp_path.glob("*.whl"))
    assert built.name.endswith("py3-none-any.whl")
    assert [name for name in zipfile.ZipFile(built).namelist() if "_native" in name and ".pyi" not in name] == []


def test_the_wheel_ships_the_configuration(wheel: Path) -> None:
    shipped = zipfile.ZipFile(wheel).read("spanweir/collector/otel-config.yaml")
    assert shipped == (ROOT / "otel-config.yaml").read_bytes()


def test_the_sdist_can_build_and_test(built: Path) -> None:
    with tarfile.open(next(built.glob("*.tar.gz"))) as sdist:
        names = {name.split("/", 1)[1] for name in sdist.getnames() if "/" in name}
    for wanted in ("pyproject.toml", "README.md", "LICENSE", "otel-config.yaml", "tests/tidy/test_wheel.py"):
        assert wanted in names


def test_an_instrumented_application_needs_nothing_of_the_collector(wheel: Path, tmp_path: Path) -> None:
    """The base install: `init()` works, and no collector dependency is there."""
    home = tmp_path / "venv"
    venv.create(home, with_pip=True)
    python = home / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "-q", str(wheel)], check=True, timeout=240)
    program = (
        "import importlib.util as u, spanweir.instrumentation as s; s.init(); print([m for m in %r if u.find_spec(m)])"
    )
    collectors = ["click", "msgspec", "orjson", "rich", "uvicorn", "mlflow", "deltalake", "pyarrow", "yaml"]
    done = subprocess.run([python, "-c", program % collectors], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr
    told = subprocess.run([home / "bin" / "spanweir", "run"], capture_output=True, text=True)
    assert told.returncode == 1
    assert "pip install 'spanweir[collector]'" in told.stderr
    nobody = {**os.environ, "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"}
    told = subprocess.run([home / "bin" / "spanweir", "doctor"], capture_output=True, text=True, env=nobody)
    assert told.returncode == 1
    assert "NOT reachable" in told.stdout, told.stderr
