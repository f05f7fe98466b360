"""Compiles every `_native.c` beside its Python twin, where there is a C compiler; without one nothing is missing.

An editable install has the modules in place, a wheel has them inside and is then one of this platform. The module's
`SOURCE` says what it was compiled of, so that a test can tell one that has been left behind by its source.
"""

import hashlib
import os
import shlex
import shutil
import subprocess
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

ROOTS = ("schemas", "collector", "exporters", "instrumentation")


class NativeHook(BuildHookInterface):  # type: ignore[type-arg]
    """Hatch's build hook `custom`. With `SPANWEIR_PURE=1` in the environment it does nothing."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if os.environ.get("SPANWEIR_PURE"):
            return
        root = Path(self.root)
        self._made = tempfile.TemporaryDirectory(prefix="spanweir-native-")
        for source in (path for name in ROOTS for path in sorted((root / name).rglob("_native.c"))):
            name = source.with_suffix(sysconfig.get_config_var("EXT_SUFFIX")).name
            folder = source.parent if version == "editable" else Path(self._made.name) / source.parent.name
            folder.mkdir(exist_ok=True)
            problem = compile_module(source, folder / name)
            if problem:
                self.app.display_warning(f"{source.relative_to(root)} is left to its Python twin: {problem}")
                continue
            build_data.update(pure_python=False, infer_tag=True)
            if version != "editable":
                inside = source.parent.relative_to(root / source.relative_to(root).parts[0]) / name
                build_data["force_include"][str(folder / name)] = inside.as_posix()

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        if not os.environ.get("SPANWEIR_PURE"):
            self._made.cleanup()


def compile_module(source: Path, module: Path) -> str:
    """What hindered it; nothing if `module` is there. It is put in place whole: a process may have the old one open."""
    compiler = next((found for each in compilers() if (found := shutil.which(each[0])) and each), None)
    if compiler is None:
        return "there is no C compiler"
    digest = hashlib.sha256(source.read_bytes()).hexdigest()
    part = module.with_name(f"{module.name}.{os.getpid()}")
    linking = shlex.split(sysconfig.get_config_var("LDSHARED") or "cc -shared")[1:]
    command = [
        compiler, *linking, "-O2", "-fPIC", "-std=c11", f"-I{sysconfig.get_paths()['include']}",
        f'-DSOURCE_DIGEST="{digest}"', str(source), "-o", str(part),
    ]  # fmt: skip
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    if done.returncode:
        part.unlink(missing_ok=True)
        return (done.stderr.strip() or f"{compiler} ended with {done.returncode}").splitlines()[0]
    part.replace(module)
    return ""


def compilers() -> list[list[str]]:
    """As the user says, as Python was compiled with, or what is usual."""
    given = (os.environ.get("CC", ""), sysconfig.get_config_var("CC") or "", "cc")
    return [words for each in given if (words := shlex.split(each))]
