"""Option types of `Config` structs that YAML has no word for: sizes, durations, secrets.

A `Config` field of one of these types takes text (`64MiB`, `5s`) or a plain number from YAML, and behaves in Python
as the `int`, `float` or `str` it is.
"""

import math
import re
from typing import Final

KIB: Final = 1 << 10
MIB: Final = 1 << 20
GIB: Final = 1 << 30

_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*")
_SIZE_UNITS: Final = {
    "": 1, "b": 1,
    "k": 1000, "kb": 1000, "m": 1000**2, "mb": 1000**2, "g": 1000**3, "gb": 1000**3, "t": 1000**4, "tb": 1000**4,
    "ki": KIB, "kib": KIB, "mi": MIB, "mib": MIB, "gi": GIB, "gib": GIB, "ti": 1 << 40, "tib": 1 << 40,
}  # fmt: skip
_DURATION_PART = re.compile(r"(\d+(?:\.\d+)?)(ns|us|µs|ms|s|m|h|d)")
_DURATION_UNITS: Final = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1, "m": 60, "h": 3600, "d": 86400}


def check_endpoint(endpoint: str) -> None:
    """Raises ValueError unless it is `host:port`."""
    if "/" in endpoint:
        bare = endpoint.partition("://")[2].partition("/")[0] or "127.0.0.1:4317"
        raise ValueError(f"endpoint is a place to listen on, host:port such as {bare}, not the URL {endpoint!r}")
    host, colon, port = endpoint.rpartition(":")
    if not colon or not host or not (port.isascii() and port.isdigit()) or int(port) > 65535:
        raise ValueError(f"endpoint must be host:port such as 127.0.0.1:4317, not {endpoint!r}")
    if ":" in host and not (host.startswith("[") and host.endswith("]")):
        # Some would take all of it for an address, and listen on another port.
        raise ValueError(f"an IPv6 address stands in brackets: [{host}]:{port}, not {endpoint!r}")


class Size(int):
    """A number of bytes."""

    @classmethod
    def parse(cls, value: object) -> "Size":
        """`64MiB`, `10GB`, `4096`, 4096. Raises ValueError."""
        if isinstance(value, int) and not isinstance(value, bool):
            if value < 0:
                raise ValueError(f"a size cannot be negative: {value}")
            return cls(value)
        if isinstance(value, str) and (match := _SIZE.fullmatch(value)):
            unit = _SIZE_UNITS.get(match[2].lower())
            if unit is not None:
                return cls(float(match[1]) * unit) if "." in match[1] else cls(int(match[1]) * unit)
        raise ValueError(f"{value!r} is not a size; write a number of bytes, or one with a unit such as 64MiB or 10GB")

    def __str__(self) -> str:
        for unit, factor in (("GiB", GIB), ("MiB", MIB), ("KiB", KIB)):
            if self and self % factor == 0:
                return f"{self // factor}{unit}"
        return int.__repr__(self)

    __repr__ = __str__


class Duration(float):
    """A number of seconds."""

    @classmethod
    def parse(cls, value: object) -> "Duration":
        """`500ms`, `1h30m`, `5s` (Go's notation, as in the OpenTelemetry Collector), 0. Raises ValueError."""
        if isinstance(value, int | float) and not isinstance(value, bool):
            if not math.isfinite(value) or value < 0:
                raise ValueError(f"a duration must be zero or more seconds, not {value}")
            return cls(value)
        if isinstance(value, str):
            text = value.strip().replace(" ", "")
            parts = _DURATION_PART.findall(text)
            if parts and "".join(number + unit for number, unit in parts) == text:
                return cls(sum(float(number) * _DURATION_UNITS[unit] for number, unit in parts))
            if text == "0":
                return cls(0)
        raise ValueError(f"{value!r} is not a duration; write a number with a unit such as 500ms, 5s, 10m or 1h30m")

    def __str__(self) -> str:
        for unit, factor in (("h", 3600), ("m", 60), ("s", 1)):
            if self and float(self) % factor == 0:
                return f"{int(self) // factor}{unit}"
        return f"{float(self) * 1000:g}ms" if self else "0s"

    __repr__ = __str__


class Secret(str):
    """Text that is never shown: `str()`, `repr()` and formatting give a mask. `reveal()` gives the text."""

    def reveal(self) -> str:
        return str.__str__(self)

    def __str__(self) -> str:
        return "[REDACTED]"

    def __repr__(self) -> str:
        return "'[REDACTED]'"

    def __format__(self, spec: str) -> str:
        return "[REDACTED]"
