"""One file for each convention; `ORDER` says which is believed first where two say different things of equal rank.

A new convention is a file here that exports `CONVENTION` (see `spanweir.schemas.convention`), its place in `ORDER`, and
at least one case in `tests/golden/<convention>/`.
"""

from importlib import import_module

from spanweir.schemas.convention import Convention

ORDER = (
    "mlflow",
    "otel_genai",
    "openinference",
    "general",
)
"""Strongest first. Ranks of single rules come before this order."""


def load() -> tuple[Convention, ...]:
    """All conventions in order."""
    return tuple(import_module(f"{__name__}.{name}").CONVENTION for name in ORDER)
