"""Who may import whom. import-linter has the layers; here is what it cannot say."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from spanweir.collector.config.components import PACKAGES, known

ROOT = Path(__file__).parents[2]
PURE = {
    "__future__", "abc", "ast", "base64", "binascii", "bisect", "collections", "copy", "dataclasses", "datetime",
    "decimal", "enum", "functools", "hashlib", "heapq", "html", "importlib", "itertools", "json", "math", "msgspec",
    "operator", "orjson", "pkgutil", "re", "spanweir", "string", "struct", "sys", "types", "typing", "unicodedata",
    "uuid", "zlib", "warnings", "urllib", "difflib",
}  # fmt: skip
"""What `schemas` may import: nothing that reads a clock, a file, a socket, or starts a thread."""
LAZY = {"mlflow", "pandas", "sqlalchemy", "pydantic", "pyarrow", "deltalake", "rich", "confluent_kafka",
    "ptars",
}  # fmt: skip
"""Too large for the delivery process to load before they are needed: never imported at the top of a module."""
LAZY_EXCEPT: dict[str, str] = {
    "exporters/spanweir/exporters/mlflow/create_schema.py": "runs in a process of its own",
    "exporters/spanweir/exporters/mlflow/artifacts_worker.py": "runs in a process of its own",
    "exporters/spanweir/exporters/mlflow/fallback_worker.py": "runs in a process of its own",
    "exporters/spanweir/exporters/tree.py": "is itself imported only to print",
    **{
        f"collector/spanweir/collector/queue/{name}.py": "is imported where it is named, and tells what is missing"
        for name in ("kafka", "kafka_reader", "kafka_topic")
    },
    **{
        f"exporters/spanweir/exporters/delta/{name}.py": "is imported when a Delta exporter is built, and needs it then"
        for name in ("files", "received", "received_rows", "stored", "table", "window")
    },
}


def imports(path: Path, *, top_only: bool = False) -> Iterator[str]:
    """Modules that a file imports; with `top_only`, those that importing it imports."""
    tree = ast.parse(path.read_bytes())
    nodes = _import_time(tree) if top_only else ast.walk(tree)
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _import_time(tree: ast.Module) -> Iterator[ast.stmt]:
    todo = list(tree.body)
    while todo:
        node = todo.pop()
        yield node
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        if isinstance(node, ast.If | ast.Try | ast.With | ast.ClassDef):
            todo.extend(child for child in ast.iter_child_nodes(node) if isinstance(child, ast.stmt))


def sources(root: str) -> list[Path]:
    return sorted((ROOT / root / "spanweir").rglob("*.py"))


def test_layers() -> None:
    command = [sys.executable, "-c", "import sys; from importlinter.cli import lint_imports_command as c; c()"]
    done = subprocess.run([*command, "--no-cache"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_schemas_are_pure() -> None:
    impure = {
        f"{path.relative_to(ROOT)}: {name}"
        for path in sources("schemas")
        for name in imports(path)
        if name.partition(".")[0] not in PURE
    }
    assert not impure


@pytest.mark.parametrize("kind", [kind for kind in PACKAGES if kind != "queue"])
def test_components_do_not_import_each_other(kind: str) -> None:
    package = PACKAGES[kind]
    spec = find_spec(package)
    assert spec is not None
    assert spec.submodule_search_locations
    found = []
    components = [name for name in known(kind) if find_spec(f"{package}.{name}")]
    for component in components:
        others = tuple(f"{package}.{name}" for name in components if name != component)
        base = Path(spec.submodule_search_locations[0])
        files = [base / f"{component}.py"] if (base / f"{component}.py").is_file() else (base / component).rglob("*.py")
        for path in files:
            found += [
                f"{path.name} imports {name}"
                for name in imports(path)
                if any(name == other or name.startswith(other + ".") for other in others)
            ]
    assert not found


def test_giants_are_imported_where_they_are_used() -> None:
    found = {
        f"{path.relative_to(ROOT)}: {name}"
        for root in ("collector", "exporters", "schemas")
        for path in sources(root)
        if str(path.relative_to(ROOT)) not in LAZY_EXCEPT
        for name in imports(path, top_only=True)
        if name.partition(".")[0] in LAZY
    }
    assert not found, "import these inside the function that needs them, or say in LAZY_EXCEPT why not"


def test_the_receiving_process_does_not_map() -> None:
    """It would hold the mapping's tables in memory beside the process that uses them."""
    told = "import sys, spanweir.collector.service; print(*(m for m in sys.modules if m.startswith('spanweir')))"
    loaded = subprocess.run([sys.executable, "-c", told], check=True, capture_output=True, text=True).stdout.split()
    ours = ("schemas.genai", "collector.assembly.assembler", "collector.delivery.stages", "collector.pipeline")
    assert not {f"spanweir.{name}" for name in ours} & set(loaded)
