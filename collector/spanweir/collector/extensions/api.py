"""What an extension is: something beside the pipelines, started before the receivers and stopped after them."""

from collections.abc import Callable
from typing import Protocol

import msgspec


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """How the service is."""

    ready: bool
    """Requests are accepted, and the delivery process runs."""
    problems: tuple[str, ...] = ()
    """What is not as it should be, in words."""
    started_ns: int = 0


class Context(msgspec.Struct, kw_only=True):
    """What an extension is given besides its config when it is built."""

    name: str
    health: Callable[[], Health]


class Extension(Protocol):
    """A service beside the data flow. Started once, stopped once."""

    def start(self) -> None:
        """Raises OSError with a message that names the option."""
        ...

    def stop(self) -> None: ...


class ExtensionConfig(Protocol):
    """The frozen `Config` struct of an extension module."""

    def build(self, context: Context, /) -> Extension:
        """Not started yet. Raises ValueError for options that do not go together."""
        ...
