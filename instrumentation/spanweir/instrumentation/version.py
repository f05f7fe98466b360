"""The installed version."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("spanweir")
except PackageNotFoundError:  # a source tree that is not installed
    __version__ = "0"
