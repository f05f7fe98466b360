"""Public names say what a caller must know: what a class is, and what a function raises.

Private are names and modules that begin with an underscore. A method that a `Protocol` of the tree describes is
described there, once for all that implement it.
"""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

from tests.tidy.test_sizes import ROOT, sources

TIMES = re.compile(r"(^|_)(timeout|duration|interval|delay|deadline|elapsed|age|pause|wait|grace|latency)$")


class Definition(NamedTuple):
    """A public class or function, and the public class it is in."""

    path: Path
    node: ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
    owner: ast.ClassDef | None

    def __str__(self) -> str:
        within = f"{self.owner.name}." if self.owner else ""
        return f"{self.path.relative_to(ROOT)}:{self.node.lineno} {within}{self.node.name}"


@cache
def public() -> list[Definition]:
    return [found for path in sources() for found in _public(path, ast.parse(path.read_bytes()).body, None)]


def _public(path: Path, body: list[ast.stmt], owner: ast.ClassDef | None) -> Iterator[Definition]:
    for node in body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and not node.name.startswith("_"):
            yield Definition(path, node, owner)
            if isinstance(node, ast.ClassDef):
                yield from _public(path, node.body, node)


def is_option_struct(node: ast.ClassDef) -> bool:
    """Its fields have docstrings, and what it is as a whole stands at the option whose value it is."""
    return any(keyword.arg == "forbid_unknown_fields" for keyword in node.keywords)


def raised(node: ast.AST) -> set[str]:
    """Names of the exceptions that a function itself makes and raises."""
    names: set[str] = set()
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda):
            continue
        if isinstance(child, ast.Raise) and isinstance(child.exc, ast.Call):
            function = child.exc.func
            name = function.id if isinstance(function, ast.Name) else getattr(function, "attr", "")
            names |= {name} if name[:1].isupper() else set()
        names |= raised(child)
    return names


@cache
def promised() -> frozenset[str]:
    """Names of methods that some Protocol describes."""
    classes = [found.node for found in public() if isinstance(found.node, ast.ClassDef)]
    protocols = [node for node in classes if any(ast.unparse(base) == "Protocol" for base in node.bases)]
    methods = [n for node in protocols for n in node.body if isinstance(n, ast.FunctionDef)]
    return frozenset(method.name for method in methods if ast.get_docstring(method))


def test_every_public_class_says_what_it_is() -> None:
    classes = [d for d in public() if isinstance(d.node, ast.ClassDef) and not is_option_struct(d.node)]
    assert [str(d) for d in classes if not ast.get_docstring(d.node)] == [], (
        "write a docstring: what it is, in one sentence"
    )


def test_what_a_public_function_raises_stands_in_its_docstring() -> None:
    silent = []
    for found in public():
        if isinstance(found.node, ast.ClassDef) or (found.owner and found.node.name in promised()):
            continue
        said = ast.get_docstring(found.node) or ""
        missing = sorted(name for name in raised(found.node) if name not in said)
        silent += [f"{found}: {', '.join(missing)}"] if missing else []
    assert silent == [], "say it in the docstring: Raises ..."


def test_times_have_their_unit_in_the_name() -> None:
    """An option of the type `Duration` carries it in the type."""
    bare = []
    for path in sources():
        for node in ast.walk(ast.parse(path.read_bytes())):
            if isinstance(node, ast.arg) and node.annotation is not None:
                name, kind = node.arg, ast.unparse(node.annotation)
            elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                name, kind = node.target.id, ast.unparse(node.annotation)
            else:
                continue
            if TIMES.search(name.lower()) and kind in ("int", "float", "float | None", "int | None"):
                bare.append(f"{path.relative_to(ROOT)}:{node.lineno} {name}")
    assert bare == [], "units last: timeout_s, latency_ms, start_ns"
