"""Files that a power cut leaves whole: with the old content or the new, never with a part of either.

What they hold may quote prompts, so only the owner can read them.
"""

import os
from pathlib import Path

OWNER_ONLY = 0o600
fdatasync = getattr(os, "fdatasync", os.fsync)
"""A file's content and size reach the disk; macOS has no `fdatasync`."""


def replace_file(path: Path, data: bytes, *, sync: bool = True) -> None:
    """Give `path` the content `data`, durable on return if `sync`. Raises OSError; `path` is then as it was."""
    temporary = path.with_name(f".{path.name}.new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, OWNER_ONLY)
    try:
        write_all(descriptor, data)
        if sync:
            fdatasync(descriptor)
    finally:
        os.close(descriptor)
    os.replace(temporary, path)
    if sync:
        sync_directory(path.parent)


def create_file(path: Path, data: bytes) -> None:
    """Make a new file, durable on return together with its name. Raises FileExistsError or another OSError."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, OWNER_ONLY)
    try:
        write_all(descriptor, data)
        fdatasync(descriptor)
    finally:
        os.close(descriptor)
    sync_directory(path.parent)


def write_all(descriptor: int, data: bytes) -> None:
    """Write all of `data` at the descriptor's position. Raises OSError.

    `os.write` may take a part only: a disk that fills up takes what fits, and refuses the next call.
    """
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def sync_directory(directory: Path) -> None:
    """Make renames, creations and deletions in `directory` durable. Raises OSError."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
