"""Native twins: none without its Python and its types, and where they can be compiled, they are, from this source."""

import hashlib
import importlib
import os
import shutil
import sysconfig

import pytest

from tests.tidy.test_layout import ROOT, tracked

SOURCES = sorted(name for name in tracked() if name.endswith("/_native.c"))


@pytest.mark.parametrize("source", SOURCES)
def test_a_native_module_says_what_it_offers(source: str) -> None:
    stub = (ROOT / source).with_suffix(".pyi")
    assert stub.is_file()
    assert "SOURCE: str" in stub.read_text()


@pytest.mark.parametrize("source", SOURCES)
def test_a_native_module_is_compiled_from_the_source_beside_it(source: str) -> None:
    if not can_compile():
        pytest.skip("there is no C compiler, or no header of Python")
    module = source.split("/", 1)[1].removesuffix(".c").replace("/", ".")
    digest = hashlib.sha256((ROOT / source).read_bytes()).hexdigest()
    assert digest == importlib.import_module(module).SOURCE, "pip install -e '.[dev]' compiles it again"


def can_compile() -> bool:
    headers = os.path.isfile(os.path.join(sysconfig.get_paths()["include"], "Python.h"))
    return headers and shutil.which("cc") is not None and not os.environ.get("SPANWEIR_PURE")


def test_nothing_compiled_is_tracked() -> None:
    assert [name for name in tracked() if name.endswith((".so", ".o", ".dylib"))] == []
