from collections.abc import Iterator

import pytest

from tests.support.kafka import broker


@pytest.fixture(scope="session")
def kafka() -> Iterator[str]:
    """A broker's address."""
    with broker() as address:
        yield address
