from collections.abc import Callable
from typing import Any

SOURCE: str
"""SHA-256 of the C source this was compiled of."""

def attributes_json(own: dict[str, str], given: dict[str, Any], dumps: Callable[[Any], str], /) -> bytes | None:
    """JSON of MLflow's own attributes, which are JSON texts, and of a sender's values, as JSON texts in it.

    `dumps` is called for values that are neither text nor an integer of 64 bits. None: a text has lone surrogates.
    """
