"""A convention is a file, a place in `ORDER`, and a golden folder."""

import pkgutil
from pathlib import Path

import pytest

from spanweir.schemas import conventions

GOLDEN = Path(__file__).parents[1] / "golden"
ORDER: tuple[str, ...] = getattr(conventions, "ORDER", ())


@pytest.mark.parametrize("name", ORDER)
def test_every_convention_has_a_golden_case(name: str) -> None:
    if not GOLDEN.is_dir():
        pytest.skip("there are no golden cases yet")
    assert list((GOLDEN / name).glob("*/")), f"add tests/golden/{name}/<case>/"


def test_every_convention_has_its_place() -> None:
    modules = {module.name for module in pkgutil.iter_modules(conventions.__path__) if not module.name.startswith("_")}
    assert modules - set(ORDER) == set(), "a convention that is not in ORDER is never read"
