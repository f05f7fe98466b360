"""A function fits a screen, a file fits its docstring. Tables are exempt, each by name."""

import ast
from pathlib import Path

ROOT = Path(__file__).parents[2]
MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 60

LONG_FILES: dict[str, str] = {}
"""Path and reason."""
LONG_FUNCTIONS: dict[str, str] = {}
"""`path:name` and reason."""


def sources() -> list[Path]:
    roots = ("collector", "exporters", "instrumentation", "schemas")
    return sorted(path for root in roots for path in (ROOT / root / "spanweir").rglob("*.py"))


def test_files_are_short() -> None:
    long = {}
    for path in sources():
        lines = path.read_text().count("\n")
        name = str(path.relative_to(ROOT))
        if lines > MAX_FILE_LINES and name not in LONG_FILES:
            long[name] = lines
    assert not long, f"over {MAX_FILE_LINES} lines: split by idea, or if it is a table say so in LONG_FILES"


def test_functions_fit_a_screen() -> None:
    long = {}
    for path in sources():
        for node in ast.walk(ast.parse(path.read_bytes())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or node.lineno) - node.lineno + 1
                name = f"{path.relative_to(ROOT)}:{node.name}"
                if lines > MAX_FUNCTION_LINES and name not in LONG_FUNCTIONS:
                    long[name] = lines
    assert not long, f"over {MAX_FUNCTION_LINES} lines"


def test_every_module_says_what_it_is() -> None:
    modules = {path: ast.parse(path.read_bytes()) for path in sources() if path.stat().st_size}
    silent = [str(path.relative_to(ROOT)) for path, module in modules.items() if not ast.get_docstring(module)]
    assert not silent, "a module docstring says what is here, and what is not"


def test_exemptions_are_still_needed() -> None:
    for name in LONG_FILES:
        assert (ROOT / name).read_text().count("\n") > MAX_FILE_LINES, f"{name} is short now; drop its exemption"
